#ifndef EMILY_FUSION_H
#define EMILY_FUSION_H

#include <stddef.h>

#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An array of this shape that nothing computes: it stands for others while a graph is built. */
int emily_placeholder(mlx_array* res, const int* shape, int dim, mlx_dtype dtype);

/**
 * A part of a graph that was built once and is applied as often as one likes, with runs of elementwise
 * operations made into one operation each.
 */
typedef struct emily_fusion_ {
  void* ctx;
} emily_fusion;

/**
 * Makes one of the graph that leads from `inputs` to `outputs`. The inputs are arrays that nothing
 * computes; they stand for those that the fusion is applied to, which must be of the same types and
 * shapes, on the same stream.
 *
 * It is not to be applied before `emily_fusion_load`, if it has kernels.
 */
int emily_fusion_new(
    emily_fusion* res,
    const mlx_vector_array inputs,
    const mlx_vector_array outputs);

void emily_fusion_free(emily_fusion fusion);

/** How many operations there were, and how many are left. */
void emily_fusion_counts(emily_fusion fusion, size_t* before, size_t* after);

/** How many kernels it needs on the host's processor; equal ones count once. */
size_t emily_fusion_kernels(emily_fusion fusion);

/**
 * A kernel's function in C++, which follows `emily_fusion_prelude`. The name depends on nothing but the
 * source. Both live as long as the fusion.
 */
void emily_fusion_kernel(
    emily_fusion fusion,
    size_t number,
    const char** name,
    const char** source);

/** What sources of kernels have before them, after MLX's own functions for elements. */
const char* emily_fusion_prelude(void);

/** Takes the kernels from a shared library, which stays loaded for as long as they may run. */
int emily_fusion_load(emily_fusion fusion, const char* path);

/** Adds the graph once more, for these inputs. */
int emily_fusion_apply(
    const mlx_vector_array outputs,
    emily_fusion fusion,
    const mlx_vector_array inputs);

#ifdef __cplusplus
}
#endif

#endif
