// softmax(scale * query key^T + mask) value for a few positions of the query, as one kernel of CUDA's, or two
// where the key is long. MLX has such a kernel as well, but none with a mask, and composes it of seven.

#include "fused.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "gpu.hpp"
#include "mlx/c/error.h"
#include "mlx/ops.h"

namespace emily::gpu {
namespace {

using mlx::core::Shape;

// Threads of a block, which computes one position of one head, or its part of the key's positions.
constexpr int THREADS = 1024;
// A part has this many positions, until there are enough parts.
constexpr int PART = 1024;
constexpr int MOST_PARTS = 32;

// Each warp goes through its positions, with what it has seen so far: the greatest score, the sum of the
// exponentials and of what they weigh. A score of -inf weighs nothing, and one that is not a number spreads.
constexpr const char* ATTENTION = R"(
  constexpr int WARPS = 32;
  constexpr int OWN_D = (D + 31) / 32;
  constexpr int OWN_E = (E + 31) / 32;
  __shared__ float tops[WARPS];
  __shared__ float sums[WARPS];
  __shared__ float parts[WARPS * E];
  int lane = threadIdx.x % 32;
  int warp = threadIdx.x / 32;
  long row = blockIdx.x / PARTS;
  int part = blockIdx.x % PARTS;
  int t = row % q_shape[2];
  int h = row / q_shape[2] % q_shape[1];
  long b = row / q_shape[2] / q_shape[1];
  int own = h / (q_shape[1] / k_shape[1]);
  const T* query = q + b * q_strides[0] + h * q_strides[1] + t * q_strides[2];
  const T* keys = k + b * k_strides[0] + own * k_strides[1];
  const T* values = v + b * v_strides[0] + own * v_strides[1];
  float look[OWN_D];
  float found[OWN_E];
  for (int i = 0; i < OWN_D; i++) {
    int d = lane * OWN_D + i;
    look[i] = d < D ? (float)query[d * q_strides[3]] * SCALE : 0.0f;
  }
  for (int i = 0; i < OWN_E; i++) {
    found[i] = 0.0f;
  }
  float top = -INF;
  float sum = 0.0f;
  long seen = k_shape[2];
  long begin = seen * part / PARTS;
  long end = seen * (part + 1) / PARTS;
  for (long s = begin + warp; s < end; s += WARPS) {
    const T* key = keys + s * k_strides[2];
    const T* value = values + s * v_strides[2];
    float score = 0.0f;
    for (int i = 0; i < OWN_D; i++) {
      int d = lane * OWN_D + i;
      score += d < D ? look[i] * (float)key[d * k_strides[3]] : 0.0f;
    }
    score = warp_sum(score);
    auto by = m[b * m_strides[0] + h * m_strides[1] + t * m_strides[2] + s * m_strides[3]];
    if (ADDED) {
      score += (float)by;
    } else {
      score = by ? score : -3.402823466e38f;
    }
    float next = fmaxf(top, score);
    float before = top == -INF ? 0.0f : EXP(top - next);
    float weight = score == -INF ? 0.0f : EXP(score - next);
    top = next;
    sum = sum * before + weight;
    for (int i = 0; i < OWN_E; i++) {
      int e = lane * OWN_E + i;
      float there = e < E ? (float)value[e * v_strides[3]] : 0.0f;
      found[i] = found[i] * before + weight * there;
    }
  }
  if (lane == 0) {
    tops[warp] = top;
    sums[warp] = sum;
  }
  for (int i = 0; i < OWN_E; i++) {
    int e = lane * OWN_E + i;
    if (e < E) {
      parts[warp * E + e] = found[i];
    }
  }
  __syncthreads();
  top = tops[lane];
  for (int far = 16; far > 0; far /= 2) {
    top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, far));
  }
  float share = tops[lane] == -INF ? 0.0f : EXP(tops[lane] - top);
  // The sum of a warp that met what is not a number is none either.
  sum = warp_sum(sums[lane] * share);
  __syncthreads();
  if (warp == 0) {
    tops[lane] = share;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < E; e += blockDim.x) {
    float all = 0.0f;
    for (int w = 0; w < WARPS; w++) {
      all += parts[w * E + e] * tops[w];
    }
    if (PARTS == 1) {
      out[row * E + e] = (OUT)(all / sum);
    } else {
      out[(row * PARTS + part) * E + e] = (OUT)all;
    }
  }
)";

// Where there are parts, each says what its sums are relative to.
constexpr const char* NOTE = R"(
  if (threadIdx.x == 0) {
    stat[(row * PARTS + part) * 2] = top;
    stat[(row * PARTS + part) * 2 + 1] = sum;
  }
)";

// A block for each row; x has what its parts found, and y their greatest scores and their sums.
constexpr const char* JOIN = R"(
  long row = blockIdx.x;
  float top = -INF;
  for (int part = 0; part < PARTS; part++) {
    top = fmaxf(top, y[(row * PARTS + part) * 2]);
  }
  for (int e = threadIdx.x; e < E; e += blockDim.x) {
    float all = 0.0f;
    float sum = 0.0f;
    for (int part = 0; part < PARTS; part++) {
      long at = row * PARTS + part;
      float own = y[at * 2];
      float share = own == -INF ? 0.0f : EXP(own - top);
      all += x[at * E + e] * share;
      sum += y[at * 2 + 1] * share;
    }
    out[row * E + e] = (T)(all / sum);
  }
)";

struct Kernels {
  Kernel whole, part;
};

// Those for a scale; a model has one or two.
Kernels kernels_for(float scale) {
  static std::mutex lock;
  static std::map<std::string, Kernels> made;
  auto [text, name] = written(scale);
  std::lock_guard<std::mutex> held(lock);
  auto [place, fresh] = made.try_emplace(name);
  if (fresh) {
    std::vector<std::string> inputs = {"q", "k", "v", "m"};
    auto scale_is = "#define SCALE " + text + "\n";
    auto noted = std::string(ATTENTION) + NOTE;
    place->second = {
        kernel(
            "emily_attention_" + name, inputs, {"out"}, ATTENTION, scale_is),
        kernel(
            "emily_attention_part_" + name,
            inputs,
            {"out", "stat"},
            noted.c_str(),
            scale_is)};
  }
  return place->second;
}

array attended(
    const array& query,
    const array& key,
    const array& value,
    const array& mask,
    float scale,
    mlx_stream s) {
  auto scores = query.shape();
  scores[3] = key.shape(2);
  auto by = mlx::core::broadcast_to(mask, scores, mlx_stream_get_(s));
  bool added = mlx::core::issubdtype(by.dtype(), mlx::core::floating);
  auto type = query.dtype();
  int features = value.shape(3);
  int parts = std::min((key.shape(2) + PART - 1) / PART, MOST_PARTS);
  auto shape = query.shape();
  shape[3] = features;
  auto rows = int64_t(query.size() / query.shape(3));
  auto made = kernels_for(scale);
  auto launch = Launch{
      {shape},
      {type},
      rows * parts,
      THREADS,
      {{"D", query.shape(3)},
       {"E", features},
       {"ADDED", added},
       {"PARTS", parts},
       {"T", type},
       {"OUT", type}}};
  if (parts == 1) {
    return launch.run(made.whole, {query, key, value, by}, s)[0];
  }
  auto single = mlx::core::float32;
  launch.shapes = {
      {int(rows), parts, features}, {int(rows), parts, 2}};
  launch.types = {single, single};
  launch.settings.back().second = single;
  auto found = launch.run(made.part, {query, key, value, by}, s);
  static const auto join =
      kernel("emily_attention_join", {"x", "y"}, {"out"}, JOIN);
  return Launch{
      {shape},
      {type},
      rows,
      256,
      {{"E", features}, {"PARTS", parts}, {"T", type}}}
      .run(join, found, s)[0];
}

} // namespace
} // namespace emily::gpu

extern "C" int emily_gpu_attention(
    mlx_array* res,
    const mlx_array query,
    const mlx_array key,
    const mlx_array value,
    const mlx_array mask,
    float scale,
    const mlx_stream s) {
  try {
    mlx_array_set_(
        *res,
        emily::gpu::attended(
            mlx_array_get_(query),
            mlx_array_get_(key),
            mlx_array_get_(value),
            mlx_array_get_(mask),
            scale,
            s));
    return 0;
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
}
