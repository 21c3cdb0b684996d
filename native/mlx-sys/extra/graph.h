#ifndef EMILY_GRAPH_H
#define EMILY_GRAPH_H

#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Calls `visit` with the name of each operation that `roots` still need, inputs before what takes them.
 * Several results of one operation are visited once.
 *
 * The graph is only read; nothing may evaluate any of it meanwhile.
 */
int emily_graph_visit(
    const mlx_vector_array roots,
    void (*visit)(void* context, const char* name),
    void* context);

#ifdef __cplusplus
}
#endif

#endif
