"""Streams, events, devices: all that is launched runs at once, and clocks say what might not."""

from __future__ import annotations

import itertools
from typing import Any

from fake_cupy.machine import CUDARuntimeError, machine
from fake_cupy.order import Clock

numbers = itertools.count(1)  # of streams and handles


class Stream:
    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.number, self.device_id, self.clock = next(numbers), current_gpu(), Clock()
        self.ptr = self.number
        self.non_blocking = non_blocking  # the null stream and it do not wait for each other

    def __repr__(self) -> str:
        return f"stream {self.number} of GPU {self.device_id}"

    def __enter__(self) -> Stream:
        if self.device_id != current_gpu():
            raise AssertionError(f"{self} made current on GPU {current_gpu()}")
        streams().setdefault(self.device_id, []).append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        streams()[self.device_id].pop()

    def wait_event(self, event: Event) -> None:
        assert event.clock is not None, "a stream waits for an event that was never recorded"
        self.clock.join(event.clock)

    def synchronize(self) -> None:
        with machine.lock:
            machine.host_waits += 1
            machine.host.join(self.clock)

    def tick(self) -> None:
        """One more operation; the host had its reasons to launch it now."""
        self.clock.join(machine.host)
        self.clock[self.number] = self.clock.get(self.number, 0) + 1


class Event:
    def __init__(self, block: bool = False, disable_timing: bool = False):
        self.clock: Clock | None = None
        self.device_id = current_gpu()

    def record(self, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        if stream.device_id != self.device_id:
            raise AssertionError(f"an event of GPU {self.device_id} recorded on {stream}")
        self.clock = Clock(stream.clock)

    def synchronize(self) -> None:
        with machine.lock:
            machine.host_waits += not self.done
            machine.host.join(self.clock)

    @property
    def done(self) -> bool:
        return all(machine.host.knows(moment) for moment in self.clock.items())


class Device:
    compute_capability = property(lambda self: machine.compute_capability)

    def __init__(self, index: int):
        if not 0 <= index < machine.gpus:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.id = index

    def __enter__(self) -> Device:
        gpu_stack().append(self.id)
        return self

    def __exit__(self, *_: Any) -> None:
        gpu_stack().pop()

    def synchronize(self) -> None:
        machine.host_waits += 1
        for stream in all_streams():
            if stream.device_id == self.id:
                machine.host.join(stream.clock)


def gpu_stack() -> list[int]:
    return machine.local.__dict__.setdefault("gpus", [0])


def streams() -> dict[int, list[Stream]]:
    return machine.local.__dict__.setdefault("streams", {})


def all_streams() -> list[Stream]:
    return [stream for stack in streams().values() for stream in stack]


def current_gpu() -> int:
    return gpu_stack()[-1]


def current_stream() -> Stream:
    stack = streams().setdefault(current_gpu(), [])
    if not stack:
        stack.append(Stream(null=True))
    return stack[-1]


def operate(what: str, stream: Stream, reads: list, writes: list) -> None:
    """One operation on a stream, in order after all that its memory needs."""
    with machine.lock:
        stream.tick()
        for place in reads:
            place.history.read_by(stream, what)
        for place in writes:
            place.history.written_by(stream, what)
