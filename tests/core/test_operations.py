"""The operations as a user calls them: values against NumPy, defaults, and random arguments
(hypothesis).
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinynet
import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.conv2d import conv2d_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.operations import OPERATIONS

SMALL = st.integers(0, 4)
ANYTHING = st.floats(allow_nan=True, allow_infinity=True, width=64)


def test_no_operation_changes_its_input_or_hands_out_its_memory(rng):
    x = tinynet.tensor(layouts(rng, rng.normal(size=(2, 3, 4, 5))))
    before = x.numpy()
    for call in (
        F.relu,
        F.tanh,
        F.sigmoid,
        F.softmax,
        F.log_softmax,
        F.dropout,
        lambda x: F.max_pool2d(x, 2, 1),
    ):
        y = call(x)
        assert not np.shares_memory(x.data, y.data)
        np.testing.assert_array_equal(x.numpy(), before)
    assert F.relu(x, inplace=True).data is x.data


def test_the_formula_of_an_operation_is_that_of_its_only_function():
    """Of several, none says what all do: the call tells."""
    for name, row in OPERATIONS.items():
        told = [function.__doc__.partition("\n")[0] for function in row.functions]
        if len(told) != 1:
            told = [row.call.__doc__.partition("\n")[0]]
        assert row.formula == told[0] != "", name
    assert OPERATIONS["relu"].formula.startswith("y = max(x, 0)")
    assert OPERATIONS["einsum"].formula.startswith("y = the sum of products")


# Random arguments. Windows larger than the channels, strides over kernels, even and odd, groups =
# channels, sizes 0 and 1.


@st.composite
def pictures(draw):
    """A picture batch in some memory order, some read-only, and a generator."""
    shape = draw(SMALL), draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.normal(size=shape).astype(draw(st.sampled_from([np.float32, np.float64])))
    x = layouts(rng, x) if x.size else x
    x.setflags(write=draw(st.booleans()))
    return x, rng


PAIR = st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4)))


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@given(pictures(), PAIR, PAIR, st.tuples(SMALL, SMALL), st.integers(1, 3), st.booleans())
def test_conv2d_of_random_arguments(case, kernel, stride, padding, multiple, depthwise):
    x, rng = case
    C, kernel = x.shape[1], both(kernel)
    groups = C if depthwise else 1
    assume(all(n + 2 * p >= k for n, p, k in zip(x.shape[2:], padding, kernel, strict=True)))
    w = rng.normal(size=(groups * multiple, C // groups, *kernel)).astype(x.dtype)
    leaf, weight = (
        tinynet.Tensor(x, tinynet.device("cpu"), True),
        tinynet.tensor(w, requires_grad=True),
    )
    y = F.conv2d(leaf, weight, None, stride, padding, groups)
    expected = conv2d_definition(
        x.astype(np.float64), w.astype(np.float64), None, both(stride), padding, groups
    )
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(y.numpy(), expected, rtol=tolerance, atol=10 * tolerance)
    assert y.dtype == x.dtype
    dy = rng.normal(size=y.shape)
    y.backward(dy)
    inner = (y.numpy().astype(np.float64) * dy).sum()
    np.testing.assert_allclose(
        (leaf.grad.numpy() * x.astype(np.float64)).sum(), inner, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        (weight.grad.numpy() * w.astype(np.float64)).sum(), inner, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("needs", ["xuvwbc", "uvwbc", "xuwbc", "c"])
def test_convolutions_of_one_tensor_have_the_bits_of_each_alone(needs, rng):
    """By im2col with strides and in groups, and by Winograd's way; the order of dx's sum counts."""
    for (N, C, *size), side, options in [
        ((3, 4, 9, 8), 3, dict(stride=2, padding=(1, 0), groups=2)),
        ((9, 3, 40, 41), 5, dict(stride=(2, 1), relu=True)),
        ((20, 48, 6, 7), 3, dict(padding=1, relu=True)),
    ]:
        shapes = [(O, C // options.get("groups", 1), side, side) for O in (96, 96, 64)]
        arrays = [rng.normal(size=s) for s in ((N, C, *size), *shapes, (96,), (64,))]
        found = []
        for together in (True, False):
            x, u, v, w, b, c = leaves = [
                tinynet.tensor(a, np.float32, requires_grad=name in needs)
                for name, a in zip("xuvwbc", arrays, strict=True)
            ]
            pairs = [(u, None), (v, b), (w, c)]
            if together:
                ys = F.conv2d_each(x, *map(list, zip(*pairs, strict=True)), **options)
            else:
                ys = [F.conv2d(x, *pair, **options) for pair in pairs]
            sum((y * y + y).sum() for y in ys).backward()
            grads = [leaf.grad for leaf in leaves]
            found.append([None if t is None else t.numpy() for t in (*ys, *grads)])
        assert [g is not None for g in found[0][3:]] == [name in needs for name in "xuvwbc"]
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_convolution_that_nothing_uses_adds_nothing(rng):
    x, v, w = (tinynet.tensor(rng.normal(size=(2, 2, 3, 3)), requires_grad=True) for _ in range(3))
    F.conv2d_each(x, [v, w])[1].sum().backward()
    alone = tinynet.tensor(x.numpy(), requires_grad=True)
    F.conv2d(alone, w.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), alone.grad.numpy())
    assert not v.grad.numpy().any() and w.grad.numpy().all()


@given(pictures(), PAIR, PAIR, st.booleans(), st.booleans(), st.data())
def test_pooling_of_random_arguments(case, kernel, stride, ceil, include, data):
    x, rng = case
    kernel, stride = both(kernel), both(stride)
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    assume(all(n + 2 * p >= k for n, p, k in zip(x.shape[2:], padding, kernel, strict=True)))
    leaf = tinynet.Tensor(x, tinynet.device("cpu"), True)
    y = F.max_pool2d(leaf, kernel, stride, padding, ceil)
    np.testing.assert_array_equal(
        y.numpy(), max_pool2d_definition(x, kernel, stride, padding, ceil)[0]
    )
    dy = rng.normal(size=y.shape).astype(x.dtype)
    y.backward(dy)
    np.testing.assert_allclose(leaf.grad.numpy().sum(), dy.sum(), rtol=1e-4, atol=1e-4)
    leaf.zero_grad()
    y = F.avg_pool2d(leaf, kernel, stride, padding, ceil, include)
    expected = avg_pool2d_definition(x, kernel, stride, padding, ceil, include)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)
    y.backward(dy)
    inner = (leaf.grad.numpy() * x.astype(np.float64)).sum()
    np.testing.assert_allclose(
        inner, (dy * y.numpy().astype(np.float64)).sum(), rtol=1e-3, atol=1e-3
    )


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
        elements=ANYTHING,
    )
)
def test_what_goes_in_broken_comes_out_broken(x):
    """NaN and infinities element by element; denormals and the largest numbers pass."""
    t = tinynet.tensor(x)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(F.relu(t).numpy(), np.where(x < 0, 0, x))
        np.testing.assert_array_equal((-t).numpy(), -x)
        np.testing.assert_array_equal(np.isnan(F.tanh(t).numpy()), np.isnan(x))
        np.testing.assert_array_equal(np.isnan(F.sigmoid(t).numpy()), np.isnan(x))
        np.testing.assert_array_equal((t + 0).numpy(), x)
        if x.size:
            np.testing.assert_array_equal(t.max().numpy(), x.max())
            np.testing.assert_array_equal(np.isnan(t.sum().numpy()), np.isnan(x.sum()))
        if x.ndim > 1 and x.shape[1]:
            broken = ~np.isfinite(x).all(axis=1, keepdims=True) & ~(x == -np.inf).any(
                axis=1, keepdims=True
            )
            y = F.softmax(t, 1).numpy()
            assert (
                np.isnan(y[np.broadcast_to(broken, x.shape)]).any()
                or not broken.any()
                or y.size == 0
            )


def test_lists_and_arrays_join_a_tensor_on_its_device():
    x = tinynet.tensor([[1.0, 2.0]], device="cpu:1", requires_grad=True)
    column, row = [[3.0], [4.0]], np.array([[3.0], [4.0]], np.float32)
    for y in (
        x @ column,
        x @ row,
        row.T @ x.transpose(),
        x * [3.0, 4.0],
        np.float32([3, 4]) - x,
        F.maximum([5.0, 6.0], x),
    ):
        assert y.device == "cpu:1" and y.requires_grad and y.dtype == np.float32
    (x @ column).sum().backward()
    assert x.grad.numpy().tolist() == [[3, 4]] and x.grad.device == "cpu:1"
