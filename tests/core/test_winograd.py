"""3x3 and 5x5 convolutions by Winograd's way: against one product of im2col, and against its own
adjoint.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels
from tinynet.devices.threads import run_job
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import winograd

CASES = [  # N, C, O, r, (H, W), padding
    (2, 2, 3, 3, (3, 3), (0, 0)),  # one output
    (1, 3, 2, 3, (7, 7), (0, 0)),  # one tile
    (3, 2, 4, 3, (5, 4), (1, 1)),
    (2, 4, 1, 3, (9, 12), (1, 0)),  # more than one tile, none of them whole
    (3, 1, 2, 3, (16, 17), (2, 1)),
    (1, 2, 2, 3, (1, 2), (1, 2)),
    (2, 2, 2, 3, (1, 1), (2, 2)),
    (5, 3, 2, 3, (19, 15), (1, 1)),
    (2, 2, 3, 5, (5, 5), (0, 0)),
    (3, 3, 2, 5, (9, 7), (2, 2)),
    (4, 2, 2, 5, (12, 14), (4, 3)),
    (1, 2, 3, 5, (1, 2), (2, 4)),
    (2, 2, 1, 3, (4, 3), (5, 3)),  # padding over kernel
    (1, 2, 2, 3, (11, 13), (1, 0)),  # one row and one column more than two tiles have
    (35, 1, 2, 3, (4, 3), (0, 1)),  # halves of a large batch: one has a picture more
]


def use(monkeypatch, side):
    """Tiles of that side everywhere, also where there is little to win; None: im2col."""
    monkeypatch.setattr(winograd, "tile_side", lambda x, weight, stride, padding, groups: side)


def sides(r):
    return (6, 7) if r == 3 else (7,)


def reference(x, weight, bias, padding, dy):
    """y, dx, dw by the definition: one product over all columns."""
    (N, _, _, _), (O, _, *kernel) = x.shape, weight.shape
    col = kernels.im2col(x, kernel, (1, 1), padding)
    w = weight.reshape(O, -1)
    y = (w @ col + bias[:, None]).reshape(O, *dy.shape[2:], N)
    flat = np.moveaxis(dy, 0, -1).reshape(O, -1)
    dx = kernels.col2im(w.T @ flat, x.shape, kernel, (1, 1), padding)
    return np.moveaxis(y, -1, 0), dx, (flat @ col.T).reshape(weight.shape)


@pytest.mark.parametrize(("case", "side"), [(c, side) for c in CASES for side in sides(c[3])])
@pytest.mark.parametrize(
    ("run", "piece"), [(None, None), (1, 1), (4, 20), (6, 1000)]
)  # all at once; one by one; parts of a row; some rows
def test_forward_and_both_gradients(case, side, run, piece, rng, set_pieces, monkeypatch):
    use(monkeypatch, side)
    set_pieces(winograd, "RUN", run)
    set_pieces(winograd, "PIECE", piece)
    N, C, O, r, size, padding = case
    x = layouts(rng, rng.normal(size=(N, C, *size)))
    weight, bias = layouts(rng, rng.normal(size=(O, C, r, r))), rng.normal(size=O)
    y = kernels.conv2d_forward(x, weight, bias, (1, 1), padding, 1)
    dy = layouts(rng, rng.normal(size=y.shape))
    dx, dw, db = kernels.conv2d_backward(dy, x, weight, (1, 1), padding, 1, (True, True, True))
    for ours, theirs in zip((y, dx, dw), reference(x, weight, bias, padding, dy), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.abs(theirs).max()))
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), rtol=1e-10, atol=1e-10)
    without = kernels.conv2d_forward(x, weight, None, (1, 1), padding, 1)
    np.testing.assert_array_equal(
        run_job(winograd.forward(x, weight, None, padding, side)), without
    )
    np.testing.assert_allclose(without + bias[:, None, None], y, rtol=1e-12, atol=1e-12)
    cut = kernels.conv2d_forward(x, weight, bias, (1, 1), padding, 1, relu=True)
    np.testing.assert_array_equal(cut, np.maximum(y, 0))
    np.testing.assert_allclose((without * dy).sum(), (dx * x).sum(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose((without * dy).sum(), (dw * weight).sum(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("r", "side", "rms", "most"),
    [(3, None, 5e-7, 4e-6), (3, 6, 3e-6, 3e-5), (3, 7, 7e-6, 1.3e-4), (5, 7, 7e-6, 1e-4)],
)
def test_rounding_errors_are_as_large_as_the_file_says(r, side, rms, most, monkeypatch):
    """Of 512 channels. A third below the bounds at least: so worse points are noticed. The largest
    error of a draw varies by more than that: one draw for all.
    """
    rng = np.random.default_rng(512)
    x, weight = rng.normal(size=(3, 512, 13, 13)), rng.normal(size=(16, 512, r, r))
    dy = rng.normal(size=(3, 16, 13, 13))

    def all_three(dtype, side):
        use(monkeypatch, side)
        x_, weight_, dy_ = (a.astype(np.float32).astype(dtype) for a in (x, weight, dy))
        geometry = (1, 1), (r // 2, r // 2), 1
        y = kernels.conv2d_forward(x_, weight_, None, *geometry)
        return y, *kernels.conv2d_backward(dy_, x_, weight_, *geometry, (True, True, False))[:2]

    for ours, exact in zip(all_three(np.float32, side), all_three(np.float64, None), strict=True):
        assert ours.dtype == np.float32
        error = (ours - exact) / exact.std()
        assert np.sqrt((error**2).mean()) < rms
        assert np.abs(error).max() < most


@pytest.mark.parametrize("side", [6, 7])
def test_the_same_bits_for_any_number_of_threads(side, rng, monkeypatch):
    use(monkeypatch, side)
    x, weight = (
        rng.normal(size=(70, 16, 23, 25)).astype(np.float32),
        rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
    )
    y = kernels.conv2d_forward(x, weight, None, (1, 1), (1, 1), 1)
    before, results = tinynet.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            tinynet.set_num_threads(threads)
            results.append(
                [
                    kernels.conv2d_forward(x, weight, None, (1, 1), (1, 1), 1),
                    *kernels.conv2d_backward(y, x, weight, (1, 1), (1, 1), 1, (True, True, True)),
                ]
            )
    finally:
        tinynet.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def way(N, C, O, size, padding=1, r=3, stride=(1, 1), groups=1):
    x, weight = np.empty((N, C, *size)), np.empty((O, C // groups, r, r))
    return winograd.tile_side(x, weight, stride, (padding, padding), groups)


def test_the_way_is_chosen_by_its_cost():
    assert way(128, 192, 192, (13, 13)) == 7  # AlexNet: 13 outputs are nearly 3 * 5 ...
    assert way(128, 48, 128, (27, 27), 2, 5) == 7  # ... and 27 are 9 * 3
    assert way(32, 64, 64, (32, 32)) == 6  # 8 * 4
    assert way(8, 64, 64, (56, 56)) == 6
    assert way(32, 64, 64, (35, 35)) == 7  # 7 * 5, 36 = 9 * 4
    assert way(128, 16, 16, (32, 32)) is None  # few channels: the transforms cost too much
    assert way(1, 192, 192, (13, 13)) is None  # few tiles: those of the weights do
    assert way(64, 64, 64, (5, 5)) == 7  # one tile
    assert way(64, 64, 64, (1, 1), 1) is None  # nine tenths of each tile would hang over the edge
    for height, width in ((1, 32), (32, 1)):
        assert way(64, 64, 64, (height, width)) is None


def test_only_square_kernels_of_3_and_5_with_stride_1_and_one_group_can_go_this_way():
    assert way(32, 64, 64, (32, 32), r=4) is None
    for stride in ((2, 1), (1, 2), (2, 2)):
        assert way(32, 64, 64, (32, 32), stride=stride) is None
    assert way(32, 128, 128, (32, 32), groups=2) is None
    x = np.empty((32, 64, 32, 32))
    for kernel in ((3, 5), (5, 3), (3, 1)):
        assert winograd.tile_side(x, np.empty((64, 64, *kernel)), (1, 1), (1, 1), 1) is None


def test_who_compares_digits_takes_the_direct_way(rng):
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((32, 64, 8, 8), (64, 64, 3, 3)))
    x, weight = (tinynet.tensor(a, requires_grad=True) for a in (x, weight))

    def run():
        y = F.conv2d(x, weight, padding=1)
        gradients = []
        y.sum().backward()
        for leaf in (x, weight):
            gradients.append(leaf.grad.numpy())
            leaf.zero_grad()
        return y.numpy(), *gradients

    usual = run()
    with tinynet.direct_convolution():
        with tinynet.direct_convolution():
            pass
        direct = run()
        others = []
        thread = threading.Thread(target=lambda: others.append(way(32, 64, 64, (8, 8))))
        thread.start()
        thread.join()
    assert others == [6]  # another thread goes its own way
    assert way(32, 64, 64, (8, 8)) == 6
    for a, b, c in zip(usual, direct, tinynet.direct_convolution()(run)(), strict=True):
        assert (a != b).any()
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * b.std())
    for a, b in zip(usual, run(), strict=True):
        np.testing.assert_array_equal(a, b)
