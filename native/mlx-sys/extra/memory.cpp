#include "memory.h"

#include <stdexcept>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

extern "C" int emily_array_of_memory(
    mlx_array* res,
    void** data,
    const int* shape,
    int dim,
    mlx_dtype dtype) {
  namespace allocator = mlx::core::allocator;
  try {
    mlx::core::Shape sizes(shape, shape + dim);
    auto type = mlx_dtype_to_cpp(dtype);
    size_t bytes = mlx::core::size_of(type);
    for (auto size : sizes) {
      bytes *= size;
    }
    auto buffer = allocator::malloc(bytes);
    *data = buffer.raw_ptr();
    if (!*data) {
      throw std::runtime_error("there is not so much memory");
    }
    mlx_array_set_(
        *res,
        mlx::core::array(buffer, std::move(sizes), type, allocator::free));
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}
