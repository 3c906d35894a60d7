"""Mistakes with tensors and layers: each is answered at once, by a line that says what to write."""

from __future__ import annotations

import ast
import itertools
import re

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.optim import SGD

x = tinynet.tensor(np.ones((2, 3), np.float32))
whole = tinynet.tensor([1, 2, 3])
picture = tinynet.zeros(1, 28, 28, 28)


def leaf():
    return tinynet.tensor([1.0, 2.0], requires_grad=True)


def set_data(value):
    leaf().data = value


def set_grad(value):
    leaf().grad = value


def set_requires_grad(t):
    t.requires_grad = True


def set_item():
    x[0] = 1


def subtract_in_place():
    w = leaf()
    w -= 0.1


MISTAKES = [
    (lambda: set_data(x), TypeError, ["x.data: expected an array", "Tensor", "other.data"]),
    (lambda: set_data(1.0), TypeError, ["x.data: expected an array", "float", "x.data[...]"]),
    (lambda: set_data(np.array([1, 2])), ValueError, ["x.data", "floats", "int64"]),
    (lambda: set_data(np.array(["a"])), ValueError, ["x.data", "floats"]),
    (lambda: set_grad(0), TypeError, ["x.grad: expected None or a tensor", "int", "= None"]),
    (lambda: set_grad(x), ValueError, ["x.grad", "shape (2,)", "(2, 3)"]),
    (lambda: set_grad(tinynet.zeros(2, device="cpu:1")), ValueError, ["x.grad", "cpu:1"]),
    (lambda: set_requires_grad(whole), ValueError, ["float32 or float64", "int64", "x.float()"]),
    (lambda: set_requires_grad(leaf() * 2), RuntimeError, ["expected a leaf", "x.detach()"]),
    (lambda: whole.requires_grad_(), ValueError, ["float32 or float64", "x.float()"]),
    (set_item, TypeError, ["x[key] = value", "tinynet.where", "x.data[key]"]),
    (subtract_in_place, RuntimeError, ["w -= ...", "w.data -= rate * w.grad"]),
    (lambda: x.add_(1), AttributeError, ["no 'add_'", "write x = x + y"]),
    (lambda: leaf().grad.zero_(), AttributeError, ["zero_"]),
    (lambda: tinynet.zeros(2).zero_(), AttributeError, ["no 'zero_'", "w.grad = None"]),
    (lambda: x.gather(1, whole), AttributeError, ["no 'gather'", "x[rows, columns]"]),
    (lambda: x.nothing, AttributeError, ["no 'nothing'"]),
    (lambda: bool(x == x), ValueError, ["bool()", "(a == b).all()"]),
    (lambda: [][whole], TypeError, ["index: expected one whole number"]),
    (lambda: x.sum(0, dim=1), TypeError, ["sum: expected axis or dim, got both"]),
    (lambda: x.max(0, dim=1), TypeError, ["max: expected axis or dim, got both"]),
    (lambda: tinynet.cat([x, x], 0, dim=1), TypeError, ["cat: expected axis or dim, got both"]),
    (lambda: tinynet.stack([x], 1, dim=0), TypeError, ["stack: expected axis or dim, got both"]),
    (lambda: x.max(dim=2), ValueError, ["axis", "2-d tensor"]),
    (lambda: x.argmax(2), ValueError, ["argmax: expected an axis of a 2-d tensor", "got 2"]),
    (lambda: tinynet.zeros(0).argmax(), ValueError, ["argmax: expected at least one element"]),
    (lambda: tinynet.zeros(2, 0).min(1), ValueError, ["min: expected at least one element"]),
    (lambda: x.var(0, correction=2), ValueError, ["var: expected more than correction=2"]),
    (lambda: x.norm(0), ValueError, ["norm: expected p", "got 0"]),
    (lambda: x.cumsum(), ValueError, ["cumsum: expected an axis", "None"]),
    (lambda: x.cumsum(True), ValueError, ["cumsum: expected an axis", "True"]),
    (lambda: x.clip(), ValueError, ["clip: expected least, most or both"]),
    (lambda: x.clip("0"), TypeError, ["clip: expected limits that are numbers", "str"]),
    (lambda: x.clip(x), TypeError, ["clip", "minimum(maximum"]),
    (lambda: whole**-1, ValueError, ["pow", "whole numbers", "x.float()"]),
    (lambda: x & x, TypeError, ["logical_and: expected booleans", "float32", "(x > 0)"]),
    (lambda: ~x, TypeError, ["logical_not: expected booleans", "float32"]),
    (lambda: x == tinynet.zeros(4), ValueError, ["eq", "broadcast", "(2, 3) and (4,)"]),
    (lambda: x < "a", ValueError, ["lt: tensor: expected numbers"]),
    (lambda: tinynet.where(x, 1, 2), ValueError, ["where", "booleans", "float32", "x != 0"]),
    (lambda: tinynet.where(True, 1, 2), TypeError, ["where: expected a tensor"]),
    (lambda: x.astype("words"), TypeError, ["astype: expected a dtype"]),
    (lambda: x.astype("O"), ValueError, ["astype: expected a dtype of numbers", "object"]),
    (lambda: x.to("words"), ValueError, ["device: expected 'cpu'", "words"]),
    (
        lambda: tinynet.zeros(2, 3, 4).transpose(1, 2),
        ValueError,
        ["transpose: expected each of the 3 axes once", "x.permute(0, 2, 1)"],
    ),
    (lambda: x.split(0), ValueError, ["split: expected a size above 0", "got 0"]),
    (lambda: x.split([1, 2]), ValueError, ["split", "add up to 2", "[1, 2]"]),
    (lambda: x.split([3, -1]), ValueError, ["split", "[3, -1]"]),
    (lambda: x.unsqueeze(4), ValueError, ["unsqueeze: expected an axis", "got 4"]),
    (lambda: x.squeeze(2), ValueError, ["axis: expected different axes of a 2-d tensor"]),
    (lambda: tinynet.stack([x, whole]), ValueError, ["stack", "one shape", "(2, 3), (3,)"]),
    (lambda: tinynet.stack([]), ValueError, ["stack: expected at least one tensor"]),
    (lambda: tinynet.stack([x, x], 3), ValueError, ["stack: expected an axis", "got 3"]),
    (lambda: tinynet.einsum("ij->k", x), ValueError, ["einsum", "left side", "'k'"]),
    (lambda: tinynet.einsum("ii->i", x), ValueError, ["einsum", "each once", "'ii->i'"]),
    (lambda: tinynet.einsum("i->i", x), ValueError, ["einsum", "(2, 3)"]),
    (lambda: tinynet.einsum("ij,jk->ik", x, x), ValueError, ["einsum", "axis 'j'", "3 and 2"]),
    (lambda: tinynet.einsum("...ij->ij", x), ValueError, ["einsum", "...ij"]),
    (lambda: tinynet.zeros(-1), ValueError, ["zeros: expected a shape", "-1"]),
    (lambda: tinynet.ones(2.0), ValueError, ["ones: expected a shape", "2.0"]),
    (lambda: tinynet.full(2, "a"), ValueError, ["expected numbers", "str"]),
    (lambda: tinynet.arange(3, step=0), ValueError, ["arange: expected a step"]),
    (lambda: tinynet.randint(3, 3, 2), ValueError, ["randint: expected low < high"]),
    (lambda: tinynet.zeros_like(np.ones(2)), TypeError, ["zeros_like", "ndarray"]),
    (lambda: tinynet.zeros(2, dtype=int, requires_grad=True), ValueError, ["requires_grad"]),
    (lambda: tinynet.from_numpy([1]), TypeError, ["from_numpy", "list", "tinynet.tensor"]),
    (lambda: tinynet.from_numpy(np.array(["a"])), ValueError, ["from_numpy", "numbers"]),
    (lambda: tinynet.from_dlpack([1]), TypeError, ["from_dlpack", "list", "tinynet.tensor"]),
    (lambda: np.asarray(leaf()), TypeError, ["numpy.asarray", "x.detach()"]),
    (lambda: np.from_dlpack(leaf()), TypeError, ["from_dlpack", "x.detach()"]),
    (lambda: np.floor(x), TypeError, ["numpy.floor", "numpy.floor(x.numpy())"]),
    (lambda: np.add.reduce(x), TypeError, ["numpy.add.reduce", "got a tensor"]),
    (lambda: x.numpy().__isub__(leaf()[0]), TypeError, ["numpy.subtract", "x.detach()"]),
    (lambda: f"{x:.2f}", ValueError, ["item(): expected a tensor of one element"]),
    (lambda: tinynet.save(x, "x"), TypeError, ["save: expected tensors by name", "Tensor"]),
    (lambda: tinynet.load(__file__), ValueError, ["load: expected a safetensors file"]),
    (lambda: nn.Dropout(1.5), ValueError, ["Dropout: expected a probability p", "1.5"]),
    (lambda: nn.Dropout("a"), TypeError, ["Dropout: expected p to be a number", "str"]),
    (lambda: nn.Linear(-1, 3), ValueError, ["Linear: expected in_features", "-1"]),
    (lambda: nn.Linear(3, 2.0), ValueError, ["Linear: expected out_features", "2.0"]),
    (lambda: nn.Conv2d(0, 1, 3), ValueError, ["Conv2d: expected in_channels", "0"]),
    (lambda: nn.Conv2d(1, 1, 0), ValueError, ["Conv2d: expected kernel_size", "0"]),
    (lambda: nn.Conv2d(1, 1, 3, stride=0), ValueError, ["Conv2d: expected stride", "0"]),
    (
        lambda: nn.Conv2d(1, 1, 3, padding="same"),
        ValueError,
        ["Conv2d: expected padding", "'same'", "padding=1"],
    ),
    (
        lambda: nn.Conv2d(1, 1, 4, padding="same"),  # no padding keeps the size
        ValueError,
        ["Conv2d: expected padding", "'same'; 'valid' is padding=0"],
    ),
    (lambda: nn.BatchNorm2d(3)(picture), ValueError, ["batch_norm: x has 28 channels", "(3,)"]),
    (lambda: nn.Linear(3, 2)(x.numpy()), TypeError, ["linear", "write tinynet.tensor(x)"]),
    (
        lambda: tinynet.tensor([1], requires_grad=True),
        ValueError,
        ["requires_grad: expected dtype float32", "write dtype=tinynet.float32"],
    ),
    (lambda: SGD(nn.Linear(2, 3), 0.1), TypeError, ["SGD", "Linear", "net.parameters()"]),
    (lambda: SGD([leaf() * 2], 0.1), ValueError, ["SGD: expected leaves", ".detach()"]),
    (lambda: nn.MaxPool2d(0), ValueError, ["MaxPool2d: expected kernel_size", "0"]),
    (lambda: nn.AvgPool2d(2, padding=-1), ValueError, ["AvgPool2d: expected padding", "-1"]),
    (lambda: nn.BatchNorm2d(0), ValueError, ["BatchNorm2d: expected num_features", "0"]),
    (lambda: nn.Sequential(nn.ReLU), TypeError, ["Sequential", "class ReLU", "nn.ReLU()"]),
    (lambda: nn.Sequential([nn.ReLU()]), TypeError, ["Sequential", "list", "*layers"]),
    (lambda: nn.Sequential(F.relu), TypeError, ["Sequential: expected layers", "function"]),
    (
        lambda: nn.Conv2d(1, 4, 3)(picture),
        ValueError,
        ["conv2d: x has 28 channels, the weight wants 1", "x must be (N, C, H, W)"],
    ),
    (
        lambda: nn.Conv2d(28, 4, 3)(tinynet.zeros(28, 28)),
        ValueError,
        ["conv2d: expected x of shape (N, C, H, W)", "(28, 28)"],
    ),
    (
        lambda: nn.Linear(3, 2)(tinynet.tensor(np.ones((1, 3)))),
        ValueError,
        ["linear: expected one dtype", "x float64, weight float32", "x.float()"],
    ),
    (
        lambda: nn.Conv2d(1, 2, 3)(tinynet.tensor(np.ones((1, 1, 5, 5), np.uint8))),
        ValueError,
        ["conv2d: expected one dtype", "x uint8", "x.float()"],
    ),
]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_mistake_is_answered(number):
    call, expected, parts = MISTAKES[number]
    with pytest.raises(expected) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


def test_it_is_said_before_anything_changed():
    w, y, whole = leaf(), leaf() * 2, tinynet.tensor([1, 2])
    w.sum().backward()
    net = nn.Linear(2, 2)
    for owner, name, values in (
        (w, "data", [1, tinynet.zeros(2), np.array([1, 2]), np.array(["a", "b"])]),
        (w, "grad", [1, np.zeros(2), tinynet.zeros(3), tinynet.zeros(2, device="cpu:1")]),
        (whole, "data", [1.0, np.array(["a", "b"])]),
        (whole, "requires_grad", [True]),
        (y, "requires_grad", [True, False]),
        (net, "weight", [tinynet.zeros(2, 2), tinynet.zeros(2, 2, requires_grad=True)]),
    ):
        before = getattr(owner, name)
        for value in values:
            with pytest.raises((TypeError, ValueError, RuntimeError)):
                setattr(owner, name, value)
            assert getattr(owner, name) is before, (name, value)
    with pytest.raises(RuntimeError):
        subtract_in_place()


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 3, 4)])
def test_axes_that_numpy_does_not_take_are_refused(shape):
    """Past the last, before the first, one twice, too few: none is taken for another."""
    x, ndim = np.zeros(shape), len(shape)
    for count in range(1, ndim + 2):
        for axes in itertools.product(range(-ndim - 2, ndim + 2), repeat=count):
            try:
                expected = x.transpose(axes).shape
            except ValueError:
                with pytest.raises(ValueError, match=f"expected each of the {ndim} axes"):
                    tinynet.tensor(x).permute(*axes)
            else:
                assert tinynet.tensor(x).permute(*axes).shape == expected
    for wrong in ("a", None, True, 0.0):
        for call in (tinynet.permute, lambda x, axis: tinynet.concat([x], axis)):
            with pytest.raises((ValueError, TypeError), match="expected"):
                call(tinynet.tensor(x), wrong)


@pytest.mark.parametrize("dilation", [1, 2, (1, 2)])
def test_the_padding_that_is_told_for_same_keeps_the_size(dilation):
    x, spread = tinynet.zeros(1, 1, 5, 7), (dilation, dilation) if dilation in (1, 2) else dilation
    for kernel in itertools.product((1, 2, 3, 4), repeat=2):
        with pytest.raises(ValueError) as caught:
            nn.Conv2d(1, 1, kernel, padding="same", dilation=dilation)
        told = re.search(r"stride 1 is padding=(.*), 'valid'", str(caught.value))
        odd = any(k % 2 == 0 and d % 2 for k, d in zip(kernel, spread, strict=True))
        assert bool(told) != odd, kernel  # an even kernel: one pixel more or less
        if told:
            padding = ast.literal_eval(told[1])
            assert nn.Conv2d(1, 1, kernel, padding=padding, dilation=dilation)(x).shape == x.shape
