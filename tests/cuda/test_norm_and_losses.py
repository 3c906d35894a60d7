"""Batch normalisation, the losses and sequences on a GPU: what the cases of the table do not reach.
That is: rows of many runs, the running arrays, huge values, classes that are not there.
"""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from test_kernels import activation, of_its_own, parity

import tinynet
from tinynet import kernels
from tinynet.devices import Device, find_device

DTYPES = [np.float32, np.float64]
ALL = (True, True, True)


def lying(rng: np.random.Generator, shape: tuple, dtype: Any, innermost: bool) -> np.ndarray:
    """Random values around 1, batch innermost in memory or in C order."""
    x = (rng.standard_normal(shape) + 1).astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0) if innermost else x


def on_both(gpu: Device, name: str, *args: Any, tolerance: float = 50) -> tuple[list, list]:
    """The results of a kernel, and its arrays as it leaves them, of the CPU and of the GPU; they
    must agree to `tolerance` units of rounding.
    """
    args = [a.copy(order="K") if isinstance(a, np.ndarray) else a for a in args]
    sent = [gpu.upload(a) if isinstance(a, np.ndarray) else a for a in args]
    results = getattr(kernels, name)(*args)
    with gpu.activate(name):
        on_gpu = getattr(gpu.kernels, name)(*sent)
    of_its_own(name, on_gpu, sent)
    pack = [r if isinstance(r, tuple) else (r,) for r in (results, on_gpu)]
    expected = [*pack[0], *(a for a in args if isinstance(a, np.ndarray))]
    got = [*pack[1], *(a for a, b in zip(sent, args, strict=True) if isinstance(b, np.ndarray))]
    got = [None if a is None else gpu.download(a) for a in got]
    for e, g in zip(expected, got, strict=True):
        assert (e is None) == (g is None)
        if e is not None:
            assert (g.shape, g.dtype) == (e.shape, e.dtype)
            eps = np.finfo(e.dtype).eps if e.dtype.kind == "f" else 0
            scale = max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
            np.testing.assert_allclose(g, e, rtol=0, atol=tolerance * eps * scale, err_msg=name)
    return expected[: len(pack[0])], got[: len(pack[0])]


@pytest.mark.parametrize("run", [1 << 12, 300, 7])  # values that a block adds up
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any, dtype: Any, run: int
) -> None:
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.batch_norm"], "RUN", run)
    for shape, innermost in (((9, 3, 11, 7), True), ((4, 2, 5), False), ((6, 5), True)):
        C = shape[1]
        x, dy = (lying(rng, shape, dtype, innermost) for _ in range(2))
        w, b, mean = rng.standard_normal((3, C)).astype(dtype)
        var = rng.uniform(0.5, 2, C).astype(dtype)
        for training in (True, False):
            for relu in (False, True):
                options = training, 0.3, 0.1, relu
                (y, m, r), _ = on_both(gpu, "batch_norm_forward", x, w, b, mean, var, *options)
                for needs in (ALL, (True, False, False), (False, True, False)):
                    on_both(
                        gpu, "batch_norm_backward", dy, x, w, m, r, training, needs,
                        y if relu else None, tolerance=200,
                    )  # fmt: skip
        (_, m, r), _ = on_both(gpu, "batch_norm_forward", x, None, None, None, None, True, 0.3, 0.1)
        on_both(gpu, "batch_norm_backward", dy, x, None, m, r, True, ALL, tolerance=200)


def test_batch_norm_over_ranks_of_unequal_shares(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """Two ranks, a thread each, have the results that one has for all. Rows are of several runs."""
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.batch_norm"], "RUN", 9)
    x, dy = (lying(rng, (7, 3, 5, 4), np.float64, True) for _ in range(2))
    w, b = rng.standard_normal((2, 3))
    parts, told = (slice(2), slice(2, 7)), {}
    turn, both_told = threading.Lock(), threading.Barrier(2, timeout=60)

    def results(place: Device, part: slice, gather: Any) -> list[np.ndarray]:
        running = [place.upload(np.full(3, value)) for value in (0.5, 2.0)]
        sent = [place.upload(a) for a in (x[part], w, b, dy[part])]
        with place.activate():
            y, m, r = place.kernels.batch_norm_forward(
                *sent[:3], *running, True, 0.3, 0.1, True, gather
            )
            gradients = place.kernels.batch_norm_backward(
                sent[3], sent[0], sent[1], m, r, True, ALL, y, gather
            )
        return [place.download(a) for a in (y, gradients[0], *gradients[1:], m, r, *running)]

    def rank(number: int) -> list[np.ndarray]:
        calls = itertools.count()

        def gather(value: Any) -> list[Any]:
            call = next(calls)
            told[call, number] = value
            turn.release()
            both_told.wait()
            turn.acquire()
            return [told[call, 0], told[call, 1]]

        with turn:  # the shim runs one kernel at a time
            return results(gpu, parts[number], gather)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(rank, range(2))
    whole = results(find_device("cpu"), slice(None), None)
    y, *_, m, r, _, _ = whole
    h, dz = (x - m[:, None, None]) * r[:, None, None], np.where(y > 0, dy, 0)
    for part, rank_found in zip(parts, (one, two), strict=True):  # dw, db: of its own rows
        for found, terms in zip(rank_found[2:4], (h * dz, dz), strict=True):
            np.testing.assert_allclose(
                found, terms[part].sum(axis=(0, 2, 3)), rtol=1e-11, atol=1e-14
            )
    for i, (a, b, expected) in enumerate(zip(one, two, whole, strict=True)):
        if i < 2:  # y, dx: each rank has its rows
            found = np.concatenate([a, b])
        elif i < 4:  # dw, db
            found = a + b
        else:
            np.testing.assert_array_equal(a, b)
            found = a
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_batch_norm_far_from_zero_and_with_nan(gpu: Device, rng: np.random.Generator) -> None:
    x = lying(rng, (40, 3, 9, 9), np.float32, True)
    x[:, 1] += 1000
    nothing = None, None, None, None, True, 0.1, 1e-5
    (_, _, expected), (_, _, got) = on_both(gpu, "batch_norm_forward", x, *nothing, tolerance=5e4)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    x[3, 1, 2, 2] = np.nan
    with gpu.activate():
        y, *_ = gpu.kernels.batch_norm_forward(gpu.upload(x), *nothing, True)
    y = gpu.download(y)
    assert np.isnan(y[:, 1]).all() and not np.isnan(y[:, [0, 2]]).any()


@pytest.mark.parametrize("run", [1 << 12, 9])  # values that a block adds up
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_from_zero_the_error_grows_with_the_distance_not_with_its_square(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any, dtype: Any, run: int
) -> None:
    """As the mean of squares less the square of the mean would err. What is given less its mean or
    its largest has lost nothing.
    """
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.batch_norm"], "RUN", run)
    far, near, some = 10_000, dict(tolerance=200), (0.1, 1e-5)
    x, dy = (lying(rng, (9, 4, 5, 7), dtype, True) for _ in range(2))
    x += dtype(far)
    one, nothing = np.ones(4, dtype), (None, None, None, None, True)
    (_, *moments), _ = on_both(gpu, "batch_norm_forward", x, *nothing, *some, tolerance=20 * far)
    on_both(gpu, "batch_norm_backward", dy, x, one, *moments, True, ALL, **near)
    x, dy = (lying(rng, (9, 70), dtype, False) for _ in range(2))
    x += dtype(far)
    (_, *moments), _ = on_both(gpu, "layer_norm_forward", x, None, None, 1e-5, tolerance=20 * far)
    on_both(gpu, "layer_norm_backward", dy, x, None, *moments, ALL, **near)
    target = rng.integers(0, 70, 9)
    for name in ("softmax_forward", "log_softmax_forward"):
        on_both(gpu, name, x, 1, **near)
    for smoothing in (0.0, 0.3):
        on_both(gpu, "cross_entropy_forward", x, target, smoothing, **near)
    on_both(gpu, "mse_loss_forward", x, x + dy, tolerance=20)
    on_both(gpu, "mse_loss_backward", dy, x, x + dy, (True, True), tolerance=20)


def test_the_runs_of_batch_norm_are_added_in_double(gpu: Device, monkeypatch: Any) -> None:
    """A float would lose the 1 between these."""
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.batch_norm"], "RUN", 1)
    values = np.array([2**26, 1, -(2**26), 2], np.float32).reshape(4, 1)
    x, mean, one = (np.full(s, v, np.float32) for s, v in (((4, 1), 3), (1, 2), (1, 1)))
    with gpu.activate():
        sent = [gpu.upload(a) for a in (values, x, one, mean, one)]
        _, dw, db = gpu.kernels.batch_norm_backward(*sent, True, ALL)
        nothing = None, None, None, None, True, 0.1, 1e-5
        _, m, _ = gpu.kernels.batch_norm_forward(sent[0], *nothing)
    assert gpu.download(dw) == gpu.download(db) == 3 and gpu.download(m) == 0.75


def test_what_relu_stops_counts_nowhere(gpu: Device, rng: np.random.Generator) -> None:
    x, dy = (lying(rng, (5, 2, 3), np.float64, True) for _ in range(2))
    (y, m, r), _ = on_both(
        gpu, "batch_norm_forward", x, None, None, None, None, True, 0.1, 0.1, True
    )
    dy[y <= 0] = np.inf
    _, got = on_both(gpu, "batch_norm_backward", dy, x, None, m, r, True, ALL, y)
    assert all(np.isfinite(g).all() for g in got)
    rows = rng.standard_normal((2, 3, 2)), rng.standard_normal((4, 2))
    (y,), _ = on_both(gpu, "linear_forward", *rows, None, True)
    dy = np.where(y > 0, 1.0, np.inf)
    _, got = on_both(gpu, "linear_backward", dy, *rows, ALL, y)
    assert all(np.isfinite(g).all() for g in got)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_on_sequences_adds_up_any_number_of_rows(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any, dtype: Any
) -> None:
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.add_to_columns"], "RUN", 4)
    for leading in ((), (1, 3), (7, 9), (2, 3, 6)):  # in one launch, in two, in three
        x = rng.standard_normal((*leading, 3)).astype(dtype)
        dy = rng.standard_normal((*leading, 300)).astype(dtype)
        w, b = rng.standard_normal((300, 3)).astype(dtype), rng.standard_normal(300).astype(dtype)
        for bias in (b, None):
            for relu in (False, True):
                (y,), _ = on_both(gpu, "linear_forward", x, w, bias, relu, tolerance=200)
                on_both(gpu, "linear_backward", dy, x, w, ALL, y if relu else None, tolerance=400)
        on_both(gpu, "linear_backward", dy, x, w, (False, False, True), tolerance=400)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    for shape in ((5, 7), (40, 3), (2, 3, 4, 5), (6,), (1, 100), (3, 0), (2, 0, 3), (0,)):
        for axis in range(-1, len(shape)):
            x, dy = (activation(rng, shape, dtype, len(shape) > 1) for _ in range(2))
            x = 30 * x  # dy is not: its rounding, which the gradient has, would be 30 times larger
            for name in ("softmax", "log_softmax"):
                y = parity(gpu, f"{name}_forward", x, axis, tolerance=100)
                parity(gpu, f"{name}_backward", dy, y, axis, tolerance=100)


def test_a_nan_is_in_all_of_its_column_and_in_no_other(gpu: Device) -> None:
    x, target = np.arange(45.0).reshape(3, 15), np.array([14, 0, 7])
    for place in (0, 1, 8, 14):  # of all but the first thread, too
        x[1] = np.where(np.arange(15) == place, np.nan, 1)
        with gpu.activate():
            results = [
                gpu.kernels.softmax_forward(gpu.upload(x), 1),
                gpu.kernels.log_softmax_forward(gpu.upload(x), 1),
                *gpu.kernels.cross_entropy_forward(gpu.upload(x), gpu.upload(target), 0.1),
            ]
        for result in results:
            nan = np.isnan(gpu.download(result)).reshape(3, -1)
            assert nan[1].all() and not nan[[0, 2]].any()


@pytest.mark.parametrize("label", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer_type(gpu: Device, rng: np.random.Generator, label: Any) -> None:
    x, target = activation(rng, (5, 7), np.float32), rng.integers(0, 7, 5).astype(label)
    _, p = parity(gpu, "cross_entropy_forward", x, target, tolerance=100)
    for name, given in (("cross_entropy", p), ("nll_loss", x)):
        parity(gpu, f"{name}_backward", np.ones(5, np.float32), given, target, tolerance=100)
    parity(gpu, "nll_loss_forward", x, target)


@pytest.mark.parametrize("wrong", [-1, 7, 2**40])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_a_label_out_of_range_gives_nan(gpu: Device, loss: str, wrong: int) -> None:
    """Those that live on a GPU are not looked at before: the loss and the gradient of that row, and
    of no other, say so. The trainer ends at a loss that is NaN.
    """
    x = tinynet.tensor(np.ones((3, 7), np.float32), device=gpu, requires_grad=True)
    target = tinynet.tensor(np.array([2, wrong, 6]), device=gpu)
    losses = getattr(tinynet.functional, loss)(x, target, reduction="none")
    assert np.isnan(losses.numpy()).tolist() == [False, True, False]
    losses.sum().backward()
    assert np.isnan(x.grad.numpy()).any(axis=1).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    for N, K in ((1, 2), (5, 10), (33, 9), (64, 100)):
        logits, target = 30 * activation(rng, (N, K), dtype), rng.integers(0, K, N)
        _, probabilities = parity(gpu, "cross_entropy_forward", logits, target, tolerance=100)
        parity(
            gpu,
            "cross_entropy_backward",
            rng.standard_normal(N).astype(dtype),
            probabilities,
            target,
        )


def test_cross_entropy_of_huge_logits(gpu: Device) -> None:
    logits = np.array([[1e4, -1e4, 0], [-3e38, 0, 0]], np.float32)
    parity(gpu, "cross_entropy_forward", logits, np.array([1, 0]))


@pytest.mark.parametrize("by", [1e3, -1e3])
def test_what_a_column_has_in_common_does_not_count(gpu: Device, by: float) -> None:
    x, target = np.arange(24.0).reshape(2, 12) % 7 + by, np.array([3, 11])
    for name in ("softmax_forward", "log_softmax_forward"):
        for axis in (0, 1):
            assert np.isfinite(parity(gpu, name, x, axis)).all()
    for e in (0.0, 0.3):
        losses, p = parity(gpu, "cross_entropy_forward", x, target, e)
        assert np.isfinite(losses).all() and np.isfinite(p).all()


@pytest.mark.parametrize("innermost", [True, False])
def test_the_gradient_of_a_loss_lies_as_its_argument(
    gpu: Device, rng: np.random.Generator, innermost: bool
) -> None:
    x, dlosses = gpu.upload(lying(rng, (5, 7), np.float32, innermost)), gpu.upload(np.ones(5))
    target = gpu.upload(rng.integers(0, 7, 5))
    with gpu.activate():
        _, p = gpu.kernels.cross_entropy_forward(x, target)
        for lies in (
            p,
            gpu.kernels.cross_entropy_backward(dlosses.astype(np.float32), p, target),
            gpu.kernels.nll_loss_backward(dlosses.astype(np.float32), x, target),
        ):
            assert lies.strides == x.strides


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("innermost", [True, False])
def test_losses_over_classes(
    gpu: Device, rng: np.random.Generator, innermost: bool, dtype: Any
) -> None:
    for shape in ((5, 7), (33, 9), (1, 3), (40, 1), (2, 3, 4), (6,)):
        x = 30 * lying(rng, shape, dtype, innermost and len(shape) > 1)
        target = np.asarray(rng.integers(0, shape[-1], shape[:-1]))
        dlosses = np.asarray(rng.standard_normal(shape[:-1]).astype(dtype))
        for e in (0.0, 0.3, 1.0):
            (_, p), _ = on_both(gpu, "cross_entropy_forward", x, target, e, tolerance=200)
            on_both(gpu, "cross_entropy_backward", dlosses, p, target, e)
        on_both(gpu, "nll_loss_forward", x, target, tolerance=0)
        on_both(gpu, "nll_loss_backward", dlosses, x, target, tolerance=0)


def test_a_class_that_is_not_there_gives_nan(gpu: Device) -> None:
    with gpu.activate():
        x, target = gpu.upload(np.ones((3, 4), np.float32)), gpu.upload(np.array([4, -1, 3]))
        losses = gpu.kernels.nll_loss_forward(x, target)
    np.testing.assert_array_equal(gpu.download(losses), [np.nan, np.nan, -1])


def test_binary_cross_entropy_of_huge_logits(gpu: Device) -> None:
    x = np.array([1e4, -1e4, 0, 3e38, -3e38, np.nan], np.float32)
    for t in (0.0, 1.0):
        target, dy = np.full(6, t, np.float32), np.ones(6, np.float32)
        on_both(gpu, "bce_with_logits_forward", x, target)
        on_both(gpu, "bce_with_logits_backward", dy, x, target, (True, True))
        on_both(gpu, "bce_with_logits_backward", dy, x, target, (False, True))
        on_both(gpu, "mse_loss_backward", dy, x / 1e20, target, (False, True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norm_of_many_rows(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    for shape in ((150, 70), (1, 3), (64, 1), (9, 33)):
        x, dy = rng.standard_normal((2, *shape)).astype(dtype) + dtype(1)
        w, b = rng.standard_normal((2, shape[1])).astype(dtype)
        for weight, bias in ((w, b), (None, None)):
            (y, m, r), _ = on_both(gpu, "layer_norm_forward", x, weight, bias, 0.1)
            for needs in (ALL, (False, True, False), (True, False, True)):
                for lay in (np.ascontiguousarray, np.asfortranarray):
                    args = lay(dy), lay(x), weight, m, r, needs
                    on_both(gpu, "layer_norm_backward", *args, tolerance=200)
