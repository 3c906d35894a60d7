"""No kernel computes in an int what an int of 32 bits would not hold in the largest arrays.

Nobody can wait for arrays of 2^31 elements behind the shim. So an int holds 17 bits here (on_cpu.py
says when that is too few), a grid as many threads along x, and arrays have more elements than that.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import fake_cupy
import numpy as np
import on_cpu
import pytest
from test_kernels import activation, parity
from test_sources import SOURCES

import tinynet
import tinynet.functional as F

MOST = (1 << 17) - 1  # the lanes of dropout, and p * 65536, need so much


@pytest.fixture
def largest(machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch) -> Counter:
    """The elements of the largest array that each kernel has been given."""
    tinynet.device("cuda").kernels  # noqa: B018  imports them
    monkeypatch.setattr(on_cpu, "INT_MOST", MOST)
    for module in ("launch", "elementwise"):
        monkeypatch.setattr(sys.modules[f"tinynet.kernels.cuda.{module}"], "LIMIT", MOST - 1023)
    largest, run = Counter(), on_cpu.run

    def noting(code: str, name: str, options: Any, grid: Any, block: Any, args: list) -> None:
        for a in args:
            size = a["parts"]["count"].max() if a.dtype.names else a.size
            largest[name] = max(largest[name], int(size))
        run(code, name, options, grid, block, args)

    monkeypatch.setattr(on_cpu, "run", noting)
    return largest


def test_indices_of_large_arrays(largest: Counter, rng: np.random.Generator) -> None:
    gpu, f, all_three = tinynet.device("cuda"), np.float32, (True, True, True)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(f)

    def both(name: str, *args: Any) -> Any:
        return parity(gpu, name, *args, tolerance=1000)

    # Maps: each channel has fewer values than an int holds, all together have more.
    maps, row = activation(rng, (5, 9, 62, 63), f), normal(9)
    for window in (((3, 2), (2, 1), (1, 1)), ((1, 1), (1, 1), (0, 0))):
        y, winner = both("max_pool2d_forward", maps, *window, False)
        both("max_pool2d_backward", y, winner, maps.shape, *window)
        y = both("avg_pool2d_forward", maps, *window, False, True)
        both("avg_pool2d_backward", y, maps.shape, *window, False, True)
    y = both("adaptive_avg_pool2d_forward", maps, (61, 60))
    both("adaptive_avg_pool2d_backward", y, maps.shape, (61, 60))
    few = np.ascontiguousarray(maps[:, :, :31, :32])
    both("upsample2d_backward", both("upsample2d_forward", few, (2, 2)), (2, 2))
    for norm in ("local_response_norm", "spatial_response_norm"):
        both(f"{norm}_forward", maps, 5, 1.0, 0.75, 1.0)
        both(f"{norm}_backward", maps, maps, 5, 1.0, 0.75, 1.0)
    y, *moments = both("batch_norm_forward", maps, row, row, None, None, True, 0.1, 0.5, True)
    both("batch_norm_backward", maps, maps, row, *moments, True, all_three, y)
    for stride in ((1, 1), (2, 1)):
        weight = normal(9, 9, 3, 3)
        y = both("conv2d_forward", maps, weight, normal(9), stride, (1, 1), 1, True)
        both("conv2d_backward", y, maps, weight, stride, (1, 1), 1, all_three, y)
        both("conv2d_backward", y, maps, weight, stride, (1, 1), 1, all_three)
    weight, small = normal(100, 106, 3, 3), activation(rng, (2, 106, 4, 5), f)
    y = both("conv2d_forward", small, weight, None, (1, 1), (1, 1), 1)
    both("conv2d_backward", y, small, weight, (1, 1), (1, 1), 1, all_three)
    pictures = rng.integers(0, 256, (6, 100, 101, 3), np.uint8)
    corner, flip, noise = rng.integers(0, 5, 6).astype(np.int32), rng.random(6) < 0.5, normal(6, 3)
    mean = pictures[0].astype(f)
    both("pictures_forward", pictures, mean, corner, corner, flip, noise, (96, 97), 1.0, 3)
    # Rows: of sequences, of classes, of what is indexed.
    rows, w = normal(1400, 100), normal(100)
    y, *moments = both("layer_norm_forward", rows, w, w, 0.1)
    both("layer_norm_backward", rows, rows, w, *moments, all_three)
    for axis in (0, 1):
        both("softmax_backward", rows, both("softmax_forward", rows, axis), axis)
    target = rng.integers(0, 100, 1400)
    for lying in (rows, np.asfortranarray(rows)):
        losses, p = both("cross_entropy_forward", lying, target, 0.1)
        both("cross_entropy_backward", losses, p, target, 0.1)
        both("nll_loss_backward", both("nll_loss_forward", lying, target), lying, target)
    sequences, weight = normal(2, 700, 3), normal(100, 3)
    y = both("linear_forward", sequences, weight, w, True)
    both("linear_backward", y, sequences, weight, all_three)
    places = rng.integers(0, 2000, 1400)
    with gpu.activate():
        sent = gpu.upload(rows), gpu.upload(places)
        dx = gpu.kernels.index_backward(*sent, (2000, 100))
    expected = tinynet.kernels.index_backward(rows, places, (2000, 100))
    np.testing.assert_array_equal(gpu.download(dx), expected)
    # Elements: in three rows of a grid, of which the last is not full.
    rows = normal(2701, 100)
    for name in ("relu", "gelu", "leaky_relu"):
        slope = (0.1,) if name == "leaky_relu" else ()
        both(f"{name}_backward", rows, both(f"{name}_forward", rows, *slope), *slope)
    both("dropout_forward", rows, 0.4, 2**63 + 1, 2)
    both("mse_loss_backward", rows, rows, both("mse_loss_forward", rows, rows), (True, True))
    both("bce_with_logits_forward", rows, rows)
    both("bce_with_logits_backward", rows, rows, rows, (True, True))
    both("square_sum", rows)
    for rule in (tinynet.optim.SGD, tinynet.optim.Adam, tinynet.optim.RMSprop):
        for more in ({}, {"nesterov": True, "momentum": 0.9}, {"centered": True}):
            if set(more) <= set(rule.__init__.__code__.co_varnames):
                p = tinynet.nn.Parameter(rows, "cuda")
                p.grad = tinynet.tensor(p)
                rule([p], lr=0.1, **more).step()

    # What adds up runs is given a number a run. Weights are as many as there are threads along x.
    never = {"batch_norm_statistics", "batch_norm_gradients", "for_rows", "turned_for_rows"}
    alike = {f"{name}_{way}" for name in ("tanh", "sigmoid", "gelu_tanh")  # as gelu's
             for way in ("forward", "backward")}  # fmt: skip
    every = {name for source in SOURCES for name in on_cpu.declared(source.read_text())}
    assert not {name for name in every - never - alike if largest[name] <= MOST}


@pytest.mark.parametrize(
    "kernel, shape, right, wrong",
    [
        ("max_pool2d", (5, 9, 62, 63), "long long c = (long long)", "int c = (int)"),
        # the place of a thread, where elements go on along y
        ("relu", (2700, 100), "(long long)blockIdx.y *", "blockIdx.y *"),
    ],
)
def test_an_offset_in_an_int_is_noticed(
    largest: Counter,
    monkeypatch: pytest.MonkeyPatch,
    kernel: str,
    shape: tuple,
    right: str,
    wrong: str,
) -> None:
    """Without this, the test above could pass for a wrong reason."""
    monkeypatch.setenv("TINYNET_SHIM_PLANT", f"{right}=>{wrong}")
    on_cpu._library.cache_clear()
    try:
        with pytest.raises(OverflowError, match=f"{kernel}_forward: an int holds at most"):
            getattr(F, kernel)(tinynet.zeros(shape, device="cuda"), *[1] * (len(shape) == 4))
    finally:
        on_cpu._library.cache_clear()
