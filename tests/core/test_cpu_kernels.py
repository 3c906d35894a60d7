"""CPU kernels without windows, each against its definition."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest

from tinynet import kernels
from tinynet.devices import find_device
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import layout, linear, order
from tinynet.kernels.cross_entropy import cross_entropy_definition
from tinynet.kernels.dropout import dropout_mask_definition, philox
from tinynet.kernels.gelu import gelu_definition
from tinynet.kernels.linear import linear_definition
from tinynet.kernels.pictures import pictures_definition
from tinynet.kernels.softmax import softmax_definition
from tinynet.kernels.steps.sgd import sgd_step_definition

TIGHT = dict(rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (0, 3), (50, 40, 40)])
@pytest.mark.parametrize("piece", [None, 5])
def test_elementwise_kernels(shape, piece, rng, set_pieces):
    set_pieces(layout, "PIECE", piece if np.prod(shape) < 1000 else None)
    x = rng.normal(size=shape) * 3
    x = x if 0 in shape or not shape else layouts(rng, x)
    dy = np.asarray(rng.normal(size=shape))
    x = np.asarray(x)
    y = kernels.relu_forward(x)
    np.testing.assert_array_equal(y, np.where(x > 0, x, 0))
    np.testing.assert_array_equal(kernels.relu_backward(dy, y), np.where(x > 0, dy, 0))
    y = kernels.tanh_forward(x)
    np.testing.assert_allclose(y, 1 - 2 / (np.exp(2 * x) + 1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(kernels.tanh_backward(dy, y), dy * (1 - y**2), **TIGHT)
    y = kernels.sigmoid_forward(x)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x)), **TIGHT)
    np.testing.assert_allclose(
        kernels.sigmoid_backward(dy, y), dy * np.exp(-x) / (1 + np.exp(-x)) ** 2, **TIGHT
    )
    normal = np.array([math.erfc(-v / 2**0.5) / 2 for v in x.ravel()]).reshape(shape)
    np.testing.assert_allclose(kernels.gelu_forward(x), gelu_definition(x), **TIGHT)
    slope = normal + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5
    np.testing.assert_allclose(kernels.gelu_backward(dy, x), dy * slope, **TIGHT)
    np.testing.assert_allclose(kernels.gelu_tanh_forward(x), x * normal, atol=5e-4)
    np.testing.assert_allclose(kernels.gelu_tanh_backward(dy, x), dy * slope, atol=5e-3)


@pytest.mark.parametrize("dtype, error", [(np.float64, 4.5e-16), (np.float32, 4e-7)])
def test_gelu_to_the_last_bits(dtype, error):
    """Against the erfc of the C library, from where the tail is 0 to where 1 - tail is 1."""
    x = np.concatenate([np.linspace(-40, 40, 20001), np.linspace(-1e-3, 1e-3, 101)]).astype(dtype)
    expected = [v * math.erfc(-v / 2**0.5) / 2 for v in x.astype(float)]
    np.testing.assert_allclose(kernels.gelu_forward(x), expected, rtol=error / 2, atol=error)


def test_gelu_of_nan_and_infinity():
    with np.errstate(invalid="ignore"):  # 0 times infinity in x phi(x)
        y = kernels.gelu_forward(np.array([np.nan, np.inf]))
    np.testing.assert_array_equal(y, [np.nan, np.inf])


def test_relu_in_place(rng):
    dense = rng.normal(size=(3, 4, 5, 6))
    batch_innermost, gaps = (
        np.moveaxis(rng.normal(size=(4, 5, 6, 3)), -1, 0),
        dense.copy()[:, ::2, 1:],
    )
    for x in (dense, batch_innermost, gaps, dense.copy()[::-1, :, ::-1]):
        expected = np.maximum(x, 0)
        assert kernels.relu_forward(x, out=x) is x
        np.testing.assert_array_equal(x, expected)


def test_relu_shows_nan_and_infinities():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324])
    y = kernels.relu_forward(x)
    np.testing.assert_array_equal(y, [np.nan, np.inf, 0, 0, 0, 5e-324])
    dx = kernels.relu_backward(np.array([1.0, np.inf, np.nan, 4, 5, -np.inf]), y)
    np.testing.assert_array_equal(dx, [1, np.inf, 0, 0, 0, -np.inf])


def test_sigmoid_and_softmax_of_huge_values():
    x = np.array([-1e308, -1e4, 0, 1e4, 1e308])
    np.testing.assert_array_equal(kernels.sigmoid_forward(x), [0, 0, 0.5, 1, 1])
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(
            kernels.softmax_forward(np.array([[1e4, -1e4, 1e4]]), 1), [[0.5, 0, 0.5]]
        )
        np.testing.assert_allclose(
            kernels.log_softmax_forward(np.array([[1e4, -1e4]]), 1), [[0, -2e4]], rtol=1e-12
        )
        losses, _ = kernels.cross_entropy_forward(
            np.array([[1e4, -1e4]]).repeat(2, 0), np.array([0, 1])
        )
    np.testing.assert_array_equal(losses, [0, 2e4])
    assert np.isnan(kernels.softmax_forward(np.array([1.0, np.nan]), 0)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax(axis, rng):
    x = layouts(rng, rng.normal(size=(2, 3, 4)) * 3)
    y = kernels.softmax_forward(x, axis)
    np.testing.assert_allclose(y, softmax_definition(x, axis), **TIGHT)
    dy = layouts(rng, rng.normal(size=x.shape))
    expected = oracles.derivative(lambda x: softmax_definition(x, axis), x, dy)
    np.testing.assert_allclose(
        kernels.softmax_backward(dy, y, axis), expected, rtol=1e-6, atol=1e-8
    )
    log = kernels.log_softmax_forward(x, axis)
    np.testing.assert_allclose(log, np.log(softmax_definition(x, axis)), **TIGHT)
    expected = oracles.derivative(lambda x: np.log(softmax_definition(x, axis)), x, dy)
    np.testing.assert_allclose(
        kernels.log_softmax_backward(dy, log, axis), expected, rtol=1e-6, atol=1e-8
    )


def test_cross_entropy(rng):
    logits, target = rng.normal(size=(5, 4)) * 3, rng.integers(0, 4, 5)
    losses, probabilities = kernels.cross_entropy_forward(logits, target)
    np.testing.assert_allclose(losses, cross_entropy_definition(logits, target), **TIGHT)
    np.testing.assert_allclose(probabilities, softmax_definition(logits, 1), **TIGHT)
    dlosses = rng.normal(size=5)
    dlogits = kernels.cross_entropy_backward(dlosses, probabilities, target)
    expected = oracles.derivative(lambda x: cross_entropy_definition(x, target), logits, dlosses)
    np.testing.assert_allclose(dlogits, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(
        probabilities, kernels.cross_entropy_forward(logits, target)[1]
    )  # not changed


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_linear(rows, rng, set_pieces):
    set_pieces(linear, "ROWS", rows)
    for N, I, O in [(1, 1, 1), (3, 4, 5), (2, 1, 3)]:
        x, weight = (layouts(rng, rng.normal(size=s)) for s in ((N, I), (O, I)))
        bias = rng.normal(size=O)
        y = kernels.linear_forward(x, weight, bias)
        np.testing.assert_allclose(y, linear_definition(x, weight, bias), **TIGHT)
        np.testing.assert_allclose(
            kernels.linear_forward(x, weight, None), linear_definition(x, weight, None), **TIGHT
        )
        dy = layouts(rng, rng.normal(size=y.shape))
        dx, dw, db = kernels.linear_backward(dy, x, weight, (True, True, True))
        cut = kernels.linear_forward(x, weight, bias, relu=True)
        np.testing.assert_array_equal(cut, np.maximum(y, 0))
        ours = kernels.linear_backward(dy, x, weight, (True, True, True), cut)
        for a, b in zip(
            ours, kernels.linear_backward(dy * (y > 0), x, weight, (True, True, True)), strict=True
        ):
            np.testing.assert_allclose(a, b, **TIGHT)
        expected = oracles.transposed(
            lambda x, w=weight: linear_definition(x, w, None), x.shape, dy
        )
        np.testing.assert_allclose(dx, expected, **TIGHT)
        expected = oracles.transposed(
            lambda w, x=x: linear_definition(x, w, None), weight.shape, dy
        )
        np.testing.assert_allclose(dw, expected, **TIGHT)
        np.testing.assert_allclose(db, dy.sum(axis=0), **TIGHT)
        for needs in ((True, False, False), (False, True, False), (False, False, True)):
            some = kernels.linear_backward(dy, x, weight, needs)
            assert tuple(g is not None for g in some) == needs


def test_matmul_in_blocks(rng):
    for rows in (255, 256, 257, 700):
        a, b = rng.normal(size=(rows, 30)), layouts(rng, rng.normal(size=(30, 20)))
        np.testing.assert_allclose(kernels.matmul(a, b), np.einsum("ik,kj->ij", a, b), **TIGHT)
    for a in ((4,), (3, 4), (2, 3, 4)):
        for b in ((4,), (4, 5), (2, 4, 5)):
            a_, b_ = rng.normal(size=a), rng.normal(size=b)
            np.testing.assert_allclose(kernels.matmul(a_, b_), a_ @ b_, **TIGHT)


def test_a_product_and_a_sum_of_two_types_have_the_wider_one(rng, set_pieces):
    set_pieces(layout, "PIECE", 10)
    a, b = rng.normal(size=(4, 4)).astype(np.float32), rng.normal(size=(4, 4))
    for one, other in ((a, b), (b, a)):
        for found, expected in (
            (kernels.matmul(one, other), one @ other),
            (kernels.matmul(one[None], other[None])[0], one @ other),
            (order.add(find_device("cpu"), one, other), one + other),
        ):
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (4, 2, 3), (3, 2, 5, 3), (), (0, 3)])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.999, 1.0])
def test_dropout_draws_the_stream_of_philox(shape, p, rng):
    seed, call = (int(n) for n in rng.integers(0, 2**63, 2))
    x = np.asarray(rng.normal(size=shape))
    x = layouts(rng, x) if x.ndim and x.size else x
    y, mask = kernels.dropout_forward(x, p, seed, call)
    np.testing.assert_array_equal(mask, dropout_mask_definition(shape, p, seed, call))
    assert mask.dtype == bool and mask.shape == y.shape == shape
    scale = 1 / (1 - p) if p < 1 else 0
    np.testing.assert_allclose(y, np.where(mask, x * scale, 0), **TIGHT)
    dy = rng.normal(size=shape)
    np.testing.assert_allclose(
        kernels.dropout_backward(dy, mask, p), np.where(mask, dy * scale, 0), **TIGHT
    )


@pytest.mark.parametrize("p", [0.5, 0.9, 0.3])  # 0.3 times 65536 is 19660.8
def test_dropout_keeps_from_the_threshold_on(p):
    """A lane that equals round(p 65536) is kept: one element in 65,536, so many are looked at."""
    lanes = np.random.Philox(key=[3, 4]).random_raw(200_000).astype("<u8").view("<u2")
    _, mask = kernels.dropout_forward(np.ones(lanes.size, np.float32), p, 3, 4)
    assert (lanes == round(p * 65536)).any()
    np.testing.assert_array_equal(mask, lanes >= round(p * 65536))


def test_philox_is_philox():
    """Known answers from the paper's own test vectors (Random123, philox4x64 10)."""
    assert philox((0, 0, 0, 0), (0, 0)) == (
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    )


def test_dropout_keeps_as_many_as_it_should():
    x = np.ones((100, 1000))
    for p in (0.1, 0.5, 0.8):
        y, mask = kernels.dropout_forward(x, p, 1, 2)
        assert abs(mask.mean() - (1 - p)) < 0.01
        assert abs(y.mean() - 1) < 0.03


@pytest.mark.parametrize("border", [0, 3])
def test_pictures(rng, border):
    pictures = rng.integers(0, 256, (37, 7, 9, 3), np.uint8)
    for size, mean_size in [((5, 6), (7, 9)), ((5, 6), (5, 6)), ((7, 9), (7, 9)), ((7, 6), (7, 9))]:
        mean = rng.normal(size=(*mean_size, 3)).astype(np.float32) * 50
        room = 7 - size[0], 9 - size[1]
        top, left = (rng.integers(0, r + 1, 37).astype(np.int32) for r in room)
        flip = rng.integers(0, 2, 37).astype(bool)
        for colour in (None, rng.normal(size=(37, 3)).astype(np.float32)):
            arguments = pictures, mean, top, left, flip, colour, size, 0.25, border
            out = kernels.pictures_forward(*arguments)
            assert out.dtype == np.float32
            np.testing.assert_allclose(out, pictures_definition(*arguments), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 4), (4000,)])
def test_sgd_step(shape, rng, set_pieces):
    set_pieces(layout, "PIECE", 1500)
    weight, grad, velocity = (rng.normal(size=shape) for _ in range(3))
    if len(shape) == 2:
        grad = grad.T.copy().T
    expected = sgd_step_definition(weight, grad, velocity, 0.1, 0.9, 0.05)
    assert kernels.sgd_step(weight, grad, velocity, 0.1, 0.9, 0.05) is None
    np.testing.assert_allclose(weight, expected[0], **TIGHT)
    np.testing.assert_allclose(velocity, expected[1], **TIGHT)
