"""How much memory is used, and what is said when there is none left."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import fake_cupy
import numpy as np
import pytest

import tinynet


def test_memory_stats_and_out_of_memory(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    before = gpu.memory_stats()
    x = tinynet.tensor(np.ones((32, 1000), np.float32), device=gpu)
    during = gpu.memory_stats()
    del x
    after = gpu.memory_stats()
    assert tinynet.memory_stats("cuda:0").used == after.used
    assert (
        during.used >= before.used + 128000 > after.used
        and after.peak >= during.used
        and after.held >= 128000
    )
    machine.memory = 1 << 20
    x = tinynet.tensor(np.ones((32, 10, 20, 20), np.float32), device=gpu)
    with pytest.raises(tinynet.OutOfMemoryError) as caught:
        tinynet.functional.local_response_norm(x, 5)
    message = str(caught.value)
    assert (
        "LocalResponseNorm asked for 500 KiB" in message
        and "cuda:0" in message
        and "\n" not in message
    )
    assert "of a batch of 32, at most" in message
    # As if all of the memory were for what is in use and what was asked for.
    fits = int(message.split("at most ")[1].split()[0])
    assert fits == 32 * machine.memory // (machine.used[0] + 512_000) < 32
    with pytest.raises(
        tinynet.OutOfMemoryError,
        match="an operation asked for 8.00 GiB.*: use a smaller batch size$",
    ):
        with gpu.activate():
            gpu.xp.empty((1 << 30,), np.float64)
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:0: inner asked for 8.00 GiB"):
        with gpu.activate("outer"), gpu.activate("inner"):
            gpu.empty((1 << 30,), np.float64)


def test_the_peak_is_the_most_that_was_used_at_once(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    """Of each GPU, whichever is the current one; single bytes too, of which the pool makes 512."""
    gpus = [tinynet.device("cuda:0"), tinynet.device("cuda:1")]
    most, alive = [gpu.memory_stats().used for gpu in gpus], ([], [])
    for step in range(300):
        i = int(rng.integers(2))
        gpu, mine = gpus[i], alive[i]
        if mine and rng.random() < 0.45:
            mine.pop(int(rng.integers(len(mine))))
        else:
            mine.append(gpu.empty((int(rng.choice([1, 100, 513, 5000])),), np.uint8))
        if step == 150:
            for j, other in ((0, 1), (1, 0)):
                with gpus[other].activate():
                    gpus[j].reset_peak()
                most[j] = machine.used[j]
        most[i] = max(most[i], machine.used[i])
        stats = gpu.memory_stats()
        assert (stats.used, stats.held, stats.peak) == (machine.used[i], machine.held[i], most[i])
        assert gpu.free_memory() == machine.memory - machine.held[i]
    gpu.reset_peak()
    large = gpu.empty((20_000,), np.uint8)
    del large  # the peak is now far above what is used
    alive[i].extend(gpu.empty((1,), np.uint8) for _ in range(60))
    assert gpu.memory_stats().peak == machine.used[i]


def test_a_peak_begins_at_nothing_and_is_counted_under_its_lock(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a thread that asks meanwhile would bring back the peak before the reset."""
    gpu = tinynet.device("cuda:1")
    assert gpu.memory_stats() == (0, 0, 0)
    memory, held = sys.modules["tinynet.devices.cuda.memory"], []
    used, lock = memory.pool.used_bytes, memory._peaks[1]._lock
    monkeypatch.setattr(memory.pool, "used_bytes", lambda: (held.append(lock.locked()), used())[1])
    gpu.reset_peak()
    gpu.empty((1 << 10,), np.uint8)
    assert held == [True, True]


@pytest.mark.parametrize("most", [40_000, 9216])  # 9216: one row of columns
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_a_convolution_takes_no_more_memory_than_its_pieces(
    machine: fake_cupy.Machine, rng: np.random.Generator, monkeypatch: Any, stride: tuple, most: int
) -> None:
    """Columns, products for dw, and columns of dx are made COLUMN_BYTES at a time."""
    gpu = tinynet.device("cuda")
    gpu.kernels  # noqa: B018  imports them
    monkeypatch.setattr(sys.modules["tinynet.kernels.cuda.conv2d"], "COLUMN_BYTES", most)
    x, weight = (
        gpu.upload(a) for a in (rng.standard_normal((1, 16, 32, 8)), np.ones((16, 16, 3, 3)))
    )
    geometry = stride, (1, 1), 1
    with gpu.activate():
        dy = gpu.kernels.conv2d_forward(x, weight, None, *geometry)
        for needs, pieces in (((True, False, False), 1), ((False, True, False), 2)):
            gpu.kernels.conv2d_backward(dy, x, weight, *geometry, needs)  # nothing is new then
            gpu.reset_peak()
            before = gpu.memory_stats().peak
            gpu.kernels.conv2d_backward(dy, x, weight, *geometry, needs)
            # its result, what pads blocks, and the weights in another order
            rest = (x.nbytes if needs[0] else weight.nbytes) + 4096
            rest += weight.nbytes if needs[1] or stride == (1, 1) else 0
            assert gpu.memory_stats().peak - before <= pieces * most + rest


def test_pieces_of_columns_are_few_and_even(machine: fake_cupy.Machine) -> None:
    """As few as fit, none higher than the others but by one row of the output; one row at least."""
    tinynet.device("cuda").kernels  # noqa: B018  imports them
    pieces_of = sys.modules["tinynet.kernels.cuda.row_columns"]._pieces
    for OH, kh, sh, most in itertools.product((1, 2, 7, 12), (1, 3, 4), (1, 2, 3), range(0, 90, 7)):
        tallest, pieces = pieces_of(OH, kh, sh, 3, most)
        assert [oh for rows, *_ in pieces for oh in range(OH)[rows]] == [*range(OH)]
        for rows, top, height in pieces:
            assert (top, height) == (rows.start * sh, (rows.stop - rows.start - 1) * sh + kh)
        fit = [n for n in range(1, OH + 1) if ((n - 1) * sh + kh) * 3 <= most] or [1]
        assert len(pieces) <= -(-OH // fit[-1]) and pieces[0][0].stop <= fit[-1]
        assert tallest == max(height for *_, height in pieces)


class Greedy(tinynet.Function):
    """Asks for more memory than there is, in the phase `Greedy.phase`."""

    phase = ""

    @staticmethod
    def ask(ctx: Any, phase: str) -> None:
        if Greedy.phase == phase:
            ctx.device.empty((1 << 20,), np.float64)  # activates the device again, without a name

    @staticmethod
    def forward(ctx: Any, scale: Any, x: Any) -> Any:
        Greedy.ask(ctx, "forward")
        return x.sum(axis=2)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        Greedy.ask(ctx, "backward")
        return None, None


@pytest.mark.parametrize("batch", [24, 2, 1])
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_out_of_memory_names_what_runs_and_its_batch(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch, phase: str, batch: int
) -> None:
    """One picture has no smaller batch."""
    gpu = tinynet.device("cuda")
    machine.memory = 1 << 20
    monkeypatch.setattr(Greedy, "phase", phase)
    x = tinynet.tensor(np.ones((batch, 3, 5), np.float32), device=gpu, requires_grad=True)
    scale = tinynet.tensor(np.ones(7, np.float32), device=gpu)  # one axis: no batch
    advice = f"of a batch of {batch}, at most" if batch > 1 else "use a smaller batch size$"
    with pytest.raises(tinynet.OutOfMemoryError, match=f"Greedy asked for 8 MiB.*: {advice}"):
        Greedy.apply(scale, x).backward(np.ones((batch, 3), np.float32))


def test_out_of_memory_says_sizes_in_their_units(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    machine.memory = machine.used[0]
    for nbytes, words in (
        (1, "1 bytes"), (1023, "1023 bytes"), (1 << 10, "1 KiB"), (1 << 20, "1 MiB"),
        (1 << 30, "1.00 GiB"), (3 << 40, "3072.00 GiB"),
    ):  # fmt: skip
        with pytest.raises(tinynet.OutOfMemoryError, match=f"asked for {words}, but 0 bytes of"):
            gpu.empty((nbytes,), np.uint8)


def test_out_of_memory_names_who_makes_or_moves_an_array(machine: fake_cupy.Machine) -> None:
    """Of a tensor that lies on another GPU than the current one."""
    x, large = (tinynet.ones(n, device="cuda:1") for n in (1 << 17, 1 << 18))
    weight = large.clone().requires_grad_()
    adam = tinynet.optim.Adam([weight])
    weight.grad, state = large, adam.state_dict()
    adam.step()
    column = tinynet.ones(9, 1, device="cuda:1")
    ways: dict[str, list[Callable[[], object]]] = {
        "tensor": [
            lambda: tinynet.tensor(x, dtype=tinynet.float64),
            lambda: tinynet.tensor(np.ones(1 << 17), device="cuda:1"),
            lambda: tinynet.tensor(tinynet.ones(1 << 18), device="cuda:1"),
        ],
        "move": [lambda: tinynet.ones(1 << 18).move(x.device)],
        "deepcopy": [lambda: deepcopy(large)],
        "Adam.last_step": [lambda: adam.last_step(weight)],
        "Adam.load_state_dict": [lambda: adam.load_state_dict(state)],
        "Copy": [lambda: tinynet.tensor(large)],
        "Mul": [lambda: x * column],
        "gt": [lambda: x > column],
    }  # fmt: skip
    machine.memory = machine.used[1] + x.data.nbytes + 512  # enough for one more of x
    for name, calls in ways.items():
        for call in calls:
            with pytest.raises(tinynet.OutOfMemoryError, match=f"^cuda:1: {name} asked for"):
                call()


@pytest.mark.gpu
def test_a_real_gpu_that_runs_out_of_memory_goes_on_afterwards() -> None:
    gpu = tinynet.device("cuda")
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:0: .* asked for .* are free"):
        gpu.empty((1 << 45,), np.float32)
    assert (gpu.download(gpu.upload(np.ones(5))) == 1).all()


def fails(error: Exception) -> None:
    raise error


def test_cublas_and_pinned_memory_run_out(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    x = tinynet.tensor(np.ones((3, 3)), device=gpu)
    machine.cublas_memory = False
    free = machine.memory - machine.held[0]
    said = f"cuda:0: cuBLAS found no memory for its .*: {free >> 20} of 16384 MiB are free"
    with pytest.raises(tinynet.OutOfMemoryError, match=said):
        x @ x
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:1: cuBLAS found no memory for its"):
        tinynet.device("cuda:1")
    blas, cublas = sys.modules["tinynet.devices.cuda.blas"], sys.modules["cupy"].cuda.cublas
    with pytest.raises(cublas.CUBLASError, match="13"):  # which is not about memory
        blas.call(fails, cublas.CUBLASError(13))
    machine.pinned = 100
    with pytest.raises(tinynet.OutOfMemoryError, match="the host gives no 4 KiB of pinned memory"):
        for _ in range(5):
            tinynet.tensor(np.ones(1 << 12, np.uint8), device=gpu)
    machine.cublas_memory, machine.peers, machine.pinned = True, False, 1 << 20
    other, machine.pinned = tinynet.device("cuda:1"), 100
    with pytest.raises(tinynet.OutOfMemoryError, match="pinned memory"):
        x.to(other).to(gpu)
