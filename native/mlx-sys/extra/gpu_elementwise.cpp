// Rotary embeddings and activations in one kernel on a GPU, where MLX composes them of several. Of the two
// languages, CUDA's and Metal's, the bodies keep to what both understand.

#include "fused.h"

#include <map>
#include <mutex>

#include "gpu.hpp"
#include "mlx/c/error.h"
#include "mlx/ops.h"

namespace emily::gpu {
namespace {

// Threads of a block.
constexpr int BLOCK = 256;

// A warp for each row. x has any strides; the tables are views with its shape.
constexpr const char* ROTARY = R"(
  int last = x_ndim - 1;
  unsigned int middle = x_shape[last] / 2;
  unsigned int row = index / 32;
  unsigned int lane = index % 32;
  unsigned int rest = row;
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
  // The last block has more warps than there are rows.
  if (rest > 0) {
    return;
  }
  float factor = 1.0f;
  if (NORMAL) {
    float sum = 0.0f;
    for (unsigned int at = lane; at < 2 * middle; at += 32) {
      float value = (float)x[at_x + at * x_strides[last]];
      sum += value * value;
    }
    factor = rsqrtf(warp_sum(sum) / (float)(2 * middle) + EPSILON);
  }
  long to = (long)row * 2 * middle;
  for (unsigned int low = lane; low < middle; low += 32) {
    unsigned int high = low + middle;
    float first = (float)x[at_x + low * x_strides[last]] * factor;
    float second = (float)x[at_x + high * x_strides[last]] * factor;
    if (NORMAL) {
      first *= (float)g[low * g_strides[0]];
      second *= (float)g[high * g_strides[0]];
    }
    float c_low = (float)c[at_c + low * c_strides[last]];
    float c_high = (float)c[at_c + high * c_strides[last]];
    float n_low = (float)n[at_n + low * n_strides[last]];
    float n_high = (float)n[at_n + high * n_strides[last]];
    out[to + low] = (T)(first * c_low - second * n_low);
    out[to + high] = (T)(second * c_high + first * n_high);
  }
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

// One for each epsilon that there is; a model has one or two.
Kernel rotary(float epsilon) {
  static std::mutex lock;
  static std::map<std::string, Kernel> made;
  auto [text, name] = written(epsilon);
  std::lock_guard<std::mutex> held(lock);
  auto [place, fresh] = made.try_emplace(name);
  if (fresh) {
    place->second = kernel(
        "emily_rotary_" + name,
        {"x", "c", "n", "g"},
        {"out"},
        ROTARY,
        "#define EPSILON " + text + "\n");
  }
  return place->second;
}

int64_t divided(int64_t count, int64_t by) {
  return (count + by - 1) / by;
}

} // namespace
} // namespace emily::gpu

extern "C" int emily_gpu_rotary(
    mlx_array* res,
    const mlx_array x,
    const mlx_array cosines,
    const mlx_array sines,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s) {
  try {
    const auto& in = mlx_array_get_(x);
    auto table = [&](mlx_array a) {
      return mlx::core::broadcast_to(
          mlx_array_get_(a), in.shape(), mlx_stream_get_(s));
    };
    bool normal = gamma.ctx != nullptr;
    auto rows = int64_t(in.size() / in.shape(-1));
    emily::gpu::Launch launch{
        {in.shape()},
        {in.dtype()},
        emily::gpu::divided(rows * emily::gpu::WARP, emily::gpu::BLOCK),
        emily::gpu::BLOCK,
        {{"NORMAL", normal}, {"T", in.dtype()}}};
    auto made = launch.run(
        emily::gpu::rotary(normal ? epsilon : 0.0f),
        {in,
         table(cosines),
         table(sines),
         normal ? mlx_array_get_(gamma) : in},
        s);
    mlx_array_set_(*res, made[0]);
    return 0;
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
    static const auto kernel = emily::gpu::kernel(
        "emily_activation", {"x", "y"}, {"out"}, emily::gpu::ACTIVATION);
    const auto& in = mlx_array_get_(x);
    bool gated = factor.ctx != nullptr;
    emily::gpu::Launch launch{
        {in.shape()},
        {in.dtype()},
        emily::gpu::divided(int64_t(in.size()), emily::gpu::BLOCK),
        emily::gpu::BLOCK,
        {{"FUNCTION", int(function)}, {"GATED", gated}, {"T", in.dtype()}}};
    auto made =
        launch.run(kernel, {in, gated ? mlx_array_get_(factor) : in}, s);
    mlx_array_set_(*res, made[0]);
    return 0;
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
}
