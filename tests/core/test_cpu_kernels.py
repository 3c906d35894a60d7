"""Every CPU kernel against its definition in nested loops, its adjoint identity, any memory layout,
any thread count.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest

import tinynet
from tinynet import kernels
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.kernels import (
    conv2d,
    layout,
    linear,
    local_response_norm,
    max_pool2d,
    upsample2d,
)
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.conv2d import conv2d_definition
from tinynet.kernels.cross_entropy import cross_entropy_definition
from tinynet.kernels.dropout import dropout_mask_definition, philox
from tinynet.kernels.gelu import gelu_definition
from tinynet.kernels.im2col import im2col_definition, windows
from tinynet.kernels.linear import linear_definition
from tinynet.kernels.local_response_norm import local_response_norm_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.pictures import pictures_definition
from tinynet.kernels.softmax import softmax_definition
from tinynet.kernels.spatial_response_norm import spatial_response_norm_definition
from tinynet.kernels.steps.sgd import sgd_step_definition
from tinynet.kernels.upsample2d import upsample2d_definition

TIGHT = dict(rtol=1e-11, atol=1e-12)

CONVOLUTIONS = [  # N, C, O, (H, W), kernel, stride, padding, groups
    (2, 1, 1, (3, 3), (3, 3), (1, 1), (0, 0), 1),
    (1, 2, 3, (5, 6), (3, 2), (1, 1), (1, 1), 1),
    (3, 4, 6, (5, 4), (3, 3), (1, 1), (1, 0), 2),
    (2, 3, 6, (4, 4), (2, 2), (2, 1), (0, 0), 3),
    (2, 2, 2, (9, 8), (3, 3), (2, 2), (1, 1), 1),
    (2, 2, 2, (7, 7), (2, 2), (3, 3), (0, 0), 1),
    (1, 1, 2, (8, 9), (5, 4), (3, 2), (2, 0), 1),
    (2, 2, 3, (3, 3), (1, 1), (2, 2), (2, 2), 1),
    (1, 3, 2, (11, 10), (11, 3), (4, 4), (2, 1), 1),
    (2, 2, 3, (3, 3), (2, 1), (1, 1), (2, 0), 1),  # padding as large as the kernel
    (2, 2, 3, (3, 3), (1, 2), (1, 1), (0, 2), 1),
    (2, 2, 2, (5, 6), (3, 2), (1, 2), (1, 1), 1),
]
POOLS = [  # (H, W), kernel, stride, padding, ceil_mode
    ((4, 4), (2, 2), (2, 2), (0, 0), False),
    ((7, 8), (3, 3), (2, 2), (0, 0), False),
    ((7, 8), (3, 3), (2, 2), (1, 1), False),
    ((6, 8), (3, 3), (2, 2), (0, 0), True),
    ((6, 7), (2, 4), (3, 1), (1, 2), True),
    ((5, 5), (2, 2), (4, 3), (1, 1), True),  # the last window would begin in the padding: dropped
    ((1, 9), (1, 6), (1, 2), (0, 3), False),
    ((7, 5), (6, 6), (1, 1), (3, 3), False),
    (
        (4, 5),
        (7, 7),
        (2, 2),
        (2, 2),
        False,
    ),  # the first position lies in the padding for every window
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("few", [None, 0])  # rows brought together; rows as they are
@pytest.mark.parametrize(
    ("column_bytes", "pixels"), [(None, None), (1, 1), (2000, 4)]
)  # whole; pixel by pixel; in tiles
def test_conv2d(case, column_bytes, pixels, few, rng, set_pieces):
    set_pieces(conv2d, "COLUMN_BYTES", column_bytes)
    set_pieces(conv2d, "PIXELS", pixels)
    set_pieces(conv2d, "FEW", few)
    N, C, O, size, kernel, stride, padding, groups = case
    x = layouts(rng, rng.normal(size=(N, C, *size)))
    weight, bias = rng.normal(size=(O, C // groups, *kernel)), rng.normal(size=O)
    geometry = stride, padding, groups
    y = kernels.conv2d_forward(x, weight, bias, *geometry)
    np.testing.assert_allclose(y, conv2d_definition(x, weight, bias, *geometry), **TIGHT)
    without = kernels.conv2d_forward(x, weight, None, *geometry)
    np.testing.assert_allclose(without, conv2d_definition(x, weight, None, *geometry), **TIGHT)

    dy = layouts(rng, rng.normal(size=y.shape))
    dx, dw, db = kernels.conv2d_backward(dy, x, weight, *geometry, needs=(True, True, True))
    expected = oracles.transposed(
        lambda x: conv2d_definition(x, weight, None, *geometry), x.shape, dy
    )
    np.testing.assert_allclose(dx, expected, **TIGHT)
    expected = oracles.transposed(
        lambda w: conv2d_definition(x, w, None, *geometry), weight.shape, dy
    )
    np.testing.assert_allclose(dw, expected, **TIGHT)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), **TIGHT)

    cut = kernels.conv2d_forward(x, weight, bias, *geometry, relu=True)
    np.testing.assert_array_equal(cut, np.maximum(y, 0))
    ours = kernels.conv2d_backward(dy, x, weight, *geometry, needs=(True, True, True), y=cut)
    for a, b in zip(
        ours,
        kernels.conv2d_backward(dy * (y > 0), x, weight, *geometry, (True, True, True)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, **TIGHT)


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_conv2d_computes_only_what_is_needed(needs, rng):
    x, weight = rng.normal(size=(2, 2, 4, 4)), rng.normal(size=(3, 2, 3, 3))
    dy = rng.normal(size=(2, 3, 2, 2))
    every = kernels.conv2d_backward(dy, x, weight, (1, 1), (0, 0), 1, needs=(True, True, True))
    some = kernels.conv2d_backward(dy, x, weight, (1, 1), (0, 0), 1, needs=needs)
    for need, a, b in zip(needs, some, every, strict=True):
        assert (a is None) != need
        if need:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_im2col_and_its_adjoint(case, rng):
    N, C, _, size, kernel, stride, padding, _ = case
    x = layouts(rng, rng.normal(size=(N, C, *size)))
    col = kernels.im2col(x, kernel, stride, padding)
    np.testing.assert_array_equal(col, im2col_definition(x, kernel, stride, padding))
    dcol = rng.normal(size=col.shape)
    dx = kernels.col2im(dcol, x.shape, kernel, stride, padding)
    assert dx.shape == x.shape
    np.testing.assert_allclose((col * dcol).sum(), (x * dx).sum(), rtol=1e-10)
    expected = oracles.transposed(
        lambda x: im2col_definition(x, kernel, stride, padding), x.shape, dcol
    )
    np.testing.assert_allclose(dx, expected, **TIGHT)


def test_windows_are_read_only(rng):
    """They overlap in memory, so that a write to one pixel would be a write to many."""
    view = windows(rng.normal(size=(2, 5, 5, 3)), (3, 3), (1, 1), (3, 3))
    assert view.shape == (2, 3, 3, 3, 3, 3)
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0, 0, 0, 0] = 1


def test_conv2d_in_many_pieces(rng):
    """Larger than a piece in every direction, so that pieces, lanes and blocks meet: against one
    product of im2col.
    """
    for N, C, O, H, kernel, stride, padding, groups in [
        (64, 4, 6, 27, 5, 1, 2, 2),
        (16, 3, 5, 63, 11, 4, 0, 1),
        (16, 17, 16, 13, 3, 1, 1, 1),
    ]:
        x = rng.normal(size=(N, C, H, H)).astype(np.float32)
        weight = rng.normal(size=(O, C // groups, kernel, kernel)).astype(np.float32)
        geometry = (stride, stride), (padding, padding)
        y = kernels.conv2d_forward(x, weight, None, *geometry, groups)
        dy = rng.normal(size=y.shape).astype(np.float32)
        dx, dw, db = kernels.conv2d_backward(dy, x, weight, *geometry, groups, (True, True, True))
        c, o = C // groups, O // groups
        for g in range(groups):
            x_g, y_g = x[:, g * c : (g + 1) * c], y[:, g * o : (g + 1) * o]
            dy_g, w_g = (
                dy[:, g * o : (g + 1) * o],
                weight[g * o : (g + 1) * o].reshape(o, -1).astype(np.float64),
            )
            col = kernels.im2col(x_g.astype(np.float64), (kernel, kernel), *geometry)
            flat = np.moveaxis(dy_g, 0, -1).reshape(o, -1).astype(np.float64)
            close(np.moveaxis(y_g, 0, -1).reshape(o, -1), w_g @ col)
            close(dw[g * o : (g + 1) * o].reshape(o, -1), flat @ col.T)
            back = kernels.col2im(w_g.T @ flat, x_g.shape, (kernel, kernel), *geometry)
            close(dx[:, g * c : (g + 1) * c], back)
        close(db, dy.astype(np.float64).sum(axis=(0, 2, 3)))


def close(ours, expected):
    """Float32 against float64, relative to the largest value."""
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("values", ["apart", "ties", "negative"])
@pytest.mark.parametrize("piece", [None, 1, 40])
def test_max_pool2d(case, values, piece, rng, set_pieces):
    set_pieces(max_pool2d, "PIECE", piece)
    size, *geometry = case
    shape = (2, 3, *size)
    x = {
        "apart": lambda: apart(rng, *shape),
        "ties": lambda: rng.integers(-1, 2, shape).astype(np.float64),
        "negative": lambda: -1 - rng.random(shape),
    }[values]()
    x = layouts(rng, x)
    y, winner = kernels.max_pool2d_forward(x, *geometry)
    expected, places = max_pool2d_definition(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(winner, places)
    assert winner.dtype == np.uint8

    kernel, stride, padding, _ = geometry
    dy = layouts(rng, rng.normal(size=y.shape))
    dx = kernels.max_pool2d_backward(dy, winner, x.shape, kernel, stride, padding)
    expected = np.zeros(x.shape)
    for n, c, oh, ow in np.ndindex(y.shape):
        i, j = divmod(int(places[n, c, oh, ow]), kernel[1])
        expected[n, c, oh * stride[0] + i - padding[0], ow * stride[1] + j - padding[1]] += dy[
            n, c, oh, ow
        ]
    np.testing.assert_allclose(dx, expected, **TIGHT)


def test_max_pool2d_of_windows_beyond_a_byte(rng):
    """16 x 16 = 256 positions and more: the winner's number no longer fits a byte with room for
    'no winner'.
    """
    for side in (15, 16, 17):
        x = np.zeros((1, 1, side, side + 1))
        x[0, 0, -1, -1] = 1  # the last position of the last window
        y, winner = kernels.max_pool2d_forward(x, (side, side), (1, 1), (0, 0), False)
        expected, places = max_pool2d_definition(x, (side, side), (1, 1), (0, 0), False)
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(winner, places)
        dx = kernels.max_pool2d_backward(
            np.ones(y.shape), winner, x.shape, (side, side), (1, 1), (0, 0)
        )
        assert dx[0, 0, -1, -1] == 1 and dx[0, 0, 0, 0] == 1 and dx.sum() == 2


def test_max_pool2d_of_long_windows(rng):
    for kernel in ((300, 1), (1, 300), (100, 3)):
        x = rng.normal(size=(1, 1, *kernel))
        x[0, 0, -1, -1] = 10
        y, winner = kernels.max_pool2d_forward(x, kernel, (1, 1), (0, 0), False)
        assert y.item() == 10 and winner.item() == 299


def test_max_pool2d_shows_nan_and_infinities(rng):
    x = rng.normal(size=(2, 2, 6, 6))
    x[0, 0, 2, 2], x[1, 1, 0, 5], x[1, 0] = np.nan, np.inf, -np.inf
    geometry = (3, 3), (2, 2), (1, 1), False
    y, winner = kernels.max_pool2d_forward(x, *geometry)
    expected, places = max_pool2d_definition(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    assert np.isnan(y).sum() == 1
    np.testing.assert_array_equal(winner, places)


def test_max_pool2d_in_many_pieces(rng):
    for shape in [(64, 5, 37, 31), (3, 200, 21, 22), (700, 2, 15, 14)]:
        x = rng.integers(-50, 50, shape).astype(np.float32)
        y, winner = kernels.max_pool2d_forward(x, (3, 3), (2, 2), (1, 1), False)
        padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
        flat = windows.reshape(*windows.shape[:4], 9)
        np.testing.assert_array_equal(y, flat.max(axis=-1))
        np.testing.assert_array_equal(winner, flat.argmax(axis=-1))
        dy = rng.normal(size=y.shape).astype(np.float32)
        dx = kernels.max_pool2d_backward(dy, winner, x.shape, (3, 3), (2, 2), (1, 1))
        expected = np.zeros(padded.shape)
        n, c, oh, ow = np.indices(y.shape)
        np.add.at(expected, (n, c, oh * 2 + winner // 3, ow * 2 + winner % 3), dy)
        np.testing.assert_allclose(dx, expected[:, :, 1:-1, 1:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("piece", [None, 1])
def test_avg_pool2d(case, count_include_pad, piece, rng, set_pieces):
    set_pieces(max_pool2d, "PIECE", piece)
    size, *geometry = case
    x = layouts(rng, rng.normal(size=(1, 2, *size)))
    y = kernels.avg_pool2d_forward(x, *geometry, count_include_pad)
    np.testing.assert_allclose(y, avg_pool2d_definition(x, *geometry, count_include_pad), **TIGHT)
    dy = layouts(rng, rng.normal(size=y.shape))
    dx = kernels.avg_pool2d_backward(dy, x.shape, *geometry, count_include_pad)
    expected = oracles.transposed(
        lambda x: avg_pool2d_definition(x, *geometry, count_include_pad), x.shape, dy
    )
    np.testing.assert_allclose(dx, expected, **TIGHT)


@pytest.mark.parametrize("C", [1, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_local_response_norm(C, size, beta, rng):
    x = layouts(rng, rng.normal(size=(2, C, 2, 3)))
    options = size, 1.7, beta, 1.3
    y = kernels.local_response_norm_forward(x, *options)
    np.testing.assert_allclose(y, local_response_norm_definition(x, *options), **TIGHT)
    dy = layouts(rng, rng.normal(size=x.shape))
    dx = kernels.local_response_norm_backward(dy, x, *options)
    expected = oracles.derivative(lambda x: local_response_norm_definition(x, *options), x, dy)
    np.testing.assert_allclose(dx, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("beta", [0.25, 0.5, 0.75, 1.0, 1.75, 2.0])
def test_response_norms_of_any_power(beta, rng):
    x = rng.normal(size=(2, 4, 3, 3))
    for ours, definition in [
        (kernels.local_response_norm_forward, local_response_norm_definition),
        (kernels.spatial_response_norm_forward, spatial_response_norm_definition),
    ]:
        np.testing.assert_allclose(
            ours(x, 3, 2.0, beta, 0.7), definition(x, 3, 2.0, beta, 0.7), **TIGHT
        )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_spatial_response_norm(size, beta, rng):
    x = layouts(rng, rng.normal(size=(2, 2, 4, 5)))
    options = size, 2.0, beta, 1.5
    y = kernels.spatial_response_norm_forward(x, *options)
    np.testing.assert_allclose(y, spatial_response_norm_definition(x, *options), **TIGHT)
    dy = layouts(rng, rng.normal(size=x.shape))
    dx = kernels.spatial_response_norm_backward(dy, x, *options)
    expected = oracles.derivative(lambda x: spatial_response_norm_definition(x, *options), x, dy)
    np.testing.assert_allclose(dx, expected, rtol=1e-7, atol=1e-8)


def test_response_norms_in_many_pieces(rng, set_pieces):
    """More pixels than a piece: the same as pixel by pixel, and k and alpha count."""
    x = rng.normal(size=(40, 6, 31, 33))
    for forward, backward, crop in [
        (kernels.local_response_norm_forward, kernels.local_response_norm_backward, np.s_[7:9]),
        (kernels.spatial_response_norm_forward, kernels.spatial_response_norm_backward, np.s_[7:9]),
    ]:
        dy = rng.normal(size=x.shape)
        options = 5, 1.0, 0.75, 2.0
        whole, part = forward(x, *options), forward(x[crop], *options)
        np.testing.assert_allclose(whole[crop], part, rtol=1e-13)
        whole, part = backward(dy, x, *options), backward(dy[crop], x[crop], *options)
        np.testing.assert_allclose(whole[crop], part, rtol=1e-11, atol=1e-13)
    set_pieces(local_response_norm, "PIECE", 1)
    for forward, options in [
        (kernels.local_response_norm_forward, (x, 5, 1.0, 0.75, 2.0)),
        (kernels.local_response_norm_backward, (dy, x, 5, 1.0, 0.75, 2.0)),
    ]:
        small = [o[:2, :, :9] if isinstance(o, np.ndarray) else o for o in options]
        np.testing.assert_allclose(
            forward(*small), forward(*options)[:2, :, :9], rtol=1e-11, atol=1e-13
        )
    pixel = x[7, :, 30, 32]
    y = kernels.local_response_norm_forward(x, 5, 1.0, 0.75, 2.0)[7, :, 30, 32]
    np.testing.assert_allclose(
        y, local_response_norm_definition(pixel[None], 5, 1.0, 0.75, 2.0)[0], rtol=1e-12
    )


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


@pytest.mark.parametrize("p", [0.5, 0.9])
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
    for size, mean_size in [((5, 6), (7, 9)), ((5, 6), (5, 6)), ((7, 9), (7, 9))]:
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


def every_kernel(rng, dtype):
    """(name, call) of all kernels that run in pieces, on arrays of several pieces."""
    x = rng.normal(size=(20, 6, 33, 34)).astype(dtype)
    w = rng.normal(size=(4, 3, 3, 3)).astype(dtype)
    geometry = (1, 1), (1, 1), 2
    y = kernels.conv2d_forward(x, w, None, *geometry)
    pool = (3, 3), (2, 2), (1, 1)
    pooled, winner = kernels.max_pool2d_forward(x, *pool, False)
    flat, weight, dflat = (
        rng.normal(size=s).astype(dtype) for s in ((300, 448), (600, 448), (300, 600))
    )
    return {
        "conv2d_forward": lambda: kernels.conv2d_forward(x, w, w[:, 0, 0, 0], *geometry),
        "conv2d_backward": lambda: kernels.conv2d_backward(y, x, w, *geometry, (True, True, True)),
        "max_pool2d_forward": lambda: kernels.max_pool2d_forward(x, *pool, True),
        "max_pool2d_backward": lambda: kernels.max_pool2d_backward(pooled, winner, x.shape, *pool),
        "avg_pool2d_forward": lambda: kernels.avg_pool2d_forward(x, *pool, False, True),
        "avg_pool2d_backward": lambda: kernels.avg_pool2d_backward(
            pooled, x.shape, *pool, False, True
        ),
        "lrn_forward": lambda: kernels.local_response_norm_forward(x, 5, 1.0, 0.75, 1.0),
        "lrn_backward": lambda: kernels.local_response_norm_backward(x, x, 5, 1.0, 0.75, 1.0),
        "srn_forward": lambda: kernels.spatial_response_norm_forward(x, 3, 1.0, 0.75, 1.0),
        "srn_backward": lambda: kernels.spatial_response_norm_backward(x, x, 3, 1.0, 0.75, 1.0),
        "relu_forward": lambda: kernels.relu_forward(x),
        "relu_backward": lambda: kernels.relu_backward(x, x),
        "linear_forward": lambda: kernels.linear_forward(flat, weight, None),
        "linear_backward": lambda: kernels.linear_backward(dflat, flat, weight, (True, True, True)),
        "dropout": lambda: kernels.dropout_forward(x, 0.5, 3, 4),
    }


def arrays(result):
    return [r for r in (result if isinstance(result, tuple) else (result,)) if r is not None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads_and_any_layout(dtype, rng):
    calls, before = every_kernel(rng, dtype), tinynet.get_num_threads()
    try:
        for name, call in calls.items():
            tinynet.set_num_threads(1)
            expected = arrays(call())
            for threads in (2, 5):
                tinynet.set_num_threads(threads)
                for a, b in zip(arrays(call()), expected, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{name} with {threads} threads")
                    assert a.dtype == b.dtype
                    assert a.dtype in (dtype, np.dtype(bool)) or a.dtype.kind == "u", name
    finally:
        tinynet.set_num_threads(before)


def test_outputs_lie_batch_innermost(rng):
    """All but those of element-wise kernels, which lie as their argument does."""
    for name, call in every_kernel(rng, np.float32).items():
        for array in arrays(call()):
            if array.ndim == 4 and array.shape[0] == 20 and name not in ELEMENTWISE:
                assert np.moveaxis(array, 0, -1).strides[-1] == array.itemsize, name


ELEMENTWISE = ("relu_forward", "relu_backward", "dropout")


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "gelu", "gelu_tanh", "dropout"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2), (2, 0, 1)])
def test_elementwise_kernels_keep_the_order_in_memory(name, axes, rng):
    """Of x, whatever that of dy is, and with gaps in memory; the values do not depend on it."""
    x = rng.normal(size=(4, 3, 5))
    dy = rng.normal(size=x.shape)
    options = (0.3, 5, 6) if name == "dropout" else ()

    def both(x, dy):
        forward, backward = (getattr(kernels, f"{name}_{way}") for way in ("forward", "backward"))
        y = forward(x, *options)
        if name == "dropout":
            return y[0], backward(dy.copy("K"), y[1], 0.3)
        return y, backward(dy, x if "gelu" in name else y)

    lying = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    wide = np.zeros((4, 6, 5))
    wide[:, ::2] = x
    for array in (lying, wide[:, ::2]):
        order = [np.argsort([-s for s in a.strides]).tolist() for a in (array, *both(array, dy))]
        assert order[0] == order[1] and (name == "dropout" or order[2] == order[0])
        for got, expected in zip(both(array, dy), both(x, dy), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_inputs_may_be_read_only(rng):
    x, w = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=(4, 2, 3, 3))
    y = kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    for array in (x, w, y):
        array.setflags(write=False)
    kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    kernels.conv2d_backward(y, x, w, (1, 1), (1, 1), 2, (True, True, True))
    pooled, winner = kernels.max_pool2d_forward(x, (3, 3), (2, 2), (1, 1), True)
    pooled.setflags(write=False)
    winner.setflags(write=False)
    kernels.max_pool2d_backward(pooled, winner, x.shape, (3, 3), (2, 2), (1, 1))
    kernels.avg_pool2d_backward(pooled, x.shape, (3, 3), (2, 2), (1, 1), True, False)
    kernels.local_response_norm_backward(y, x, 3, 1.0, 0.75, 1.0)
    kernels.spatial_response_norm_backward(y, x, 3, 1.0, 0.75, 1.0)
    kernels.relu_backward(y, x)
    kernels.dropout_forward(x, 0.5, 1, 1)
    kernels.softmax_backward(y, x, 1)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinities_are_seen_coming_out(bad, rng):
    """Nothing that goes in broken comes out whole."""
    x, w = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=(4, 2, 3, 3))
    x[1, 2, 3, 3] = bad
    y = kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    assert np.isfinite(y[0]).all() and np.isfinite(y[1, :2]).all()
    assert not np.isfinite(y[1, 2:, 2:5, 2:5]).any() and np.isfinite(y[1, 2:, 0]).all()
    dx, dw, db = kernels.conv2d_backward(x, x, w, (1, 1), (1, 1), 2, (True, True, True))
    assert (
        not np.isfinite(dx[1, 2:, 3, 3]).any()
        and not np.isfinite(db[2])
        and np.isfinite(db[[0, 1, 3]]).all()
    )
    assert not np.isfinite(dw[2]).all() and np.isfinite(dw[0]).all()
    assert not np.isfinite(
        kernels.avg_pool2d_forward(x, (3, 3), (3, 3), (0, 0), False, True)[1, 2, 1, 1]
    )
    y = kernels.local_response_norm_forward(x, 3, 1.0, 0.75, 1.0)
    assert np.isnan(y[1, 2, 3, 3]) and (np.isnan(y[1, 1, 3, 3]) or y[1, 1, 3, 3] == 0)
    assert not np.isfinite(kernels.linear_forward(x.reshape(2, -1), np.ones((1, 144)), None)[1, 0])
    assert not np.isfinite(kernels.tanh_backward(x, np.zeros_like(x))[1, 2, 3, 3])


def test_denormals_pass(rng):
    tiny = np.full((2, 3, 4, 4), 5e-324)
    np.testing.assert_array_equal(kernels.relu_forward(tiny), tiny)
    np.testing.assert_array_equal(
        kernels.max_pool2d_forward(tiny, (2, 2), (2, 2), (0, 0), False)[0], 5e-324
    )
    np.testing.assert_array_equal(
        kernels.local_response_norm_forward(tiny, 3, 1.0, 0.75, 1.0), tiny
    )
    np.testing.assert_array_equal(
        kernels.conv2d_forward(tiny, np.ones((1, 3, 1, 1)), None, (1, 1), (0, 0), 1), 3 * 5e-324
    )


def test_an_empty_batch(rng):
    x, w = np.zeros((0, 4, 6, 6), np.float32), np.ones((4, 2, 3, 3), np.float32)
    y = kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    assert y.shape == (0, 4, 6, 6)
    dx, dw, db = kernels.conv2d_backward(y, x, w, (1, 1), (1, 1), 2, (True, True, True))
    assert dx.shape == x.shape and not dw.any() and not db.any()
    pooled, winner = kernels.max_pool2d_forward(x, (3, 3), (2, 2), (1, 1), False)
    assert pooled.shape == winner.shape == (0, 4, 3, 3)
    assert (
        kernels.max_pool2d_backward(pooled, winner, x.shape, (3, 3), (2, 2), (1, 1)).shape
        == x.shape
    )
    assert kernels.avg_pool2d_forward(x, (3, 3), (2, 2), (1, 1), False, True).shape == (0, 4, 3, 3)
    assert (
        kernels.avg_pool2d_backward(pooled, x.shape, (3, 3), (2, 2), (1, 1), False, True).shape
        == x.shape
    )
    for backward in (kernels.local_response_norm_backward, kernels.spatial_response_norm_backward):
        assert backward(x, x, 3, 1.0, 0.75, 1.0).shape == x.shape
    assert kernels.relu_backward(x, kernels.relu_forward(x)).shape == x.shape
    assert kernels.linear_forward(x.reshape(0, 144), np.ones((5, 144), np.float32), None).shape == (
        0,
        5,
    )


@pytest.mark.parametrize("piece", [None, 1, 30])
@pytest.mark.parametrize("scale", [(1, 1), (2, 3), (3, 1)])
def test_upsample2d(scale, piece, rng, set_pieces):
    set_pieces(upsample2d, "PIECE", piece)
    x = layouts(rng, rng.normal(size=(2, 3, 4, 5)))
    y = kernels.upsample2d_forward(x, scale)
    np.testing.assert_array_equal(y, upsample2d_definition(x, scale))
    dy = layouts(rng, rng.normal(size=y.shape))
    expected = oracles.transposed(lambda x: upsample2d_definition(x, scale), x.shape, dy)
    np.testing.assert_allclose(kernels.upsample2d_backward(dy, scale), expected, **TIGHT)


# The forward is the formula itself, in NumPy's own functions.
PLAIN = {"bce_with_logits", "dropout", "gelu_tanh", "log_softmax", "mse_loss", "nll_loss", "relu"}
PLAIN |= {"sigmoid", "tanh"}


def test_every_kernel_stands_beside_its_definition():
    """In the same file; a definition that no test names would prove nothing."""
    here, tested = {}, "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    for name, function in vars(kernels).items():
        if name.endswith("_forward") and function.__module__ != kernels.elementwise.__name__:
            here[name.removesuffix("_forward")] = sys.modules[function.__module__]
    assert set(here) >= PLAIN
    for name, module in here.items():
        definition = f"{name}_definition"
        assert hasattr(module, definition) != (name in PLAIN), name
        assert name in PLAIN or f"{definition}(" in tested, name
