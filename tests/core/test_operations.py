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
from tinynet import kernels
from tinynet.gradcheck import gradcheck
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.conv2d import conv2d_definition
from tinynet.kernels.local_response_norm import local_response_norm_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.softmax import softmax_definition
from tinynet.kernels.spatial_response_norm import spatial_response_norm_definition

SMALL = st.integers(0, 4)
ANYTHING = st.floats(allow_nan=True, allow_infinity=True, width=64)


def test_pad_is_numpys(rng):
    x = rng.normal(size=(2, 3, 4))
    for given_, widths in [
        ((1, 2), [(0, 0), (0, 0), (1, 2)]),
        ((1, 2, 3, 0), [(0, 0), (3, 0), (1, 2)]),
        ((0, 1, 2, 3, 4, 5), [(4, 5), (2, 3), (0, 1)]),
        ([0, 0], [(0, 0)] * 3),
    ]:
        y = F.pad(tinynet.tensor(layouts(rng, x)), given_, 1.5)
        np.testing.assert_array_equal(y.numpy(), np.pad(x, widths, constant_values=1.5))
    assert not F.pad(tinynet.tensor(x), (1, 1)).numpy()[..., 0].any()


def test_defaults_of_pooling(rng):
    x = tinynet.tensor(rng.normal(size=(1, 2, 7, 8)))
    for pool in (F.max_pool2d, F.avg_pool2d):
        np.testing.assert_array_equal(
            pool(x, (2, 3)).numpy(), pool(x, (2, 3), (2, 3), 0, False).numpy()
        )
        assert pool(x, 2).shape == (1, 2, 3, 4) and pool(x, 3, 2, ceil_mode=True).shape == (
            1,
            2,
            3,
            4,
        )
    y = F.avg_pool2d(x, 2, padding=1)
    np.testing.assert_allclose(y.numpy()[0, 0, 0, 0], x.numpy()[0, 0, 0, 0] / 4)


def test_defaults_of_the_others(rng):
    x = tinynet.tensor(rng.normal(size=(2, 4, 3, 3)))
    w = tinynet.tensor(rng.normal(size=(2, 4, 2, 2)))
    np.testing.assert_array_equal(
        F.conv2d(x, w).numpy(), F.conv2d(x, w, None, (1, 1), (0, 0), 1).numpy()
    )
    np.testing.assert_allclose(
        F.local_response_norm(x, 3).numpy(),
        local_response_norm_definition(x.numpy(), 3, 1e-4, 0.75, 1.0),
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        F.spatial_response_norm(x, 3).numpy(),
        spatial_response_norm_definition(x.numpy(), 3, 1e-4, 0.75, 1.0),
        rtol=1e-13,
    )
    np.testing.assert_allclose(F.softmax(x).numpy(), softmax_definition(x.numpy(), 3), rtol=1e-12)
    np.testing.assert_allclose(
        F.softmax(x, -4).numpy(), softmax_definition(x.numpy(), 0), rtol=1e-12
    )
    np.testing.assert_allclose(
        F.log_softmax(x).numpy(), np.log(softmax_definition(x.numpy(), 3)), rtol=1e-10
    )
    flat, v = tinynet.tensor(x.numpy()[0, 0]), tinynet.tensor(w.numpy()[0, 0])
    np.testing.assert_allclose(
        F.linear(flat[:, :2], v).numpy(), flat.numpy()[:, :2] @ v.numpy().T, rtol=1e-12
    )
    np.testing.assert_allclose(
        F.log_softmax(x, -3).numpy(), np.log(softmax_definition(x.numpy(), 1)), rtol=1e-10
    )
    share = (F.dropout(tinynet.tensor(np.ones((200, 200)))).numpy() == 0).mean()
    assert 0.48 < share < 0.52


def test_arithmetic_is_numpys(rng):
    a, b = rng.normal(size=(3, 1, 4)), rng.uniform(0.5, 2, (2, 4))
    x, y = tinynet.tensor(a), tinynet.tensor(b)
    for ours, theirs in [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (-x, -a),
        (y**2.5, b**2.5),
        (x.exp(), np.exp(a)),
        (y.log(), np.log(b)),
        (F.maximum(x, y), np.maximum(a, b)),
        (x.sum(), a.sum()),
        (x.sum(1, True), a.sum(1, keepdims=True)),
        (x.mean((0, 2)), a.mean((0, 2))),
        (x.max(-1), a.max(-1)),
        (x.max(), a.max()),
        (x.transpose(), a.T),
        (x.max((0, 1), True), a.max((0, 1), keepdims=True)),
        (x.transpose(1, 0, -1), a.transpose(1, 0, 2)),
        (x.transpose((1, 0, 2)), a.transpose(1, 0, 2)),
        (x.transpose([2, 0, 1]), a.transpose(2, 0, 1)),
        (x.reshape(4, -1), a.reshape(4, -1)),
        (x.reshape([2, 6]), a.reshape(2, 6)),
        (x.flatten(1), a.reshape(3, 4)),
        (x.flatten(), a.reshape(-1)),
        (x.flatten(-1), a),
        (x[1:, 0], a[1:, 0]),
        (y @ y.transpose(), b @ b.T),
        (tinynet.concat([x, x * 2], 1), np.concatenate([a, a * 2], 1)),
        (tinynet.concat([y, y]), np.concatenate([b, b])),
        (tinynet.concat([x, x], -1), np.concatenate([a, a], -1)),
        (tinynet.tensor(3.0).flatten(), np.array([3.0])),
        (tinynet.concat([x, x], -3), np.concatenate([a, a])),
        (x.sum(-3), a.sum(-3)),
        (x.max((-1, -3)), a.max((-1, -3))),
        (tinynet.concat((x * n for n in (1, 2)), 2), np.concatenate([a, 2 * a], 2)),
        (x.sum(()), a),
        (x.mean(0), a.mean(0)),
    ]:
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12)
        assert ours.shape == np.shape(theirs)


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


@given(pictures(), st.integers(1, 9), st.sampled_from([0.75, 0.5, 1.0, 1.3]), st.floats(0.1, 3))
def test_response_norms_of_random_arguments(case, size, beta, k):
    x, rng = case
    for call, definition in (
        (F.local_response_norm, local_response_norm_definition),
        (F.spatial_response_norm, spatial_response_norm_definition),
    ):
        y = call(tinynet.Tensor(x, tinynet.device("cpu")), size, 1.0, beta, k)
        expected = definition(x.astype(np.float64), size, 1.0, beta, k)
        np.testing.assert_allclose(
            y.numpy(), expected, rtol=1e-4 if x.dtype == np.float32 else 1e-11
        )
        assert y.dtype == x.dtype


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


@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3),
    st.sampled_from(["add", "sub", "mul", "div", "maximum"]),
    st.integers(0, 2**32),
)
def test_gradients_of_broadcasting(shapes, name, seed):
    rng = np.random.default_rng(seed)
    a, b = (apart(rng, *shape) + (n / 100) for n, shape in enumerate(shapes.input_shapes))
    assume(a.size and b.size)
    operation = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / (b * b + 1),
        "maximum": F.maximum,
    }[name]
    assert gradcheck(operation, [a, b])


@pytest.mark.parametrize("a", [(4,), (1, 4), (3, 4), (2, 3, 4), (1, 3, 4)])
@pytest.mark.parametrize("b", [(4,), (4, 1), (4, 5), (2, 4, 5), (2, 1, 4, 5)])
def test_matmul_of_any_ranks(a, b, rng):
    a, b = rng.normal(size=a), rng.normal(size=b)
    np.testing.assert_allclose(
        (tinynet.tensor(a) @ tinynet.tensor(b)).numpy(), a @ b, rtol=1e-12, atol=1e-12
    )
    assert gradcheck(lambda a, b: a @ b, [a, b])


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


@pytest.mark.parametrize(
    ("a", "b"),
    [((1, 1), (2, 4, 1)), ((1,), (3, 1)), ((1, 2, 1), (2, 3, 2, 1)), ((2, 1), (5, 1, 3))],
)
def test_gradients_over_new_axes_and_axes_of_one(a, b):
    a, b = (tinynet.tensor(np.ones(shape), requires_grad=True) for shape in (a, b))
    y = a * b
    y.sum().backward()
    for x in (a, b):
        np.testing.assert_array_equal(x.grad.numpy(), np.full(x.shape, y.size / x.size))


@given(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4), st.data())
def test_gradients_of_indexing(shape, data):
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    np.testing.assert_array_equal(tinynet.tensor(x)[key].numpy(), x[key])
    if x[key].size:
        assert gradcheck(lambda x: x[key], [x])
    leaf = tinynet.tensor(x, requires_grad=True)
    fancy = data.draw(
        hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    )
    leaf[fancy].sum().backward()
    expected = np.zeros(shape)
    np.add.at(expected, fancy, 1)
    np.testing.assert_array_equal(leaf.grad.numpy(), expected)


@given(st.integers(0, 40), st.integers(1, 30), st.sampled_from([1.0, 1e4, 1e-300]))
def test_cross_entropy_of_random_sizes(N, K, scale):
    rng = np.random.default_rng(N * 31 + K)
    logits, target = rng.normal(size=(N, K)) * scale, rng.integers(0, K, N)
    x = tinynet.tensor(logits, requires_grad=True)
    losses = F.cross_entropy(x, target, "none")
    assert (
        losses.shape == (N,) and np.isfinite(losses.numpy()).all() and (losses.numpy() >= 0).all()
    )
    losses.sum().backward()
    np.testing.assert_allclose(x.grad.numpy().sum(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (7,), (2, 0)])
def test_a_mask_of_dropout_is_the_same_in_forward_and_backward(shape, rng):
    x = tinynet.tensor(np.ones(shape), requires_grad=True)
    y = F.dropout(x, 0.4)
    y.backward(np.ones(shape))
    np.testing.assert_array_equal(y.numpy(), x.grad.numpy())
    np.testing.assert_array_equal(
        (kernels.dropout_forward(np.ones(shape), 0.0, 1, 1)[0]), np.ones(shape)
    )
