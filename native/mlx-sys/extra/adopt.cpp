#include "adopt.h"

#include <cstddef>
#include <cstdint>
#include <memory>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"

using mlx::core::array;

namespace {

namespace allocator = mlx::core::allocator;

// A buffer as the allocator for the host alone lays it out: its size, and then its elements, where an
// array's offset begins to count. Adopted elements lie elsewhere, and the offset leads there.
struct Adopted {
  size_t size;
  void* owner;
  void (*release)(void*);
};

void give_back(allocator::Buffer buffer) {
  std::unique_ptr<Adopted> adopted(static_cast<Adopted*>(buffer.ptr()));
  adopted->release(adopted->owner);
}

// Other allocators' buffers are objects of a GPU's driver.
bool is_for_the_host_alone() {
  constexpr size_t size = 64;
  auto buffer = allocator::malloc(size);
  auto begin = static_cast<const size_t*>(buffer.ptr());
  bool is = begin && buffer.raw_ptr() == begin + 1 && *begin >= size &&
      !allocator::make_buffer(buffer.raw_ptr(), size).ptr();
  allocator::free(buffer);
  return is;
}

} // namespace

extern "C" bool emily_can_adopt(void) {
  try {
    static const bool can =
        !mlx::core::is_available(mlx::core::Device::gpu) && is_for_the_host_alone();
    return can;
  } catch (std::exception&) {
    return false;
  }
}

extern "C" int emily_array_adopt(
    mlx_array* res,
    const void* data,
    const int* shape,
    int dim,
    mlx_dtype dtype,
    void* owner,
    void (*release)(void*)) {
  try {
    array adopting(
        allocator::Buffer(nullptr),
        mlx::core::Shape(shape, shape + dim),
        mlx_dtype_to_cpp(dtype),
        [](allocator::Buffer) {});
    mlx_array_set_(*res, adopting);
    auto adopted =
        std::make_unique<Adopted>(Adopted{adopting.nbytes(), owner, release});
    allocator::Buffer buffer(adopted.get());
    auto offset = reinterpret_cast<std::intptr_t>(data) -
        reinterpret_cast<std::intptr_t>(buffer.raw_ptr());
    adopting.set_data(
        buffer,
        adopting.data_size(),
        adopting.strides(),
        adopting.flags(),
        offset,
        give_back);
    adopted.release();
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

extern "C" bool emily_array_is_sole(const mlx_array arr) {
  return mlx_array_get_(arr).is_donatable();
}
