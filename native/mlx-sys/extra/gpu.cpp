#include "gpu.hpp"

#include <cstdio>
#include <cstring>

#include "fused.h"
#include "mlx/backend/cuda/cuda.h"
#include "mlx/backend/metal/metal.h"

namespace emily::gpu {
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

fast::CustomKernelFunction kernel(
    const std::string& name,
    const std::vector<std::string>& inputs,
    const std::vector<std::string>& outputs,
    const char* body,
    const std::string& definitions) {
  auto source = std::string("  INDEX\n") + body;
  return mlx::core::metal::is_available()
      ? fast::metal_kernel(
            name, inputs, outputs, source, METAL + definitions, false)
      : fast::cuda_kernel(
            name, inputs, outputs, source, CUDA + definitions, false);
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

std::vector<array> Launch::run(
    const fast::CustomKernelFunction& kernel,
    const std::vector<array>& inputs,
    mlx_stream s) const {
  return kernel(
      inputs,
      shapes,
      types,
      {int(blocks * threads), 1, 1},
      {threads, 1, 1},
      settings,
      std::nullopt,
      false,
      mlx_stream_get_(s));
}

} // namespace emily::gpu

extern "C" bool emily_gpu_is_cuda(void) {
  return mlx::core::cu::is_available();
}
