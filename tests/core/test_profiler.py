"""What the profiler records, by a clock and a device of the test's own; and of real operations."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import profiler
from tinynet.gradcheck.cases import CASES
from tinynet.operations import OPERATIONS


class Clock:
    """Seconds that pass only when somebody says so. It is a device as well: one that has `queued`
    seconds of work still to do.
    """

    def __init__(self, monkeypatch):
        self.now, self.queued = 1000.0, 0.0
        monkeypatch.setattr(profiler.time, "perf_counter", lambda: self.now)

    def __str__(self):
        return "cuda:3"

    def synchronize(self):
        self.now, self.queued = self.now + self.queued, 0.0


def test_an_operation_takes_its_own_work_to_its_end(monkeypatch, tmp_path):
    """Not what was queued before it, and not what is launched and not done."""
    clock, profile = Clock(monkeypatch), tinynet.profile()
    large = np.broadcast_to(np.float64(0), 5 * 10**8)  # 4 GB, of one number
    arrays = [large, np.zeros(3, np.float32), None]
    for number in range(2):  # a profile may be entered again: it goes on
        with profile:
            clock.queued = 4.0
            with profiler.record("Op", "forward", clock) as note:
                clock.now += 2
                clock.queued = 8.0
                note(arrays[:1], arrays[1:])
            clock.now += 16
            with pytest.raises(KeyError), profiler.record("Fails", "forward", clock):
                raise KeyError
        assert profile.seconds == (number + 1) * 30
        clock.now += 100  # outside
    (first, second), nbytes = profile.events, 4 * 10**9 + 12
    assert first == ("Op", "forward", "cuda:3", 1004.0, 10.0, nbytes)
    assert second == ("Op", "forward", "cuda:3", 1134.0, 10.0, nbytes)
    assert profile.rows() == [
        dict(
            operation="Op", phase="forward", calls=2, seconds=20.0, bytes=2 * nbytes, share=20 / 60
        )
    ]
    lines = [line.split() for line in str(profile).splitlines()]
    assert lines[1] == ["Op", "forward", "2", "20000.00", "8000.0", "0.4", "33.3%"]
    assert [line[-1] for line in lines[2:]] == ["40000.00", "60000.00"]
    profile.save_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace["displayTimeUnit"] == "ms"
    for event, start in zip(trace["traceEvents"], (0, 130e6), strict=True):  # microseconds
        assert (event["ts"], event["dur"], event["tid"]) == (start, 10e6, "cuda:3")
        assert (event["name"], event["cat"], event["args"]) == (
            "Op forward", "forward", {"bytes": nbytes},
        )  # fmt: skip


def test_a_trace_of_events_within_events(monkeypatch, tmp_path):
    """Time 0 is the start of the first, which may be the last to end."""
    clock, other, profile = Clock(monkeypatch), Clock(monkeypatch), tinynet.profile()
    monkeypatch.setattr(profiler.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(Clock, "__str__", lambda self: "cuda:3" if self is clock else "cuda:1")
    with profile:
        clock.now += 4
        with profiler.record("Step", "whole", clock) as whole:
            clock.now += 2
            for number in (1, 2):
                with profiler.record("Op", "forward", other) as note:
                    clock.now += number
                    note([np.zeros(number, np.int8)], [])
                clock.now += 8
            whole([np.zeros(3, np.int8)], [np.zeros(4, np.int8)])
    profile.save_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert events == [
        dict(
            name=name, cat=name.split()[1], ph="X", pid=0, tid=device,
            ts=1e6 * start, dur=1e6 * seconds, args={"bytes": nbytes},
        )
        for name, device, start, seconds, nbytes in (
            ("Op forward", "cuda:1", 2, 1, 1), ("Op forward", "cuda:1", 11, 2, 2),
            ("Step whole", "cuda:3", 0, 21, 7),
        )
    ]  # fmt: skip
    tinynet.profile().save_chrome_trace(tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text())["traceEvents"] == []


def test_profile_counts_operations_and_bytes(tmp_path):
    x = tinynet.tensor(np.ones((10, 20), np.float32), requires_grad=True)
    with tinynet.profile() as p:
        y = F.relu(x * 2)
        F.relu(y).sum().backward()
        time.sleep(0.02)
    F.relu(x)  # no longer recorded
    rows = {(row["operation"], row["phase"]): row for row in p.rows()}
    assert {k: row["calls"] for k, row in rows.items()} == {
        ("ReLU", "forward"): 2,
        ("ReLU", "backward"): 2,
        ("Mul", "forward"): 1,
        ("Mul", "backward"): 1,
        ("Sum", "forward"): 1,
        ("Sum", "backward"): 1,
    }
    assert (
        rows["ReLU", "forward"]["bytes"] == 2 * 2 * 800 and rows["Sum", "forward"]["bytes"] == 804
    )
    assert rows["Sum", "backward"]["bytes"] == 804
    assert p.seconds >= 0.02 and sum(row["seconds"] for row in rows.values()) < p.seconds
    assert [row["seconds"] for row in p.rows()] == sorted(
        (row["seconds"] for row in p.rows()), reverse=True
    )
    for row in rows.values():
        assert row["share"] == pytest.approx(row["seconds"] / p.seconds) and row["seconds"] > 0
    text = str(p)
    assert text.splitlines()[0].split() == [
        "operation",
        "phase",
        "calls",
        "ms",
        "MB",
        "GB/s",
        "share",
    ]
    assert "(between operations)" in text and len(text.splitlines()) == 9
    p.save_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(trace) == 8 and [e["name"] for e in trace[:3]] == [
        "Mul forward",
        "ReLU forward",
        "ReLU forward",
    ]
    for event, record in zip(trace, p.events, strict=True):
        assert (
            event["ph"] == "X"
            and event["tid"] == "cpu"
            and event["args"] == {"bytes": record.bytes}
        )
        assert 0 <= event["ts"] <= 1e6 * p.seconds and event["dur"] == pytest.approx(
            1e6 * record.seconds
        )
        assert event["cat"] in ("forward", "backward") and event["pid"] == 0
    starts = [event["ts"] for event in trace]
    assert starts == sorted(starts)


def test_bytes_of_all_that_goes_in_and_comes_out():
    x, w = (tinynet.ones(1, 1, n, n, requires_grad=True) for n in (4, 3))
    with tinynet.profile() as p:
        ys = F.conv2d_each(x, [w, w])
        (ys[0] + ys[1]).sum().backward()
    found = {e.phase: e.bytes for e in p.events if e.operation == "Conv2dEach"}
    assert found == dict(forward=4 * (16 + 2 * 9 + 2 * 4), backward=4 * (2 * 4 + 16 + 2 * 9))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_notes_its_bytes(name, rng):
    """At least those of its arguments and its result; it may be made of several operations."""
    fn, inputs = next(CASES[name].make(rng))
    given = [tinynet.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    with tinynet.profile() as p:
        out = fn(*given)
    outs = out if isinstance(out, (tuple, list)) else [out]
    arrays = [x.data for x in (*given, *outs) if isinstance(x, tinynet.Tensor)]
    assert p.events and all(event.bytes for event in p.events)
    assert sum(event.bytes for event in p.events) >= sum(a.nbytes for a in arrays)


def test_one_profile_at_a_time_but_one_after_another():
    p = tinynet.profile()
    for _ in range(2):
        with p:
            with (
                pytest.raises(RuntimeError, match="another profile is being recorded"),
                tinynet.profile(),
            ):
                pass
            tinynet.tensor([1.0]) + 1
    assert p.rows()[0]["calls"] == 2
    with pytest.raises(KeyError), tinynet.profile():
        raise KeyError
    with tinynet.profile() as empty:
        pass
    assert empty.rows() == [] and "total" in str(empty)
