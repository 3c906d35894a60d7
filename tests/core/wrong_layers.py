"""Wrong calls of functions on layers and pictures."""

from __future__ import annotations

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import nn


def t(*shape, dtype=np.float32, **options):
    return tinynet.tensor(np.ones(shape, dtype), **options)


x4, w4 = t(2, 4, 5, 6), t(6, 4, 3, 3)
x2 = t(3, 4)
one = t(2, 2, device="cpu:1")
parameter = nn.Parameter(np.ones(3, np.float32))
net = nn.Linear(2, 2)

# what is wrong: (the call, the exception, parts of its message in order)
CALLS = {
    "conv2d": [
        (
            lambda: F.conv2d(np.ones((2, 4, 5, 6)), w4),
            TypeError,
            ["conv2d: expected x to be a tensor", "got ndarray"],
        ),
        (lambda: F.conv2d(x4, 3), TypeError, ["conv2d: expected weight to be a tensor", "got int"]),
        (
            lambda: F.conv2d(x4, w4, [1.0]),
            TypeError,
            ["conv2d: expected bias to be a tensor", "got list"],
        ),
        (
            lambda: F.conv2d(t(2, 4, 5, 6, dtype=np.float64), w4),
            ValueError,
            ["conv2d: expected one dtype, float32 or float64", "x float64, weight float32"],
        ),
        (
            lambda: F.conv2d(t(2, 4, 5, 6, dtype=int), t(6, 4, 3, 3, dtype=int)),
            ValueError,
            ["conv2d", "x int64"],
        ),
        (
            lambda: F.conv2d(t(4, 5, 6), w4),
            ValueError,
            ["conv2d: expected x of shape (N, C, H, W)", "got (4, 5, 6)"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 4, 3)),
            ValueError,
            ["conv2d: expected weight of shape (O, C/groups, kh, kw)", "got (6, 4, 3)"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 3, 3, 3)),
            ValueError,
            ["conv2d: x has 4 channels", "wants 3", "(6, 3, 3, 3)"],
        ),
        (
            lambda: F.conv2d(x4, w4, groups=2),
            ValueError,
            ["conv2d: x has 4 channels", "wants 8 in 2 groups", "(6, 4, 3, 3)"],
        ),
        (
            lambda: F.conv2d(x4, t(5, 2, 3, 3), groups=2),
            ValueError,
            ["conv2d", "groups = 2", "(5, 2, 3, 3)"],
        ),
        (lambda: F.conv2d(x4, t(6, 1, 3, 3), groups=3), ValueError, ["conv2d", "in 3 groups"]),
        (
            lambda: F.conv2d(x4, w4, t(5)),
            ValueError,
            ["conv2d: expected bias of shape (6,)", "got (5,)"],
        ),
        (
            lambda: F.conv2d(x4, w4, t(6, 1)),
            ValueError,
            ["conv2d: expected bias of shape (6,)", "got (6, 1)"],
        ),
        (
            lambda: F.conv2d(x4, w4, stride=0),
            ValueError,
            ["conv2d: expected stride to be an integer of at least 1", "got 0"],
        ),
        (lambda: F.conv2d(x4, w4, stride=1.5), ValueError, ["conv2d: expected stride", "got 1.5"]),
        (
            lambda: F.conv2d(x4, w4, stride=True),
            ValueError,
            ["conv2d: expected stride", "got True"],
        ),
        (
            lambda: F.conv2d(x4, w4, stride=(1, 2, 3)),
            ValueError,
            ["conv2d: expected stride to be an integer or a pair of them", "got (1, 2, 3)"],
        ),
        (
            lambda: F.conv2d(x4, w4, padding=-1),
            ValueError,
            ["conv2d: expected padding to be an integer of at least 0", "got -1"],
        ),
        (
            lambda: F.conv2d(x4, w4, padding=(0, "a")),
            ValueError,
            ["conv2d: expected padding", "got 'a'"],
        ),
        (
            lambda: F.conv2d(x4, w4, groups=0),
            ValueError,
            ["conv2d: expected groups to be an integer of at least 1", "got 0"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 4, 6, 3)),
            ValueError,
            ["conv2d: expected a kernel", "(6, 3) on 5x6", "padding (0, 0)"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 4, 3, 7)),
            ValueError,
            ["conv2d: expected a kernel", "(3, 7) on 5x6"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 4, 0, 3)),
            ValueError,
            ["conv2d: expected a kernel of at least 1x1", "(0, 3)"],
        ),
        (
            lambda: F.conv2d(x4, t(6, 4, 3, 3, device="cpu:1")),
            tinynet.DeviceMismatchError,
            ["Conv2d", "(2, 4, 5, 6) on cpu, (6, 4, 3, 3) on cpu:1"],
        ),
    ],
    "conv2d_each": [
        (
            lambda: F.conv2d_each(x4, w4),
            TypeError,
            ["conv2d_each: expected weights to be a list of tensors", "got Tensor"],
        ),
        (
            lambda: F.conv2d_each(x4, [w4], t(6)),
            TypeError,
            ["conv2d_each: expected biases to be a list of tensors", "got Tensor"],
        ),
        (
            lambda: F.conv2d_each(x4, []),
            ValueError,
            ["conv2d_each: expected at least one weight", "got 0 weights and 0 biases"],
        ),
        (
            lambda: F.conv2d_each(x4, [w4, w4], [t(6)]),
            ValueError,
            ["a bias (or None) for each", "got 2 weights and 1 biases"],
        ),
        (
            lambda: F.conv2d_each(x4, [w4, t(6, 4, 3, 2)]),
            ValueError,
            ["conv2d_each: expected kernels of one size", "(6, 4, 3, 3) and (6, 4, 3, 2)"],
        ),
        (
            lambda: F.conv2d_each(x4, [w4, t(6, 3, 3, 3)]),
            ValueError,
            ["conv2d_each: x has 4 channels", "wants 3"],
        ),
        (
            lambda: F.conv2d_each(x4, [w4, t(6, 4, 3, 3, device="cpu:1")]),
            tinynet.DeviceMismatchError,
            ["Conv2dEach: expected all tensors on one device"],
        ),
        (
            lambda: nn.Conv2d.each([nn.Conv2d(4, 2, 3), nn.Conv2d(4, 2, 3, 2)], x4),
            ValueError,
            ["Conv2d.each: expected layers of one stride", "stride 1", "stride 2"],
        ),
        (
            lambda: nn.Conv2d.each([nn.Conv2d(4, 2, 3, dilation=2)], x4),
            ValueError,
            ["Conv2d.each: expected layers", "without dilation", "dilation 2"],
        ),
        (lambda: nn.Conv2d.each([], x4), ValueError, ["Conv2d.each: expected", "got none"]),
    ],
    "linear": [
        (lambda: F.linear([1.0], x2), TypeError, ["linear: expected x to be a tensor", "got list"]),
        (
            lambda: F.linear(x2, t(5, 3)),
            ValueError,
            ["linear: expected x (..., 3) for weight (5, 3)", "got x (3, 4)"],
        ),
        (
            lambda: F.linear(x4, t(5, 4)),
            ValueError,
            ["linear: expected x (..., 4) for weight (5, 4)", "got x (2, 4, 5, 6)"],
        ),
        (
            lambda: F.linear(x2, t(4)),
            ValueError,
            ["linear: expected weight of shape (out, in)", "got (4,)"],
        ),
        (
            lambda: F.linear(x2, t(5, 4), t(4)),
            ValueError,
            ["linear: expected bias of shape (5,)", "got (4,)"],
        ),
        (
            lambda: F.linear(x2, t(5, 4), t(5, dtype=np.float64)),
            ValueError,
            ["linear: expected one dtype", "bias float64"],
        ),
    ],
    "local_response_norm": [
        (
            lambda: F.local_response_norm(t(3), 2),
            ValueError,
            ["local_response_norm: expected x of shape (N, C, ...)", "got (3,)"],
        ),
        (
            lambda: F.local_response_norm(x4, 0),
            ValueError,
            ["local_response_norm: expected size to be an integer of at least 1", "got 0"],
        ),
        (
            lambda: F.local_response_norm(x4, 2.0),
            ValueError,
            ["local_response_norm: expected size", "got 2.0"],
        ),
        (
            lambda: F.local_response_norm(x4, 2, alpha="a"),
            TypeError,
            ["local_response_norm: expected alpha to be a number", "got str"],
        ),
        (
            lambda: F.local_response_norm(x4, 2, beta=None),
            TypeError,
            ["expected beta to be a number", "got NoneType"],
        ),
        (
            lambda: F.local_response_norm(x4, 2, k=True),
            TypeError,
            ["expected k to be a number", "got bool"],
        ),
        (
            lambda: F.local_response_norm(t(2, 3, dtype=int), 2),
            ValueError,
            ["local_response_norm", "x int64"],
        ),
    ],
    "spatial_response_norm": [
        (
            lambda: F.spatial_response_norm(x2, 2),
            ValueError,
            ["spatial_response_norm: expected x of shape (N, C, H, W)", "got (3, 4)"],
        ),
        (
            lambda: F.spatial_response_norm(x4, -1),
            ValueError,
            ["spatial_response_norm: expected size", "got -1"],
        ),
        (
            lambda: F.spatial_response_norm(x4, 3, alpha=[1]),
            TypeError,
            ["expected alpha to be a number", "got list"],
        ),
        (
            lambda: F.spatial_response_norm(3, 3),
            TypeError,
            ["spatial_response_norm: expected x to be a tensor", "int"],
        ),
    ],
    "dropout": [
        (
            lambda: F.dropout(x4, 1.1),
            ValueError,
            ["dropout: expected a probability p in 0 ... 1", "got 1.1"],
        ),
        (
            lambda: F.dropout(x4, -0.1),
            ValueError,
            ["dropout: expected a probability p", "got -0.1"],
        ),
        (
            lambda: F.dropout(x4, float("nan")),
            ValueError,
            ["dropout: expected a probability p", "got nan"],
        ),
        (
            lambda: F.dropout(x4, "half"),
            TypeError,
            ["dropout: expected p to be a number", "got str"],
        ),
        (
            lambda: F.dropout(t(3, dtype=int)),
            ValueError,
            ["dropout: expected one dtype", "x int64"],
        ),
        (lambda: F.dropout(None), TypeError, []),
    ],
    "relu": [
        (lambda: F.relu(np.ones(3)), TypeError, ["relu: expected x to be a tensor", "got ndarray"]),
        (lambda: F.relu(t(3, dtype=int)), ValueError, ["relu: expected one dtype", "x int64"]),
        (
            lambda: F.relu(t(3, requires_grad=True), inplace=True),
            RuntimeError,
            ["relu: a leaf that requires a gradient cannot be changed in place", "inplace=False"],
        ),
    ],
    "tanh": [(lambda: F.tanh(3), TypeError, ["tanh: expected x to be a tensor", "got int"])],
    "gelu": [
        (
            lambda: F.gelu(x2, "erf"),
            ValueError,
            ["gelu: expected approximate 'none' or 'tanh'", "got 'erf'"],
        ),
    ],
    "sigmoid": [
        (lambda: F.sigmoid(t(3, dtype=bool)), ValueError, ["sigmoid: expected one dtype", "x bool"])
    ],
    "softmax": [
        (
            lambda: F.softmax(x2, 2),
            ValueError,
            ["softmax: expected dim to be an axis of a tensor of shape (3, 4)", "got 2"],
        ),
        (lambda: F.softmax(x2, None), ValueError, ["softmax: expected dim", "got None"]),
        (lambda: F.softmax(t()), ValueError, ["softmax: expected dim", "shape ()"]),
        (lambda: F.softmax([1.0]), TypeError, ["softmax: expected x to be a tensor", "got list"]),
    ],
    "log_softmax": [
        (lambda: F.log_softmax(x2, -3), ValueError, ["log_softmax: expected dim", "got -3"]),
        (lambda: F.log_softmax(x2, True), ValueError, ["log_softmax: expected dim", "got True"]),
    ],
    "cross_entropy": [
        (
            lambda: F.cross_entropy(x4, [0, 1]),
            ValueError,
            ["cross_entropy: expected target of shape (2, 4, 5)", "got (2,) int64"],
        ),
        (
            lambda: F.cross_entropy(np.ones((2, 3)), [0, 1]),
            TypeError,
            ["cross_entropy: expected logits to be a tensor"],
        ),
        (
            lambda: F.cross_entropy(x2, [0, 1]),
            ValueError,
            ["cross_entropy: expected target of shape (3,) and an integer dtype", "got (2,) int64"],
        ),
        (
            lambda: F.cross_entropy(x2, [0.0, 1.0, 2.0]),
            ValueError,
            ["cross_entropy: expected target", "float64"],
        ),
        (
            lambda: F.cross_entropy(x2, [0, 4, 1]),
            ValueError,
            ["cross_entropy: expected targets in 0 ... 3, the 4 classes of logits", "got 4"],
        ),
        (
            lambda: F.cross_entropy(x2, tinynet.tensor([0, -2, 9])),
            ValueError,
            ["cross_entropy: expected targets in 0 ... 3", "got -2"],
        ),
        (
            lambda: F.cross_entropy(x2, [0, 1, 2], reduction="max"),
            ValueError,
            ["cross_entropy: expected reduction 'mean', 'sum' or 'none'", "got 'max'"],
        ),
        (
            lambda: F.cross_entropy(x2, tinynet.tensor([0, 1, 2], device="cpu:1")),
            tinynet.DeviceMismatchError,
            ["CrossEntropy", "(3,) on cpu:1"],
        ),
    ],
    "pad": [
        (
            lambda: F.pad(x2, (1, 2, 3)),
            ValueError,
            ["pad: expected 2 to 4 widths, in pairs", "got (1, 2, 3)"],
        ),
        (
            lambda: F.pad(x2, (1,) * 6),
            ValueError,
            ["pad: expected 2 to 4 widths", "got (1, 1, 1, 1, 1, 1)"],
        ),
        (lambda: F.pad(x2, 1), ValueError, ["pad: expected 2 to 4 widths", "got 1"]),
        (lambda: F.pad(x2, ()), ValueError, ["pad: expected 2 to 4 widths", "got ()"]),
        (
            lambda: F.pad(x2, (1, -1)),
            ValueError,
            ["pad: expected pad to be an integer of at least 0", "got -1"],
        ),
    ],
}
for name in ("max_pool2d", "avg_pool2d"):
    pool = getattr(F, name)
    CALLS[name] = [
        (
            lambda f=pool: f(np.ones((1, 1, 4, 4)), 2),
            TypeError,
            [f"{name}: expected x to be a tensor", "got ndarray"],
        ),
        (
            lambda f=pool: f(x2, 2),
            ValueError,
            [f"{name}: expected x of shape (N, C, H, W)", "got (3, 4)"],
        ),
        (
            lambda f=pool: f(t(1, 1, 4, 4, dtype=int), 2),
            ValueError,
            [f"{name}: expected one dtype", "x int64"],
        ),
        (
            lambda f=pool: f(x4, 0),
            ValueError,
            [f"{name}: expected kernel_size to be an integer of at least 1", "got 0"],
        ),
        (
            lambda f=pool: f(x4, (2, 2, 2)),
            ValueError,
            [f"{name}: expected kernel_size", "pair", "got (2, 2, 2)"],
        ),
        (
            lambda f=pool: f(x4, 2, 0),
            ValueError,
            [f"{name}: expected stride to be an integer of at least 1", "got 0"],
        ),
        (lambda f=pool: f(x4, 2, "s"), ValueError, [f"{name}: expected stride", "got 's'"]),
        (
            lambda f=pool: f(x4, 2, 1, -1),
            ValueError,
            [f"{name}: expected padding to be an integer of at least 0", "got -1"],
        ),
        (
            lambda f=pool: f(x4, 3, 1, 2),
            ValueError,
            [
                f"{name}: expected padding of at most half the kernel",
                "padding (2, 2) for kernel (3, 3)",
            ],
        ),
        (
            lambda f=pool: f(x4, (2, 4), 1, (2, 1)),
            ValueError,
            [f"{name}: expected padding of at most half", "(2, 1)"],
        ),
        (
            lambda f=pool: f(x4, 6),
            ValueError,
            [
                f"{name}: expected a kernel that fits the padded picture",
                "kernel (6, 6) on 5x6 with padding (0, 0)",
            ],
        ),
        (
            lambda f=pool: f(x4, (2, 9), 1, (0, 1)),
            ValueError,
            [f"{name}: expected a kernel that fits", "(2, 9) on 5x6"],
        ),
    ]
