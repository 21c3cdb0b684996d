"""A chain of small operations in the MLX Python package, plain and compiled, and a loop, as one line of JSON."""

import json
import sys
import time

import mlx.core as mx

OPERATIONS, SIZE, ROUNDS, SAMPLES = (int(argument) for argument in sys.argv[1:])

x = mx.full((SIZE,), 1.0)


def chain(x):
    a = x
    for _ in range(OPERATIONS // 2):
        a = mx.sin(a + x)
    return a


def step(root, x):
    return (root + x / root) * 0.5


def looping(step):
    root = x
    for _ in range(ROUNDS):
        root = step(root, x)
    return root


def measure(function):
    times = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        mx.eval(function())
        times.append((time.perf_counter() - start) * 1e6)
    times = sorted(times[SAMPLES // 10 :])
    return {"least": times[0], "median": times[len(times) // 2]}


compiled_chain, compiled_step = mx.compile(chain), mx.compile(step)
print(
    json.dumps(
        {
            "chain plain": measure(lambda: chain(x)),
            "chain fused": measure(lambda: compiled_chain(x)),
            "loop plain": measure(lambda: looping(step)),
            "loop fused": measure(lambda: looping(compiled_step)),
        }
    )
)
