"""Records what MLX's Python package gives for the operations of Emily.Fast, on the CPU:

    python test/recorder/mlx/fast.py test/golden/mlx/fast.jsonl.gz

The package must be of the version in mlx_src/pin.json. Each line is a case: the function and its options as
Emily.Fast has them, its tensors and the result. Numbers are few bits long, so that every type has them.
"""

import base64
import gzip
import json
import pathlib
import random
import sys

import mlx.core as mx

ROOT = pathlib.Path(__file__).resolve().parents[3]
FLOATS = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
NAMES = {**{dtype: name for name, dtype in FLOATS.items()}, mx.bool_: "u8", mx.int32: "s32"}


class Numbers:
    """Tensors of numbers that come out the same each time."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def floats(self, shape, dtype, least=-24, most=24):
        size = 1
        for axis in shape:
            size *= axis
        numbers = [self.random.randint(least, most) / 8 for _ in range(size)]
        return mx.array(numbers, dtype=mx.float32).reshape(shape).astype(dtype)

    def truths(self, shape):
        return self.floats(shape, mx.float32) > -1.0


def encoded(array):
    """The type, the shape, and the bytes as text."""
    data = bytes(array.reshape(-1).view(mx.uint8).tolist())
    return {
        "type": NAMES[array.dtype],
        "shape": list(array.shape),
        "data": base64.b64encode(data).decode(),
    }


def case(function, options, tensors, result, text=None):
    one = {"function": function, "options": options}
    if text is not None:
        one["text"] = text
    one["tensors"] = [[name, encoded(array)] for name, array in tensors.items()]
    one["result"] = encoded(result)
    return one


def norms(dtype, numbers):
    for shape in [(3,), (1, 1), (2, 5, 33), (1, 3, 8), (4, 100)]:
        x, weight, bias = (
            numbers.floats(shape, dtype),
            numbers.floats(shape[-1:], dtype),
            numbers.floats(shape[-1:], dtype),
        )
        for epsilon in [1e-6, 0.125]:
            options = {"epsilon": epsilon}
            result = mx.fast.rms_norm(x, weight, epsilon)
            yield case("rms_norm", options, {"x": x, "weight": weight}, result)
            result = mx.fast.layer_norm(x, weight, bias, epsilon)
            yield case("layer_norm", options, {"x": x, "weight": weight, "bias": bias}, result)
    # Rows of zeros, and of one number.
    x = mx.zeros((2, 7), dtype)
    ones = mx.ones((7,), dtype)
    for x in [x, x + 3]:
        result = mx.fast.rms_norm(x, ones, 1e-6)
        yield case("rms_norm", {"epsilon": 1e-6}, {"x": x, "weight": ones}, result)
        result = mx.fast.layer_norm(x, ones, ones, 1e-5)
        tensors = {"x": x, "weight": ones, "bias": ones}
        yield case("layer_norm", {"epsilon": 1e-5}, tensors, result)


def ropes(dtype, numbers):
    for shape in [(1, 1, 2), (2, 3, 10), (1, 5, 1, 8), (2, 3, 4, 6)]:
        x = numbers.floats(shape, dtype)
        features = shape[-1]
        rows = mx.array([5 * row for row in range(shape[0])], dtype=mx.int32)
        frequencies = mx.array([2.0**pair for pair in range(features // 2)])
        for offset in [mx.array(0), mx.array(1000), rows]:
            for options in [
                {},
                {"traditional": True},
                {"base": 100.0, "scale": 0.5},
                {"dims": 2, "traditional": True},
            ]:
                result = roped(x, offset, options)
                yield case("rope", options, {"x": x, "offset": offset}, result)
            for options in [{}, {"traditional": True}]:
                result = roped(x, offset, options, frequencies)
                tensors = {"x": x, "offset": offset, "frequencies": frequencies}
                yield case("rope", options, tensors, result)


def roped(x, offset, options, frequencies=None):
    base = None if frequencies is not None else options.get("base", 10_000.0)
    return mx.fast.rope(
        x,
        options.get("dims", x.shape[-1]),
        traditional=options.get("traditional", False),
        base=base,
        scale=options.get("scale", 1.0),
        offset=offset,
        freqs=frequencies,
    )


ATTENTIONS = [
    # Query, key and what a value is long.
    ((1, 1, 1, 1), (1, 1), 1),
    ((2, 3, 5, 12), (3, 7), 12),
    ((1, 6, 1, 16), (2, 9), 10),
    ((1, 5, 13, 20), (1, 13), 20),
    ((1, 4, 3, 33), (4, 3), 33),
]


def attentions(dtype, numbers):
    for (batch, heads, positions, features), (groups, seen), width in ATTENTIONS:
        query = numbers.floats((batch, heads, positions, features), dtype, -8, 8)
        key = numbers.floats((batch, groups, seen, features), dtype, -8, 8)
        value = numbers.floats((batch, groups, seen, width), dtype)
        tensors = {"query": query, "key": key, "value": value}
        sinks = numbers.floats((heads,), dtype, -8, 16)
        for mask in masks(dtype, numbers, (batch, heads, positions, seen)):
            for sink in [None, sinks]:
                yield attention({}, tensors, mask, sink)
        yield attention({"scale": 0.25}, tensors, "causal", sinks)


def masks(dtype, numbers, scores):
    batch, _heads, positions, seen = scores
    row = mx.arange(positions)[:, None] == 0
    yield None
    yield "causal"
    yield numbers.truths((positions, seen))
    yield numbers.floats((batch, 1, positions, seen), dtype)
    # The first position sees nothing: of scores that are replaced, and of those that become infinite.
    yield mx.broadcast_to(mx.logical_not(row), (positions, seen))
    lowest = mx.where(row, mx.array(-float("inf")), mx.array(0.0)).astype(dtype)
    yield mx.broadcast_to(lowest, (batch, 1, positions, seen))


def attention(options, tensors, mask, sinks):
    features = tensors["query"].shape[-1]
    result = mx.fast.scaled_dot_product_attention(
        *tensors.values(), scale=options.get("scale", features**-0.5), mask=mask, sinks=sinks
    )
    options = {**options, "causal": True} if isinstance(mask, str) else options
    given = {"mask": mask if isinstance(mask, mx.array) else None, "sinks": sinks}
    given = {name: array for name, array in given.items() if array is not None}
    return case("scaled_dot_product_attention", options, {**tensors, **given}, result)


def einsums(dtype, numbers):
    for text, *shapes in [
        ("ij,jk->ik", (3, 5), (5, 7)),
        ("ij,jk->ki", (1, 9), (9, 1)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
        ("bhqd,bhkd->bhqk", (2, 3, 1, 9), (2, 3, 4, 9)),
        ("ij->ji", (3, 4)),
        ("ij->", (3, 4)),
        ("ii->i", (5, 5)),
        ("i,j->ij", (3,), (5,)),
        ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
        ("ij,ij->j", (3, 4), (3, 4)),
        ("ijk,k", (2, 3, 4), (4,)),
    ]:
        arrays = [numbers.floats(shape, dtype, -8, 8) for shape in shapes]
        tensors = {str(number): array for number, array in enumerate(arrays)}
        yield case("einsum", {}, tensors, mx.einsum(text, *arrays), text)


def main(path):
    pinned = json.loads((ROOT / "mlx_src/pin.json").read_text())["mlx"]["version"]
    if mx.__version__ != pinned:
        sys.exit(f"expected mlx {pinned}, got: {mx.__version__}")
    mx.set_default_device(mx.cpu)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", compresslevel=9, mtime=0) as file:
        for seed, dtype in enumerate(FLOATS.values()):
            for cases in [norms, ropes, attentions, einsums]:
                for one in cases(dtype, Numbers(seed)):
                    file.write((json.dumps(one) + "\n").encode())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
