"""Wrong calls that each function has of its own: the message names the argument, what was expected
and what came. What every operation must refuse: test_wrong_calls_of_all.py.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn, optim
from tinynet.errors import TinynetError


def t(*shape, dtype=np.float32, **options):
    return tinynet.tensor(np.ones(shape, dtype), **options)


x4, w4 = t(2, 4, 5, 6), t(6, 4, 3, 3)
x2 = t(3, 4)
one = t(2, 2, device="cpu:1")
parameter = nn.Parameter(np.ones(3, np.float32))
net = nn.Linear(2, 2)

# what is wrong: (the call, the exception, parts of its message in order)
CALLS = {
    "tensor": [
        (lambda: tinynet.tensor("words"), ValueError, ["tensor: expected numbers", "got str"]),
        (
            lambda: tinynet.tensor([[1], [1, 2]]),
            ValueError,
            ["tensor: expected numbers or an array of them"],
        ),
        (lambda: tinynet.tensor(None), ValueError, ["tensor: expected numbers", "NoneType"]),
        (lambda: tinynet.tensor([object()]), ValueError, ["tensor: expected numbers", "object"]),
        (
            lambda: tinynet.tensor([1, 2], requires_grad=True),
            ValueError,
            ["requires_grad: expected dtype float32 or float64", "got int64"],
        ),
        (
            lambda: tinynet.tensor(1.0, dtype=np.float16, requires_grad=True),
            ValueError,
            ["requires_grad", "float16"],
        ),
        (
            lambda: tinynet.tensor(1.0, device="gpu"),
            ValueError,
            ["device: expected 'cpu', 'cpu:N'", "got 'gpu'"],
        ),
    ],
    "arithmetic": [
        (
            lambda: t(2, 3) + t(2, 4),
            ValueError,
            ["add: expected shapes that broadcast", "(2, 3) and (2, 4)"],
        ),
        (
            lambda: t(2, 3) - t(4),
            ValueError,
            ["sub: expected shapes that broadcast", "(2, 3) and (4,)"],
        ),
        (
            lambda: t(2, 3) * np.ones(2),
            ValueError,
            ["mul: expected shapes that broadcast", "(2, 3) and (2,)"],
        ),
        (
            lambda: [1.0, 2.0] / t(3),
            ValueError,
            ["div: expected shapes that broadcast", "(2,) and (3,)"],
        ),
        (
            lambda: F.maximum(t(2), t(3)),
            ValueError,
            ["maximum: expected shapes that broadcast", "(2,) and (3,)"],
        ),
        (lambda: t(2) + "a", ValueError, ["tensor: expected numbers", "str"]),
        (lambda: t(2) ** "2", TypeError, ["pow: expected a number or a tensor", "got str"]),
        (
            lambda: t(2) ** True,
            TypeError,
            ["pow: expected a number or a tensor as exponent", "got bool"],
        ),
        (
            lambda: one + t(2, 2),
            tinynet.DeviceMismatchError,
            ["Add: expected all tensors on one device", "on cpu:1"],
        ),
    ],
    "matmul": [
        (
            lambda: t(2, 3) @ t(2, 3),
            ValueError,
            ["matmul: expected shapes (..., n, k) and (..., k, m)", "(2, 3) and (2, 3)"],
        ),
        (lambda: t(3) @ t(4), ValueError, ["matmul", "(3,) and (4,)"]),
        (lambda: t() @ t(4), ValueError, ["matmul", "() and (4,)"]),
        (lambda: t(4) @ t(), ValueError, ["matmul", "(4,) and ()"]),
        (lambda: t(2, 3, 4) @ t(3, 4, 5), ValueError, ["matmul", "(2, 3, 4) and (3, 4, 5)"]),
        (lambda: np.ones((2, 3)) @ t(2), ValueError, ["matmul", "(2, 3) and (2,)"]),
    ],
    "reductions": [
        (
            lambda: t(2, 3).sum(2),
            ValueError,
            ["axis: expected different axes of a 2-d tensor, -2 ... 1", "got 2"],
        ),
        (
            lambda: t(2, 3).mean(-3),
            ValueError,
            ["axis: expected different axes of a 2-d tensor", "got -3"],
        ),
        (
            lambda: t(2, 3).max((0, 5)),
            ValueError,
            ["axis: expected different axes of a 2-d tensor", "got (0, 5)"],
        ),
        (lambda: t(2, 3).sum(True), ValueError, ["axis", "got True"]),
        (lambda: t(2, 3).sum(1.0), ValueError, ["axis", "got 1.0"]),
        (lambda: t(2, 3).sum((0, 0)), ValueError, ["axis", "got (0, 0)"]),
        (lambda: t(2, 3).sum((0, -2)), ValueError, ["axis", "got (0, -2)"]),
        (
            lambda: t(2, 0).max(),
            ValueError,
            ["max: expected at least one element along axis None", "got shape (2, 0)"],
        ),
        (
            lambda: t(2, 0).max(1),
            ValueError,
            ["max: expected at least one element along axis 1", "(2, 0)"],
        ),
    ],
    "shapes": [
        (
            lambda: t(2, 3).reshape(4),
            ValueError,
            ["reshape: expected a shape of 6 elements", "(2, 3) -> (4,)"],
        ),
        (
            lambda: t(2, 3).reshape(-1, -1),
            ValueError,
            ["reshape: expected a shape of 6 elements", "(-1, -1)"],
        ),
        (lambda: t(2, 3).reshape("a"), ValueError, ["reshape: expected a shape of 6 elements"]),
        (
            lambda: t(2, 3).transpose(0),
            ValueError,
            ["transpose: expected each of the 2 axes once", "got (0,)"],
        ),
        (
            lambda: t(2, 3).transpose(0, 0),
            ValueError,
            ["transpose: expected each of the 2 axes once", "got (0, 0)"],
        ),
        (lambda: t(2, 3).transpose(0, 2), ValueError, ["transpose", "got (0, 2)"]),
        (
            lambda: t(2, 3).flatten(2),
            ValueError,
            ["flatten: expected a start axis of a 2-d tensor", "got 2"],
        ),
        (
            lambda: t(3).flatten(1),
            ValueError,
            ["flatten: expected a start axis of a 1-d tensor", "got 1"],
        ),
        (
            lambda: t().flatten(1),
            ValueError,
            ["flatten: expected a start axis of a 0-d tensor", "got 1"],
        ),
        (
            lambda: t(2, 3).flatten(-3),
            ValueError,
            ["flatten: expected a start axis of a 2-d tensor", "got -3"],
        ),
        (lambda: t(2, 3)[2], IndexError, ["index: tensor of shape (2, 3)", "out of bounds"]),
        (
            lambda: t(2, 3)[0, 0, 0],
            IndexError,
            ["index: tensor of shape (2, 3)", "too many indices"],
        ),
        (lambda: t(2, 3)["a"], IndexError, ["index: tensor of shape (2, 3)"]),
    ],
    "concat": [
        (lambda: tinynet.concat([]), ValueError, ["concat: expected at least one tensor"]),
        (
            lambda: tinynet.concat([t(2), np.ones(2)]),
            ValueError,
            ["concat: expected", "nothing but tensors"],
        ),
        (
            lambda: tinynet.concat([t(2)], 1),
            ValueError,
            ["concat: expected an axis of a 1-d tensor", "got 1"],
        ),
        (
            lambda: tinynet.concat([t(2, 3), t(2, 4)]),
            ValueError,
            ["concat: expected shapes that differ along axis 0 only", "(2, 3), (2, 4)"],
        ),
        (
            lambda: tinynet.concat([t(2, 3), t(2)]),
            ValueError,
            ["concat: expected shapes that differ", "(2, 3), (2,)"],
        ),
        (
            lambda: tinynet.concat([one, t(2, 2)]),
            tinynet.DeviceMismatchError,
            ["Concat", "(2, 2) on cpu:1"],
        ),
    ],
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
    "Tensor": [
        (
            lambda: t(2).item(),
            ValueError,
            ["item(): expected a tensor of one element", "got shape (2,)"],
        ),
        (lambda: len(t()), TypeError, ["len(): expected a tensor of at least one axis"]),
        (lambda: t(2).to("tpu"), ValueError, ["device: expected 'cpu'", "got 'tpu'"]),
        (lambda: bool(t(2)), ValueError, ["bool(): expected a tensor of one element", ".all()"]),
    ],
    "random and threads": [
        (
            lambda: tinynet.manual_seed(-1),
            ValueError,
            ["manual_seed: expected an integer in 0 ... 2**64 - 1", "got -1"],
        ),
        (
            lambda: tinynet.manual_seed(2**64),
            ValueError,
            ["manual_seed", "got 18446744073709551616"],
        ),
        (lambda: tinynet.manual_seed(1.5), ValueError, ["manual_seed", "got 1.5"]),
        (lambda: tinynet.manual_seed(True), ValueError, ["manual_seed", "got True"]),
        (
            lambda: tinynet.set_num_threads(0),
            ValueError,
            ["set_num_threads: expected an integer of at least 1", "got 0"],
        ),
        (lambda: tinynet.set_num_threads("2"), ValueError, ["set_num_threads", "got '2'"]),
        (lambda: tinynet.set_num_threads(True), ValueError, ["set_num_threads", "got True"]),
    ],
    "nn": [
        (
            lambda: nn.Conv2d(3, 4, 3, groups=2),
            ValueError,
            ["Conv2d: expected in_channels and out_channels divisible"],
        ),
        (
            lambda: net.load_state_dict({}),
            ValueError,
            ["load_state_dict: missing ['bias', 'weight'], unexpected []"],
        ),
        (
            lambda: net.load_state_dict({"weight": np.ones(2), "bias": np.ones(2)}),
            ValueError,
            ["load_state_dict: expected weight of shape (2, 2)", "got (2,)"],
        ),
        (lambda: net.to("xpu"), ValueError, ["device: expected", "got 'xpu'"]),
        (
            lambda: nn.init.xavier()((3,)),
            ValueError,
            ["fans: expected weights of shape (out, in, ...)", "got (3,)"],
        ),
    ],
    "optim": [
        (lambda: optim.SGD([], 0.1), ValueError, ["SGD: expected at least one parameter"]),
        (
            lambda: optim.SGD([t(2)], 0.1),
            ValueError,
            ["SGD: expected", "tensors that require a gradient"],
        ),
        (
            lambda: optim.SGD([np.ones(2)], 0.1),
            ValueError,
            ["SGD: expected", "tensors that require a gradient"],
        ),
        (
            lambda: optim.SGD([parameter, parameter], 0.1),
            ValueError,
            ["SGD: expected each parameter in one group"],
        ),
        (
            lambda: optim.SGD([parameter], -0.1),
            ValueError,
            ["SGD: expected lr to be a number of at least 0", "got -0.1"],
        ),
        (lambda: optim.SGD([parameter], "fast"), ValueError, ["SGD: expected lr", "got 'fast'"]),
        (lambda: optim.SGD([parameter], True), ValueError, ["SGD: expected lr", "got True"]),
        (lambda: optim.SGD([parameter], float("inf")), ValueError, ["SGD: expected lr", "got inf"]),
        (lambda: optim.SGD([parameter], float("nan")), ValueError, ["SGD: expected lr", "got nan"]),
        (
            lambda: optim.SGD([parameter], 0.1, momentum=-1),
            ValueError,
            ["SGD: expected momentum", "got -1"],
        ),
        (
            lambda: optim.SGD([parameter], 0.1, 0.9, -5),
            ValueError,
            ["SGD: expected weight_decay", "got -5"],
        ),
        (
            lambda: optim.SGD([{"params": [parameter], "lr": -1}], 0.1),
            ValueError,
            ["SGD: expected lr of a group", "got -1"],
        ),
        (
            lambda: optim.SGD([{"params": [parameter], "lr": 0.4}], 0.0),
            ValueError,
            ["SGD: expected lr above 0 where a group has its own, got 0.0", "lr_scale"],
        ),
        (
            lambda: optim.SGD([{"params": [parameter], "lr_scale": "a"}], 0.1),
            ValueError,
            ["SGD: expected lr_scale", "'a'"],
        ),
    ],
    "gradcheck": [
        (
            lambda: tinynet.gradcheck(F.relu, [np.ones(2)], eps=0),
            ValueError,
            ["gradcheck: expected eps > 0", "got 0"],
        ),
        (
            lambda: tinynet.gradcheck(F.relu, []),
            ValueError,
            ["gradcheck: expected at least one input", "got none"],
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

CASES = [(name, number) for name, calls in CALLS.items() for number in range(len(calls))]


@pytest.mark.parametrize("name, number", CASES, ids=lambda v: str(v))
def test_a_wrong_call_says_what_is_wrong(name, number):
    call, exception, parts = CALLS[name][number]
    with pytest.raises(exception) as caught:
        call()
    text = str(caught.value)
    assert re.search(".*".join(re.escape(part) for part in parts), text, re.DOTALL), text
    assert "\n" not in text  # one line


def test_nothing_is_half_done_by_a_wrong_call():
    threads, state = tinynet.get_num_threads(), tinynet.random.get_state()
    for call in (
        lambda: tinynet.set_num_threads(0),
        lambda: tinynet.manual_seed(-1),
        lambda: F.dropout(x4, 2),
    ):
        with pytest.raises(ValueError):
            call()
    assert tinynet.get_num_threads() == threads and tinynet.random.get_state() == state


def test_the_family_of_errors():
    import builtins

    for error, base in [
        (tinynet.DeviceMismatchError, RuntimeError),
        (tinynet.DeviceUnavailableError, RuntimeError),
        (tinynet.OutOfMemoryError, MemoryError),
        (tinynet.DataError, ValueError),
        (tinynet.CheckpointError, ValueError),
        (tinynet.GradcheckError, AssertionError),
    ]:
        assert issubclass(error, TinynetError) and issubclass(error, base)
        assert not hasattr(builtins, error.__name__)
    assert all(hasattr(tinynet, name) for name in tinynet.__all__)
