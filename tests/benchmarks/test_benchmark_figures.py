"""What the benchmarks make of seconds and bytes: with clocks whose time is known."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("cpu", "history", "kernels", "kernel_cases", "measure", "ranks", "sides", "turns")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A program of benchmarks/ by its name; they import each other by theirs."""
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)
        if before[name]:
            sys.modules[name] = before[name]


class Worker:
    """A side whose turns take what `times` says, by program and batch."""

    times: dict[tuple[str, int], list[float]] = {}
    open = 0

    def __init__(self, side: Any, job: str = "work"):
        self.side, self.left = side, list(self.times.get((side.program, side.batch), ()))
        self.first = {"about": f"{side.program} 1.0"} if self.left else {"missing": "none here"}

    def __enter__(self) -> Worker:
        Worker.open += 1
        return self

    def __exit__(self, *exception: object) -> None:
        Worker.open -= 1

    def turn(self) -> dict[str, float]:
        value = self.left.pop(0)
        return {"seconds": value, "processor": 2 * value, "peak_mb": 1000 * value}


def test_rates_are_compared_turn_by_turn(load, monkeypatch, capsys):
    cpu = load("cpu")
    monkeypatch.setattr(cpu, "Worker", Worker)
    Worker.times = {("tinynet", 8): [0.5, 1.0, 0.25], ("PyTorch", 4): [1.0, 0.5, 1.0]}
    sides = [cpu.Side(p, "train", n) for p, n in (("tinynet", 8), ("PyTorch", 4), ("JAX", 4))]
    for goal, reached in ((4.0, True), (4.001, False), (None, None)):
        row = cpu.Row("a title", tuple(sides), {"PyTorch": goal} if goal else {})
        missing, ours, theirs, ratio = cpu.time_row("key", row, 3)
        assert missing == dict(row="key", side="JAX at 4", missing="none here")
        assert (ours["unit"], ours["values"], ours["median"]) == ("images/s", [16, 8, 32], 16)
        assert (ours["min"], ours["max"], ours["about"]) == (8, 32, "tinynet 1.0")
        assert theirs["values"] == [4, 8, 4]
        assert ratio["values"] == [4, 1, 8] and ratio["median"] == 4
        assert ratio.get("goal") == (goal and f"at least {goal:g}")
        assert ratio.get("reached") is reached
        text = cpu.table([missing, ours, theirs, ratio], {"key": row})
        assert ("NOT reached" in text) == (reached is False) and "a title  [key]" in text
        assert "none here" in text and "(8.0 .. 32.0)" in text and "(1.00 .. 8.00)" in text
    assert Worker.open == 0 and "round 3 of 3: PyTorch at 4 1,000.0 ms" in capsys.readouterr().out


def test_times_of_single_operations_are_milliseconds(load, monkeypatch):
    cpu = load("cpu")
    monkeypatch.setattr(cpu, "Worker", Worker)
    Worker.times = {("tinynet", 1): [0.004, 0.002, 0.008], ("PyTorch", 1): [0.002] * 3}
    sides = tuple(cpu.Side(p, "operation", 1, "add") for p in ("tinynet", "PyTorch"))
    for most, reached in ((4.0, True), (3.9, False)):
        ours, theirs, ratio = cpu.time_row("add", cpu.Row("t", sides, {}, most), 3)
        assert ours["unit"] == "ms" and ours["median"] == pytest.approx(4)
        assert ours["goal"] == f"at most {most:g} ms" and ours["reached"] is reached
        assert "goal" not in theirs and ratio["median"] == pytest.approx(0.5)


def test_memory_is_a_line_over_the_batch(load, monkeypatch):
    cpu = load("cpu")
    monkeypatch.setattr(cpu, "Worker", Worker)
    peaks = {32: 0.42, 64: 0.74, 128: 1.38, 256: 2.66}  # 100 MB and 10 MB a picture
    Worker.times = {("tinynet", n): [9.0, p] for n, p in peaks.items()}
    Worker.times["PyTorch", 128] = [9.0, 2.76]
    for goal, reached in ((0.5, True), (0.49, False)):
        row = cpu.make_rows(False)["memory"]._replace(goals={"PyTorch": goal})
        *found, ratio, line = cpu.memory_row("memory", row, 9)
        assert len(found) == 5 and all(len(r["values"]) == cpu.MEMORY_ROUNDS == 3 for r in found)
        assert found[0]["median"] == 1380 and found[0]["unit"] == "MB"
        assert ratio["median"] == 0.5 and ratio["reached"] is reached
        assert ratio["goal"] == f"at most {goal:g}"
        assert line["constant_mb"] == pytest.approx(100)
        assert line["mb_a_picture"] == pytest.approx(10) and line["furthest_mb"] < 1e-6
    Worker.times["tinynet", 32] = [9.0, 0.52]
    *_, line = cpu.memory_row("memory", row, 1)
    points = [(n, 1000 * Worker.times["tinynet", n][1]) for n in peaks]
    slope, constant = np.polyfit(*zip(*points, strict=True), 1)
    off = max(abs(mb - constant - slope * n) for n, mb in points)
    assert line["furthest_mb"] == pytest.approx(off) and off > 10


@pytest.mark.parametrize(
    "lasting, seconds, steps",
    [([1.5], 1.5, 1), ([0.3, 0.1, 0.4, 0.2, 0.9], 0.3, 5), ([1.0, 5], 5, 2)],
)  # fmt: skip
def test_a_turn_is_one_long_step_or_a_second_of_short_ones(
    lasting, seconds, steps, load, monkeypatch
):
    """Of short ones the first only warms up, and the median counts."""
    turns, times = load("turns"), list(lasting)
    monkeypatch.setattr(turns, "seconds", lambda step: step())
    monkeypatch.setattr(turns.time, "sleep", lambda s: times.insert(0, times.pop(0)))
    clock = iter([10.0, 20.0, 26.0])
    monkeypatch.setattr(turns.time, "process_time", lambda: next(clock))
    found = turns.turn(lambda: times.pop(0))
    assert not times and found["seconds"] == pytest.approx(seconds)
    assert found["processor"] == (10 if steps == 1 else 6 / (steps - 1))


def test_peaks_are_in_millions_of_bytes(load, monkeypatch):
    turns = load("turns")
    usage = type("Usage", (), {"ru_maxrss": 2_000_000})
    monkeypatch.setattr(turns.resource, "getrusage", lambda who: usage)
    for system, mb in (("linux", 2048), ("darwin", 2)):
        monkeypatch.setattr(turns.sys, "platform", system)
        assert turns.peak_mb() == mb


def test_a_kernel_beside_the_roof(load, monkeypatch):
    kernels = load("kernels")
    ran: list[int] = []
    case = kernels.Case("conv", "forward", lambda: ran.append(1), flops=6e9, bytes=2e9)
    times = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(kernels, "seconds", lambda run: (run(), next(times))[1])
    row = kernels.measure(case, 3, gemm=6e9, copy=4e9)
    assert len(ran) == 4 and row["seconds"]["median"] == 2
    assert (row["gflops"], row["gbytes"], row["intensity"]) == (3, 1, 3)
    assert (row["of_gemm"], row["of_copy"], row["of_roof"]) == (0.5, 0.25, 0.5)  # under 6, not 12
    times = iter([2.0] * 3)
    row = kernels.measure(case, 3, gemm=60e9, copy=4e9)
    assert row["of_roof"] == 3 / 12
    assert "conv" in kernels.line(row) and "2000.00" in kernels.line(row)
    times = iter([4.0, 2.0, 8.0, 4.0])
    monkeypatch.setattr(kernels, "seconds", lambda run: next(times))
    assert kernels.gemm_rate(10, 1) == 2 * 10**3 / 2
    assert kernels.copy_rate(1, 1) == 2 * 2**20 / 4


def test_losses_and_steps_of_two_sides(load, monkeypatch, capsys):
    history = load("history")
    assert history.compared(1.1, 1.0)["off"] == pytest.approx(0.1)
    assert history.compared(-1.1, -1.0)["off"] == pytest.approx(-0.1)
    assert history.compared(0.5, 0.0)["off"] == 0.5
    monkeypatch.setattr(history, "Worker", Worker)
    begun = type("Begun", (), {"epochs": 3, "batches": [0] * 7})
    monkeypatch.setattr(history, "begin", lambda name: begun)
    assert history.whole(begun) == 21
    Worker.times = {("tinynet", 0): [1.0, 2.0, 1.0], ("PyTorch", 0): [4.0, 2.0, 2.0]}
    for off, right in ((9e-4, True), (2e-3, False), (float("nan"), False)):
        pairs = [(1.0, 1.0), (1 + off, 1.0), (1.0, 1.0)]
        monkeypatch.setattr(history, "trained", lambda name, begun, steps, p=pairs: (None, p))
        if not right:
            with pytest.raises(SystemExit, match="another net, and nothing was timed"):
                history.time_steps(["one"], 3)
            continue
        (row,) = history.time_steps(["one"], 3)
        assert row["first"] == pytest.approx(9e-4) and row["steps"] == 21
        assert row["seconds"]["ours"]["median"] == 1000
        assert row["seconds"]["ratio"]["values"] == [4, 1, 2]
        assert row["processor"]["theirs"]["values"] == [8000, 4000, 4000]
        assert capsys.readouterr().out.split()[-1] == "42"  # 21 steps of two seconds of all cores


def test_ranks_beside_one(load, tmp_path):
    ranks = load("ranks")
    row = dict(ranks=4, kind="strong", batch=64, images_per_second=300.0, bytes_per_step=2.5e6,
               difference=2e-6, link=dict(bytes_per_second=3e9, seconds=4e-5))  # fmt: skip
    first = row | dict(images_per_second=100.0, link=None)
    assert ranks.told(row, first) == (
        "| 4 | strong | 64 | 300.0 images/s | x 3.00 | 2.5 MB | 2e-06 | 3.00 GB/s, 40 us |"
    )
    assert ranks.told(first, first).endswith("| 100.0 images/s | x 1.00 | 2.5 MB | 2e-06 |")
    one, other = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(one, np.array([1.0, -4.0, 2.0]))
    np.save(other, np.array([1.0, -4.0, 1.0]))
    assert ranks.differences(one, other) == 0.25 and ranks.differences(one, one) == 0


def test_figures_and_their_files(load, monkeypatch, tmp_path):
    measure = load("measure")
    assert measure.spread([3.0, 1.0, 2.0, 10.0]) == dict(
        median=2.5, min=1.0, max=10.0, values=[3.0, 1.0, 2.0, 10.0]
    )
    monkeypatch.setattr(measure, "cpu_name", lambda: "Intel(R) Core 9 @ 3.0GHz")
    name = measure.result_path("cpu", "json").name
    assert name.startswith("cpu-intel-r-core-9-3-0ghz-20") and name.endswith(".json")
    assert measure.installed("no such package") is None and measure.installed("numpy")
    clock = iter([1.0, 3.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    assert measure.seconds(lambda: None) == 2.5
    measure.write_json(tmp_path / "new" / "a.json", {"a": [1]})
    assert (tmp_path / "new" / "a.json").read_text().endswith("}\n")


def test_a_nan_is_the_furthest_of_all(load, monkeypatch, capsys):
    """It is neither larger nor smaller than anything, and may hide behind other errors."""
    turns = load("turns")

    class Net:
        DTYPE = np.float64

        def __init__(self, off: float):
            self.off = off

        def Net(self, preset: str, lrn: bool) -> Net:
            return self

        def gradients(self, pictures: Any, labels: Any) -> dict[str, np.ndarray]:
            return {"a": np.ones(2), "b": np.ones(2) + self.off, "c": np.ones(2)}

    nets = {"tinynet": Net(0.0), "PyTorch": Net(0.0)}
    monkeypatch.setattr(turns.Side, "module", property(lambda side: nets[side.program]))
    for off, worst in ((0.0, "a"), (1e-3, "b"), (float("nan"), "b")):
        nets["PyTorch"].off = off
        turns.compare(turns.Side("PyTorch", "train", 2, "mlp"))
        said = json.loads(capsys.readouterr().out)
        assert said["worst"] == worst and (said["error"] <= said["tolerance"]) == (off == 0)
