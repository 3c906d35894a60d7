"""Every CUDA kernel against the NumPy kernel of the same name, over the shapes where such kernels
go wrong.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from typing import Any

import fake_cupy
import numpy as np
import on_cpu
import pytest
from test_sources import SOURCES

import tinynet
import tinynet.functional as F
from tinynet import kernels
from tinynet.devices import Device

DTYPES = [np.float32, np.float64]
# x (N, C, H, W), kernel, stride, padding: overlapping, padded, not tiling, one picture, one pixel,
# N that divides by 4 or not
WINDOWS = [
    ((2, 3, 7, 9), (3, 3), (2, 2), (0, 0)),
    ((4, 2, 6, 5), (3, 2), (1, 2), (1, 1)),
    ((3, 1, 8, 8), (2, 2), (3, 3), (0, 0)),
    ((1, 4, 5, 5), (5, 5), (1, 1), (2, 2)),
    ((8, 2, 1, 1), (1, 1), (1, 1), (0, 0)),
    ((5, 2, 11, 4), (4, 3), (2, 1), (2, 1)),
    ((2, 1, 5, 3), (3, 1), (1, 1), (1, 0)),
]
CEIL = [False, True]


def parity(gpu: Device, name: str, *args: Any, tolerance: float = 20) -> Any:
    """Run kernel `name` on both; compare every result in shape, type and value, to `tolerance`
    units of rounding.
    """
    sent = [gpu.upload(a) if isinstance(a, np.ndarray) else a for a in args]
    expected = getattr(kernels, name)(*args)
    with gpu.activate(name):
        got = getattr(gpu.kernels, name)(*sent)
    for given, a in zip(sent, args, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(
                gpu.download(given), a, err_msg=f"{name} changed its input"
            )
    pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
    of_its_own(name, got, sent)
    results = []
    for e, g in pairs:
        assert (e is None) == (g is None)
        if e is None:
            continue
        g = gpu.download(g)
        assert (g.shape, g.dtype) == (e.shape, e.dtype), (
            f"{name}: {g.shape} {g.dtype} for {e.shape} {e.dtype}"
        )
        if e.dtype.kind == "f":
            scale = max(1.0, float(np.abs(e[np.isfinite(e)]).max(initial=0)))
            np.testing.assert_allclose(
                g, e, rtol=0, atol=tolerance * np.finfo(e.dtype).eps * scale, err_msg=name
            )
        else:
            np.testing.assert_array_equal(g, e, err_msg=name)
        results.append(g)
    return results[0] if len(results) == 1 else results


def of_its_own(name: str, results: Any, given: list) -> None:
    """No result is memory of an argument: who changes that later would change the result. And
    each of its numbers has a place of its own, without gaps.
    """
    for result in results if isinstance(results, tuple) else (results,):
        if hasattr(result, "strides") and result.size:
            reach = sum((n - 1) * s for n, s in zip(result.shape, result.strides, strict=True))
            assert reach + result.itemsize == result.nbytes, f"{name}: {result.strides}"
        for a in given:
            if hasattr(a, "data") and hasattr(result, "data"):
                beside = result.data.ptr - a.data.ptr
                assert not 0 <= beside < a.nbytes, f"{name} gives an argument's memory"


def activation(
    rng: np.random.Generator, shape: tuple, dtype: Any, innermost: bool = True
) -> np.ndarray:
    """Random values, batch innermost in memory or in C order."""
    x = rng.standard_normal(shape).astype(dtype)
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0) if innermost else x


def test_the_same_names_and_arguments(gpu: Device) -> None:
    names, on_gpu = (
        {n for n, f in vars(m).items() if inspect.isfunction(f)} for m in (kernels, gpu.kernels)
    )
    assert on_gpu == names
    for name in names:
        expected, got = (
            list(inspect.signature(getattr(m, name)).parameters) for m in (kernels, gpu.kernels)
        )
        assert got == expected, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WINDOWS)
def test_im2col_and_col2im(gpu: Device, rng: np.random.Generator, case: tuple, dtype: Any) -> None:
    shape, *geometry = case
    col = parity(gpu, "im2col", activation(rng, shape, dtype), *geometry, tolerance=0)
    parity(gpu, "im2col", activation(rng, shape, dtype, innermost=False), *geometry, tolerance=0)
    parity(
        gpu, "col2im", rng.standard_normal(col.shape).astype(dtype), shape, *geometry, tolerance=4
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", WINDOWS)
@pytest.mark.parametrize("ceil", CEIL)
def test_pooling(
    gpu: Device, rng: np.random.Generator, case: tuple, ceil: bool, dtype: Any
) -> None:
    shape, kernel, stride, padding = case
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    x = activation(rng, shape, dtype) - 3  # negative: padding with zeros would win
    y, winner = parity(gpu, "max_pool2d_forward", x, kernel, stride, padding, ceil, tolerance=0)
    dy = activation(rng, y.shape, dtype)
    parity(gpu, "max_pool2d_backward", dy, winner, shape, kernel, stride, padding)
    for count_include_pad in (False, True):
        parity(gpu, "avg_pool2d_forward", x, kernel, stride, padding, ceil, count_include_pad)
        parity(
            gpu, "avg_pool2d_backward", dy, shape, kernel, stride, padding, ceil, count_include_pad
        )


def test_max_pool_ties_nans_and_large_windows(gpu: Device, rng: np.random.Generator) -> None:
    x = rng.integers(0, 2, (4, 2, 9, 9)).astype(np.float32)  # ties everywhere
    parity(gpu, "max_pool2d_forward", x, (3, 3), (2, 2), (1, 1), True, tolerance=0)
    x[1, 0, 3:5, 4] = np.nan
    x[2] = -np.inf
    expected = kernels.max_pool2d_forward(x, (3, 3), (2, 2), (1, 1), False)
    with gpu.activate():
        got = gpu.kernels.max_pool2d_forward(gpu.upload(x), (3, 3), (2, 2), (1, 1), False)
    for e, g in zip(expected, got, strict=True):
        np.testing.assert_array_equal(gpu.download(g), e)
    large = rng.standard_normal((1, 1, 20, 20)).astype(np.float32)
    _, winner = parity(
        gpu, "max_pool2d_forward", large, (17, 17), (1, 1), (0, 0), False, tolerance=0
    )
    assert winner.dtype == np.uint16


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_pictures_at_once_and_one(
    gpu: Device, rng: np.random.Generator, dtype: Any
) -> None:
    """16 bytes at once, where the batch and every address divide: the same bits either way."""
    gpu.kernels  # noqa: B018  imports them
    at_once = sys.modules["tinynet.kernels.cuda.launch"].at_once
    window = (3, 2), (2, 1), (1, 1)

    def everything(n: int, shift: int) -> list[np.ndarray]:
        def lay(shape: tuple[int, ...], values: np.ndarray) -> Any:
            memory = gpu.upload(np.concatenate([np.zeros(shift), values.ravel()]).astype(dtype))
            return gpu.xp.moveaxis(memory[shift:].reshape(shape), -1, 0)

        with gpu.activate():
            x = lay((3, 5, 6, n), values[: 90 * n])
            fits = 16 // dtype().itemsize
            assert at_once(n, x) == (fits if n % fits == 0 and not shift else 1)
            even = gpu.empty((n,), dtype)  # at an address that divides
            assert at_once(n, even, x) == at_once(n, x, even) == at_once(n, x)
            y, winner = gpu.kernels.max_pool2d_forward(x, *window, False)
            dy = lay((3, 3, 7, n), values[: 63 * n])
            dx = gpu.kernels.max_pool2d_backward(dy, winner, x.shape, *window)
            col = gpu.kernels.im2col(x, *window)
            back = gpu.kernels.col2im(lay(col.shape, values[: col.size]).T, x.shape, *window)
            w = gpu.upload(values[: 4 * 18].astype(dtype).reshape(4, 3, 3, 2))
            z = gpu.kernels.conv2d_forward(x, w, None, *window[1:], 1)
            return [gpu.download(a) for a in (y, winner, dx, col, back, z)]

    values = rng.standard_normal(18 * 21 * 8)
    for n in (8, 6, 3):
        for ours, moved in zip(everything(n, 0), everything(n, 1), strict=True):
            np.testing.assert_array_equal(ours, moved)


def test_max_pool_windows_beyond_65535(gpu: Device, rng: np.random.Generator) -> None:
    x = rng.standard_normal((1, 1, 257, 258)).astype(np.float32)
    geometry = (257, 256), (1, 1), (0, 0)
    y, winner = parity(gpu, "max_pool2d_forward", x, *geometry, False, tolerance=0)
    assert winner.dtype == np.uint32
    dy = np.ones_like(y)
    parity(gpu, "max_pool2d_backward", dy, winner, x.shape, *geometry)


def test_more_outputs_and_classes_than_a_grid_has_rows(gpu: Device, rng: Any) -> None:
    """A grid has 65,535 rows along y; 70,001 is a prime, so the last ones along z are not full."""
    many, f = 70_001, np.float32
    x, weight = activation(rng, (2, 1), f), rng.standard_normal((many, 1)).astype(f)
    parity(gpu, "linear_forward", x, weight, weight[:, 0], True)
    logits, target = activation(rng, (2, many), f), np.array([3, many - 1])
    _, p = parity(gpu, "cross_entropy_forward", logits, target, tolerance=100)
    parity(gpu, "cross_entropy_backward", np.ones(2, f), p, target, tolerance=100)


def every_kernel(gpu: Device, rng: np.random.Generator, N: int) -> None:
    """Call the kernels of all `.cu` files, but for rules of training; maps are of N pictures."""
    f, one, pair, none = np.float32, (1, 1), (1, 2), (0, 0)
    x, maps, row = activation(rng, (2, 7), f), activation(rng, (N, 7, 4, 2), f), np.ones(7, f)
    y = parity(gpu, "linear_forward", x, np.ones((7, 7), f), row, True)
    parity(gpu, "linear_backward", y, x, np.ones((7, 7), f), (True, True, True), y)
    parity(gpu, "linear_backward", y, x, np.ones((7, 7), f), (True, True, True))
    sums = parity(gpu, "max_pool2d_forward", maps, pair, one, none, False)[0]
    _, winner = parity(gpu, "max_pool2d_forward", maps, pair, one, none, False)
    parity(gpu, "max_pool2d_backward", sums, winner, maps.shape, pair, one, none)
    parity(gpu, "avg_pool2d_forward", maps, pair, one, none, False, True)
    parity(gpu, "avg_pool2d_backward", sums, maps.shape, pair, one, none, False, True)
    parity(gpu, "adaptive_avg_pool2d_forward", maps, pair)
    parity(gpu, "adaptive_avg_pool2d_backward", sums, maps.shape, (4, 1))
    parity(gpu, "upsample2d_backward", parity(gpu, "upsample2d_forward", maps, pair), pair)
    col = parity(gpu, "im2col", maps, pair, one, (0, 1))
    parity(gpu, "col2im", col, maps.shape, pair, one, (0, 1))
    weight, geometry = rng.standard_normal((3, 7, 2, 2)).astype(f), (one, one, 1)
    y = parity(gpu, "conv2d_forward", maps, weight, None, *geometry, tolerance=200)
    parity(gpu, "conv2d_backward", y, maps, weight, *geometry, (True, True, True), tolerance=400)
    for norm in ("local_response_norm", "spatial_response_norm"):
        parity(gpu, f"{norm}_forward", maps, 2, 1.0, 0.75, 1.0)
        parity(gpu, f"{norm}_backward", maps, maps, 2, 1.0, 0.75, 1.0)
    _, *moments = parity(
        gpu, "batch_norm_forward", maps, row, row, None, None, True, 0.1, 0.5, True
    )
    parity(gpu, "batch_norm_backward", maps, maps, row, *moments, True, (True, True, True), maps)
    rows = rng.standard_normal((7, 2)).astype(f)
    _, *moments = parity(gpu, "layer_norm_forward", rows, rows[0], rows[1], 0.1)
    parity(gpu, "layer_norm_backward", rows, rows, rows[0], *moments, (True, True, True))
    sequences, w = rng.standard_normal((1, 7, 2)).astype(f), np.ones((2, 2), f)
    parity(gpu, "linear_forward", sequences, w, w[0])
    parity(gpu, "linear_backward", sequences, sequences, w, (True, True, True))
    # the last row that is read is read once
    parity(gpu, "index_backward", rows, np.array([1, 3, 0, 0, 1, 2, 1]), (5, 2))
    for softmax in ("softmax", "log_softmax"):
        parity(gpu, f"{softmax}_backward", maps, parity(gpu, f"{softmax}_forward", maps, 1), 1)
    target, dlosses = rng.integers(0, 2, 7), rng.standard_normal(7).astype(f)
    _, p = parity(gpu, "cross_entropy_forward", rows, target)
    parity(gpu, "cross_entropy_backward", dlosses, p, target)
    parity(gpu, "nll_loss_backward", dlosses, rows, target)
    parity(gpu, "nll_loss_forward", rows, target)
    parity(gpu, "nll_loss_forward", sequences, target[None])
    for loss in ("bce_with_logits", "mse_loss"):
        parity(gpu, f"{loss}_forward", maps, maps)
        parity(gpu, f"{loss}_backward", maps, maps, maps, (True, True))
    parity(gpu, "attention_backward", *[sequences] * 4, np.ones((1, 1, 7, 7), f))
    parity(gpu, "attention_forward", *[sequences] * 3, 1, None)
    parity(gpu, "matmul", sequences, np.ones((3, 2, 2), f))
    parity(gpu, "square_sum", maps)
    _, mask = parity(gpu, "dropout_forward", maps, 0.5, 1, 2)
    parity(gpu, "dropout_backward", maps, mask, 0.5)
    parity(gpu, "dropout_forward", maps, 0.5, 1, 2, True, slice(2, 2 + N), N + 3)
    numbers = dict(clip=(-0.3, 0.3), leaky_relu=(0.1,), elu=(0.7,))
    for name in sys.modules["tinynet.kernels.cuda.elementwise"].__all__:
        if name.partition("_")[0] != "dropout":
            x = maps[:1] ** 2 + 1
            y = [x] * name.endswith("_backward")
            parity(gpu, name, *y, x, *numbers.get(name.rsplit("_", 1)[0], ()))
    pictures, corner = rng.integers(0, 256, (N, 5, 6, 3), np.uint8), np.ones(N, np.int32)
    mean, noise = rng.standard_normal((5, 6, 3)).astype(f), rng.standard_normal((N, 3)).astype(f)
    arrays = pictures, mean, corner, corner, corner > 0, noise
    parity(gpu, "pictures_forward", *arrays, (3, 4), 0.5, 2)


def test_rows_go_on_along_z_in_every_kernel(
    gpu: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.launch"], "ROWS", 3)
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.response_norm"], "SEGMENT", 1)
    for name in ("add_to_columns", "layer_norm"):  # these make longer runs, not more rows
        monkeypatch.setattr(sys.modules[f"tinynet.kernels.cuda.{name}"], "GRID_ROWS", 3)
        monkeypatch.setattr(sys.modules[f"tinynet.kernels.cuda.{name}"], "RUN", 2)
    every_kernel(gpu, rng, 3)
    rows = rng.standard_normal((7, 2)).astype(np.float32)
    for last in (0, 3):  # the last row is read often, and not at all
        parity(gpu, "index_backward", rows, np.array([last, 2, 0, 0, 1, last, 1]), (4, 2))


def test_no_launch_starts_a_block_that_has_nothing_to_do(
    machine: fake_cupy.Machine, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a block less along any axis of the grid, each result is another one."""
    gpu, run = tinynet.device("cuda"), on_cpu.run
    gpu.kernels  # noqa: B018  imports them

    def launched(code: str, name: str, options: Any, grid: tuple, block: tuple, args: list) -> None:
        before = {a.ctypes.data: a.copy() for a in args if isinstance(a, np.ndarray)}
        run(code, name, options, grid, block, args)
        for axis in range(3):
            fewer = tuple(n - (i == axis) for i, n in enumerate(grid))
            if 0 in fewer:
                continue
            mine = {address: a.copy() for address, a in before.items()}
            given = [mine[a.ctypes.data] if isinstance(a, np.ndarray) else a for a in args]
            run(code, name, options, fewer, block, given)
            assert any(a.tobytes() != b.tobytes() for a, b in zip(given, args, strict=True)), (
                f"{name} on a grid {grid} in blocks of {block}"
            )

    monkeypatch.setattr(on_cpu, "run", launched)
    every_kernel(gpu, rng, 4)
    declared = {name for file in SOURCES for name in on_cpu.declared(file.read_text())}
    assert declared - set(machine.launches) == {
        name for name in declared if name.endswith(("_step", "_steps"))
    }


def test_arrays_with_gaps_in_memory(
    gpu: Device, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second number of a larger array."""
    gpu.kernels  # noqa: B018  imports them
    upload = gpu.upload

    def apart(a: np.ndarray) -> Any:
        return upload(np.stack([a, a], axis=-1))[..., 0]

    monkeypatch.setattr(gpu, "upload", apart)
    every_kernel(gpu, rng, 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_local_response_norm(gpu: Device, rng: np.random.Generator, size: int, dtype: Any) -> None:
    for C, beta in (
        (1, 0.75),
        (3, 0.75),
        (40, 0.75),
        (70, 0.6),
    ):  # below the window; beyond one segment of 32
        x, dy = (activation(rng, (3, C, 2, 3), dtype) for _ in range(2))
        parity(gpu, "local_response_norm_forward", x, size, 1.0, beta, 1.0)
        parity(gpu, "local_response_norm_backward", dy, x, size, 1.0, beta, 1.0, tolerance=60)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("column_bytes", [1 << 28, 1 << 11])  # all at once; a row or two at a time
def test_convolution(
    gpu: Device,
    rng: np.random.Generator,
    monkeypatch: Any,
    groups: int,
    column_bytes: int,
    dtype: Any,
) -> None:
    monkeypatch.setattr(
        sys.modules[gpu.kernels.conv2d_forward.__module__], "COLUMN_BYTES", column_bytes
    )
    for N, C, O, size, kernel, stride, padding in (
        (4, 4, 6, (9, 7), (3, 3), (1, 1), (1, 1)),
        (3, 2, 2, (11, 11), (5, 4), (2, 3), (0, 2)),
        (1, 2, 4, (4, 4), (1, 1), (1, 1), (0, 0)),
        (5, 2, 2, (8, 6), (2, 3), (3, 1), (1, 2)),  # windows apart: no pixel in two of them
        (2, 2, 2, (3, 3), (1, 2), (1, 1), (2, 3)),  # padded by more than a kernel sees
        (2, 2, 2, (3, 3), (1, 2), (2, 1), (5, 3)),
        (4, 2, 6, (6, 5), (3, 3), (1, 2), (1, 1)),
        (1, 2, 80, (6, 5), (3, 3), (1, 1), (1, 1)),  # a row's dw is larger than its columns
    ):
        x, bias = activation(rng, (N, C, *size), dtype), rng.standard_normal(O).astype(dtype)
        weight = rng.standard_normal((O, C // groups, *kernel)).astype(dtype)
        geometry = stride, padding, groups
        y = parity(gpu, "conv2d_forward", x, weight, bias, *geometry, tolerance=200)
        parity(gpu, "conv2d_forward", x, weight, None, *geometry, tolerance=200)
        dy = activation(rng, y.shape, dtype)
        for needs in ((True, True, True), (False, True, False), (True, False, True)):
            parity(gpu, "conv2d_backward", dy, x, weight, *geometry, needs, tolerance=400)


def test_pieces_whose_windows_lie_in_the_padding_alone(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """A row at a time: some above the picture, some below it."""
    monkeypatch.setattr(sys.modules[gpu.kernels.conv2d_forward.__module__], "COLUMN_BYTES", 1)
    x, weight = rng.standard_normal((2, 2, 3, 3)), rng.standard_normal((2, 2, 1, 2))
    for stride in ((2, 1), (1, 1)):
        geometry = stride, (5, 3), 1
        y = parity(gpu, "conv2d_forward", x, weight, None, *geometry, tolerance=200)
        needs = (True, True, True)
        parity(gpu, "conv2d_backward", y, x, weight, *geometry, needs, tolerance=400)


@pytest.mark.parametrize("column_bytes", [1 << 28, 1 << 11])
def test_convolutions_of_one_tensor_have_the_bits_of_each_alone(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any, column_bytes: int
) -> None:
    """Three, so that the order in which their parts of dx are added counts."""
    monkeypatch.setattr(
        sys.modules[gpu.kernels.conv2d_forward.__module__], "COLUMN_BYTES", column_bytes
    )
    for options in (dict(padding=1, relu=True), dict(stride=(2, 1), groups=2)):
        shapes = [(4, 4, 9, 7), *((O, 4 // options.get("groups", 1), 3, 3) for O in (6, 6, 2))]
        arrays = [rng.standard_normal(s).astype(np.float32) for s in (*shapes, (6,), (2,))]
        found = []
        for together in (True, False):
            leaves = [tinynet.tensor(a, device=gpu, requires_grad=True) for a in arrays]
            (x, *weights), biases = leaves[:4], [leaves[4], None, leaves[5]]
            if together:
                ys = F.conv2d_each(x, weights, biases, **options)
            else:
                ys = [F.conv2d(x, *pair, **options) for pair in zip(weights, biases, strict=True)]
            sum((y * y + y).sum() for y in ys).backward()
            found.append([t.numpy() for t in (*ys, *(leaf.grad for leaf in leaves))])
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_and_matmul(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    for N, I, O in ((5, 7, 3), (1, 4, 2), (300, 2, 1)):
        x, dy = activation(rng, (N, I), dtype), activation(rng, (N, O), dtype, innermost=False)
        weight, bias = (
            rng.standard_normal((O, I)).astype(dtype),
            rng.standard_normal(O).astype(dtype),
        )
        parity(gpu, "linear_forward", x, weight, bias, tolerance=200)
        parity(gpu, "linear_forward", x, weight, None, tolerance=200)
        parity(gpu, "linear_backward", dy, x, weight, (True, True, True), tolerance=200)
        parity(gpu, "linear_backward", dy, x, weight, (False, False, True), tolerance=200)
        parity(gpu, "matmul", x, np.ascontiguousarray(weight.T), tolerance=200)
        parity(gpu, "matmul", x, weight.T, tolerance=200)
    for left, right in (
        ((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (6, 4, 5)),
        ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((4,), (4,)), ((0, 3, 4), (4, 5)),
        ((1, 3, 4), (1, 4, 5)), ((2, 3, 0), (2, 0, 5)), ((1, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (1, 4, 5)), ((2, 3, 4), (1, 2, 4, 5)), ((1, 2, 3, 4), (2, 4, 5)),
    ):  # fmt: skip
        a, b = rng.standard_normal(left).astype(dtype), rng.standard_normal(right).astype(dtype)
        parity(gpu, "matmul", a, b, tolerance=200)
        if a.ndim > 1:
            lying = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
            parity(gpu, "matmul", lying, b, tolerance=200)
    parity(gpu, "matmul", *(rng.integers(0, 9, (2, 3, 3)) for _ in range(2)))
    for other in (np.float32, np.float64, np.int64):  # the wider type of two
        a, b = rng.integers(-9, 9, (3, 4)).astype(other), rng.standard_normal((4, 2)).astype(dtype)
        parity(gpu, "matmul", a, b, tolerance=200)
        parity(gpu, "matmul", b.T, a.T, tolerance=200)
    parity(gpu, "matmul", rng.standard_normal((3, 0)).astype(dtype), np.empty((0, 2), dtype))
    parity(
        gpu, "matmul", x[::2, :1], rng.standard_normal((1, 3)).astype(dtype)[:, ::2], tolerance=200
    )


def test_complex_numbers_are_in_no_product(gpu: Device) -> None:
    real, other = np.ones((2, 2)), np.ones((2, 2), complex)
    for a, b in ((other, real), (real, other), (other, other)):
        said = f"matmul: expected float32 or float64, got {a.dtype} and {b.dtype}"
        with gpu.activate(), pytest.raises(TypeError, match=said):
            gpu.kernels.matmul(gpu.upload(a), gpu.upload(b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bias_and_relu(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    for N, C, O, size in ((4, 3, 5, (3, 3)), (3, 1, 2, (9, 11)), (1, 2, 1, (1, 1))):
        x, weight = (
            activation(rng, (N, C, *size), dtype),
            rng.standard_normal((O, C, 1, 1)).astype(dtype),
        )
        bias, geometry, x_nan = rng.standard_normal(O).astype(dtype), ((1, 1), (0, 0), 1), x.copy()
        x_nan[0, 0, 0, 0] = np.nan
        for b in (bias, None):
            y = parity(gpu, "conv2d_forward", x_nan, weight, b, *geometry, True, tolerance=200)
            assert np.isnan(y[0, :, 0, 0]).all() and not (y < 0).any()
            flat = x_nan[:, :, 0, 0]
            for rows in (flat, flat[:, None]):  # sequences, too
                z = parity(gpu, "linear_forward", rows, weight[:, :, 0, 0], b, True, tolerance=200)
                assert np.isnan(z[0]).all() and not (z < 0).any()
        dy = activation(rng, y.shape, dtype, innermost=False)
        dy[y <= 0] = np.inf  # does not pass, not even as NaN
        for needs in ((True, True, True), (True, True, False), (False, False, True)):
            parity(gpu, "conv2d_backward", dy, x, weight, *geometry, needs, y, tolerance=400)
            flat = dy[:, :, 0, 0], x[:, :, 0, 0], weight[:, :, 0, 0]
            parity(gpu, "linear_backward", *flat, needs, y[:, :, 0, 0], tolerance=400)
            rows = flat[0][:, None], flat[1][:, None], flat[2]
            parity(gpu, "linear_backward", *rows, needs, y[:, None, :, 0, 0], tolerance=400)


def test_gradients_that_are_asked_for_and_no_others(gpu: Device, rng: np.random.Generator) -> None:
    """Every backward kernel that is told which it needs, with every answer."""
    maps, rows, sequences = (rng.standard_normal(s) for s in ((2, 3, 4, 5), (4, 3), (2, 4, 3)))
    w, matrix, kernel = np.ones(3), rng.standard_normal((3, 3)), rng.standard_normal((3, 3, 1, 1))
    geometry = (1, 1), (0, 0), 1
    calls = [
        ("linear_backward", rows, rows, matrix), ("linear_backward", sequences, sequences, matrix),
        ("conv2d_backward", maps, maps, kernel, *geometry),
        ("batch_norm_backward", maps, maps, w, w, w, True),
        ("layer_norm_backward", rows, rows, w, np.ones(4), np.ones(4)),
        ("bce_with_logits_backward", rows, rows, rows), ("mse_loss_backward", rows, rows, rows),
    ]  # fmt: skip
    told = {
        name
        for name, f in vars(kernels).items()
        if inspect.isfunction(f) and "needs" in inspect.signature(f).parameters
    }
    assert {name for name, *_ in calls} == told - {"conv2d_each_backward"}  # conv2d's is one of it
    for name, *args in calls:
        outputs = 2 if name in ("bce_with_logits_backward", "mse_loss_backward") else 3
        for needs in itertools.product((False, True), repeat=outputs):
            if not any(needs):
                continue
            parity(gpu, name, *args, needs, tolerance=400)
            if outputs == 3 and name != "layer_norm_backward":
                parity(gpu, name, *args, needs, np.maximum(args[0], 0), tolerance=400)


@pytest.mark.parametrize(
    "run", [1 << 12, 20]
)  # elements that a block adds up: in two launches, in four
def test_rows_longer_than_a_block_adds_up(
    gpu: Device, rng: np.random.Generator, monkeypatch: Any, run: int
) -> None:
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.rows"], "RUN", run)
    dy, y = (activation(rng, (9, 2, 60, 70), np.float64) for _ in range(2))  # 37 800 in a row
    x, weight = np.zeros((9, 1, 60, 70)), np.zeros((2, 1, 1, 1))
    for output in (None, y):
        parity(
            gpu,
            "conv2d_backward",
            dy,
            x,
            weight,
            (1, 1),
            (0, 0),
            1,
            (False, False, True),
            output,
            tolerance=2000,
        )


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_elementwise_keeps_the_order_in_memory(
    gpu: Device, rng: np.random.Generator, axes: tuple
) -> None:
    x, dy = rng.standard_normal((4, 3, 5)), rng.standard_normal((4, 3, 5))
    x = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    on_gpu = gpu.upload(x)
    with gpu.activate():
        y = gpu.kernels.tanh_forward(on_gpu)
        dx = gpu.kernels.tanh_backward(gpu.upload(dy), y)
        dropped, _ = gpu.kernels.dropout_forward(on_gpu, 0.5, 1, 2)
    assert on_gpu.strides == y.strides == dx.strides == dropped.strides == x.strides


@pytest.mark.parametrize("innermost", [True, False])
def test_relu_in_place(gpu: Device, rng: np.random.Generator, innermost: bool) -> None:
    x = activation(rng, (3, 4, 5, 2), np.float32, innermost)
    x[0, 0, 0, 0] = np.nan
    on_gpu = gpu.upload(x)
    with gpu.activate():
        y = gpu.kernels.relu_forward(on_gpu, out=on_gpu)
    np.testing.assert_array_equal(gpu.download(on_gpu), np.maximum(x, 0))
    np.testing.assert_array_equal(gpu.download(y), np.maximum(x, 0))
    with gpu.activate():  # into every second one of another array, and of itself
        on_gpu = gpu.upload(x)
        other = gpu.xp.zeros((3, 8, 5, 2), np.float32)
        gpu.kernels.relu_forward(on_gpu, out=other[:, ::2])
        gpu.kernels.relu_forward(on_gpu[:, ::2], out=on_gpu[:, ::2])
    x[:, ::2] = np.maximum(x[:, ::2], 0)
    np.testing.assert_array_equal(gpu.download(on_gpu), x)
    np.testing.assert_array_equal(gpu.download(other)[:, ::2], np.maximum(x, 0))
    assert not gpu.download(other)[:, 1::2].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_results_keep_their_digits(gpu: Device, rng: np.random.Generator, dtype: Any) -> None:
    """Element by element, near 0 and far out: log(1 + x) for log1p(x), or 1 - erf(x) for erfc(x),
    would be right to rounding of 1, and so wrong in every digit of a small result.
    """
    gpu.kernels  # noqa: B018  imports them
    names = sys.modules["tinynet.kernels.cuda.elementwise"].__all__
    names = sorted({n.rsplit("_", 1)[0] for n in names} - {"dropout"})
    numbers = dict(clip=(-0.3, 0.3), leaky_relu=(0.1,), elu=(0.7,))
    x = np.logspace(-6, 1.4, 75).astype(dtype)
    x = np.concatenate([-x, x])
    dy, eps = np.where(rng.random(x.size) < 0.5, -0.7, 1.3).astype(dtype), np.finfo(dtype).eps
    calls = []
    for name in names:
        more = numbers.get(name, ())
        calls.append((f"{name}_forward", x, *more))
        with np.errstate(all="ignore"):
            y = getattr(kernels, f"{name}_forward")(x, *more)
        takes = list(inspect.signature(getattr(kernels, f"{name}_backward")).parameters)
        calls.append((f"{name}_backward", dy, y if takes[1] == "y" else x, *more))
    for target in (0, 0.3, 1):
        calls.append(("bce_with_logits_forward", x, np.full_like(x, target)))
        calls.append(("mse_loss_forward", x, np.full_like(x, target)))
    for name, *args in calls:
        with np.errstate(all="ignore"):  # the root and the logarithm of negative numbers
            expected = getattr(kernels, name)(*args)
        with gpu.activate(name):
            sent = [gpu.upload(a) if isinstance(a, np.ndarray) else a for a in args]
            got = gpu.download(getattr(gpu.kernels, name)(*sent))
        # these have 1 + tanh or 1 - tanh^2 in their formulas
        by_tanh = name.startswith(("tanh_backward", "sigmoid", "gelu_tanh"))
        least = 100 * eps if by_tanh else np.finfo(dtype).tiny
        np.testing.assert_allclose(got, expected, rtol=1000 * eps, atol=least, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_dropout_draws_numpys_philox(
    gpu: Device, rng: np.random.Generator, p: float, dtype: Any
) -> None:
    for shape in ((3, 5), (16,), (2, 3, 4, 5), (17, 11), (1, 1)):
        x = activation(rng, shape, dtype, len(shape) > 1)
        seed, call = (int(n) for n in rng.integers(0, 2**64, 2, np.uint64))
        _, mask = parity(gpu, "dropout_forward", x, p, seed, call, tolerance=0)
        parity(gpu, "dropout_backward", x, mask, p, tolerance=0)


@pytest.mark.parametrize("p", [0.3, 0.4])  # 19660.8 and 26214.4 of 65,536
def test_dropout_keeps_a_lane_at_the_border(gpu: Device, p: float) -> None:
    """Of so many lanes some are at it: one more or less would be another mask."""
    x, draw = np.ones((1 << 18,), np.float32), (3, 5)
    _, mask = parity(gpu, "dropout_forward", x, p, *draw, tolerance=0)
    for near in (np.floor(p * 65536), np.ceil(p * 65536)):
        other = kernels.dropout_forward(x, near / 65536, *draw)[1]
        assert (other != mask).any() == (near != round(p * 65536))


@pytest.mark.parametrize("border", [0, 3])
@pytest.mark.parametrize("mean_is_cropped", [False, True])
@pytest.mark.parametrize("cropped", [False, True])
def test_pictures(
    gpu: Device, rng: np.random.Generator, cropped: bool, mean_is_cropped: bool, border: int
) -> None:
    N, C, (h, w) = 5, 3, (6, 31)  # of 16 pixels at once the border has a run of its own
    H, W = (h, w) if cropped else (h + 4, w + 3)
    pictures = rng.integers(0, 256, (N, H, W, C), np.uint8)
    mean_size = (h, w) if mean_is_cropped else (h + 4, w + 3)
    mean = rng.uniform(0, 255, (*mean_size, C)).astype(np.float32)
    top, left = rng.integers(0, 5, N).astype(np.int32), rng.integers(0, 4, N).astype(np.int32)
    flip, colour = (
        rng.integers(0, 2, N).astype(bool),
        rng.standard_normal((N, C)).astype(np.float32),
    )
    for noise in (colour, None):
        parity(
            gpu, "pictures_forward", pictures, mean, top, left, flip, noise, (h, w), 1 / 1.1, border
        )


@pytest.mark.parametrize("count", [0, 1, 257, 70_000])
def test_square_sum(gpu: Device, rng: np.random.Generator, count: int) -> None:
    parity(gpu, "square_sum", rng.standard_normal(count).astype(np.float32))


def test_the_gradient_of_indexing(gpu: Device, rng: np.random.Generator) -> None:
    """Bit for bit NumPy's, whose order of sums is that of dy: with atomics it would vary."""
    x_shape, f = (9, 5, 4), np.float32
    rows, columns = rng.integers(-9, 9, 300), rng.integers(0, 5, 300)
    mask = rng.random(x_shape) < 0.5
    for key in (rows, (rows, columns), (rows, 2), (slice(1, 7), columns), mask, (rows, None, 1),
                (Ellipsis, rng.integers(0, 4, (3, 2))), [3, 3, -6], (rows[:0], columns[:0]),
                (2, slice(None), [1, 1, 3])):  # fmt: skip
        dy = np.asarray(rng.standard_normal(np.empty(x_shape)[key].shape[::-1]).astype(f)).T
        expected = kernels.index_backward(dy, key, x_shape)
        sent = [gpu.upload(k) if isinstance(k, np.ndarray) else k
                for k in (key if isinstance(key, tuple) else (key,))]  # fmt: skip
        with gpu.activate():
            sent = tuple(sent) if isinstance(key, tuple) else sent[0]
            got = gpu.kernels.index_backward(gpu.upload(dy), sent, x_shape)
        np.testing.assert_array_equal(gpu.download(got), expected)
