#ifndef EMILY_FUSED_H
#define EMILY_FUSED_H

#include <stdbool.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Operations that stand for several, each of which is one primitive for the host's processor.
 *
 * All are of f32, f16 or bf16, one type in a call; sums are in f32. The stream is one of the CPU. Shapes
 * are the caller's to check. A factor, gamma, mask, sinks or sum that there is not is an empty array.
 */

/** (x - mean) / sqrt(variance + epsilon) * gamma + beta along the last axis. */
int emily_layer_norm(
    mlx_array* res,
    const mlx_array x,
    const mlx_array gamma,
    const mlx_array beta,
    float epsilon,
    const mlx_stream s);

/** x / sqrt(mean(x^2) + epsilon) * gamma along the last axis; gamma has the sizes of the last axes. */
int emily_rms_norm(
    mlx_array* res,
    const mlx_array x,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s);

/** Along the last axis. */
int emily_softmax(mlx_array* res, const mlx_array x, const mlx_stream s);

/**
 * x * cosines + rotated * sines, where in `rotated` the second half of the last axis, negated, comes
 * before the first. Cosines and sines broadcast to x. With a gamma, as long as the last axis, of
 * x / sqrt(mean(x^2) + epsilon) * gamma in place of x.
 */
int emily_rotary(
    mlx_array* res,
    const mlx_array x,
    const mlx_array cosines,
    const mlx_array sines,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s);

typedef enum emily_function_ {
  EMILY_SILU,
  EMILY_GELU,
  EMILY_GELU_TANH
} emily_function;

/** The function of each element, times `factor`, which has x's shape. */
int emily_activation(
    mlx_array* res,
    emily_function function,
    const mlx_array x,
    const mlx_array factor,
    const mlx_stream s);

/**
 * softmax(scale * query key^T + mask) value, of arrays with the axes batch, heads, positions, features. The
 * query's heads are a multiple of the key's and the value's, each of which serves that many in a row.
 *
 * The mask broadcasts to the scores. One of bytes has zeros where not to look: such scores become the least
 * finite number, so that where nothing is to be seen all positions count alike. One of floats, of any of the
 * three types, is added; where it is -inf for all positions, the result is not a number.
 *
 * Sinks, of any of the three types, are a score for each head of the query, which takes a share of the weights and
 * has no value.
 */
int emily_attention(
    mlx_array* res,
    const mlx_array query,
    const mlx_array key,
    const mlx_array value,
    const mlx_array mask,
    const mlx_array sinks,
    float scale,
    const mlx_stream s);

/** a b + c of matrices, or of equally many; c broadcasts to the result. */
int emily_product(
    mlx_array* res,
    const mlx_array a,
    const mlx_array b,
    const mlx_array c,
    const mlx_stream s);

/*
 * The same on a GPU, each as one kernel, of arrays with at least one axis and one element, and fewer
 * elements than 2^31.
 */

/** Whether there is a GPU, and CUDA runs on it. */
bool emily_gpu_is_cuda(void);

/** Gamma has one axis. */
int emily_gpu_rotary(
    mlx_array* res,
    const mlx_array x,
    const mlx_array cosines,
    const mlx_array sines,
    const mlx_array gamma,
    float epsilon,
    const mlx_stream s);

int emily_gpu_activation(
    mlx_array* res,
    emily_function function,
    const mlx_array x,
    const mlx_array factor,
    const mlx_stream s);

/** On CUDA, with a mask, for few positions of the query and at most 256 features, and fewer rows than 2^16. */
int emily_gpu_attention(
    mlx_array* res,
    const mlx_array query,
    const mlx_array key,
    const mlx_array value,
    const mlx_array mask,
    float scale,
    const mlx_stream s);

typedef enum emily_packing_ {
  EMILY_AFFINE,
  EMILY_MXFP4,
  EMILY_MXFP8,
  EMILY_NVFP4
} emily_packing;

/**
 * The product of x, of two axes or more, with a quantized matrix of two, or with as many of them as x has matrices,
 * transposed or as they are, rounded at each step and summed in the order in which MLX's own loops for x86_64 do it. None of
 * the tensors is empty. There are biases if it is affine.
 */
int emily_quantized_product(
    mlx_array* res,
    const mlx_array x,
    const mlx_array packed,
    const mlx_array scales,
    const mlx_array biases,
    emily_packing packing,
    int bits,
    int group_size,
    bool transpose,
    const mlx_stream s);

#ifdef __cplusplus
}
#endif

#endif
