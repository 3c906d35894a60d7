"""Batch normalisation, adaptive pooling, the losses, and linear and cross_entropy on sequences:
against their definitions in loops, in pieces of any size, at the edges of what floats hold.
"""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn, sharing
from tinynet.kernels import batch_norm
from tinynet.kernels.batch_norm import batch_norm_definition

TIGHT = dict(rtol=1e-11, atol=1e-12)
ALL = (True, True, True)


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
