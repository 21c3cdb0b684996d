#pragma once

#include <cstddef>

namespace emily {

// How many threads `parallel` may have at once: as many as the processor has, 16 at most, or what
// OPENBLAS_NUM_THREADS or OMP_NUM_THREADS says, which hold for the matrix products beside these.
size_t threads();

// What a thread is to do with the items from `begin` to `end`; `thread` is less than threads(), and no
// other call has the same at the time.
using Share = void (*)(void* context, size_t begin, size_t end, size_t thread);

void share_out(size_t count, size_t least, Share share, void* context);

// Calls f(begin, end, thread) until all of `count` items were in one call, with at least `least` of them
// in each but the last. Waking a thread takes some 50 µs, so there should be more than that to do. While
// another stream has the threads, the caller does it all. f must not throw.
template <typename F>
void parallel(size_t count, size_t least, F f) {
  share_out(
      count,
      least,
      [](void* context, size_t begin, size_t end, size_t thread) {
        (*static_cast<F*>(context))(begin, end, thread);
      },
      &f);
}

} // namespace emily
