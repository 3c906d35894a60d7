"""The CPU's kernels where no option leads: values at the edge, pieces of their usual size, the
streams and bits that they promise. (Every option: test_ways.py.)
"""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import oracles
import pytest

from tinynet import kernels
from tinynet.devices import find_device
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import run_job
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import conv2d, layout, linear, max_pool2d, order
from tinynet.kernels.dropout import dropout_mask, dropout_mask_definition, philox
from tinynet.kernels.im2col import im2col_definition, windows
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.pictures import pictures_definition
from tinynet.kernels.steps.sgd import sgd_step_definition

TIGHT = dict(rtol=1e-11, atol=1e-12)

COLUMNS = [  # x, kernel, stride, padding
    ((3, 2, 5, 4), (3, 3), (1, 1), (1, 0)),
    ((2, 2, 7, 7), (2, 2), (3, 3), (0, 0)),
    ((1, 1, 8, 9), (5, 4), (3, 2), (2, 0)),
    ((2, 2, 3, 3), (1, 1), (2, 2), (2, 2)),
    ((1, 1, 11, 10), (11, 3), (4, 4), (2, 1)),
    ((2, 2, 3, 3), (1, 2), (1, 1), (0, 2)),  # padding as large as the kernel
    ((2, 2, 5, 6), (3, 2), (1, 2), (1, 1)),
]


@pytest.mark.parametrize("shape, kernel, stride, padding", COLUMNS)
def test_im2col_and_its_adjoint(shape, kernel, stride, padding, rng):
    x = layouts(rng, rng.normal(size=shape))
    col = kernels.im2col(x, kernel, stride, padding)
    np.testing.assert_array_equal(col, im2col_definition(x, kernel, stride, padding))
    dcol = rng.normal(size=col.shape)
    dx = kernels.col2im(dcol, x.shape, kernel, stride, padding)
    expected = oracles.transposed(
        lambda x: im2col_definition(x, kernel, stride, padding), x.shape, dcol
    )
    assert dx.shape == x.shape
    np.testing.assert_allclose(dx, expected, **TIGHT)
    (N, C, H, W), (ph, pw) = shape, padding
    assert memory_of(dx) == C * (H + 2 * ph) * (W + 2 * pw) * N * dx.itemsize


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


def test_dx_is_the_adjoint_whatever_the_padding_of_each_side(rng):
    """Also where one alone is as wide as the kernel, or wider: <w * x, dy> = <x, dx>."""
    x, weight = rng.normal(size=(2, 2, 4, 5)), rng.normal(size=(3, 2, 2, 3))
    for padding in np.ndindex(5, 5):
        y = kernels.conv2d_forward(x, weight, None, (1, 1), padding, 1)
        dy = rng.normal(size=y.shape)
        geometry = (1, 1), padding, 1
        dx, _, _ = kernels.conv2d_backward(dy, x, weight, *geometry, (True, False, False))
        assert (x * dx).sum() == pytest.approx((y * dy).sum(), rel=1e-10, abs=1e-10), padding


def test_tiles_of_a_convolution_are_as_wide_and_high_as_a_piece():
    """About PIXELS wide, all pictures counted; eight, if each has 1 to 8 MB; a row at least."""
    for (OH, OW, N, pixel_bytes), rows, columns in (
        ((13, 13, 1, 4), [13], [13]),  # few pixels: one tile
        ((13, 13, 128, 4), [13], [13]),
        ((8, 32, 128, 1 << 10), [4] * 2, [8] * 4),  # 32 MB, 1 MB a row of a tile
        ((32, 16, 128, 1 << 10), [8] * 4, [8] * 2),  # 64 MB, likewise
        ((3, 8, 128, 1 << 14), [1] * 3, [8]),  # a row has 16 MB
        ((5, 8, 0, 4), [], []),  # no picture
    ):
        tiles = conv2d._tiles(OH, OW, N, pixel_bytes)
        found = [sorted({(tile[axis].start, tile[axis].stop) for tile in tiles}) for axis in (0, 1)]
        assert [[stop - start for start, stop in spans] for spans in found] == [rows, columns]
        assert len(tiles) == len(rows) * len(columns)


@pytest.mark.parametrize("stride", [(4, 1), (1, 4)])
def test_a_convolution_holds_no_more_columns_than_a_piece(stride, rng, set_pieces, monkeypatch):
    """Of each way: columns, those of dx, and dx with its padding."""
    x, weight = rng.normal(size=(8, 4, 64, 64)), rng.normal(size=(2, 4, 3, 3))
    geometry = stride, (1, 2), 1
    dy = np.ones_like(kernels.conv2d_forward(x, weight, None, *geometry))
    set_pieces(conv2d, "COLUMN_BYTES", 100_000)
    set_pieces(conv2d, "PIXELS", 64)
    taken, array = [], Scratch.array
    monkeypatch.setattr(Scratch, "array", lambda *asked: taken.append(array(*asked)) or taken[-1])
    kernels.conv2d_forward(x, weight, None, *geometry)
    kernels.conv2d_backward(dy, x, weight, *geometry, (False, True, False))
    assert max(a.nbytes for a in taken) <= 150_000  # with the rows between
    del taken[:]
    dx, _, _ = kernels.conv2d_backward(dy, x, weight, *geometry, (True, False, False))
    assert max(a.nbytes for a in taken) <= 100_000
    assert memory_of(dx) == 8 * 4 * 66 * 68 * 8


def memory_of(view):
    """The bytes that a view keeps alive."""
    while isinstance(view.base, np.ndarray):
        view = view.base
    return view.nbytes


def close(ours, expected):
    """Float32 against float64, relative to the largest value."""
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-5 * np.abs(expected).max())


def test_pieces_of_a_pool_are_rows_of_as_many_channels_as_fit(set_pieces):
    set_pieces(max_pool2d, "PIECE", 12)
    for (C, OH, row), channels, rows in (
        ((5, 3, 2), [2, 2, 1], [3]),
        ((3, 4, 5), [1, 1, 1], [2, 2]),
        ((2, 2, 13), [1, 1], [1, 1]),
        ((4, 3, 0), [4], [3]),
    ):
        found = max_pool2d.pool_pieces(C, OH, row)
        assert [[s.stop - s.start for s in slices] for slices in found] == [channels, rows]


def test_max_pool2d_of_windows_beyond_a_byte(rng):
    """256 places and more: the winner's number no longer fits a byte with room for 'no winner'."""
    for kernel in ((15, 16), (16, 16), (16, 17), (300, 1), (1, 300), (100, 3)):
        x = np.zeros((1, 1, *kernel))
        x[0, 0, -1, -1] = 1  # the last place
        y, winner = kernels.max_pool2d_forward(x, kernel, (1, 1), (0, 0), False)
        assert y.item() == 1 and winner.item() == x.size - 1
        dx = kernels.max_pool2d_backward(2 * y, winner, x.shape, kernel, (1, 1), (0, 0))
        np.testing.assert_array_equal(dx, 2 * x)


def test_max_pool2d_shows_nan_and_infinities(rng):
    x = rng.normal(size=(2, 2, 6, 6))
    x[0, 0, 2, 2], x[1, 1, 0, 5], x[1, 0] = np.nan, np.inf, -np.inf
    geometry = (3, 3), (2, 2), (1, 1), False
    y, winner = kernels.max_pool2d_forward(x, *geometry)
    expected, places = max_pool2d_definition(x, *geometry)
    np.testing.assert_array_equal(y, expected)
    assert np.isnan(y).sum() == 1
    np.testing.assert_array_equal(winner, places)


@pytest.mark.parametrize(
    "dtype, error, relative", [(np.float64, 4.5e-16, 3e-15), (np.float32, 4e-7, 8e-7)]
)
def test_gelu_to_the_last_bits(dtype, error, relative):
    """Against the erfc of the C library, from where the tail is 0 to where 1 - tail is 1."""
    x = np.concatenate([np.linspace(-40, 40, 20001), np.linspace(-1e-3, 1e-3, 101)]).astype(dtype)
    expected = [v * math.erfc(-v / 2**0.5) / 2 for v in x.astype(float)]
    y, near = kernels.gelu_forward(x), np.abs(x) < 3
    np.testing.assert_allclose(y, expected, rtol=error / 2, atol=error)
    np.testing.assert_allclose(y[near], np.array(expected)[near], rtol=relative)


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
    turned = dense.copy()[:, ::2, 1:].transpose(2, 0, 3, 1)
    for x in (dense, batch_innermost, gaps, turned, dense.copy()[::-1, :, ::-1]):
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
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_product_of_matrices_is_cut_for_the_threads_and_of_others_is_numpys(rng, monkeypatch):
    cut = []
    monkeypatch.setattr(linear, "run_job", lambda job: cut.append(len(job.pieces)) or run_job(job))
    a, b = rng.normal(size=(600, 3)), rng.normal(size=(3, 4))
    for one, other in (
        (a, b), (a[None], b), (a, b[None]), (a[None], b[None]), (a[0], b), (a, b[:, 0])
    ):  # fmt: skip
        np.testing.assert_allclose(kernels.matmul(one, other), one @ other, **TIGHT)
    assert cut == [3]  # of 256 rows


def test_element_wise_work_of_one_large_array():
    x = np.ones(layout.PIECE + 1)
    layout.elementwise(lambda piece: np.negative(piece, out=piece), x)
    assert (x == -1).all()


def test_a_mask_is_drawn_with_little_memory():
    """Two bytes an element are drawn, and one is kept."""
    tracemalloc.start()
    dropout_mask((100_000,), 0.5, 1, 2)
    assert tracemalloc.get_traced_memory()[1] < 350_000
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(7,), (3, 5), (4, 2, 3), (3, 2, 5, 3), (), (0, 3)])
@pytest.mark.parametrize("p", [0.5, 0.1, 0.999, 1.0])
def test_dropout_draws_the_stream_of_philox(shape, p, rng):
    seed, call = (int(n) for n in rng.integers(0, 2**63, 2))
    x = np.asarray(rng.normal(size=shape))
    x = layouts(rng, x) if x.ndim and x.size else x
    y, mask = kernels.dropout_forward(x, p, seed, call)
    np.testing.assert_array_equal(mask, dropout_mask_definition(shape, p, seed, call))
    assert mask.dtype == bool and mask.shape == y.shape == shape
    if len(shape) > 1:
        rows = slice(1, shape[0])
        _, part = kernels.dropout_forward(x[rows], p, seed, call, rows=rows, total=shape[0])
        np.testing.assert_array_equal(part, mask[rows])
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
