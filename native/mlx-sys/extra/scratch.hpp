#pragma once

#include "primitive.hpp"

namespace emily {

// Room for `count` f32, for as long as the encoder's tasks so far and the next need it. Taken where
// failing is still an error of the evaluation.
inline float* scratch(size_t count, CommandEncoder& encoder) {
  // An axis has an int's size at most.
  constexpr size_t PAGE = 1 << 10;
  array room(
      Shape{int(count / PAGE + 1), int(PAGE)}, mlx::core::float32, nullptr, {});
  own_memory(room);
  encoder.add_temporary(room);
  return room.data<float>();
}

// Multiplications that take long enough to have another thread do them.
constexpr size_t PRODUCT_SHARE = 1 << 19;

inline size_t rounded_up(size_t count, size_t to) {
  return (count + to - 1) / to * to;
}

} // namespace emily
