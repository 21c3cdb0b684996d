"""The same work in the MLX Python package and in NumPy, as one line of JSON."""

import json
import statistics
import time

import mlx.core as mx
import numpy as np

CHAIN, SIDE = 2_000, 1024


def median(count, sample):
    sample()
    return statistics.median(sample() for _ in range(count))


def microseconds(function):
    start = time.perf_counter()
    result = function()
    return (time.perf_counter() - start) * 1e6, result


def chain_of_adds():
    a = mx.array(np.arange(8, dtype=np.float32))

    def chain():
        total = a
        for _ in range(CHAIN):
            total = mx.add(total, a)
        return total

    spent, last = microseconds(chain)
    mx.eval(last)
    return spent


matrix = (np.arange(1, SIDE * SIDE + 1, dtype=np.float32) / (SIDE * SIDE)).reshape(SIDE, SIDE)
print(
    json.dumps(
        {
            "mlx_add_us": median(50, chain_of_adds) / CHAIN,
            "numpy_matmul_us": median(30, lambda: microseconds(lambda: matrix @ matrix)[0]),
        }
    )
)
