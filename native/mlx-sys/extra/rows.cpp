#include "rows.hpp"

#include <cstring>

#include "threads.hpp"

namespace emily {
namespace {

void copy_row(
    const char* from,
    int64_t step,
    size_t width,
    size_t count,
    char* to) {
  for (size_t i = 0; i < count; i++, from += step, to += width) {
    // A constant each, so that the copy is one move.
    switch (width) {
      case 1:
        *to = *from;
        break;
      case 2:
        std::memcpy(to, from, 2);
        break;
      default:
        std::memcpy(to, from, 4);
    }
  }
}

} // namespace

Rows::Rows(const array& a, const Shape& shape) : data_(a.data<char>()) {
  int missing = int(shape.size()) - int(a.ndim());
  for (int axis = 0; axis + 1 < int(shape.size()); axis++) {
    if (shape[axis] == 1) {
      continue;
    }
    bool repeated = axis < missing || a.shape(axis - missing) == 1;
    int64_t stride =
        repeated ? 0 : a.strides(axis - missing) * int64_t(a.itemsize());
    if (!sizes_.empty() && strides_.back() == stride * shape[axis]) {
      sizes_.back() *= shape[axis];
      strides_.back() = stride;
    } else {
      sizes_.push_back(shape[axis]);
      strides_.push_back(stride);
    }
  }
}

array dense(const array& a, int size, CommandEncoder& encoder) {
  bool repeated = a.ndim() == 0 || a.shape(-1) != size;
  int64_t step = repeated ? 0 : a.strides(-1);
  if (step == 1 || size <= 1) {
    return a;
  }
  auto shape = a.ndim() == 0 ? Shape{1} : a.shape();
  shape.back() = size;
  array copy(shape, a.dtype(), nullptr, {});
  own_memory(copy);
  size_t width = a.itemsize(), count = size;
  auto rows = copy.size() / count;
  encoder.dispatch([from = Rows(a, shape),
                    to = copy.data<char>(),
                    step = step * int64_t(width),
                    width,
                    count,
                    rows] {
    parallel(rows, rows_of_share(count), [&](size_t begin, size_t end, size_t) {
      for (auto row = begin; row < end; row++) {
        copy_row(from[row], step, width, count, to + row * count * width);
      }
    });
  });
  encoder.add_temporary(copy);
  return copy;
}

} // namespace emily
