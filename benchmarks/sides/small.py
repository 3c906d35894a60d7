"""What the small rows of the CPU benchmark run: nets of learners, and single operations.

    lenet       LeNet-5: two convolutions with ReLU and 2x2 max-pooling, three linear layers
    mlp         784-128-10
    resnet20    of He et al. 2015 for 32x32 pictures, the shortcut without parameters
    add         1,000 times a + a of 4 elements, recorded, each for itself
    chain       a chain of 400 operations on 4 elements, forward and backward
    conv-64     a convolution 3x3 of 64 to 64 channels of 32x32, with bias, forward and backward
    conv-128    the same with 128 channels of 16x16

`ours_small` and `pytorch_small` have the sides. Parameters are numbered in the order of the net, so
that one list of arrays fits both.
"""

from __future__ import annotations

import numpy as np

ADDITIONS, CHAIN = 1000, 400
CLASSES = 10
SHAPES = {  # of a picture
    "lenet": (1, 28, 28),
    "mlp": (784,),
    "resnet20": (3, 32, 32),
    "conv-64": (64, 32, 32),
    "conv-128": (128, 16, 16),
}
# conv: inputs, outputs, side of the kernel, padding; linear: inputs, outputs. A ReLU follows each
# but the last.
LAYERS = {
    "lenet": (
        ("conv", 1, 6, 5, 2), ("pool",), ("conv", 6, 16, 5, 0), ("pool",), ("flatten",),
        ("linear", 400, 120), ("linear", 120, 84), ("linear", 84, CLASSES),
    ),
    "mlp": (("linear", 784, 128), ("linear", 128, CLASSES)),
}  # fmt: skip
NETS = (*LAYERS, "resnet20")
OPERATIONS = ("add", "chain", "conv-64", "conv-128")


def first_parameter(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Weights by He's rule; scales, shifts and biases around 1, so that they count."""
    values = np.random.default_rng(number).standard_normal(shape, np.float32)
    if len(shape) == 1:
        return 1 + values / 10
    return values * np.float32(np.sqrt(2 / np.prod(shape[1:])))


def random_pictures(preset: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, ...) and labels (N,)."""
    rng = np.random.default_rng(1)
    pictures = rng.standard_normal((batch, *SHAPES[preset]), np.float32)
    return pictures, rng.integers(0, CLASSES, batch)


def operands(preset: str, batch: int) -> tuple[np.ndarray, ...]:
    """x (N, C, H, W), weight (C, C, 3, 3), bias (C,) and dy of a convolution."""
    x, _ = random_pictures(preset, batch)
    C = x.shape[1]
    dy = np.random.default_rng(2).standard_normal(x.shape, np.float32)
    return x, first_parameter(0, (C, C, 3, 3)), first_parameter(1, (C,)), dy
