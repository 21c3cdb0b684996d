#include "gpu.hpp"

#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "fused.h"
#include "mlx/backend/cuda/cuda.h"
#include "mlx/backend/metal/metal.h"

namespace emily::gpu {

using mlx::core::Primitive;

namespace {

// `index` is a thread's number in all. What two languages call by different names has one here.
constexpr const char* CUDA = R"(
#define INDEX unsigned int index = blockIdx.x * blockDim.x + threadIdx.x;
#define EXP ::expf
#define INF __int_as_float(0x7f800000)
__device__ inline float warp_sum(float x) {
  for (int far = 16; far > 0; far /= 2) {
    x += __shfl_xor_sync(0xffffffff, x, far);
  }
  return x;
}
)";
constexpr const char* METAL = R"(
#define INDEX unsigned int index = thread_position_in_grid.x;
#define EXP metal::exp
#define rsqrtf metal::rsqrt
inline float warp_sum(float x) {
  return simd_sum(x);
}
)";

} // namespace

Kernel kernel(
    const std::string& name,
    const std::vector<std::string>& inputs,
    const std::vector<std::string>& outputs,
    const char* body,
    const std::string& definitions) {
  auto source = std::string("  INDEX\n") + body;
  return {
      name,
      mlx::core::metal::is_available()
          ? fast::metal_kernel(
                name, inputs, outputs, source, METAL + definitions, false)
          : fast::cuda_kernel(
                name, inputs, outputs, source, CUDA + definitions, false)};
}

std::pair<std::string, std::string> written(float number) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9ef", double(number));
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  char name[16];
  std::snprintf(name, sizeof name, "%08x", bits);
  return {text, name};
}

namespace {

// All that a primitive of a kernel depends on: its launch, the stream, and the inputs' types. Shapes and strides
// it looks at when it runs; no input is a scalar.
std::string key(
    const Launch& launch,
    const Kernel& kernel,
    const std::vector<array>& inputs,
    mlx::core::Stream s) {
  auto key = kernel.name;
  auto add = [&](int64_t part) {
    key.append(reinterpret_cast<const char*>(&part), sizeof part);
  };
  add(s.index);
  add(launch.blocks);
  add(launch.threads);
  for (auto& [name, value] : launch.settings) {
    if (auto number = std::get_if<int>(&value)) {
      add(*number);
    } else if (auto flag = std::get_if<bool>(&value)) {
      add(*flag);
    } else {
      add(int(std::get<mlx::core::Dtype>(value).val()));
    }
  }
  for (auto& input : inputs) {
    add(int(input.dtype().val()));
  }
  return key;
}

// More than a model needs; whoever makes others all the time begins anew.
constexpr size_t MOST_PRIMITIVES = 1024;

} // namespace

// MLX writes a kernel's whole source to make a primitive of it, which takes longer than all else here; so each
// is made once, and shared by the arrays that it computes.
std::vector<array> Launch::run(
    const Kernel& kernel,
    const std::vector<array>& inputs,
    mlx_stream s) const {
  static std::mutex lock;
  static std::unordered_map<std::string, std::shared_ptr<Primitive>> made;
  auto on = mlx_stream_get_(s);
  auto place = key(*this, kernel, inputs, on);
  std::unique_lock<std::mutex> held(lock);
  if (auto found = made.find(place); found != made.end()) {
    auto primitive = found->second;
    held.unlock();
    return array::make_arrays(shapes, types, primitive, inputs);
  }
  held.unlock();
  auto arrays = kernel.make(
      inputs,
      shapes,
      types,
      {int(blocks * threads), 1, 1},
      {threads, 1, 1},
      settings,
      std::nullopt,
      false,
      on);
  held.lock();
  if (made.size() >= MOST_PRIMITIVES) {
    made.clear();
  }
  made.emplace(std::move(place), arrays[0].primitive_ptr());
  return arrays;
}

} // namespace emily::gpu

extern "C" bool emily_gpu_is_cuda(void) {
  return mlx::core::cu::is_available();
}
