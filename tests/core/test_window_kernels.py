"""The CPU kernels with windows, each against its definition in nested loops and its adjoint."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

from tinynet import kernels
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.kernels import (
    conv2d,
    local_response_norm,
    max_pool2d,
    upsample2d,
)
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.conv2d import conv2d_definition
from tinynet.kernels.im2col import im2col_definition, windows
from tinynet.kernels.local_response_norm import local_response_norm_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.spatial_response_norm import spatial_response_norm_definition
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
