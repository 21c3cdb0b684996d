#ifndef EMILY_MEMORY_H
#define EMILY_MEMORY_H

#include "mlx/c/array.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Makes an array of memory of MLX's own that nobody has written to, and says where that is.
 *
 * The elements are to be written, in row-major order, before anything is computed of the array. There must
 * be some.
 */
int emily_array_of_memory(
    mlx_array* res,
    void** data,
    const int* shape,
    int dim,
    mlx_dtype dtype);

#ifdef __cplusplus
}
#endif

#endif
