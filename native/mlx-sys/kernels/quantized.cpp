// Products with quantized matrices, in MLX's own order: it rounds each step to the tensor's type and adds one product
// after another, so that each sum has its own lane here, and nothing is added across lanes.

#include "vector.h"

namespace emily {
namespace {

// The columns of the result that are summed side by side where each is a row of packed numbers.
constexpr size_t SUMS = 4;
constexpr size_t COLUMNS_AT_ONCE = SUMS * WIDTH;
// The numbers of the largest group.
constexpr size_t MOST_OF_GROUP = 128;

// A value that has been through memory, to the compiler: what comes before and after is not made one step.
EMILY_INLINE vec apart(vec v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}

// Rounded to the type of the tag. Of NaN in bf16 the lower half is zero, so that it stays one.
EMILY_INLINE vec rounded(vec v, float) {
  return apart(v);
}

EMILY_INLINE vec rounded(vec v, bf16) {
  words bits = as<words>(v);
  return as<vec>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

EMILY_INLINE vec rounded(vec v, f16) {
  f16 narrow[WIDTH];
  narrowed(v, narrow);
  return widened(narrow);
}

// Groups of numbers: 8 of them are as many bytes as one has bits.
template <size_t BITS>
EMILY_INLINE void unpack_as(const uint8_t* from, size_t count, uint8_t* to) {
  for (size_t i = 0; i < count; i += 8, from += BITS) {
    uint64_t bits = 0;
    std::memcpy(&bits, from, BITS);
    for (size_t j = 0; j < 8; j++) {
      to[i + j] = uint8_t((bits >> (j * BITS)) & ((1u << BITS) - 1));
    }
  }
}

void unpack(size_t bits, const uint8_t* from, size_t count, uint8_t* to) {
  switch (bits) {
    case 2:
      return unpack_as<2>(from, count, to);
    case 3:
      return unpack_as<3>(from, count, to);
    case 4:
      return unpack_as<4>(from, count, to);
    case 5:
      return unpack_as<5>(from, count, to);
    case 6:
      return unpack_as<6>(from, count, to);
    default:
      std::memcpy(to, from, count);
  }
}

// A float of 8 bits, e4m3, as MLX reads it: a half's bits but for the bias of its exponent.
EMILY_INLINE float e4m3(uint8_t code) {
  uint32_t magnitude = code & 0x7f;
  float value = as<float>((magnitude << 20) + 0x3c000000u);
  if (magnitude < 8) {
    value = float(magnitude) * 0x1p-9f;
  }
  return code & 0x80 ? -value : value;
}

EMILY_INLINE float e2m1(uint8_t code) {
  constexpr float NUMBERS[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return code & 8 ? -NUMBERS[code & 7] : NUMBERS[code];
}

EMILY_INLINE float e8m0(uint8_t code) {
  return as<float>(code == 0 ? 0x400000u : uint32_t(code) << 23);
}

// One number as the type has it.
template <typename T>
EMILY_INLINE float one(float value) {
  vec v = rounded(all(value), T{});
  return v[0];
}

template <typename T>
EMILY_INLINE float at(const void* numbers, size_t index) {
  T first[WIDTH] = {of<T>(numbers)[index]};
  return widened(first)[0];
}

// The scale of a group, in the type.
template <typename T>
EMILY_INLINE float scale_of(const Quantized& w, size_t row, size_t group) {
  auto index = int64_t(row) * w.scales_stride + int64_t(group);
  auto code = static_cast<const uint8_t*>(w.scales);
  switch (w.packing) {
    case Packing::affine:
      return at<T>(w.scales, index);
    case Packing::nvfp4:
      return one<T>(e4m3(code[index]));
    default:
      return one<T>(e8m0(code[index]));
  }
}

// The numbers of a group: affine ones with scale and bias, floats without their scale.
template <typename T>
EMILY_INLINE void
numbers_of(const Quantized& w, size_t row, size_t group, float* to) {
  uint8_t codes[MOST_OF_GROUP];
  auto from = reinterpret_cast<const uint8_t*>(w.packed + int64_t(row) * w.packed_stride);
  unpack(w.bits, from + group * w.group / 8 * w.bits, w.group, codes);
  if (w.packing != Packing::affine) {
    for (size_t i = 0; i < w.group; i++) {
      to[i] = w.bits == 4 ? e2m1(codes[i]) : e4m3(codes[i]);
    }
    return;
  }
  float scale = scale_of<T>(w, row, group);
  float bias = at<T>(w.biases, int64_t(row) * w.biases_stride + int64_t(group));
  for (size_t i = 0; i < w.group; i++) {
    to[i] = codes[i];
  }
  for (size_t i = 0; i < w.group; i += WIDTH) {
    vec scaled = rounded(all(scale) * widened(to + i), T{});
    narrowed(rounded(scaled + all(bias), T{}), to + i);
  }
}

// Some rows of packed numbers as columns: of each number of the group in turn all of the rows', with zeros
// beyond the last.
template <typename T>
void lay_out(
    const Quantized& w,
    size_t group,
    size_t first,
    size_t count,
    float* panel,
    float* scales) {
  for (size_t c = 0; c < COLUMNS_AT_ONCE; c++) {
    float numbers[MOST_OF_GROUP] = {};
    if (c < count) {
      numbers_of<T>(w, first + c, group, numbers);
      scales[c] = scale_of<T>(w, first + c, group);
    }
    for (size_t k = 0; k < w.group; k++) {
      panel[k * COLUMNS_AT_ONCE + c] = numbers[k];
    }
  }
}

template <typename T>
EMILY_INLINE void
add_group(const float* x, size_t count, const float* panel, vec* sums) {
  for (size_t k = 0; k < count; k++, panel += COLUMNS_AT_ONCE) {
    vec by = all(x[k]);
    for (size_t j = 0; j < SUMS; j++) {
      vec product = rounded(by * widened(panel + j * WIDTH), T{});
      sums[j] = rounded(sums[j] + product, T{});
    }
  }
}

// Floats of a group are summed alone, and their sum is multiplied with the scale.
template <typename T, bool AFFINE>
EMILY_INLINE void add_row(
    const Quantized& w,
    const float* x,
    const float* panel,
    const float* scales,
    float* sums) {
  vec own[SUMS], total[SUMS] = {};
  for (size_t j = 0; j < SUMS; j++) {
    own[j] = widened(sums + j * WIDTH);
  }
  add_group<T>(x, w.group, panel, AFFINE ? own : total);
  for (size_t j = 0; j < SUMS; j++) {
    if (!AFFINE) {
      vec scaled = rounded(widened(scales + j * WIDTH) * total[j], T{});
      own[j] = rounded(own[j] + scaled, T{});
    }
    narrowed(own[j], sums + j * WIDTH);
  }
}

template <typename T, bool AFFINE>
void columns_of(
    const Quantized& w,
    size_t first,
    size_t count,
    const float* x,
    size_t rows,
    size_t depth,
    float* room,
    T* out,
    size_t out_stride) {
  float* panel = room;
  float* sums = room + MOST_OF_GROUP * COLUMNS_AT_ONCE;
  float scales[COLUMNS_AT_ONCE] = {};
  std::memset(sums, 0, rows * COLUMNS_AT_ONCE * sizeof(float));
  for (size_t group = 0; group < depth / w.group; group++) {
    lay_out<T>(w, group, first, count, panel, scales);
    for (size_t m = 0; m < rows; m++) {
      add_row<T, AFFINE>(
          w,
          x + m * depth + group * w.group,
          panel,
          scales,
          sums + m * COLUMNS_AT_ONCE);
    }
  }
  for (size_t m = 0; m < rows; m++) {
    for (size_t c = 0; c < count; c += WIDTH) {
      vec v = widened(sums + m * COLUMNS_AT_ONCE + c);
      auto left = count - c < WIDTH ? count - c : WIDTH;
      narrowed(v, out + m * out_stride + c, left);
    }
  }
}

// The columns of the result from `first` on, which are rows of packed numbers.
void quantized_rows(
    Float type,
    const Quantized& w,
    size_t first,
    size_t count,
    const float* x,
    size_t rows,
    size_t depth,
    float* room,
    void* out,
    size_t out_stride) {
  typed(type, [&](auto tag) {
    using T = decltype(tag);
    auto kernel = w.packing == Packing::affine ? columns_of<T, true> : columns_of<T, false>;
    kernel(w, first, count, x, rows, depth, room, of<T>(out), out_stride);
  });
}

// Adds the products with one row of packed numbers, of which a group is so many columns of the result.
template <typename T, bool AFFINE>
EMILY_INLINE void add_products(
    size_t count,
    float x,
    float scale,
    const float* numbers,
    float* sums) {
  vec by = all(x);
  if (!AFFINE) {
    by = rounded(by * all(scale), T{});
  }
  for (size_t i = 0; i < count; i += WIDTH) {
    vec product = rounded(by * widened(numbers + i), T{});
    narrowed(rounded(widened(sums + i) + product, T{}), sums + i);
  }
}

template <typename T, bool AFFINE>
void group_of(
    const Quantized& w,
    size_t group,
    const float* x,
    size_t rows,
    size_t depth,
    float* sums,
    T* out,
    size_t out_stride) {
  std::memset(sums, 0, rows * w.group * sizeof(float));
  for (size_t k = 0; k < depth; k++) {
    float numbers[MOST_OF_GROUP];
    numbers_of<T>(w, k, group, numbers);
    float scale = AFFINE ? 0 : scale_of<T>(w, k, group);
    for (size_t m = 0; m < rows; m++) {
      add_products<T, AFFINE>(w.group, x[m * depth + k], scale, numbers, sums + m * w.group);
    }
  }
  for (size_t m = 0; m < rows; m++) {
    for (size_t i = 0; i < w.group; i += WIDTH) {
      narrowed(widened(sums + m * w.group + i), out + m * out_stride + i);
    }
  }
}

// The columns of the result that are a group of each row of packed numbers.
void quantized_group(
    Float type,
    const Quantized& w,
    size_t group,
    const float* x,
    size_t rows,
    size_t depth,
    float* room,
    void* out,
    size_t out_stride) {
  typed(type, [&](auto tag) {
    using T = decltype(tag);
    auto kernel = w.packing == Packing::affine ? group_of<T, true> : group_of<T, false>;
    kernel(w, group, x, rows, depth, room, of<T>(out), out_stride);
  });
}

} // namespace
} // namespace emily
