"""How many microseconds the MLX Python package takes to load a safetensors file; it reads when it evaluates."""

import sys
import time

import mlx.core as mx

mx.set_default_device(mx.cpu)
mx.eval(mx.zeros(1))
start = time.perf_counter()
mx.eval(list(mx.load(sys.argv[1]).values()))
print((time.perf_counter() - start) * 1e6)
