"""The models in MLX's Python: with its elementary functions and with `mx.fast`, each as is and compiled."""

import io
import math
import re
from functools import partial

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

import data
from worker import BEGINNING, serve


def tree(function, value):
    if isinstance(value, dict):
        return {key: tree(function, one) for key, one in value.items()}
    if isinstance(value, list):
        return [tree(function, one) for one in value]
    return function(value)


def beginning(result):
    first = result[0] if isinstance(result, list) else result
    return np.array(first.astype(mx.float32)).reshape(-1)[:BEGINNING].tolist()


# As the core has them.
VIEWS = """AsStrided Broadcast BroadcastAxes ExpandDims Flatten Reshape Slice Split Squeeze Transpose
    Unflatten View""".split()


def count(result):
    """From MLX's own drawing of the graph, where operations are boxes with their names."""
    text = io.StringIO()
    leaves = [leaf for _, leaf in tree_flatten(result)]
    mx.export_to_dot(text, *leaves)
    names = re.findall(r'\[label ="([A-Za-z][^"]*)", shape=rectangle\]', text.getvalue())
    views = sum(name.split()[0] in VIEWS for name in names)
    return {"compute": len(names) - views, "views": views}


def dense(x, weights):
    return mx.addmm(weights["bias"], x, weights["kernel"])


def layer_norm(x, weights):
    mean = mx.mean(x, axis=-1, keepdims=True)
    variance = mx.var(x, axis=-1, keepdims=True)
    normal = (x - mean) * mx.rsqrt(variance + 1e-5)
    return normal * weights["scale"] + weights["bias"]


def fast_layer_norm(x, weights):
    return mx.fast.layer_norm(x, weights["scale"], weights["bias"], 1e-5)


def attention(query, key, value, scale):
    scores = (query * scale) @ key.swapaxes(-1, -2)
    return mx.softmax(scores, axis=-1) @ value


def fast_attention(query, key, value, scale):
    return mx.fast.scaled_dot_product_attention(query, key, value, scale=scale)


def gelu(x):
    return x * (1 + mx.erf(x / math.sqrt(2))) / 2


def encoder_block(x, weights, heads, norm, attend):
    batch, tokens, hidden = x.shape

    def split(x):
        return x.reshape(batch, tokens, heads, -1).swapaxes(1, 2)

    query, key, value = (split(dense(x, weights[name])) for name in ("query", "key", "value"))
    attended = attend(query, key, value, 1 / math.sqrt(hidden // heads))
    attended = attended.swapaxes(1, 2).reshape(batch, tokens, hidden)
    x = norm(x + dense(attended, weights["out"]), weights["attention_norm"])
    return norm(x + dense(gelu(dense(x, weights["up"])), weights["down"]), weights["output_norm"])


def encoder(size):
    x, blocks = tree(mx.array, list(data.encoder(size)))
    mx.eval(x, blocks)

    def forward(norm, attend):
        def run(x, blocks):
            for weights in blocks:
                x = encoder_block(x, weights, size["heads"], norm, attend)
            return x

        return run

    plain, fast = forward(layer_norm, attention), forward(fast_layer_norm, fast_attention)
    return {
        "plain": lambda: plain(x, blocks),
        "compiled": partial(mx.compile(plain), x, blocks),
        "fast": lambda: fast(x, blocks),
        "fast-compiled": partial(mx.compile(fast), x, blocks),
    }


def norm(x, scale):
    return mx.fast.rms_norm(x, scale, data.EPSILON)


def decoder_block(x, cache, weights, size, write):
    head = size["head"]

    def split(x, heads):
        return x.reshape(1, 1, heads, head)

    def rotated(x):
        return mx.fast.rope(
            x, head, traditional=False, base=data.BASE, scale=1.0, offset=write["offset"]
        )

    normal = norm(x, weights["attention_norm"])
    query = norm(split(normal @ weights["query"], size["heads"]), weights["query_norm"])
    key = norm(split(normal @ weights["key"], size["groups"]), weights["key_norm"])
    value = split(normal @ weights["value"], size["groups"])
    query, key = rotated(query.swapaxes(1, 2)), rotated(key.swapaxes(1, 2))
    keys, values, cache = write["cache"](cache, key, value.swapaxes(1, 2))
    attended = mx.fast.scaled_dot_product_attention(
        query, keys, values, scale=1 / math.sqrt(head), mask=write["mask"]
    )
    x = x + attended.swapaxes(1, 2).reshape(1, 1, -1) @ weights["out"]
    normal = norm(x, weights["output_norm"])
    gate = normal @ weights["gate"]
    hidden = gate * mx.sigmoid(gate) * (normal @ weights["up"])
    return x + hidden @ weights["down"], cache


def decoder_step(size, write):
    def step(x, cache, blocks, *offset):
        at = write(*offset)
        written = []
        for own, weights in zip(cache, blocks):
            x, own = decoder_block(x, own, weights, size, at)
            written.append(own)
        return x, written

    return step


def known():
    """As MLX-LM does it: the position is a number of Python's, and only what is written is looked at."""

    def cached(cache, key, value):
        cache["key"][:, :, data.OFFSET : data.OFFSET + 1] = key
        cache["value"][:, :, data.OFFSET : data.OFFSET + 1] = value
        keys = cache["key"][:, :, : data.OFFSET + 1]
        return keys, cache["value"][:, :, : data.OFFSET + 1], cache

    return dict(offset=data.OFFSET, cache=cached, mask=None)


def carried(positions):
    """With the position as an array, for a step that is compiled once for all of them."""

    def write(offset):
        def cached(cache, key, value):
            key = mx.slice_update(cache["key"], key, offset, axes=[2])
            value = mx.slice_update(cache["value"], value, offset, axes=[2])
            return key, value, dict(key=key, value=value)

        mask = (mx.arange(positions) <= offset)[None, None, None]
        return dict(offset=offset, cache=cached, mask=mask)

    return write


def decoder(size):
    def array(numbers):
        return mx.array(numbers).astype(mx.bfloat16)

    x, cache, blocks = tree(array, list(data.decoder(size)))
    mx.eval(x, cache, blocks)

    def carrying(function, *offset):
        state = {"cache": tree(lambda own: own.swapaxes(1, 2) + 0, cache)}
        mx.eval(state["cache"])

        def run():
            result, state["cache"] = function(x, state["cache"], blocks, *offset)
            return [result, state["cache"]]

        return run

    at = mx.array([data.OFFSET])
    anywhere = decoder_step(size, carried(size["positions"]))
    return {
        "fast": carrying(decoder_step(size, known)),
        "fast-any": carrying(anywhere, at),
        "fast-any-compiled": carrying(mx.compile(anywhere), at),
    }


def load(model):
    size = data.SIZES[model]
    return encoder(size) if model.startswith("encoder") else decoder(size)


if __name__ == "__main__":
    serve(load, mx.eval, beginning, count)
