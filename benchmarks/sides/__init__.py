"""The net that all sides of a comparison train: its sizes, its first weights, its pictures.

Each module here is one side, and imports its framework at its top:

    ours, pytorch, with_jax    `Net(preset, lrn)` with `gradients(x, labels)`, to check that the
                               nets are one and the same
    with_onnxruntime           the same, logits alone
    gemm                       the matrix products alone
    ours_small, pytorch_small  small nets and single operations, which `small` describes
    ours_history, pytorch_history  the files of examples/history, which `history` begins
    all                        `make_step(preset, lrn, task, batch)`: one step of the task "train"
                               or "forward", to be called again and again; `about()`: version and
                               threads

The sizes stand here a second time, apart from examples/alexnet.py: so the comparison of values
checks those as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, DROPOUT = 1e-3, 0.9, 5e-4, 0.5
LRN = dict(size=5, alpha=5e-4, beta=0.75, k=2.0)  # alpha / size = 1e-4, as in the paper
GROUPS = (1, 2, 1, 2, 2)  # of conv1 ... conv5: two towers, side by side in one
POOLED = (1, 2, 5)  # convolutions that a 3x3 max-pool with stride 2 follows
NORMALISED = (1, 2)


class Config(NamedTuple):
    channels: int
    size: int  # of a picture's side
    extra: int  # zeros at its bottom and right
    kernels: tuple[int, ...]  # of conv1 ... conv5, both towers
    sides: tuple[int, ...]  # of their kernels
    conv1: tuple[int, int]  # stride, padding
    outputs: tuple[int, ...]  # of the maps' sides
    pooled: int  # the side that fc6 sees
    hidden: int
    classes: int


CONFIGS = {
    "paper": Config(
        3,
        224,
        3,
        (96, 256, 384, 384, 256),
        (11, 5, 3, 3, 3),
        (4, 0),
        (55, 27, 13, 13, 13),
        6,
        4096,
        1000,
    ),
    "mini": Config(
        1, 28, 0, (32, 64, 96, 96, 64), (5, 3, 3, 3, 3), (1, 2), (28, 14, 7, 7, 7), 3, 512, 10
    ),
}


def weight_shapes(preset: str) -> dict[str, tuple[int, ...]]:
    """ "conv1" ... "fc8" -> the shape of its weights, both towers in one."""
    c = CONFIGS[preset]
    inputs = (c.channels, *c.kernels)
    shapes = {
        f"conv{i + 1}": (c.kernels[i], inputs[i] // GROUPS[i], c.sides[i], c.sides[i])
        for i in range(5)
    }
    fc6 = (c.hidden, c.kernels[4] * c.pooled**2)
    return shapes | {"fc6": fc6, "fc7": (c.hidden, c.hidden), "fc8": (c.classes, c.hidden)}


def random_weights(preset: str) -> dict[str, np.ndarray]:
    """ "conv1.weight", "conv1.bias" ... by He's rule, the same at every call; biases are not zero,
    so that they count.
    """
    rng = np.random.default_rng(0)
    weights = {}
    for layer, shape in weight_shapes(preset).items():
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weights[f"{layer}.weight"] = rng.standard_normal(shape, np.float32) * scale
        weights[f"{layer}.bias"] = rng.standard_normal(shape[0], np.float32) * np.float32(0.1)
    return weights


def random_batch(preset: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, C, S, S) and labels (N,)."""
    c, rng = CONFIGS[preset], np.random.default_rng(1)
    pictures = rng.standard_normal((batch, c.channels, c.size, c.size), np.float32)
    return pictures, rng.integers(0, c.classes, batch)
