"""The stopwatch, by a clock and a device of our own, and what the terminal shows."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import pytest

from tinynet.training import console, stopwatch
from tinynet.training.measure import Measure
from tinynet.training.stopwatch import Stopwatch


class Machine:
    """A device whose work goes on behind the program's back: waiting for it takes the time."""

    def __init__(self, kind, clock):
        self.kind, self.clock, self.queued, self.waits = kind, clock, 0.0, 0

    def launch(self, seconds):
        self.clock.now += 0.001  # what a launch takes
        self.queued += seconds

    def synchronize(self):
        self.clock.now += self.queued
        self.queued = 0.0
        self.waits += 1


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_a_gpus_phases_are_known_after_waiting_for_it(clock):
    """One batch in 50 is measured and stands for all; no other batch waits."""
    gpu = Machine("cuda", clock)
    watch = Stopwatch([gpu, SimpleNamespace(kind="cpu")])
    for step in range(100):
        gpu.launch(5.0 if step % 50 == 0 else 1.0)  # of the batch before: not this batch's time
        watch.begin(step)
        for phase, seconds in (("forward", 1.0), ("backward", 2.0)):
            gpu.launch(seconds)
            watch.lap(phase)
    assert watch.seconds["forward"] == pytest.approx(100 * 1.001)
    assert watch.seconds["backward"] == pytest.approx(100 * 2.001)
    assert watch.seconds["loading"] == 0
    assert gpu.waits == 2 * 3


def test_every_batch_of_a_cpu_is_measured(clock):
    watch = Stopwatch([SimpleNamespace(kind="cpu")])
    clock.now += 5
    watch.lap("loading")  # of no batch
    for step in range(7):
        watch.begin(step)
        clock.now += 1
        watch.lap("loading")
        clock.now += 2
        watch.lap("forward")
        clock.now += 10  # between batches
    assert watch.seconds == dict(loading=7, forward=14, backward=0, update=0, testing=0)


def test_the_real_clock_is_one_of_seconds():
    watch = Stopwatch([])
    watch.begin(0)
    time.sleep(0.02)
    watch.lap("update")
    assert 0.02 <= watch.seconds["update"] < 2


class Task:
    measures = {"error": Measure("error", "%", 1), "size": Measure("size")}
    unit, chance = "rows", 2.3026


def test_lines_hold_the_figures_there_are(capsys):
    told = console.Console(Task(), 12, 100, 0)
    told.tested(3, {"loss": 0.5, "size": 2.0, "more": 7.0, "error": 12.34}, 0.00125, False)
    told.tested(12, {"loss": 1.23456, "error": 0.0}, 1.0, True)
    told.health(
        {
            "conv1": (1.5, 0.25),
            "fc.weight": (0.001, 0.0),
            "fc.bias": (9.0, 9.0),
            "a.weight.b": (2.0, 1.0),
            "norm.scale": (3.0, 1.0),
        }
    )
    told.stuck(500, "Try another seed.")
    told.stuck(7, "")
    assert capsys.readouterr().out.splitlines() == [
        "epoch 3/12: test loss 0.5000, error 12.3 %, size 2.00, lr 0.0013",
        "epoch 12/12: test loss 1.2346, error 0.0 %, lr 1 (best so far)",
        "  mean |w|, |step|: conv1 1.5e+00 2.5e-01  fc 1.0e-03 0.0e+00  a.weight.b 2.0e+00 1.0e+00"
        "  norm.scale 3.0e+00 1.0e+00",
        "warning: for 500 batches the loss has been 2.30, that of a net that says the same of all "
        "rows. Try another seed.",
        "warning: for 7 batches the loss has been 2.30, that of a net that says the same of all "
        "rows.",
    ]


@pytest.mark.parametrize("what", ["phase", "advance", "show", "tested", "health", "say", "close"])
def test_every_call_survives_a_terminal_that_has_gone(what, monkeypatch):
    """On a terminal the bar itself writes, too; any other error is one."""
    told = console.Console(Task(), 12, 100, 0)
    arguments = {
        "phase": (3,), "advance": (4,), "show": ({"loss": 1.0}, 0.5), "say": ("a line",),
        "tested": (3, {"loss": 0.5}, 0.1, True), "health": ({"conv": (1.0, 1.0)},), "close": (),
    }[what]  # fmt: skip
    for error, caught in ((OSError(5, "gone"), True), (ValueError("another"), False)):

        def fail(*args, error=error, **options):
            raise error

        for name in ("set_description_str", "update", "set_postfix_str", "close"):
            monkeypatch.setattr(told._bar, name, fail)
        monkeypatch.setattr(console.tqdm, "write", fail)
        with contextlib.nullcontext() if caught else pytest.raises(ValueError, match="another"):
            getattr(told, what)(*arguments)
