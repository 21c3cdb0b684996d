// Kernels of ours for GPUs, of which MLX compiles the source when they are first used.

#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"

namespace emily::gpu {

using mlx::core::array;
namespace fast = mlx::core::fast;

// Threads that run in step, and can add up what each of them has.
constexpr int WARP = 32;

// A kernel, by a name that no other has.
struct Kernel {
  std::string name;
  fast::CustomKernelFunction make;
};

// One with the results `outputs`. The text before it defines what it is compiled with.
Kernel kernel(
    const std::string& name,
    const std::vector<std::string>& inputs,
    const std::vector<std::string>& outputs,
    const char* body,
    const std::string& definitions = "");

// A number as C++ has it, with all its digits, and as a part of a name.
std::pair<std::string, std::string> written(float number);

// What a kernel is launched with: results, blocks, threads of a block, and settings.
struct Launch {
  std::vector<mlx::core::Shape> shapes;
  std::vector<mlx::core::Dtype> types;
  int64_t blocks;
  int threads;
  std::vector<std::pair<std::string, fast::TemplateArg>> settings;

  std::vector<array> run(
      const Kernel& kernel,
      const std::vector<array>& inputs,
      mlx_stream s) const;
};

} // namespace emily::gpu
