"""The stopwatch, by a clock and a device of our own, and what the terminal shows."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from tinynet.training import stopwatch
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
