#ifndef EMILY_ADOPT_H
#define EMILY_ADOPT_H

#include <stdbool.h>

#include "mlx/c/array.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Whether arrays can be made of memory that MLX did not allocate. They can where there is no GPU, whose
 * kernels would look for it in buffers of their own.
 */
bool emily_can_adopt(void);

/**
 * Makes an array of the elements at `data`, in row-major order, without a copy.
 *
 * They must be aligned as the element type asks, and stay until `release` is called with `owner`, on
 * whichever thread gives up the last reference to them. It is not called where this fails.
 *
 * MLX writes into memory to which no other reference is left. Who adopts what must not change keeps
 * one more, until `emily_array_is_sole` says that there is no other.
 */
int emily_array_adopt(
    mlx_array* res,
    const void* data,
    const int* shape,
    int dim,
    mlx_dtype dtype,
    void* owner,
    void (*release)(void*));

/** Whether `arr` is the only reference to its memory. */
bool emily_array_is_sole(const mlx_array arr);

#ifdef __cplusplus
}
#endif

#endif
