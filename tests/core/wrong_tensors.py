"""Wrong calls of tensors, modules, rules and gradcheck."""

from __future__ import annotations

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import nn, optim


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
            lambda: tinynet.concat([t(3, 2), t(4, 2), t(3, 3)], -2),  # the third alone
            ValueError,
            ["concat: expected shapes that differ along axis -2 only", "(3, 2), (4, 2), (3, 3)"],
        ),
        (
            lambda: tinynet.stack([t(2, 3), t(2, 3), t(3, 2)]),
            ValueError,
            ["stack: expected tensors of one shape, got (2, 3), (2, 3), (3, 2)"],
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
            ["gradcheck: expected a number above 0 for eps", "got 0"],
        ),
        (
            lambda: tinynet.gradcheck(F.relu, []),
            ValueError,
            ["gradcheck: expected at least one input", "got none"],
        ),
    ],
}
