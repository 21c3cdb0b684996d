"""Records what MLX's own Python package computes on quantized matrices, on the CPU:

    python test/recorder/mlx/quantized.py [FOLDER]

into test/golden/mlx/quantized/, one file an operation of the native core, whose tests replay them. The package must be of
the version in mlx_src/pin.json, and the processor an x86_64 one. Each line is a case as `Emily.Golden.Case` describes
them. Inputs are drawn from fixed seeds.
"""

import base64
import gzip
import io
import json
import pathlib
import sys

import mlx.core as mx

TYPES = {
    mx.float32: "f32",
    mx.float16: "f16",
    mx.bfloat16: "bf16",
    mx.uint32: "u32",
    mx.uint8: "u8",
    mx.int32: "s32",
}
AFFINE = [
    {"mode": "affine", "group_size": size, "bits": bits}
    for bits in (2, 3, 4, 5, 6, 8)
    for size in (32, 64, 128)
]
FLOATS = [
    {"mode": "mxfp4", "group_size": 32, "bits": 4},
    {"mode": "mxfp8", "group_size": 32, "bits": 8},
    {"mode": "nvfp4", "group_size": 16, "bits": 4},
]
FLOATING = [mx.float32, mx.float16, mx.bfloat16]


def tensor(array):
    data = bytes(memoryview(mx.contiguous(array).flatten().view(mx.uint8)))
    text = base64.b64encode(data).decode()
    return {"type": TYPES[array.dtype], "shape": list(array.shape), "data": text}


def case(op, attributes, inputs, outs, infer=True):
    return {
        "op": {op: attributes},
        "inputs": [tensor(array) for array in inputs],
        "outs": [tensor(array) for array in outs],
        "infer": infer,
    }


def normal(shape, dtype, seed, scale=1.0):
    x = mx.random.normal(shape, dtype=mx.float32, key=mx.random.key(seed))
    return (x * scale).astype(dtype)


def quantized(shape, dtype, packing, seed):
    return mx.quantize(normal(shape, dtype, seed), **packing)


def quantize_cases():
    for packing in AFFINE + FLOATS:
        for dtype in FLOATING:
            for shape, scale in (((1, 128), 1.0), ((2, 1, 128), 30.0)):
                x = normal(shape, dtype, 11, scale)
                yield case("quantize", packing, [x], mx.quantize(x, **packing))
            # Groups that are all the same, zero, of one sign, and with few numbers.
            ramp = mx.arange(128, dtype=mx.float32) / 16
            rows = [mx.zeros(128), mx.full((128,), 1.5), ramp, -ramp, mx.round(ramp) - 4]
            x = mx.stack(rows).astype(dtype)
            yield case("quantize", packing, [x], mx.quantize(x, **packing))


def dequantize_cases():
    for packing in AFFINE + FLOATS:
        affine = packing["mode"] == "affine"
        for dtype in FLOATING:
            parts = quantized((2, 1, 128), dtype, packing, 12)
            settings = packing if affine else {**packing, "dtype": dtype}
            out = mx.dequantize(*parts, **settings)
            yield case("dequantize", packing, parts, [out], infer=affine)


def product_shapes(transpose):
    """Of the tensor, and of the quantized matrices before their last two axes."""
    inner = 128 if transpose else 3
    return [((inner,), ()), ((1, inner), ()), ((3, inner), ()), ((2, 1, inner), ()), ((2, 1, inner), (2,))]


def quantized_matmul_cases():
    for packing in AFFINE + FLOATS:
        for dtype in FLOATING:
            for transpose in (True, False):
                for x, batch in product_shapes(transpose):
                    if packing["group_size"] in (32, 128) and packing in AFFINE and len(x) != 2:
                        continue
                    x = normal(x, dtype, 13)
                    parts = quantized((*batch, 3, 128), dtype, packing, 14)
                    out = mx.quantized_matmul(x, *parts, transpose=transpose, **packing)
                    attributes = {**packing, "transpose": transpose, "exact": True}
                    yield case("quantized_matmul", attributes, [x, *parts], [out])


def gather_qmm_cases():
    pairs = [
        ([2, 0, 1], [1, 1, 0]),
        (None, [[0, 1, 1], [2, 0, 2]]),
        ([[0], [2]], [1, 0]),
        ([2, 1], None),
    ]
    for packing in [AFFINE[4], AFFINE[6], *FLOATS]:
        for dtype in FLOATING:
            for transpose in (True, False):
                for left, right in pairs:
                    inner = 128 if transpose else 3
                    x = normal((3, 2, inner), dtype, 15)
                    count = 2 if right is None else 3
                    parts = quantized((count, 3, 128), dtype, packing, 16)
                    given = [mx.array(side) for side in (left, right) if side is not None]
                    out = mx.gather_qmm(
                        x,
                        *parts,
                        lhs_indices=None if left is None else mx.array(left),
                        rhs_indices=None if right is None else mx.array(right),
                        transpose=transpose,
                        **packing,
                    )
                    attributes = {
                        **packing,
                        "transpose": transpose,
                        "left": left is not None,
                        "right": right is not None,
                        "sorted": False,
                    }
                    yield case("gather_qmm", attributes, [x, *parts, *given], [out])


RECORDED = {
    "quantize": quantize_cases,
    "dequantize": dequantize_cases,
    "quantized_matmul": quantized_matmul_cases,
    "gather_qmm": gather_qmm_cases,
}


def main():
    mx.set_default_device(mx.cpu)
    default = pathlib.Path(__file__).resolve().parents[2] / "golden" / "mlx" / "quantized"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in RECORDED.items():
        lines = [json.dumps(each, separators=(",", ":")) for each in cases()]
        buffer = io.BytesIO()
        # Without a name and a time, the same cases make the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(("\n".join(lines) + "\n").encode())
        path = folder / f"{name}.jsonl.gz"
        path.write_bytes(buffer.getvalue())
        print(f"{path}: {len(lines)} cases, {len(buffer.getvalue())} bytes, MLX {mx.__version__}")


if __name__ == "__main__":
    main()
