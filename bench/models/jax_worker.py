"""The encoders in JAX, compiled by XLA."""

import jax
import jax.numpy as jnp
import numpy as np

import data
from worker import BEGINNING, serve


def dense(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def layer_norm(x, weights):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.var(x, axis=-1, keepdims=True)
    return weights["scale"] * jax.lax.rsqrt(variance + 1e-5) * (x - mean) + weights["bias"]


def encoder_block(x, weights, heads):
    batch, tokens, hidden = x.shape

    def split(x):
        return x.reshape(batch, tokens, heads, -1).swapaxes(1, 2)

    query, key, value = (split(dense(x, weights[name])) for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(hidden // heads)
    attended = (jax.nn.softmax(scores, axis=-1) @ value).swapaxes(1, 2)
    attended = attended.reshape(batch, tokens, hidden)
    x = layer_norm(x + dense(attended, weights["out"]), weights["attention_norm"])
    inner = jax.nn.gelu(dense(x, weights["up"]), approximate=False)
    return layer_norm(x + dense(inner, weights["down"]), weights["output_norm"])


def load(model):
    size = data.SIZES[model]
    x, blocks = jax.tree.map(jnp.asarray, data.encoder(size))

    @jax.jit
    def forward(x, blocks):
        for weights in blocks:
            x = encoder_block(x, weights, size["heads"])
        return x

    return {"jit": lambda: forward(x, blocks)}


def beginning(result):
    return np.asarray(result).reshape(-1)[:BEGINNING].tolist()


if __name__ == "__main__":
    serve(load, lambda result: result.block_until_ready(), beginning)
