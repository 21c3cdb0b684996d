// mlx-c names its half types on Arm alone; mlx-rs binds them everywhere. Included before mlx-c's
// own half.h, this gives other processors the same names and makes mlx-c compile their accessors.
#pragma once

#ifndef __cplusplus
// Read by bindgen alone, whose type for it mlx-rs unwraps. mlx-c's functions have these behind pointers
// only, and a libclang that knows no __bf16 on Arm (before 16) can read it as well.
#define MLX_HALF_H
#define HAS_FLOAT16
#define HAS_BFLOAT16
#include <stdint.h>
typedef __fp16 float16_t;
typedef uint16_t bfloat16_t;
#elif !defined(__aarch64__)
#define HAS_FLOAT16
#define HAS_BFLOAT16
#include "mlx/types/half_types.h"
using float16_t = mlx::core::float16_t;
using bfloat16_t = mlx::core::bfloat16_t;
#endif
