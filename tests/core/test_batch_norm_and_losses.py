"""Batch normalisation, adaptive pooling, the losses, and linear and cross_entropy on sequences:
against their definitions in loops, in pieces of any size, at the edges of what floats hold.
"""

from __future__ import annotations

import math
import re

import numpy as np
import oracles
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn, sharing
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import adaptive_avg_pool2d, batch_norm, linear
from tinynet.kernels.adaptive_avg_pool2d import adaptive_avg_pool2d_definition
from tinynet.kernels.batch_norm import batch_norm_definition
from tinynet.kernels.cross_entropy import cross_entropy_definition
from tinynet.kernels.linear import linear_definition

TIGHT = dict(rtol=1e-11, atol=1e-12)
ALL = (True, True, True)


@pytest.mark.parametrize("block", [None, 1, 3, 5, 1000])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (3, 2, 2, 3), (2, 1, 2, 2, 2), (2, 7)])
def test_batch_norm(shape, block, rng, set_pieces):
    set_pieces(batch_norm, "BLOCK", block)
    C = shape[1]
    x, dy = (layouts(rng, rng.normal(size=shape) + 2) for _ in range(2))
    weight, bias = rng.normal(size=(2, C))
    for training in (True, False):
        running = rng.normal(size=C), rng.uniform(0.5, 2, C)
        used = (None, None) if training else running
        moved = [a.copy() for a in running]
        y, mean, inverse = kernels.batch_norm_forward(x, weight, bias, *moved, training, 0.3, 0.01)
        np.testing.assert_allclose(y, batch_norm_definition(x, weight, bias, *used, 0.01), **TIGHT)
        rows = np.moveaxis(x, 1, 0).reshape(C, -1)
        if training:
            now = rows.mean(axis=1), rows.var(axis=1, ddof=1)
            running = [0.7 * a + 0.3 * b for a, b in zip(running, now, strict=True)]
        np.testing.assert_allclose(moved, running, **TIGHT)

        dx, dw, db = kernels.batch_norm_backward(dy, x, weight, mean, inverse, training, ALL)
        for given, i in ((dx, 0), (dw, 1), (db, 2)):
            arguments = [x, weight, bias]

            def moving(a, i=i, arguments=arguments, used=used):
                return batch_norm_definition(*arguments[:i], a, *arguments[i + 1 :], *used, 0.01)

            expected = oracles.derivative(moving, arguments[i], dy)
            np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-7)
        for needs in ((True, False, False), (False, True, False), (False, False, True)):
            some = kernels.batch_norm_backward(dy, x, weight, mean, inverse, training, needs)
            assert tuple(g is not None for g in some) == needs
            for a, b in zip(some, (dx, dw, db), strict=True):
                assert a is None or np.array_equal(a, b)

        cut, *_ = kernels.batch_norm_forward(
            x, weight, bias, *running, training, 0.3, 0.01, relu=True
        )
        if training:
            np.testing.assert_array_equal(cut, np.maximum(y, 0))
            dy[y <= 0] = np.inf  # does not pass, not even as NaN
            ours = kernels.batch_norm_backward(dy, x, weight, mean, inverse, True, ALL, cut)
            dy[y <= 0] = 0
            theirs = kernels.batch_norm_backward(dy, x, weight, mean, inverse, True, ALL)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, **TIGHT)


def test_batch_norm_without_weight_bias_or_running_arrays(rng):
    x = rng.normal(size=(5, 2, 3))
    ones, zeros = np.ones(2), np.zeros(2)
    for w in (None, ones):
        for b in (None, zeros):
            y, m, r = kernels.batch_norm_forward(x, w, b, None, None, True, 0.1, 0.1)
            np.testing.assert_allclose(
                y, batch_norm_definition(x, ones, zeros, None, None, 0.1), **TIGHT
            )
            dx, *_ = kernels.batch_norm_backward(x, x, w, m, r, True, ALL)
            expected, *_ = kernels.batch_norm_backward(x, x, ones, m, r, True, ALL)
            np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batch_norm_has_the_same_bits_for_any_threads_and_layout(dtype, relu, rng, set_pieces):
    set_pieces(batch_norm, "BLOCK", 700)
    before = tinynet.get_num_threads()
    for shape in [(6, 5, 4, 4), (40, 3, 8, 8)]:  # several rows in a block; several blocks in a row
        x, dy = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        w, b = rng.normal(size=(2, shape[1])).astype(dtype)
        found = []
        try:
            for threads in (1, 2, 5):
                tinynet.set_num_threads(threads)
                x_, dy_ = layouts(rng, x), layouts(rng, dy)
                y, m, r = kernels.batch_norm_forward(x_, w, b, None, None, True, 0.1, 0.1, relu)
                back = kernels.batch_norm_backward(dy_, x_, w, m, r, True, ALL, y if relu else None)
                found.append((y, m, r, *back))
        finally:
            tinynet.set_num_threads(before)
        for other in found[1:]:
            for a, b_ in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(a, b_)
                assert a.dtype == b_.dtype == dtype
        assert np.moveaxis(found[0][0], 0, -1).flags.c_contiguous  # batch innermost


def test_batch_norm_of_float32_is_exact(rng):
    """Also far from 0, where a variance from sums of squares loses every digit."""
    x = np.moveaxis(rng.normal(size=(3, 32, 32, 128)).astype(np.float32), -1, 0)
    x = (x + np.array([0, 10, 1000], np.float32)[:, None, None]).astype(np.float32)
    y, m, r = kernels.batch_norm_forward(x, None, None, None, None, True, 0.1, 0.0)
    exact = x.astype(np.float64)
    mean, std = exact.mean(axis=(0, 2, 3)), exact.std(axis=(0, 2, 3))
    np.testing.assert_allclose(m, mean, rtol=3e-7, atol=3e-7)
    np.testing.assert_allclose(r, 1 / std, rtol=1e-6)
    expected = (exact - mean[:, None, None]) / std[:, None, None]
    for c, error in enumerate((2e-6, 1e-5, 1e-3)):  # the mean itself is rounded: 1000 to 6e-5
        assert np.abs(y[:, c] - expected[:, c]).max() < error
    dy = rng.normal(size=x.shape).astype(np.float32)
    wide = dy.astype(np.float64)
    _, dw, db = kernels.batch_norm_backward(dy, x, None, m, r, True, ALL)
    np.testing.assert_allclose(db, wide.sum(axis=(0, 2, 3)), rtol=0, atol=2e-3)
    np.testing.assert_allclose(dw, (wide * expected).sum(axis=(0, 2, 3)), rtol=0, atol=0.2)
    np.testing.assert_allclose(dw[:2], (wide * expected).sum(axis=(0, 2, 3))[:2], rtol=0, atol=5e-3)


def test_batch_norm_shows_nan_and_takes_an_empty_batch_in_use():
    x = np.zeros((2, 3, 2), np.float32)
    x[0, 1, 0] = np.nan
    y, *_ = kernels.batch_norm_forward(x, None, None, None, None, True, 0.1, 0.1, True)
    assert np.isnan(y[:, 1]).all() and not np.isnan(y[:, [0, 2]]).any()
    running = np.zeros(3, np.float32), np.ones(3, np.float32)
    y, m, r = kernels.batch_norm_forward(x[:0], None, None, *running, False, 0.1, 0.1)
    dx, dw, db = kernels.batch_norm_backward(y, x[:0], None, m, r, False, ALL)
    assert y.shape == dx.shape == (0, 3, 2) and not dw.any() and not db.any()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_layers(affine, relu, rng):
    for layer, shape in [
        (nn.BatchNorm1d(3, 0.1, 0.5, affine, relu=relu), (4, 3)),
        (nn.BatchNorm1d(3, 0.1, 0.5, affine, relu=relu), (4, 3, 5)),
        (nn.BatchNorm2d(3, 0.1, 0.5, affine, relu=relu), (4, 3, 2, 2)),
    ]:
        names = ["weight", "bias"] * affine + ["running_mean", "running_var"]
        assert list(layer.state_dict()) == names
        x = rng.normal(size=shape).astype(np.float32)
        ones, zeros = np.ones(3), np.zeros(3)
        expected = batch_norm_definition(x, ones, zeros, None, None, 0.1)
        expected = np.maximum(expected, 0) if relu else expected
        np.testing.assert_allclose(layer(tinynet.tensor(x)).numpy(), expected, atol=1e-5)
        rows = np.moveaxis(x, 1, 0).reshape(3, -1)
        mean, var = rows.mean(axis=1) / 2, 0.5 + rows.var(axis=1, ddof=1) / 2
        np.testing.assert_allclose(layer.running_mean.numpy(), mean, atol=1e-6)
        np.testing.assert_allclose(layer.running_var.numpy(), var, atol=1e-6)
        layer.eval()
        expected = batch_norm_definition(x, ones, zeros, mean, var, 0.1)
        expected = np.maximum(expected, 0) if relu else expected
        np.testing.assert_allclose(layer(tinynet.tensor(x)).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(layer.running_mean.numpy(), mean, atol=1e-6)  # not moved


def test_a_step_between_forward_and_backward_of_batch_norm_in_use(rng):
    """The running arrays may move before backward: it has what forward saw."""
    x = tinynet.tensor(rng.normal(size=(4, 2)), requires_grad=True)
    mean, var = tinynet.tensor(np.zeros(2)), tinynet.tensor(np.ones(2))
    y = F.batch_norm(x, mean, var, eps=0.0)
    mean.data[:], var.data[:] = 5, 100
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1)


@pytest.mark.parametrize("piece", [None, 1, 30])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 3), (7, 5), (6, 8), (9, 11)])
def test_adaptive_avg_pool2d(size, piece, rng, set_pieces):
    set_pieces(adaptive_avg_pool2d, "PIECE", piece)
    x = layouts(rng, rng.normal(size=(2, 3, 6, 8)))
    y = kernels.adaptive_avg_pool2d_forward(x, size)

    def definition(x):
        return adaptive_avg_pool2d_definition(x, size)

    np.testing.assert_allclose(y, definition(x), **TIGHT)
    dy = layouts(rng, rng.normal(size=y.shape))
    dx = kernels.adaptive_avg_pool2d_backward(dy, x.shape, size)
    np.testing.assert_allclose(dx, oracles.transposed(definition, x.shape, dy), **TIGHT)
    assert np.moveaxis(dx, 0, -1).flags.c_contiguous and np.moveaxis(y, 0, -1).flags.c_contiguous
    layer = nn.AdaptiveAvgPool2d(size)
    np.testing.assert_array_equal(layer(tinynet.tensor(x)).numpy(), y)


@pytest.mark.parametrize("rows", [None, 1, 4])
@pytest.mark.parametrize("leading", [(), (3,), (2, 5), (2, 1, 3), (0, 2)])
def test_linear_on_any_leading_axes(leading, rows, rng, set_pieces):
    set_pieces(linear, "ROWS", rows)
    x, w, b = rng.normal(size=(*leading, 4)), rng.normal(size=(3, 4)), rng.normal(size=3)
    flat = x.reshape(-1, 4)
    for bias in (None, b):
        for relu in (False, True):
            y = kernels.linear_forward(x, w, bias, relu)
            expected = linear_definition(flat, w, bias)
            expected = np.maximum(expected, 0) if relu else expected
            np.testing.assert_allclose(y, expected.reshape(*leading, 3), **TIGHT)
    if len(leading) != 1:
        assert y.flags.c_contiguous
    dy = layouts(rng, rng.normal(size=(*leading, 3)))
    dflat = np.where(y > 0, dy, 0).reshape(-1, 3)
    dx, dw, db = kernels.linear_backward(dy, layouts(rng, x), w, ALL, y)
    np.testing.assert_allclose(dx, (dflat @ w).reshape(x.shape), **TIGHT)
    np.testing.assert_allclose(dw, dflat.T @ flat, **TIGHT)
    np.testing.assert_allclose(db, dflat.sum(axis=0), **TIGHT)
    for needs in ((True, False, False), (False, True, False), (False, False, True)):
        some = kernels.linear_backward(dy, x, w, needs)
        assert tuple(g is not None for g in some) == needs


@pytest.mark.parametrize("e", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 2)])
def test_cross_entropy_on_any_leading_axes(leading, e, rng):
    x, target = rng.normal(size=(*leading, 4)), np.asarray(rng.integers(0, 4, leading))
    losses, p = kernels.cross_entropy_forward(layouts(rng, x), target, e)

    def definition(x):
        return cross_entropy_definition(x, target, e)

    np.testing.assert_allclose(losses, definition(x), **TIGHT)
    np.testing.assert_allclose(p.sum(axis=-1), 1)
    dlosses = np.asarray(rng.normal(size=leading))
    dx = kernels.cross_entropy_backward(dlosses, p, target, e)
    np.testing.assert_allclose(dx, oracles.derivative(definition, x, dlosses), atol=1e-8)
    if not e:
        log_p = F.log_softmax(tinynet.tensor(x))
        np.testing.assert_allclose(F.nll_loss(log_p, target, "none").numpy(), losses, **TIGHT)


def test_losses_of_huge_values():
    big = np.array([1e4, -1e4, 0, 3e38, -3e38], np.float32)
    for t, expected in (
        (0.0, [1e4, 0, math.log(2), 3e38, 0]),
        (1.0, [0, 1e4, math.log(2), 0, 3e38]),
    ):
        target = np.full(5, t, np.float32)
        with np.errstate(over="raise", invalid="raise"):
            losses = kernels.bce_with_logits_forward(big, target)
            dx, dt = kernels.bce_with_logits_backward(np.ones(5, np.float32), big, target, ALL[:2])
        np.testing.assert_allclose(losses, np.array(expected, np.float32), rtol=1e-6)
        np.testing.assert_allclose(dx, [1 - t, -t, 0.5 - t, 1 - t, -t])
        np.testing.assert_array_equal(dt, -big)
    losses, p = kernels.cross_entropy_forward(big[None, :3], np.array([1]), 0.3)
    np.testing.assert_allclose(losses, [0.7 * 2e4 + 0.1 * (2e4 + 1e4)], rtol=1e-6)


def test_losses_of_one_line(rng):
    x, t = rng.normal(size=(2, 3, 4))
    log = np.log
    p = 1 / (1 + np.exp(-x))
    for name, target, expected in [
        ("mse_loss", t, (x - t) ** 2),
        ("bce_with_logits", np.abs(t), -np.abs(t) * log(p) - (1 - np.abs(t)) * log(1 - p)),
    ]:
        for reduction, of in (("none", lambda a: a), ("sum", np.sum), ("mean", np.mean)):
            ours = getattr(F, name)(tinynet.tensor(x), tinynet.tensor(target), reduction)
            np.testing.assert_allclose(ours.numpy(), of(expected), **TIGHT)


def test_modules_pass_their_options_on(rng):
    x, t = (tinynet.tensor(a) for a in rng.normal(size=(2, 3, 4)))
    classes = [0, 3, 1]
    for ours, expected in [
        (nn.MSELoss("sum")(x, t), F.mse_loss(x, t, "sum")),
        (nn.BCEWithLogitsLoss("none")(x, t), F.bce_with_logits(x, t, "none")),
        (nn.NLLLoss("sum")(x, classes), F.nll_loss(x, classes, "sum")),
        (nn.CrossEntropyLoss("sum", 0.2)(x, classes), F.cross_entropy(x, classes, "sum", 0.2)),
        (nn.MSELoss()(x, t), F.mse_loss(x, t)),
        (nn.Identity()(x), x),
    ]:
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


def t(*shape, **options):
    return tinynet.tensor(np.ones(shape, np.float32), **options)


running = t(3), t(3)
WRONG = [
    (lambda: F.batch_norm(t(3), *running), "expected x of shape (N, C, ...), got (3,)"),
    (lambda: F.batch_norm(t(2, 4), *running), "expected running_mean of shape (4,), got (3,)"),
    (lambda: F.batch_norm(t(2, 3), *running, t(2)), "expected weight of shape (3,), got (2,)"),
    (lambda: F.batch_norm(t(2, 3), *running, None, t(1, 3)), "expected bias of shape (3,)"),
    (lambda: F.batch_norm(t(2, 3), None, None), "got None for running_mean and running_var with"),
    (lambda: F.batch_norm(t(2, 3), t(3), None, training=True), "got None for running_var with"),
    (
        lambda: F.batch_norm(t(1, 3, 1, 1), *running, training=True),
        "expected more than 1 value per channel in training, got x (1, 3, 1, 1); take a larger",
    ),
    (
        lambda: F.batch_norm(t(2, 3), t(3, requires_grad=True), t(3)),
        "expected running arrays that require no gradient",
    ),
    (lambda: F.batch_norm(t(2, 3), t(3), np.ones(3)), "expected running_var to be a tensor"),
    (lambda: F.batch_norm(t(2, 3), *running, momentum=None), "expected momentum to be a number"),
    (lambda: nn.BatchNorm1d(3)(t(2, 3, 4, 4)), "expected x of shape (N, C) or (N, C, L), got"),
    (lambda: nn.BatchNorm2d(3)(t(2, 3)), "BatchNorm2d: expected x of shape (N, C, H, W), got"),
    (lambda: F.adaptive_avg_pool2d(t(2, 3), 1), "expected x of shape (N, C, H, W)"),
    (lambda: F.adaptive_avg_pool2d(t(2, 3, 4, 4), 0), "output_size to be an integer of at least 1"),
    (lambda: F.adaptive_avg_pool2d(t(2, 3, 0, 4), 1), "expected a picture of at least 1x1"),
    (lambda: F.linear(t(), t(5, 4)), "expected x (..., 4) for weight (5, 4), got x ()"),
    (lambda: F.mse_loss(t(2, 3), t(3)), "expected input and target of one shape, got (2, 3) and"),
    (lambda: F.mse_loss(t(2), t(2), "max"), "expected reduction 'mean', 'sum' or 'none'"),
    (lambda: F.bce_with_logits(t(2), t(2, 1)), "expected logits and target of one shape"),
    (lambda: F.nll_loss(t(2, 3), [0, 3]), "nll_loss: expected targets in 0 ... 2, the 3 classes"),
    (lambda: F.nll_loss(t(2, 3), [[0], [1]]), "expected target of shape (2,)"),
    (lambda: F.cross_entropy(t(2, 3), [0, 1], label_smoothing=1.5), "label_smoothing in 0 ... 1"),
    (lambda: F.cross_entropy(t(), 0), "expected logits of shape (..., K), got ()"),
    (
        lambda: F.cross_entropy(t(2, 3, 4), np.zeros((2, 4), int)),
        "expected target of shape (2, 3) and an integer dtype, got (2, 4) int64; move the classes "
        "of logits from the second axis to the last one",
    ),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_wrong_call_says_what_is_wrong(number):
    call, said = WRONG[number]
    with pytest.raises((ValueError, TypeError), match=re.escape(said)) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("block", [None, 7])
def test_ranks_of_unequal_shares_are_the_whole_batch(relu, weighted, block, rng, set_pieces):
    """Two ranks with three and with one of four pictures: what each makes of its own, and what the
    other one sends, is what one rank makes of all.
    """
    set_pieces(batch_norm, "BLOCK", block)
    x, dy = rng.normal(1, 2, size=(2, 4, 3, 5, 2))
    weight, bias = rng.normal(size=(2, 3)) if weighted else (None, None)
    parts, options = (slice(0, 3), slice(3, 4)), (True, 0.25, 1e-3, relu)
    running = rng.normal(size=3), rng.uniform(1, 2, 3)

    def with_rank(call, sent):
        """call(gather), in which the other rank sends what it sent before; what came, too."""
        seen = []

        def gather(value):
            seen.append(value)
            return [value, *sent]

        return call(gather), seen[0]

    def forward(part, own, gather=None):
        return kernels.batch_norm_forward(x[part], weight, bias, *own, *options, gather)

    whole = [array.copy() for array in running]
    y, mean, inverse = forward(slice(None), whole)
    cut = y if relu else None
    exact = kernels.batch_norm_backward(dy, x, weight, mean, inverse, True, ALL, cut)
    for own, other in (parts, parts[::-1]):
        nobody = [array.copy() for array in running]
        _, sent = with_rank(lambda gather, o=other, n=nobody: forward(o, n, gather), [])
        moved = [array.copy() for array in running]
        (y_, mean_, inverse_), _ = with_rank(
            lambda gather, o=own, m=moved: forward(o, m, gather), [sent]
        )
        for ours, expected in (
            (y_, y[own]), (mean_, mean), (inverse_, inverse), (moved[0], whole[0]),
            (moved[1], whole[1]),
        ):  # fmt: skip
            np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)

        def backward(part, needs, gather):
            cut = y[part] if relu else None
            return kernels.batch_norm_backward(
                dy[part], x[part], weight, mean, inverse, True, needs, cut, gather
            )

        (_, dw, db), sent = with_rank(lambda g, o=other: backward(o, ALL, g), [])
        (dx, dw_, db_), _ = with_rank(lambda g, o=own: backward(o, ALL, g), [sent])
        for ours, expected in ((dx, exact[0][own]), (dw + dw_, exact[1]), (db + db_, exact[2])):
            np.testing.assert_allclose(ours, expected, rtol=1e-11, atol=1e-11)
        alone, _ = with_rank(lambda g, o=own: backward(o, (True, False, False), g), [sent])
        np.testing.assert_array_equal(alone[0], dx)
        assert alone[1:] == (None, None)


def test_in_use_no_other_rank_is_asked(rng):
    """Its mean is the running one; and who uses a net does so alone."""

    def nobody(value):
        raise AssertionError("asked")

    x = tinynet.tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    mean, var = tinynet.zeros(3, dtype="float64"), tinynet.ones(3, dtype="float64")
    with sharing.shared(sharing.Share(0, 2, 4, nobody)):
        y = F.batch_norm(x, mean, var, eps=0.0)
        y.sum().backward()
        with pytest.raises(AssertionError, match="asked"):
            F.batch_norm(x, mean, var, training=True)
    np.testing.assert_array_equal(y.numpy(), x.numpy())
