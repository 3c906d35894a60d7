"""3x3 and 5x5 convolutions by Winograd's way: against one product of im2col, and against its own
adjoint.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import kernels
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
]


@pytest.fixture(autouse=True)
def also_for_small_ones(monkeypatch):
    """Where there is little to win, too."""
    monkeypatch.setattr(winograd, "suits", lambda x, weight, stride, padding, groups: True)


def reference(x, weight, bias, padding, dy):
    """y, dx, dw by the definition: one product over all columns."""
    (N, _, _, _), (O, _, *kernel) = x.shape, weight.shape
    col = kernels.im2col(x, kernel, (1, 1), padding)
    w = weight.reshape(O, -1)
    y = (w @ col + bias[:, None]).reshape(O, *dy.shape[2:], N)
    flat = np.moveaxis(dy, 0, -1).reshape(O, -1)
    dx = kernels.col2im(w.T @ flat, x.shape, kernel, (1, 1), padding)
    return np.moveaxis(y, -1, 0), dx, (flat @ col.T).reshape(weight.shape)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("columns", [None, 1, 4])  # all at once; one by one; parts of a row
def test_forward_and_both_gradients(case, columns, rng, set_pieces):
    set_pieces(winograd, "COLUMNS", columns)
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
    np.testing.assert_array_equal(winograd.winograd_forward(x, weight, None, padding), without)
    np.testing.assert_allclose(without + bias[:, None, None], y, rtol=1e-12, atol=1e-12)
    cut = kernels.conv2d_forward(x, weight, bias, (1, 1), padding, 1, relu=True)
    np.testing.assert_array_equal(cut, np.maximum(y, 0))
    np.testing.assert_allclose((without * dy).sum(), (dx * x).sum(), rtol=1e-9)
    np.testing.assert_allclose((without * dy).sum(), (dw * weight).sum(), rtol=1e-9)


def test_float32_stays_float32_and_near(rng):
    x, weight = rng.normal(size=(8, 64, 13, 13)), rng.normal(size=(48, 64, 3, 3))
    single = [a.astype(np.float32) for a in (x, weight)]
    y, exact = (kernels.conv2d_forward(*a, None, (1, 1), (1, 1), 1) for a in (single, (x, weight)))
    assert y.dtype == np.float32
    assert np.abs(y - exact).max() < 3e-5 * np.abs(exact).max()
    dy = rng.normal(size=y.shape)
    ours = kernels.conv2d_backward(
        dy.astype(np.float32), *single, (1, 1), (1, 1), 1, (True, True, False)
    )
    theirs = kernels.conv2d_backward(dy, x, weight, (1, 1), (1, 1), 1, (True, True, False))
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - b).max() < 3e-5 * np.abs(b).max()


@pytest.mark.parametrize(
    "needs", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_only_what_is_needed_is_computed(needs, rng):
    x, weight, dy = (rng.normal(size=s) for s in ((2, 16, 5, 5), (17, 16, 3, 3), (2, 17, 5, 5)))
    every = kernels.conv2d_backward(dy, x, weight, (1, 1), (1, 1), 1, (True, True, True))
    some = kernels.conv2d_backward(dy, x, weight, (1, 1), (1, 1), 1, needs)
    for need, a, b in zip(needs, some, every, strict=True):
        assert (a is None) != need
        if need:
            np.testing.assert_array_equal(a, b)


def test_the_same_bits_for_any_number_of_threads(rng):
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


def test_what_it_suits(monkeypatch):
    monkeypatch.undo()
    x, weight = np.zeros((20, 64, 8, 8)), np.zeros((64, 64, 3, 3))
    assert winograd.suits(x, weight, (1, 1), (1, 1), 1)  # four tiles a picture
    assert winograd.suits(np.zeros((9, 64, 13, 13)), weight, (1, 1), (1, 1), 1)  # nine
    assert winograd.suits(x, np.zeros((64, 64, 5, 5)), (1, 1), (2, 2), 1)
    assert not winograd.suits(x[:19], weight, (1, 1), (1, 1), 1)  # too few tiles
    for n, h, w, padding, enough in [  # tiles of 5 x 5 outputs
        (20, 6, 6, (1, 1), True),
        (79, 5, 5, (1, 1), False),
        (20, 4, 8, (2, 0), True),
        (20, 8, 4, (0, 2), True),
    ]:
        assert winograd.suits(np.zeros((n, 64, h, w)), weight, (1, 1), padding, 1) == enough
    assert not winograd.suits(x, weight[:63], (1, 1), (1, 1), 1)  # too few channels
    assert not winograd.suits(x, weight, (2, 1), (1, 1), 1)
    assert not winograd.suits(np.zeros((20, 128, 8, 8)), weight, (1, 1), (1, 1), 2)
    assert not winograd.suits(x, weight[..., :2], (1, 1), (1, 1), 1)
    assert not winograd.suits(x, np.zeros((64, 64, 4, 4)), (1, 1), (1, 1), 1)
