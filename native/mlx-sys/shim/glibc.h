// Keeps what is compiled with the headers of a newer glibc loadable by the one that releases promise,
// 2.35. Included before anything else; with an older glibc nothing here makes a difference.
#pragma once

#ifdef __linux__
#ifdef __cplusplus
#include <cstddef>
#else
#include <stddef.h>
#endif
#include <features.h>

// From 2.38 on C++ code gets strtol and its like under new names, which also read binary literals.
#undef __GLIBC_USE_C2X_STRTOL
#define __GLIBC_USE_C2X_STRTOL 0
#undef __GLIBC_USE_C23_STRTOL
#define __GLIBC_USE_C23_STRTOL 0

// From 2.38 on there is a second fmod, which leaves errno alone; the first is there for good.
// Clang would ask for both even where neither is called.
#if defined(__GNUC__) && !defined(__clang__)
#if defined(__x86_64__)
__asm__(".symver fmod, fmod@GLIBC_2.2.5");
__asm__(".symver fmodf, fmodf@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver fmod, fmod@GLIBC_2.17");
__asm__(".symver fmodf, fmodf@GLIBC_2.17");
#endif
#endif
#endif
