"""Weights that each program of a comparison makes for itself, equal in all of them."""

import numpy as np

SIZES = {
    "encoder-small": dict(blocks=4, tokens=16, hidden=256, heads=4, intermediate=1024),
    "encoder-base": dict(blocks=12, tokens=128, hidden=768, heads=12, intermediate=3072),
    "decoder-small": dict(
        blocks=28, hidden=256, heads=4, groups=2, head=64, intermediate=768, positions=256
    ),
    "decoder-0.6b": dict(
        blocks=28, hidden=1024, heads=16, groups=8, head=128, intermediate=3072, positions=256
    ),
}

# Which position of its cache a decoder writes.
OFFSET = 200
EPSILON = 1e-6
BASE = 10_000


def pattern(shape, seed):
    """Multiples of 1/128 from -1 to 1, which every float type holds exactly."""
    count = np.arange(np.prod(shape), dtype=np.int64)
    return ((count * 7919 + seed * 104_729) % 257 / 128 - 1).astype(np.float32).reshape(shape)


def kernel(rows, columns, seed):
    """Of about unit gain."""
    return pattern((rows, columns), seed) * 2.0 ** -round(np.log2(rows) / 2)


def scale(size, seed):
    return 1 + pattern((size,), seed) / 8


def bias(size, seed):
    return pattern((size,), seed) / 8


def encoder(size):
    hidden, intermediate = size["hidden"], size["intermediate"]
    dense = dict(
        query=(hidden, hidden),
        key=(hidden, hidden),
        value=(hidden, hidden),
        out=(hidden, hidden),
        up=(hidden, intermediate),
        down=(intermediate, hidden),
    )

    def block(at):
        weights, seed = {}, 100 * at
        for name, (rows, columns) in dense.items():
            weights[name] = dict(kernel=kernel(rows, columns, seed), bias=bias(columns, seed + 1))
            seed += 2
        for name in ("attention_norm", "output_norm"):
            weights[name] = dict(scale=scale(hidden, seed), bias=bias(hidden, seed + 1))
            seed += 2
        return weights

    x = pattern((1, size["tokens"], hidden), 7)
    return x, [block(at) for at in range(size["blocks"])]


def decoder(size):
    hidden, intermediate, head = size["hidden"], size["intermediate"], size["head"]
    inner, shared = size["heads"] * head, size["groups"] * head
    kernels = dict(
        query=(hidden, inner),
        key=(hidden, shared),
        value=(hidden, shared),
        out=(inner, hidden),
        gate=(hidden, intermediate),
        up=(hidden, intermediate),
        down=(intermediate, hidden),
    )
    scales = dict(attention_norm=hidden, query_norm=head, key_norm=head, output_norm=hidden)

    def block(at):
        seeds = iter(range(100 * at, 100 * at + 100))
        weights = {name: kernel(*shape, next(seeds)) for name, shape in kernels.items()}
        return weights | {name: scale(length, next(seeds)) for name, length in scales.items()}

    cached = (1, size["positions"], size["groups"], head)
    cache = [
        dict(key=pattern(cached, 3 * at), value=pattern(cached, 3 * at + 1))
        for at in range(size["blocks"])
    ]
    x = pattern((1, 1, hidden), 7)
    return x, cache, [block(at) for at in range(size["blocks"])]
