// One unit for each instruction set: KERNELS_NAME names it.

#include "elementwise.cpp"
#include "norms.cpp"
#include "products.cpp"
#include "quantized.cpp"

namespace emily {

#define EMILY_STRING_OF(name) #name
#define EMILY_STRING(name) EMILY_STRING_OF(name)

extern const Kernels KERNELS_NAME;

const Kernels KERNELS_NAME = {
    .name = EMILY_STRING(KERNELS_NAME),
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .softmax = softmax,
    .rotary = rotary,
    .activation = activation,
    .widen = widen,
    .narrow = narrow,
    .add_mask = add_mask,
    .select_mask = select_mask,
    .panel = PANEL,
    .pack = pack,
    .multiply = multiply,
    .dots = dots,
    .sums = sums,
    .quantized_columns = COLUMNS_AT_ONCE,
    .quantized_rows = quantized_rows,
    .quantized_group = quantized_group,
};

} // namespace emily
