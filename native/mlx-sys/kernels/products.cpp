// Products of matrices in f32, for what has no better one: narrow floats, attention's blocks, few rows.

#include "vector.h"

namespace emily {
namespace {

constexpr size_t PANEL = 2 * WIDTH;
// As many rows as their sums fit the registers, beside two of a panel and one of the rows.
constexpr size_t ROWS = 6;

template <typename T>
void pack_panel(
    const T* b,
    int64_t row_stride,
    int64_t column_stride,
    size_t depth,
    size_t columns,
    float* panel) {
  if (columns == PANEL && column_stride == 1) {
    for (size_t k = 0; k < depth; k++, b += row_stride, panel += PANEL) {
      narrowed(widened(b), panel);
      narrowed(widened(b + WIDTH), panel + WIDTH);
    }
    return;
  }
  for (size_t k = 0; k < depth; k++, b += row_stride, panel += PANEL) {
    T row[PANEL] = {};
    for (size_t j = 0; j < columns; j++) {
      row[j] = b[int64_t(j) * column_stride];
    }
    narrowed(widened(row), panel);
    narrowed(widened(row + WIDTH), panel + WIDTH);
  }
}

void pack(
    Float type,
    const void* b,
    int64_t row_stride,
    int64_t column_stride,
    size_t depth,
    size_t columns,
    float* panels) {
  typed(type, [=](auto tag) {
    auto from = of<decltype(tag)>(b);
    for (size_t j = 0; j < columns; j += PANEL) {
      auto count = columns - j < PANEL ? columns - j : PANEL;
      pack_panel(
          from + int64_t(j) * column_stride,
          row_stride,
          column_stride,
          depth,
          count,
          panels + j * depth);
    }
  });
}

template <size_t R>
void tile(
    const float* a,
    size_t a_stride,
    size_t depth,
    const float* panel,
    bool add,
    float* c,
    size_t c_stride) {
  vec sums[R][2] = {};
  for (size_t k = 0; k < depth; k++, panel += PANEL) {
    vec left = widened(panel), right = widened(panel + WIDTH);
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
      vec factor = all(a[r * a_stride + k]);
      sums[r][0] += factor * left;
      sums[r][1] += factor * right;
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < R; r++) {
    float* row = c + r * c_stride;
    if (add) {
      sums[r][0] += widened(row);
      sums[r][1] += widened(row + WIDTH);
    }
    narrowed(sums[r][0], row);
    narrowed(sums[r][1], row + WIDTH);
  }
}

void multiply(
    const float* a,
    size_t a_stride,
    size_t rows,
    size_t depth,
    const float* panels,
    size_t count,
    bool add,
    float* c,
    size_t c_stride) {
  using Tile = decltype(&tile<1>);
  static constexpr Tile tiles[ROWS] = {
      tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>};
  for (size_t j = 0; j < count; j++) {
    auto panel = panels + j * PANEL * depth;
    for (size_t i = 0; i < rows; i += ROWS) {
      auto height = rows - i < ROWS ? rows - i : ROWS;
      tiles[height - 1](
          a + i * a_stride,
          a_stride,
          depth,
          panel,
          add,
          c + i * c_stride + j * PANEL,
          c_stride);
    }
  }
}

// R rows of x with C columns of w.
template <size_t R, size_t C, typename T>
EMILY_INLINE void dot(
    const float* x,
    size_t x_stride,
    size_t depth,
    const T* w,
    int64_t w_stride,
    float* out,
    size_t out_stride) {
  vec sums[R][C] = {};
  auto step = [&](size_t k, auto count) __attribute__((always_inline)) {
    vec column[C];
#pragma GCC unroll 8
    for (size_t c = 0; c < C; c++) {
      column[c] = widened(w + int64_t(c) * w_stride + k, count);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
      vec row = widened(x + r * x_stride + k, count);
#pragma GCC unroll 8
      for (size_t c = 0; c < C; c++) {
        sums[r][c] += row * column[c];
      }
    }
  };
  each(depth, step);
  for (size_t r = 0; r < R; r++) {
    for (size_t c = 0; c < C; c++) {
      out[r * out_stride + c] = sum(sums[r][c]);
    }
  }
}

template <size_t R, typename T>
void dots_of(
    const float* x,
    size_t x_stride,
    size_t depth,
    const T* w,
    int64_t w_stride,
    size_t columns,
    float* out,
    size_t out_stride) {
  constexpr size_t C = R > 2 ? 2 : 4;
  size_t j = 0;
  for (; j + C <= columns; j += C, w += int64_t(C) * w_stride) {
    dot<R, C>(x, x_stride, depth, w, w_stride, out + j, out_stride);
  }
  for (; j < columns; j++, w += w_stride) {
    dot<R, 1>(x, x_stride, depth, w, w_stride, out + j, out_stride);
  }
}

// Rows of w that are added at once, so that the sums are read and written less often.
constexpr size_t AT_ONCE = 4;

template <size_t R, size_t D, typename T>
EMILY_INLINE void add_rows(
    const float* x,
    size_t x_stride,
    const T* w,
    int64_t w_stride,
    size_t columns,
    float* out,
    size_t out_stride) {
  vec factors[R][D];
#pragma GCC unroll 8
  for (size_t r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (size_t d = 0; d < D; d++) {
      factors[r][d] = all(x[r * x_stride + d]);
    }
  }
  auto step = [&](size_t j, auto count) __attribute__((always_inline)) {
    vec rows[D];
#pragma GCC unroll 8
    for (size_t d = 0; d < D; d++) {
      rows[d] = widened(w + int64_t(d) * w_stride + j, count);
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < R; r++) {
      float* to = out + r * out_stride + j;
      vec total = widened(to, count);
#pragma GCC unroll 8
      for (size_t d = 0; d < D; d++) {
        total += factors[r][d] * rows[d];
      }
      narrowed(total, to, count);
    }
  };
  each(columns, step);
}

template <size_t R, typename T>
void sums_of(
    const float* x,
    size_t x_stride,
    size_t depth,
    const T* w,
    int64_t w_stride,
    size_t columns,
    float* out,
    size_t out_stride) {
  for (size_t r = 0; r < R; r++) {
    std::memset(out + r * out_stride, 0, columns * sizeof(float));
  }
  size_t k = 0;
  for (; k + AT_ONCE <= depth; k += AT_ONCE, w += int64_t(AT_ONCE) * w_stride) {
    add_rows<R, AT_ONCE>(
        x + k, x_stride, w, w_stride, columns, out, out_stride);
  }
  for (; k < depth; k++, w += w_stride) {
    add_rows<R, 1>(x + k, x_stride, w, w_stride, columns, out, out_stride);
  }
}

// Calls f with each group of up to four rows' first one, and their number as a constant.
template <typename F>
EMILY_INLINE void grouped(size_t rows, F f) {
  size_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    f.template operator()<4>(r);
  }
  switch (rows - r) {
    case 3:
      return f.template operator()<3>(r);
    case 2:
      return f.template operator()<2>(r);
    case 1:
      return f.template operator()<1>(r);
  }
}

void dots(
    Float type,
    const float* x,
    size_t x_stride,
    size_t rows,
    size_t depth,
    const void* w,
    int64_t w_stride,
    size_t columns,
    float* out,
    size_t out_stride) {
  typed(type, [=](auto tag) {
    auto from = of<decltype(tag)>(w);
    grouped(rows, [=]<size_t R>(size_t r) {
      dots_of<R>(
          x + r * x_stride,
          x_stride,
          depth,
          from,
          w_stride,
          columns,
          out + r * out_stride,
          out_stride);
    });
  });
}

void sums(
    Float type,
    const float* x,
    size_t x_stride,
    size_t rows,
    size_t depth,
    const void* w,
    int64_t w_stride,
    size_t columns,
    float* out,
    size_t out_stride) {
  typed(type, [=](auto tag) {
    auto from = of<decltype(tag)>(w);
    grouped(rows, [=]<size_t R>(size_t r) {
      sums_of<R>(
          x + r * x_stride,
          x_stride,
          depth,
          from,
          w_stride,
          columns,
          out + r * out_stride,
          out_stride);
    });
  });
}

} // namespace
} // namespace emily
