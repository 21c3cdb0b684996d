#pragma once

#include "primitive.hpp"

namespace emily {

// An array's rows, along its last axis, as often as `shape` has them, to which it broadcasts.
class Rows {
 public:
  Rows(const array& a, const Shape& shape);

  const char* operator[](size_t row) const {
    int64_t offset = 0;
    for (size_t axis = sizes_.size(); axis-- > 0;) {
      offset += int64_t(row % sizes_[axis]) * strides_[axis];
      row /= sizes_[axis];
    }
    return data_ + offset;
  }

 private:
  const char* data_;
  // Of the axes but the last, as few as tell where a row is; strides in bytes.
  Shape sizes_;
  Strides strides_;
};

// The array, or a copy of it that the encoder's next task finds, whose last axis is contiguous and of
// `size` elements.
array dense(const array& a, int size, CommandEncoder& encoder);

// Elements of which computing takes long enough to have another thread do it.
constexpr size_t SHARE = 1 << 15;

// How many rows of n elements are a share.
inline size_t rows_of_share(size_t n) {
  return SHARE / (n + 1) + 1;
}

} // namespace emily
