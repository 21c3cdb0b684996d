// Rotary embeddings and activations in one kernel on a GPU, where MLX composes them of several. Of the two
// languages, CUDA's and Metal's, the bodies keep to what both understand.

#include "fused.h"

#include <stdexcept>
#include <string>

#include "mlx/backend/metal/metal.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"
#include "mlx/ops.h"

namespace emily {
namespace {

using mlx::core::array;
namespace fast = mlx::core::fast;

// Each thread has a number; what is left of it after the sizes of all axes is not zero for those beyond
// the last element, which CUDA starts to fill its last block.
constexpr const char* CUDA_INDEX =
    "unsigned int index = blockIdx.x * blockDim.x + threadIdx.x;\n";
constexpr const char* METAL_INDEX =
    "unsigned int index = thread_position_in_grid.x;\n";

// The least number of threads that are worth a block.
constexpr int BLOCK_SIZE = 256;

// x has any strides; the tables are views with its shape.
constexpr const char* ROTARY = R"(
  int last = x_ndim - 1;
  unsigned int middle = x_shape[last] / 2;
  unsigned int rest = index / middle;
  long place = index % middle;
  long to = (long)rest * 2 * middle + place;
  long at_x = 0;
  long at_c = 0;
  long at_n = 0;
  for (int d = last - 1; d >= 0; d--) {
    unsigned int size = x_shape[d];
    long own = rest % size;
    rest = rest / size;
    at_x += own * x_strides[d];
    at_c += own * c_strides[d];
    at_n += own * n_strides[d];
  }
  if (rest > 0) {
    return;
  }
  long low = place;
  long high = place + middle;
  float first = (float)x[at_x + low * x_strides[last]];
  float second = (float)x[at_x + high * x_strides[last]];
  float c_low = (float)c[at_c + low * c_strides[last]];
  float c_high = (float)c[at_c + high * c_strides[last]];
  float n_low = (float)n[at_n + low * n_strides[last]];
  float n_high = (float)n[at_n + high * n_strides[last]];
  out[to] = (T)(first * c_low - second * n_low);
  out[to + middle] = (T)(second * c_high + first * n_high);
)";

// What the kernels for the host compute (`kernels/elementwise.cpp` says why).
constexpr const char* ACTIVATION = R"(
  unsigned int rest = index;
  long at_x = 0;
  long at_y = 0;
  for (int d = x_ndim - 1; d >= 0; d--) {
    unsigned int size = x_shape[d];
    long own = rest % size;
    rest = rest / size;
    at_x += own * x_strides[d];
    at_y += own * y_strides[d];
  }
  if (rest > 0) {
    return;
  }
  float v = (float)x[at_x];
  float result = 0.0f;
  if (FUNCTION == 0) {
    result = v / (1.0f + EXP(-v));
  } else if (FUNCTION == 1) {
    float t = v < 0.0f ? -v : v;
    float s = 1.0f / (1.0f + 0.21f * t);
    float q = -0.07165944024686118f;
    q = q * s + 0.2836040004944642f;
    q = q * s - 0.33028591179258227f;
    q = q * s + 0.3494392364232028f;
    q = q * s - 0.09395256636109595f;
    q = q * s + 0.1248849209001157f;
    q = q * s + 0.06918886988297532f;
    q = q * s + 0.08506935331907642f;
    q = q * s + 0.08371154410869211f;
    float share = q * s * EXP(t * t * -0.5f);
    result = v * (v > 0.0f ? 1.0f - share : share);
  } else {
    float u = (v + v * v * v * 0.044715f) * 1.5957691216057308f;
    result = v / (1.0f + EXP(-u));
  }
  if (GATED) {
    result = result * (float)y[at_y];
  }
  out[index] = (T)result;
)";

fast::CustomKernelFunction kernel(
    const char* name,
    const std::vector<std::string>& inputs,
    const char* body) {
  if (mlx::core::metal::is_available()) {
    auto source = std::string(METAL_INDEX) + body;
    return fast::metal_kernel(
        name, inputs, {"out"}, source, "#define EXP metal::exp\n", false);
  }
  auto source = std::string(CUDA_INDEX) + body;
  return fast::cuda_kernel(
      name, inputs, {"out"}, source, "#define EXP ::expf\n", false);
}

// The result of a kernel, with a thread for each of `count` places.
int launched(
    mlx_array* res,
    const fast::CustomKernelFunction& kernel,
    const std::vector<array>& inputs,
    size_t count,
    std::vector<std::pair<std::string, fast::TemplateArg>> settings,
    mlx_stream s) {
  auto type = inputs[0].dtype();
  settings.emplace_back("T", type);
  auto made = kernel(
      inputs,
      {inputs[0].shape()},
      {type},
      {int(count), 1, 1},
      {BLOCK_SIZE, 1, 1},
      settings,
      std::nullopt,
      false,
      mlx_stream_get_(s));
  mlx_array_set_(*res, made[0]);
  return 0;
}

} // namespace
} // namespace emily

extern "C" int emily_gpu_rotary(
    mlx_array* res,
    const mlx_array x,
    const mlx_array cosines,
    const mlx_array sines,
    const mlx_stream s) {
  try {
    static const auto kernel =
        emily::kernel("emily_rotary", {"x", "c", "n"}, emily::ROTARY);
    const auto& in = mlx_array_get_(x);
    auto table = [&](mlx_array a) {
      return mlx::core::broadcast_to(
          mlx_array_get_(a), in.shape(), mlx_stream_get_(s));
    };
    return emily::launched(
        res, kernel, {in, table(cosines), table(sines)}, in.size() / 2, {}, s);
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
}

extern "C" int emily_gpu_activation(
    mlx_array* res,
    emily_function function,
    const mlx_array x,
    const mlx_array factor,
    const mlx_stream s) {
  try {
    static const auto kernel =
        emily::kernel("emily_activation", {"x", "y"}, emily::ACTIVATION);
    const auto& in = mlx_array_get_(x);
    bool gated = factor.ctx != nullptr;
    const auto& by = gated ? mlx_array_get_(factor) : in;
    return emily::launched(
        res,
        kernel,
        {in, by},
        in.size(),
        {{"FUNCTION", int(function)}, {"GATED", gated}},
        s);
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
}
