// mlx-c names its half types on Arm alone; mlx-rs binds them everywhere. Included before mlx-c's
// own half.h, this gives other processors the same names and makes mlx-c compile their accessors.
#pragma once

#if !defined(__aarch64__)
#define HAS_FLOAT16
#define HAS_BFLOAT16
#ifdef __cplusplus
#include "mlx/types/half_types.h"
using float16_t = mlx::core::float16_t;
using bfloat16_t = mlx::core::bfloat16_t;
#else
#include <stdint.h>
// Read by bindgen alone, whose type for it mlx-rs unwraps.
typedef __fp16 float16_t;
typedef uint16_t bfloat16_t;
#endif
#endif
