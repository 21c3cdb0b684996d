// Along one row: the norms and softmax.

#include "vector.h"

namespace emily {
namespace {

// Two sums, so that one addition need not wait for the other.
template <typename F>
EMILY_INLINE float total(size_t n, F f) {
  vec sums[2] = {};
  size_t i = 0;
  for (; i + 2 * WIDTH <= n; i += 2 * WIDTH) {
    sums[0] += f(i, Whole{});
    sums[1] += f(i + WIDTH, Whole{});
  }
  if (i + WIDTH <= n) {
    sums[0] += f(i, Whole{});
    i += WIDTH;
  }
  if (i < n) {
    sums[1] += kept(f(i, n - i), n - i, vec{});
  }
  return sum(sums[0] + sums[1]);
}

void layer_norm(
    Float type,
    const void* x,
    const void* gamma,
    const void* beta,
    float epsilon,
    size_t n,
    void* out) {
  typed(type, [=](auto tag) {
    using T = decltype(tag);
    auto at = of<T>(x);
    float mean = total(n, [=](size_t i, auto count) {
      return widened(at + i, count);
    }) / float(n);
    float variance = total(n, [=](size_t i, auto count) {
      vec off = widened(at + i, count) - mean;
      return off * off;
    }) / float(n);
    float scale = 1 / __builtin_sqrtf(variance + epsilon);
    each(n, [=](size_t i, auto count) {
      vec normal = (widened(at + i, count) - mean) * scale;
      vec result = normal * widened(of<T>(gamma) + i, count) +
          widened(of<T>(beta) + i, count);
      narrowed(result, of<T>(out) + i, count);
    });
  });
}

void rms_norm(
    Float type,
    const void* x,
    const void* gamma,
    float epsilon,
    size_t n,
    void* out) {
  typed(type, [=](auto tag) {
    using T = decltype(tag);
    auto at = of<T>(x);
    float mean = total(n, [=](size_t i, auto count) {
      vec v = widened(at + i, count);
      return v * v;
    }) / float(n);
    float scale = 1 / __builtin_sqrtf(mean + epsilon);
    each(n, [=](size_t i, auto count) {
      vec result = widened(at + i, count) * scale;
      if (gamma) {
        result *= widened(of<T>(gamma) + i, count);
      }
      narrowed(result, of<T>(out) + i, count);
    });
  });
}

template <typename T>
EMILY_INLINE float greatest(const T* x, size_t n) {
  vec most = all(-__builtin_inff());
  each(n, [&](size_t i, auto count) __attribute__((always_inline)) {
    most = greater(kept(widened(x + i, count), count, most), most);
  });
  float result = most[0];
  for (size_t i = 1; i < WIDTH; i++) {
    result = most[i] > result ? most[i] : result;
  }
  return result;
}

// A NaN is in no maximum, but in the sum. Where the result is narrower than f32, the exponentials are
// computed twice and not rounded in between.
void softmax(Float type, const void* x, size_t n, void* out) {
  typed(type, [=](auto tag) {
    using T = decltype(tag);
    constexpr bool keep = sizeof(T) == sizeof(float);
    auto from = of<T>(x);
    auto to = of<T>(out);
    float most = greatest(from, n);
    float sum = total(n, [=](size_t i, auto count) {
      vec e = exp(widened(from + i, count) - most);
      if (keep) {
        narrowed(e, to + i, count);
      }
      return e;
    });
    float scale = 1 / sum;
    each(n, [=](size_t i, auto count) {
      vec e = keep ? widened(to + i, count)
                   : exp(widened(from + i, count) - most);
      narrowed(e * scale, to + i, count);
    });
  });
}

} // namespace
} // namespace emily
