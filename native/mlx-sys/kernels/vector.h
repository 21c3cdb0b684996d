#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "kernels.h"

// As many f32 as a register holds, and functions of them. Everything here has internal linkage: the same
// name means other instructions in another unit.

#define EMILY_INLINE static inline __attribute__((always_inline))

namespace emily {
namespace {

#if defined(__AVX2__)
constexpr size_t WIDTH = 8;
#else
constexpr size_t WIDTH = 4;
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t words __attribute__((vector_size(4 * WIDTH)));
typedef uint16_t halves __attribute__((vector_size(2 * WIDTH)));

struct f16 {
  uint16_t bits;
};

struct bf16 {
  uint16_t bits;
};

template <typename To, typename From>
EMILY_INLINE To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

EMILY_INLINE vec all(float value) {
  return vec{} + value;
}

EMILY_INLINE vec choose(ints condition, vec yes, vec no) {
  return as<vec>((condition & as<ints>(yes)) | (~condition & as<ints>(no)));
}

// The second where either is NaN.
EMILY_INLINE vec greater(vec a, vec b) {
  return choose(a > b, a, b);
}

EMILY_INLINE vec lesser(vec a, vec b) {
  return choose(a < b, a, b);
}

EMILY_INLINE vec widened(const float* p) {
  vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

EMILY_INLINE vec widened(const bf16* p) {
  halves h;
  std::memcpy(&h, p, sizeof(h));
  return as<vec>(__builtin_convertvector(h, words) << 16);
}

EMILY_INLINE void narrowed(vec v, float* p) {
  std::memcpy(p, &v, sizeof(v));
}

EMILY_INLINE void narrowed(vec v, bf16* p) {
  words bits = as<words>(v);
  words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  words nan = (bits >> 16) | 0x40;
  words is_nan = as<words>(v != v);
  auto h = __builtin_convertvector((is_nan & nan) | (~is_nan & rounded), halves);
  std::memcpy(p, &h, sizeof(h));
}

#if defined(__F16C__)

EMILY_INLINE vec widened(const f16* p) {
  return as<vec>(_mm256_cvtph_ps(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

EMILY_INLINE void narrowed(vec v, f16* p) {
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm256_cvtps_ph(as<__m256>(v), _MM_FROUND_TO_NEAREST_INT));
}

#elif defined(__aarch64__)

EMILY_INLINE vec widened(const f16* p) {
  return as<vec>(vcvt_f32_f16(vld1_f16(reinterpret_cast<const __fp16*>(p))));
}

EMILY_INLINE void narrowed(vec v, f16* p) {
  vst1_f16(reinterpret_cast<__fp16*>(p), vcvt_f16_f32(as<float32x4_t>(v)));
}

#else

// A half's exponent and fraction, moved to their places in an f32, give 2^-112 of its value; a product
// makes up for it, subnormals too. What was infinite or NaN needs the greatest exponent again.
EMILY_INLINE vec widened(const f16* p) {
  halves h;
  std::memcpy(&h, p, sizeof(h));
  words bits = __builtin_convertvector(h, words);
  words magnitude = (bits & 0x7fff) << 13;
  vec value = as<vec>(magnitude) * 0x1p112f;
  words special = as<words>(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
  return as<vec>(as<words>(value) | special | ((bits & 0x8000) << 16));
}

EMILY_INLINE words either(words condition, words yes, words no) {
  return (condition & yes) | (~condition & no);
}

// To the nearest, or of two to the even one. Subnormal halves are rounded by a sum with a number whose
// last bit is worth what theirs is.
EMILY_INLINE void narrowed(vec v, f16* p) {
  words bits = as<words>(v);
  words sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  words small = as<words>(as<vec>(bits) + 0.5f) - 0x3f000000u;
  words normal = (bits - (112u << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  words special = 0x7c00u | (as<words>(bits > 0x7f800000u) & 0x200u);
  words half = either(as<words>(bits < (113u << 23)), small, normal);
  half = either(as<words>(bits >= (143u << 23)), special, half);
  auto h = __builtin_convertvector(half | sign, halves);
  std::memcpy(p, &h, sizeof(h));
}

#endif

// Fewer than a register's elements; the others are zero, and are not written.
template <typename T>
EMILY_INLINE vec widened(const T* p, size_t count) {
  T whole[WIDTH] = {};
  for (size_t i = 0; i < count; i++) {
    whole[i] = p[i];
  }
  return widened(whole);
}

template <typename T>
EMILY_INLINE void narrowed(vec v, T* p, size_t count) {
  T whole[WIDTH];
  narrowed(v, whole);
  for (size_t i = 0; i < count; i++) {
    p[i] = whole[i];
  }
}

EMILY_INLINE float sum(vec v) {
  float total = 0;
  for (size_t i = 0; i < WIDTH; i++) {
    total += v[i];
  }
  return total;
}

// e^x with an error of at most 2 units in the last place, gradual underflow and NaN included.
//
// x is n ln 2 and a rest of at most half of that, for which a polynomial of degree 6 is close to e^x;
// 2^n is applied in two steps, because it may be out of range where the result is not.
EMILY_INLINE vec exp(vec x) {
  constexpr float ROUNDING = 0x1.8p23f;
  x = choose(x > 89.f, all(89.f), x);
  x = choose(x < -104.f, all(-104.f), x);
  vec shifted = x * 0x1.715476p0f + ROUNDING;
  vec n = shifted - ROUNDING;
  vec r = x - n * 0x1.62e4p-1f;
  r = r - n * 0x1.7f7d1cp-20f;
  vec p = all(0x1.6a2376p-10f);
  p = p * r + 0x1.123a06p-7f;
  p = p * r + 0x1.5558f2p-5f;
  p = p * r + 0x1.555492p-3f;
  p = p * r + 0x1.fffffcp-2f;
  p = p * r * r + r + 1.f;
  ints whole = as<ints>(shifted) - as<ints>(all(ROUNDING));
  ints first = whole >> 1;
  ints second = whole - first;
  return p * as<vec>((first + 127) << 23) * as<vec>((second + 127) << 23);
}

// Calls f with each element's number and how many follow it at once: a register's, a constant to the
// compiler, and at last what is left.
struct Whole {};

template <typename F>
EMILY_INLINE void each(size_t n, F f) {
  size_t i = 0;
  for (; i + WIDTH <= n; i += WIDTH) {
    f(i, Whole{});
  }
  if (i < n) {
    f(i, n - i);
  }
}

template <typename T>
EMILY_INLINE vec widened(const T* p, Whole) {
  return widened(p);
}

template <typename T>
EMILY_INLINE void narrowed(vec v, T* p, Whole) {
  narrowed(v, p);
}

// The elements that count, and others beyond.
EMILY_INLINE vec kept(vec v, Whole, vec) {
  return v;
}

EMILY_INLINE vec kept(vec v, size_t count, vec others) {
  for (size_t i = count; i < WIDTH; i++) {
    v[i] = others[i];
  }
  return v;
}

template <typename T>
EMILY_INLINE const T* of(const void* p) {
  return static_cast<const T*>(p);
}

template <typename T>
EMILY_INLINE T* of(void* p) {
  return static_cast<T*>(p);
}

// Calls f with a value of the type.
template <typename F>
EMILY_INLINE void typed(Float type, F f) {
  switch (type) {
    case Float::f32:
      return f(float{});
    case Float::f16:
      return f(f16{});
    case Float::bf16:
      return f(bf16{});
  }
}

} // namespace
} // namespace emily
