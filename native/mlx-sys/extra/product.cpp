// Products of matrices of narrow floats, and of few rows: what MLX has no good kernel for. Sums are in f32,
// and rounded once.

#include "fused.h"

#include <algorithm>
#include <tuple>

#include "rows.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace emily {
namespace {

// Rows for which the matrix is read where it is: packing it would cost more than it saves.
constexpr size_t FEW_ROWS = 8;
// Columns whose sums are in the cache while the rows of the matrix go by.
constexpr size_t COLUMNS = 1024;
// What is packed at once, in rows of the matrix and in panels, and how many rows it is multiplied with.
constexpr size_t PACKED_ROWS = 256;
constexpr size_t PACKED_PANELS = 8;
constexpr size_t ROW_BLOCK = 256;

// A batch of matrices; strides in elements.
struct Matrices {
  const char* data;
  int64_t batch, row, column;
  size_t width;

  const char* at(size_t b, size_t row_at, size_t column_at) const {
    return data +
        (int64_t(b) * batch + int64_t(row_at) * row +
         int64_t(column_at) * column) *
        int64_t(width);
  }
};

Matrices matrices_of(const array& a) {
  return {
      a.data<char>(),
      a.ndim() > 2 ? a.strides(-3) : 0,
      a.strides(-2),
      a.strides(-1),
      a.itemsize()};
}

struct ProductProblem {
  size_t batch, rows, depth, columns;
  Float type;
  Matrices a, b;
  // The rows of what is added, if anything is.
  Rows added;
  bool adds;
  char* out;
  // The rows of one matrix of the batch as f32, and each thread's sums and panels.
  float *left, *rooms;

  // Where the rows of the left matrix are as f32, and how far apart.
  const float* row_of(size_t b_at, size_t row) const {
    return ready() ? reinterpret_cast<const float*>(a.at(b_at, row, 0))
                   : left + row * depth;
  }

  size_t row_stride() const {
    return ready() ? a.row : depth;
  }

  bool ready() const {
    return type == Float::f32 && a.column == 1 && a.row >= 0;
  }

  bool few() const {
    return rows <= FEW_ROWS && (b.row == 1 || b.column == 1);
  }

  size_t width() const {
    return few() ? COLUMNS : PACKED_PANELS * kernels().panel;
  }

  size_t height() const {
    return few() ? rows : std::min(rows, ROW_BLOCK);
  }

  size_t room() const {
    return width() * (height() + (few() ? 0 : PACKED_ROWS));
  }
};

// Rounds the sums of some rows and columns into the result.
void finish(
    const ProductProblem& p,
    size_t b,
    size_t row,
    size_t rows,
    size_t column,
    size_t columns,
    const float* sums) {
  for (size_t r = 0; r < rows; r++, sums += p.width()) {
    auto at = b * p.rows + row + r;
    auto added = p.adds ? p.added[at] + column * p.b.width : nullptr;
    auto to = p.out + (at * p.columns + column) * p.b.width;
    kernels().narrow(p.type, sums, added, columns, to);
  }
}

// Some columns of the few rows.
void multiply_few(
    const ProductProblem& p,
    size_t b,
    size_t begin,
    size_t end,
    float* sums) {
  bool dots = p.b.row == 1;
  auto kernel = dots ? kernels().dots : kernels().sums;
  for (auto column = begin; column < end; column += COLUMNS) {
    auto columns = std::min(COLUMNS, end - column);
    kernel(
        p.type,
        p.row_of(b, 0),
        p.row_stride(),
        p.rows,
        p.depth,
        p.b.at(b, 0, column),
        dots ? p.b.column : p.b.row,
        columns,
        sums,
        p.width());
    finish(p, b, 0, p.rows, column, columns, sums);
  }
}

// One block of rows and columns.
void multiply_block(
    const ProductProblem& p,
    size_t b,
    size_t row,
    size_t column,
    float* room) {
  auto rows = std::min(ROW_BLOCK, p.rows - row);
  auto columns = std::min(p.width(), p.columns - column);
  auto panel = kernels().panel;
  auto sums = room, panels = room + p.height() * p.width();
  // Of no rows of the right matrix the sum is zero.
  size_t k = 0;
  do {
    auto depth = std::min(PACKED_ROWS, p.depth - k);
    kernels().pack(
        p.type, p.b.at(b, k, column), p.b.row, p.b.column, depth, columns, panels);
    kernels().multiply(
        p.row_of(b, row) + k,
        p.row_stride(),
        rows,
        depth,
        panels,
        (columns + panel - 1) / panel,
        k > 0,
        sums,
        p.width());
  } while ((k += PACKED_ROWS) < p.depth);
  finish(p, b, row, rows, column, columns, sums);
}

void widen_rows(const ProductProblem& p, size_t b) {
  if (p.ready()) {
    return;
  }
  parallel(p.rows, rows_of_share(p.depth), [&](size_t begin, size_t end, size_t) {
    for (auto row = begin; row < end; row++) {
      auto to = p.left + row * p.depth;
      kernels().widen(p.type, p.a.at(b, row, 0), p.a.column, 1, p.depth, to);
    }
  });
}

void multiply_all(const ProductProblem& p) {
  for (size_t b = 0; b < p.batch; b++) {
    widen_rows(p, b);
    if (p.few()) {
      // A thread of its own pays for half a megabyte of the matrix.
      parallel(
          p.columns,
          PRODUCT_SHARE / 2 / (p.depth + 1) + 1,
          [&](size_t begin, size_t end, size_t thread) {
            multiply_few(p, b, begin, end, p.rooms + thread * p.room());
          });
      continue;
    }
    auto across = (p.columns + p.width() - 1) / p.width();
    auto down = (p.rows + ROW_BLOCK - 1) / ROW_BLOCK;
    parallel(
        across * down,
        PRODUCT_SHARE / (p.width() * p.height() * p.depth + 1) + 1,
        [&](size_t begin, size_t end, size_t thread) {
          for (auto at = begin; at < end; at++) {
            multiply_block(
                p,
                b,
                at % down * ROW_BLOCK,
                at / down * p.width(),
                p.rooms + thread * p.room());
          }
        });
  }
}

class EmilyProduct : public HostPrimitive {
 public:
  using HostPrimitive::HostPrimitive;

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    own_memory(out);
    if (out.size() == 0) {
      return;
    }
    auto& encoder = this->encoder();
    const auto &a = inputs[0], &b = inputs[1];
    int columns = out.shape(-1);
    bool adds = inputs.size() > 2;
    ProductProblem p{
        out.size() / size_t(out.shape(-2)) / size_t(columns),
        size_t(out.shape(-2)),
        size_t(a.shape(-1)),
        size_t(columns),
        float_type(out),
        matrices_of(a),
        matrices_of(b),
        // Without any, rows that nobody reads.
        adds ? Rows(dense(inputs[2], columns, encoder), out.shape())
             : Rows(out, out.shape()),
        adds,
        out.data<char>(),
        nullptr,
        nullptr};
    p.left = p.ready() ? nullptr : scratch(p.rows * p.depth, encoder);
    p.rooms = scratch(threads() * p.room(), encoder);
    encoder.dispatch([p] { multiply_all(p); });
  }

  std::vector<Shape> output_shapes(const std::vector<array>& inputs) override {
    auto shape = inputs[0].shape();
    shape.back() = inputs[1].shape(-1);
    return {shape};
  }

  DEFINE_NAME(EmilyProduct)
  DEFINE_DEFAULT_IS_EQUIVALENT()

  std::tuple<> state() const {
    return {};
  }
};

} // namespace
} // namespace emily

extern "C" int emily_product(
    mlx_array* res,
    const mlx_array a,
    const mlx_array b,
    const mlx_array c,
    const mlx_stream s) {
  return emily::made<emily::EmilyProduct>(res, {a, b, c}, s);
}
