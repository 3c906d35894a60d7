"""Values at the edge: NaN, 0 to a power, axes without elements. What they give is torch's; its
values stand here (PyTorch 2.13).
"""

from __future__ import annotations

from operator import add, mul, sub, truediv

import numpy as np
import pytest

import tinynet
import tinynet.functional as F

nan, inf = np.nan, np.inf


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_nan_through_relu():
    x = leaf([nan, 1.0, 0.0, -1.0])
    y = F.relu(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.data, np.float32([nan, 1, 0, 0]))
    np.testing.assert_array_equal(x.grad.data, [1, 1, 0, 0])


def test_nan_through_a_relu_inside_other_operations():
    """dy passes where y is a NaN: seen in the gradient of the bias."""
    x, w = tinynet.tensor([[nan], [1.0], [-1.0]]), tinynet.tensor([[1.0]])
    b = leaf([0.0])
    F.linear(x, w, b, relu=True).sum().backward()
    assert b.grad.item() == 2
    b.zero_grad()
    pictures = x.reshape(3, 1, 1, 1)
    F.conv2d(pictures, w.reshape(1, 1, 1, 1), b, relu=True).sum().backward()
    assert b.grad.item() == 2
    b.zero_grad()
    zeros, ones = tinynet.tensor([0.0]), tinynet.tensor([1.0])
    F.batch_norm(x, zeros, ones, ones, b, training=False, relu=True).sum().backward()
    assert b.grad.item() == 2


def test_nan_through_maximum():
    a, b = leaf([nan, 1.0, 2.0, nan, 3.0]), leaf([1.0, nan, 2.0, nan, 1.0])
    F.maximum(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad.data, [1, 1, 0.5, 1, 1])
    np.testing.assert_array_equal(b.grad.data, [1, 1, 0.5, 1, 0])


def test_nan_through_max():
    x = leaf([[1.0, nan, nan], [1.0, 2.0, 2.0]])
    x.max().backward()
    np.testing.assert_array_equal(x.grad.data, [[0, 0.5, 0.5], [0, 0, 0]])
    x.zero_grad()
    y = x.max(1)
    y.sum().backward()  # torch's amax gives a row of NaN; here a row is what max gives it alone
    np.testing.assert_array_equal(y.data, np.float32([nan, 2]))
    np.testing.assert_array_equal(x.grad.data, [[0, 0.5, 0.5], [0, 0.5, 0.5]])


@pytest.mark.parametrize(
    "p, gradient",
    [
        (0, [0, 0]),
        (0.0, [0, 0]),
        (1, [1, 1]),
        (2, [0, 4]),
        (3.0, [0, 12]),
        (0.5, [inf, 2**-1.5]),
        (-1, [-inf, -0.25]),
    ],
)
def test_powers_at_zero(p, gradient):
    x = leaf([0.0, 2.0])
    with np.errstate(divide="ignore"):
        (x**p).sum().backward()
    np.testing.assert_allclose(x.grad.data, np.float32(gradient), rtol=1e-6)


@pytest.mark.parametrize("operation", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,), (2, 0, 3)])
def test_softmax_over_an_axis_without_elements(operation, shape):
    for dim in range(-1, len(shape)):
        x = leaf(np.zeros(shape, np.float32))
        y = operation(x, dim)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape and y.dtype == np.float32


@pytest.mark.parametrize("operation", [add, sub, mul, truediv, F.maximum])
@pytest.mark.parametrize(
    "a, b", [((3, 1), (3, 0)), ((1,), (0,)), ((2, 1, 1), (0, 4)), ((), (0, 2)), ((1, 1), (1, 0))]
)
def test_broadcast_against_an_axis_without_elements(operation, a, b):
    """The gradient of what was repeated zero times is a sum of nothing, in the operand's shape."""
    for first, second in ((a, b), (b, a)):
        x, y = leaf(np.ones(first, np.float32)), leaf(np.ones(second, np.float32))
        z = operation(x, y)
        assert z.size == 0
        z.sum().backward()
        assert x.grad.shape == first and y.grad.shape == second
        assert not x.grad.data.any() and not y.grad.data.any()


def test_an_infinite_gradient_where_it_is_not_chosen():
    """The slope of a root is infinite at 0: nothing of it may come to what was not chosen."""
    x = leaf([4.0, -1.0])
    with np.errstate(divide="ignore"):
        tinynet.where(x > 0, x, 0.0).sqrt().sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.25, 0])
    x.zero_grad()
    a, condition = leaf([1.0, 2.0]), x > 0
    tinynet.where(condition, a, x).backward([inf, -inf])
    np.testing.assert_array_equal(a.grad.data, [inf, 0])
    np.testing.assert_array_equal(x.grad.data, [0, -inf])


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_limits_and_borders_of_whole_numbers(kind):
    """What no whole number of the kind can be is no limit, and no border."""
    x, ends = tinynet.tensor([1, 2, 3], dtype=kind), np.iinfo(kind)
    for limits, expected in (
        ((-inf, inf), [1, 2, 3]), ((-inf, 2), [1, 2, 2]), ((2, inf), [2, 2, 3]),
        ((ends.min - 1, ends.max + 1), [1, 2, 3]), ((None, ends.min - 5), [ends.min] * 3),
        ((ends.max + 5, None), [ends.max] * 3), ((2.0, None), [2, 2, 3]),
    ):  # fmt: skip
        y = x.clip(*limits)
        assert y.dtype == kind and y.tolist() == expected, limits
    assert x.clip(1.5, inf).tolist() == [1.5, 2, 3] and x.clip(1, 2.5).dtype == np.float32
    with pytest.raises(ValueError, match="clip: expected limits that are numbers, got a NaN"):
        x.clip(nan, 3)
    for value in (ends.min, ends.max, True, 2.0):
        assert F.pad(x, (0, 1), value).tolist() == [1, 2, 3, int(value)]
    for value in (ends.min - 1, ends.max + 1, 0.5, nan, inf):
        with pytest.raises(ValueError, match=f"pad: expected a value that {kind} can hold"):
            F.pad(x, (1, 0), value)
    assert F.pad(x > 1, (1, 0), 1).tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match="pad: expected a value that bool can hold, got 2"):
        F.pad(x > 1, (1, 0), 2)
    with pytest.raises(TypeError, match="pad: expected value to be a number, got NoneType"):
        F.pad(x, (1, 0), None)
