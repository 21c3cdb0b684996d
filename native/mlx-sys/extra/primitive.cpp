#include "primitive.hpp"

#include <stdexcept>
#include <string>

namespace emily {

Float float_type(const array& a) {
  switch (a.dtype().val()) {
    case mlx::core::Dtype::Val::float16:
      return Float::f16;
    case mlx::core::Dtype::Val::bfloat16:
      return Float::bf16;
    default:
      return Float::f32;
  }
}

bool take_memory(const array& input, array& out) {
  // As MLX does, not for the sake of memory that is much larger.
  constexpr size_t MUCH = 1 << 14;
  bool fits = input.is_donatable() && input.flags().row_contiguous &&
      input.size() == out.size() && input.itemsize() == out.itemsize() &&
      input.buffer_size() <= out.nbytes() + MUCH;
  if (fits) {
    out.copy_shared_buffer(input);
  }
  return fits;
}

void own_memory(array& out) {
  out.set_data(mlx::core::allocator::malloc(out.nbytes()));
}

void HostPrimitive::eval_gpu(const std::vector<array>&, array&) {
  throw std::runtime_error(
      std::string(name()) + " is computed on the host's processor alone");
}

} // namespace emily
