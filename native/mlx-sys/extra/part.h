#ifndef EMILY_PART_H
#define EMILY_PART_H

#include <stdbool.h>
#include <stddef.h>

#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Finds what to compute next of a lazy graph that is too much for one evaluation.
 *
 * If all that `roots` still need is about `budget` of work or less, `whole` is set and `part` left
 * alone. Else `part` is filled with arrays that are needed for the roots and are about `budget` of
 * work, or one operation, whichever is more. `work` is that of what was found.
 *
 * The unit of work is about that of an elementwise operation for one element.
 *
 * The graph is only read; nothing may evaluate any of it meanwhile.
 */
int emily_graph_part(
    const mlx_vector_array part,
    size_t* work,
    bool* whole,
    const mlx_vector_array roots,
    size_t budget);

#ifdef __cplusplus
}
#endif

#endif
