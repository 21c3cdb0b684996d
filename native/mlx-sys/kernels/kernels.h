#pragma once

#include <cstddef>
#include <cstdint>

// Loops over numbers that know nothing of MLX, compiled once for each instruction set worth having.
//
// All arithmetic is in f32, whatever the type in memory, and each result is rounded once, but for products with
// quantized matrices, which round as MLX does. Lengths are in elements, and so are strides. Results may lie where
// the first input does.

namespace emily {

enum class Float { f32, f16, bf16 };

enum class Function { silu, gelu, gelu_tanh };

enum class Packing { affine, mxfp4, mxfp8, nvfp4 };

// A matrix of packed numbers, `bits` each, of which `group` in a row share a scale, and a bias if they are affine. Scales
// and biases are of the tensor's type, or scales of bytes; strides lead from row to row.
struct Quantized {
  Packing packing;
  size_t bits, group;
  const uint32_t* packed;
  int64_t packed_stride;
  const void* scales;
  int64_t scales_stride;
  const void* biases;
  int64_t biases_stride;
};

struct Kernels {
  const char* name;

  // One row of n: (x - mean) / sqrt(variance + epsilon) * gamma + beta.
  void (*layer_norm)(
      Float,
      const void* x,
      const void* gamma,
      const void* beta,
      float epsilon,
      size_t n,
      void* out);

  // One row of n: x / sqrt(mean of squares + epsilon), times gamma unless that is null.
  void (*rms_norm)(
      Float,
      const void* x,
      const void* gamma,
      float epsilon,
      size_t n,
      void* out);

  // One row of n.
  void (*softmax)(Float, const void* x, size_t n, void* out);

  // One row of twice `half`: x * cosines + (-second half, first half) * sines.
  void (*rotary)(
      Float,
      const void* x,
      const void* cosines,
      const void* sines,
      size_t half,
      void* out);

  // n elements, times `factor` unless that is null; the result may lie where that does, too.
  void (*activation)(
      Float,
      Function,
      const void* x,
      const void* factor,
      size_t n,
      void* out);

  // scale * x as f32.
  void (*widen)(
      Float,
      const void* x,
      int64_t stride,
      float scale,
      size_t n,
      float* out);

  // x + added, unless that is null, in the type.
  void (*narrow)(
      Float,
      const float* x,
      const void* added,
      size_t n,
      void* out);

  // scores += mask, where each of the mask's elements is a float, or says with a byte whether the score
  // counts: one that does not becomes the least finite number.
  void (*add_mask)(Float, const void* mask, int64_t stride, size_t n, float* scores);
  void (*select_mask)(const void* mask, int64_t stride, size_t n, float* scores);

  // The columns of a panel.
  size_t panel;

  // The matrix b, of `depth` rows, as panels: of each row in turn the panel's columns, with zeros
  // beyond the last.
  void (*pack)(
      Float,
      const void* b,
      int64_t row_stride,
      int64_t column_stride,
      size_t depth,
      size_t columns,
      float* panels);

  // c = a b, or c += a b, for a packed b of so many panels.
  void (*multiply)(
      const float* a,
      size_t a_stride,
      size_t rows,
      size_t depth,
      const float* panels,
      size_t count,
      bool add,
      float* c,
      size_t c_stride);

  // out = x w for few rows of x: where the columns of w are contiguous, and where its rows are.
  // `x_stride` and `out_stride` lead from row to row.
  void (*dots)(
      Float,
      const float* x,
      size_t x_stride,
      size_t rows,
      size_t depth,
      const void* w,
      int64_t w_stride,
      size_t columns,
      float* out,
      size_t out_stride);
  void (*sums)(
      Float,
      const float* x,
      size_t x_stride,
      size_t rows,
      size_t depth,
      const void* w,
      int64_t w_stride,
      size_t columns,
      float* out,
      size_t out_stride);

  // How many columns of a product with a transposed quantized matrix are computed at once.
  size_t quantized_columns;

  // Columns of a product with a quantized matrix for some rows of `depth` numbers each: of the transposed one, which
  // are `count` of its rows from `first` on, and of one as it is, which are a group of each of its rows.
  // There is room for those columns of each row, and in the first case of another 128.
  void (*quantized_rows)(
      Float,
      const Quantized& w,
      size_t first,
      size_t count,
      const float* x,
      size_t rows,
      size_t depth,
      float* room,
      void* out,
      size_t out_stride);
  void (*quantized_group)(
      Float,
      const Quantized& w,
      size_t group,
      const float* x,
      size_t rows,
      size_t depth,
      float* room,
      void* out,
      size_t out_stride);
};

// Those for this processor.
const Kernels& kernels();

} // namespace emily
