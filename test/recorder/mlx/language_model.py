"""Records a small language model in MLX's own quantized format, and the texts that it gives:

    python test/recorder/mlx/language_model.py [FOLDER]

into test/golden/mlx/language_model/. The package must be of the version in mlx_src/pin.json. The model is a Llama of two
layers with random weights; names and settings are those that mlx-lm writes. It generates greedily and without a
cache, each token from all tokens before it. `margin` is how much the likeliest token was ahead of the next one, at least.
"""

import json
import pathlib
import sys

import mlx.core as mx

DIMS, HEADS, KV_HEADS, HEAD, HIDDEN, LAYERS, VOCABULARY = 64, 4, 2, 16, 128, 2, 256
GROUP, BITS, BASE, EPSILON = 32, 4, 10000.0, 1e-5
PROMPTS = [[17, 3, 254, 0, 91], [8, 8, 200], [140, 2, 77, 31, 5, 6, 250, 19, 64, 128, 33]]
TOKENS = 40


def shapes():
    yield "model.embed_tokens", (VOCABULARY, DIMS)
    for layer in range(LAYERS):
        attention, mlp = f"model.layers.{layer}.self_attn", f"model.layers.{layer}.mlp"
        yield f"{attention}.q_proj", (HEADS * HEAD, DIMS)
        yield f"{attention}.k_proj", (KV_HEADS * HEAD, DIMS)
        yield f"{attention}.v_proj", (KV_HEADS * HEAD, DIMS)
        yield f"{attention}.o_proj", (DIMS, HEADS * HEAD)
        yield f"{mlp}.gate_proj", (HIDDEN, DIMS)
        yield f"{mlp}.up_proj", (HIDDEN, DIMS)
        yield f"{mlp}.down_proj", (DIMS, HIDDEN)


def norms():
    for layer in range(LAYERS):
        yield f"model.layers.{layer}.input_layernorm"
        yield f"model.layers.{layer}.post_attention_layernorm"
    yield "model.norm"


def weights():
    mx.random.seed(42)
    tensors = {}
    for name, shape in shapes():
        weight = mx.random.normal(shape) * (1.5 / shape[1] ** 0.5)
        packed, scales, biases = mx.quantize(weight, group_size=GROUP, bits=BITS)
        tensors |= {f"{name}.weight": packed, f"{name}.scales": scales, f"{name}.biases": biases}
    for name in norms():
        tensors[f"{name}.weight"] = 1 + 0.1 * mx.random.normal((DIMS,))
    return tensors


def logits(tensors, tokens):
    def linear(name, x):
        parts = (tensors[f"{name}.{part}"] for part in ("weight", "scales", "biases"))
        return mx.quantized_matmul(x, *parts, transpose=True, group_size=GROUP, bits=BITS)

    def norm(name, x):
        return mx.fast.rms_norm(x, tensors[f"{name}.weight"], EPSILON)

    def heads(x, count):
        return x.reshape(1, -1, count, HEAD).transpose(0, 2, 1, 3)

    def rope(x):
        return mx.fast.rope(x, HEAD, traditional=False, base=BASE, scale=1.0, offset=0)

    embedding = (tensors[f"model.embed_tokens.{part}"][mx.array([tokens])] for part in ("weight", "scales", "biases"))
    x = mx.dequantize(*embedding, group_size=GROUP, bits=BITS)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        seen = norm(f"{block}.input_layernorm", x)
        query = rope(heads(linear(f"{block}.self_attn.q_proj", seen), HEADS))
        key = rope(heads(linear(f"{block}.self_attn.k_proj", seen), KV_HEADS))
        value = heads(linear(f"{block}.self_attn.v_proj", seen), KV_HEADS)
        found = mx.fast.scaled_dot_product_attention(query, key, value, scale=HEAD**-0.5, mask="causal")
        x = x + linear(f"{block}.self_attn.o_proj", found.transpose(0, 2, 1, 3).reshape(1, -1, HEADS * HEAD))
        seen = norm(f"{block}.post_attention_layernorm", x)
        gate = linear(f"{block}.mlp.gate_proj", seen)
        x = x + linear(f"{block}.mlp.down_proj", gate * mx.sigmoid(gate) * linear(f"{block}.mlp.up_proj", seen))
    return linear("model.embed_tokens", norm("model.norm", x))[0, -1]


def generate(tensors, prompt):
    tokens, margin = list(prompt), float("inf")
    for _ in range(TOKENS):
        scores = logits(tensors, tokens)
        best = mx.sort(scores)[-2:].tolist()
        margin = min(margin, best[1] - best[0])
        tokens.append(int(mx.argmax(scores)))
    return tokens[len(prompt) :], margin


def main(folder):
    mx.set_default_device(mx.cpu)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = weights()
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "mlx"})
    config = {
        "hidden_size": DIMS,
        "intermediate_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "num_hidden_layers": LAYERS,
        "vocab_size": VOCABULARY,
        "rope_theta": BASE,
        "rms_norm_eps": EPSILON,
        "tie_word_embeddings": True,
        "quantization": {"group_size": GROUP, "bits": BITS, "mode": "affine"},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    texts = []
    for prompt in PROMPTS:
        tokens, margin = generate(tensors, prompt)
        texts.append({"prompt": prompt, "tokens": tokens, "margin": margin})
    lines = ",\n".join(json.dumps(text) for text in texts)
    (folder / "texts.json").write_text(f"[\n{lines}\n]\n")


main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "test/golden/mlx/language_model"))
