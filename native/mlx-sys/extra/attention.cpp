// softmax(scale * query key^T + mask) value, perhaps with sinks, a block of the query's positions at a time.
//
// The scores of a block are in memory as f32, for all positions of the key; nothing is as large as all
// scores. Heads that share a key and a value are rows of one block. Many rows are multiplied as matrices
// of packed panels; a few, as when one token is decoded, read the key and the value where they are.

#include "fused.h"

#include <algorithm>

#include "rows.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace emily {
namespace {

// Rows of the query in one block; and how many are too few for packing key and value to pay.
constexpr size_t BLOCK = 48;
constexpr size_t FEW = 12;
// Positions that are multiplied at once with the values, so that a panel of those stays in the cache.
constexpr size_t DEPTH = 256;

// Where the elements of a tensor with four axes begin, of which the last is contiguous.
struct Heads {
  char* data;
  // In bytes.
  int64_t batch, head, position;

  char* at(size_t b, size_t h, size_t t) const {
    return data + int64_t(b) * batch + int64_t(h) * head +
        int64_t(t) * position;
  }
};

Heads heads_of(const array& a) {
  auto width = int64_t(a.itemsize());
  return {
      const_cast<char*>(a.data<char>()),
      a.strides(0) * width,
      a.strides(1) * width,
      a.strides(2) * width};
}

struct Mask {
  Heads rows;
  // From one position of the key to the next, in elements.
  int64_t step;
  Float type;
  bool bytes, any;

  void apply(size_t b, size_t h, size_t t, size_t seen, float* scores) const {
    if (!any) {
      return;
    }
    auto from = rows.at(b, h, t);
    bytes ? kernels().select_mask(from, step, seen, scores)
          : kernels().add_mask(type, from, step, seen, scores);
  }
};

// The mask as if it had the four axes of the scores.
Mask mask_of(const std::vector<array>& inputs, bool any) {
  if (!any) {
    return {};
  }
  const auto& a = inputs[3];
  auto stride = [&](int axis) -> int64_t {
    int own = axis + int(a.ndim()) - 4;
    return own < 0 || a.shape(own) == 1 ? 0 : a.strides(own);
  };
  auto width = int64_t(a.itemsize());
  Heads rows{
      const_cast<char*>(a.data<char>()),
      stride(0) * width,
      stride(1) * width,
      stride(2) * width};
  return {rows, stride(3), float_type(a), width == 1, true};
}

// A score for each head that takes part in the softmax and has no value, if there are such.
struct Sinks {
  const char* data;
  int64_t step;
  Float type;
  bool any;

  void store(size_t h, float* score) const {
    kernels().widen(type, data + int64_t(h) * step, 1, 1, 1, score);
  }
};

Sinks sinks_of(const std::vector<array>& inputs, bool any) {
  if (!any) {
    return {};
  }
  const auto& a = inputs.back();
  return {a.data<char>(), a.strides(0) * int64_t(a.itemsize()), float_type(a), true};
}

struct Problem {
  size_t batch, key_heads, group, positions, seen, features, width;
  float scale;
  Float type;
  Heads query, key, value, out;
  Mask mask;
  Sinks sinks;

  // Scores of a row: of the positions, and the sink's behind them.
  size_t scores() const {
    return seen + sinks.any;
  }

  // Of all heads that share a key.
  size_t rows() const {
    return group * positions;
  }

  bool few() const {
    return rows() <= FEW;
  }

  size_t block() const {
    return few() ? rows() : std::min(BLOCK, rows());
  }

  size_t blocks() const {
    return (rows() + block() - 1) / block();
  }
};

// What a thread writes in between.
struct Room {
  float *keys, *values, *query, *scores, *out;
  // From row to row.
  size_t score_stride, out_stride;
};

size_t room_size(const Problem& p) {
  auto panel = kernels().panel;
  auto seen = rounded_up(p.seen, panel), width = rounded_up(p.width, panel);
  auto packed = p.few() ? 0 : seen * p.features + p.seen * width;
  auto scores = rounded_up(p.scores(), panel);
  return packed + p.block() * (p.features + scores + width);
}

Room room_in(const Problem& p, float* from) {
  auto panel = kernels().panel;
  auto seen = rounded_up(p.seen, panel), width = rounded_up(p.width, panel);
  Room room;
  room.keys = from;
  room.values = room.keys + (p.few() ? 0 : seen * p.features);
  room.query = room.values + (p.few() ? 0 : p.seen * width);
  room.scores = room.query + p.block() * p.features;
  room.score_stride = rounded_up(p.scores(), panel);
  room.out = room.scores + p.block() * room.score_stride;
  room.out_stride = width;
  return room;
}

int64_t elements(const Problem& p, int64_t bytes) {
  return bytes / (p.type == Float::f32 ? 4 : 2);
}

void pack(const Problem& p, size_t b, size_t h, const Room& room) {
  kernels().pack(
      p.type,
      p.key.at(b, h, 0),
      1,
      elements(p, p.key.position),
      p.features,
      p.seen,
      room.keys);
  for (size_t s = 0; s < p.seen; s += DEPTH) {
    kernels().pack(
        p.type,
        p.value.at(b, h, s),
        elements(p, p.value.position),
        1,
        std::min(DEPTH, p.seen - s),
        p.width,
        room.values + s * room.out_stride);
  }
}

// The query's rows from `first` on, scaled, to their scores.
void score(const Problem& p, size_t b, size_t h, size_t rows, const Room& room) {
  if (p.few()) {
    return kernels().dots(
        p.type,
        room.query,
        p.features,
        rows,
        p.features,
        p.key.at(b, h, 0),
        elements(p, p.key.position),
        p.seen,
        room.scores,
        room.score_stride);
  }
  kernels().multiply(
      room.query,
      p.features,
      rows,
      p.features,
      room.keys,
      rounded_up(p.seen, kernels().panel) / kernels().panel,
      false,
      room.scores,
      room.score_stride);
}

// The weighted sums of the values.
void gather(const Problem& p, size_t b, size_t h, size_t rows, const Room& room) {
  if (p.few()) {
    return kernels().sums(
        p.type,
        room.scores,
        room.score_stride,
        rows,
        p.seen,
        p.value.at(b, h, 0),
        elements(p, p.value.position),
        p.width,
        room.out,
        room.out_stride);
  }
  // Of no positions the sum is zero.
  size_t s = 0;
  do {
    kernels().multiply(
        room.scores + s,
        room.score_stride,
        rows,
        std::min(DEPTH, p.seen - s),
        room.values + s * room.out_stride,
        room.out_stride / kernels().panel,
        s > 0,
        room.out,
        room.out_stride);
  } while ((s += DEPTH) < p.seen);
}

void attend(
    const Problem& p,
    size_t b,
    size_t key_head,
    size_t first,
    const Room& room) {
  auto rows = std::min(p.block(), p.rows() - first);
  auto head = [&](size_t row) {
    return key_head * p.group + (first + row) / p.positions;
  };
  auto position = [&](size_t row) { return (first + row) % p.positions; };
  for (size_t row = 0; row < rows; row++) {
    kernels().widen(
        p.type,
        p.query.at(b, head(row), position(row)),
        1,
        p.scale,
        p.features,
        room.query + row * p.features);
  }
  score(p, b, key_head, rows, room);
  for (size_t row = 0; row < rows; row++) {
    auto scores = room.scores + row * room.score_stride;
    p.mask.apply(b, head(row), position(row), p.seen, scores);
    if (p.sinks.any) {
      p.sinks.store(head(row), scores + p.seen);
    }
    kernels().softmax(Float::f32, scores, p.scores(), scores);
  }
  gather(p, b, key_head, rows, room);
  for (size_t row = 0; row < rows; row++) {
    kernels().narrow(
        p.type,
        room.out + row * room.out_stride,
        nullptr,
        p.width,
        p.out.at(b, head(row), position(row)));
  }
}

void attend_all(const Problem& p, float* rooms) {
  auto size = room_size(p), blocks = p.blocks();
  auto products = p.block() * p.seen * (p.features + p.width);
  parallel(
      p.batch * p.key_heads * blocks,
      PRODUCT_SHARE / (products + 1) + 1,
      [&](size_t begin, size_t end, size_t thread) {
        auto room = room_in(p, rooms + thread * size);
        for (auto at = begin; at < end; at++) {
          auto pair = at / blocks, block = at % blocks;
          auto b = pair / p.key_heads, h = pair % p.key_heads;
          if (!p.few() && (at == begin || block == 0)) {
            pack(p, b, h, room);
          }
          attend(p, b, h, block * p.block(), room);
        }
      });
}

class EmilyAttention : public HostPrimitive {
 public:
  EmilyAttention(mlx::core::Stream s, float scale, bool sinks)
      : HostPrimitive(s), scale_(scale), sinks_(sinks) {}

  // Heads lie beside each other in the result's memory, as whoever joins them again wants them.
  void eval_cpu(const std::vector<array>& inputs, array& out) override {
    int64_t heads = out.shape(1), positions = out.shape(2), width = out.shape(3);
    bool either = heads <= 1 || positions <= 1;
    array::Flags flags{true, either, out.size() <= 1};
    Strides strides{heads * positions * width, width, heads * width, 1};
    out.set_data(
        mlx::core::allocator::malloc(out.nbytes()),
        out.size(),
        either ? out.strides() : strides,
        flags);
    if (out.size() == 0) {
      return;
    }
    auto& encoder = this->encoder();
    auto p = problem(inputs, out, encoder);
    auto rooms = scratch(threads() * room_size(p), encoder);
    encoder.dispatch([p, rooms] { attend_all(p, rooms); });
  }

  std::vector<Shape> output_shapes(const std::vector<array>& inputs) override {
    auto shape = inputs[0].shape();
    shape.back() = inputs[2].shape(-1);
    return {shape};
  }

  DEFINE_NAME(EmilyAttention)

  bool is_equivalent(const Primitive& other) const override {
    return state() == static_cast<const EmilyAttention&>(other).state();
  }

  std::pair<float, bool> state() const {
    return {scale_, sinks_};
  }

 private:
  Problem problem(
      const std::vector<array>& inputs,
      array& out,
      CommandEncoder& encoder) {
    auto query = dense(inputs[0], inputs[0].shape(3), encoder);
    auto key = dense(inputs[1], inputs[1].shape(3), encoder);
    auto value = dense(inputs[2], inputs[2].shape(3), encoder);
    return {
        size_t(out.shape(0)),
        size_t(key.shape(1)),
        size_t(out.shape(1) / key.shape(1)),
        size_t(out.shape(2)),
        size_t(key.shape(2)),
        size_t(key.shape(3)),
        size_t(out.shape(3)),
        scale_,
        float_type(out),
        heads_of(query),
        heads_of(key),
        heads_of(value),
        heads_of(out),
        mask_of(inputs, inputs.size() == (sinks_ ? 5 : 4)),
        sinks_of(inputs, sinks_)};
  }

  float scale_;
  bool sinks_;
};

} // namespace
} // namespace emily

extern "C" int emily_attention(
    mlx_array* res,
    const mlx_array query,
    const mlx_array key,
    const mlx_array value,
    const mlx_array mask,
    const mlx_array sinks,
    float scale,
    const mlx_stream s) {
  return emily::made<emily::EmilyAttention>(
      res, {query, key, value, mask, sinks}, s, scale, sinks.ctx != nullptr);
}
