// Products with a quantized matrix: the bits of MLX's own, which are summed one after another, and some dozens of them at a
// time.

#include "fused.h"

#include <algorithm>
#include <tuple>

#include "rows.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace emily {
namespace {

// Rows that share what is unpacked; their sums are in the cache.
constexpr size_t ROWS_AT_ONCE = 256;
// What unpacking a number costs, in multiplications.
constexpr size_t UNPACKING = 8;

struct QuantizedProblem {
  Float type;
  // Of the matrices in turn.
  Quantized w;
  bool transpose;
  size_t batch, rows, depth, columns;
  // The rows of all matrices, and how many of them a packed one has.
  Rows x, packed, scales, biases;
  size_t packed_rows;
  char* out;
  size_t width;
  // The rows as f32, and each thread's room.
  float *left, *rooms;

  // How many columns are computed at once.
  size_t part() const {
    return transpose ? kernels().quantized_columns : w.group;
  }

  size_t room() const {
    return part() * (std::min(rows, ROWS_AT_ONCE) + (transpose ? MOST_OF_GROUP : 0));
  }

  static constexpr size_t MOST_OF_GROUP = 128;
};

void multiply_part(
    const QuantizedProblem& p,
    size_t part,
    size_t row,
    float* room) {
  auto rows = std::min(ROWS_AT_ONCE, p.rows - row);
  auto first = part * p.part();
  auto x = p.left + row * p.depth;
  auto to = p.out + (row * p.columns + first) * p.width;
  if (!p.transpose) {
    return kernels().quantized_group(
        p.type, p.w, part, x, rows, p.depth, room, to, p.columns);
  }
  auto count = std::min(p.part(), p.columns - first);
  kernels().quantized_rows(
      p.type, p.w, first, count, x, rows, p.depth, room, to, p.columns);
}

void multiply_matrix(const QuantizedProblem& p, size_t b) {
  parallel(p.rows, rows_of_share(p.depth), [&](size_t begin, size_t end, size_t) {
    for (auto row = begin; row < end; row++) {
      auto from = p.x[b * p.rows + row];
      kernels().widen(p.type, from, 1, 1, p.depth, p.left + row * p.depth);
    }
  });
  auto parts = (p.columns + p.part() - 1) / p.part();
  auto share = p.part() * p.depth * (std::min(p.rows, ROWS_AT_ONCE) + UNPACKING);
  for (size_t row = 0; row < p.rows; row += ROWS_AT_ONCE) {
    parallel(
        parts,
        PRODUCT_SHARE / (share + 1) + 1,
        [&](size_t begin, size_t end, size_t thread) {
          for (auto part = begin; part < end; part++) {
            multiply_part(p, part, row, p.rooms + thread * p.room());
          }
        });
  }
}

void multiply(QuantizedProblem p) {
  for (size_t b = 0; b < p.batch; b++) {
    auto row = b * p.packed_rows;
    p.w.packed = reinterpret_cast<const uint32_t*>(p.packed[row]);
    p.w.scales = p.scales[row];
    p.w.biases = p.biases[row];
    multiply_matrix(p, b);
    p.out += p.rows * p.columns * p.width;
  }
}

class EmilyQuantizedProduct : public HostPrimitive {
 public:
  EmilyQuantizedProduct(
      mlx::core::Stream s,
      Packing packing,
      int bits,
      int group,
      bool transpose)
      : HostPrimitive(s),
        packing_(packing),
        bits_(bits),
        group_(group),
        transpose_(transpose) {}

  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    own_memory(out);
    auto& encoder = this->encoder();
    auto part = [&](size_t at) {
      return dense(inputs[at], inputs[at].shape(-1), encoder);
    };
    auto x = part(0), packed = part(1), scales = part(2);
    auto biases = inputs.size() > 3 ? part(3) : scales;
    // One matrix is multiplied with all rows at once.
    bool single = packed.ndim() == 2;
    size_t columns = out.shape(-1), count = out.size() / columns;
    size_t rows = single ? count : out.shape(-2);
    QuantizedProblem p{
        float_type(out),
        {packing_,
         size_t(bits_),
         size_t(group_),
         nullptr,
         packed.strides(-2),
         nullptr,
         scales.strides(-2),
         nullptr,
         biases.strides(-2)},
        transpose_,
        count / rows,
        rows,
        size_t(x.shape(-1)),
        columns,
        Rows(x, x.shape()),
        Rows(packed, packed.shape()),
        Rows(scales, scales.shape()),
        Rows(biases, biases.shape()),
        size_t(packed.shape(-2)),
        out.data<char>(),
        out.itemsize(),
        nullptr,
        nullptr};
    p.left = scratch(p.rows * p.depth, encoder);
    p.rooms = scratch(threads() * p.room(), encoder);
    encoder.dispatch([p] { multiply(p); });
  }

  std::vector<Shape> output_shapes(const std::vector<array>& inputs) override {
    auto shape = inputs[0].shape();
    shape.back() =
        transpose_ ? inputs[1].shape(-2) : inputs[2].shape(-1) * group_;
    return {shape};
  }

  DEFINE_NAME(EmilyQuantizedProduct)

  bool is_equivalent(const Primitive& other) const override {
    return state() ==
        static_cast<const EmilyQuantizedProduct&>(other).state();
  }

  std::tuple<Packing, int, int, bool> state() const {
    return {packing_, bits_, group_, transpose_};
  }

 private:
  Packing packing_;
  int bits_, group_;
  bool transpose_;
};

} // namespace
} // namespace emily

extern "C" int emily_quantized_product(
    mlx_array* res,
    const mlx_array x,
    const mlx_array packed,
    const mlx_array scales,
    const mlx_array biases,
    emily_packing packing,
    int bits,
    int group_size,
    bool transpose,
    const mlx_stream s) {
  return emily::made<emily::EmilyQuantizedProduct>(
      res,
      {x, packed, scales, biases},
      s,
      static_cast<emily::Packing>(packing),
      bits,
      group_size,
      transpose);
}
