#include "../kernels/kernels.h"

namespace emily {

extern const Kernels plain;
#if defined(__x86_64__)
extern const Kernels avx2;
#endif

namespace {

const Kernels& best_kernels() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return avx2;
  }
#endif
  return plain;
}

} // namespace

const Kernels& kernels() {
  static const Kernels& best = best_kernels();
  return best;
}

} // namespace emily
