"""What consumer/train.exs does, in NumPy: the same split, model, steps and type."""

import gzip
import sys
import time

import numpy as np

STEPS, RATE, CLASSES = 300, 0.5, 10

rows = np.loadtxt(gzip.open(sys.argv[1], "rt"), delimiter=",", dtype=np.int64)
held_out = np.arange(len(rows)) % 4 == 3


def data(chosen):
    images = (chosen[:, :64] / 16).astype(np.float32)
    return images, chosen[:, 64], np.eye(CLASSES, dtype=np.float32)[chosen[:, 64]]


images, digits, targets = data(rows[~held_out])
rate = np.float32(RATE / len(images))
weights, bias = np.zeros((64, CLASSES), np.float32), np.zeros(CLASSES, np.float32)
start = time.perf_counter()
for _ in range(STEPS):
    logits = images @ weights + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = powers / powers.sum(axis=1, keepdims=True) - targets
    weights, bias = weights - rate * (images.T @ error), bias - rate * error.sum(axis=0)
print(f"trained on {len(images)} images in {(time.perf_counter() - start) * 1000:.0f} ms")

images, digits, _ = data(rows[held_out])
correct = int(((images @ weights + bias).argmax(axis=1) == digits).sum())
print(f"accuracy: {100 * correct / len(digits):.2f} % ({correct} of {len(digits)})")
