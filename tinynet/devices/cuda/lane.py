"""Lanes: the streams of one logical device, and which lane work is launched on.

The rules that order the streams are in tinynet/devices/cuda/__init__.py.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from tinynet.devices.cuda.blas import Blas
from tinynet.devices.cuda.installation import cupy

COPY = "Copy"  # the operation under which nothing is launched but copies


class Lane:
    """What a logical device owns: its streams, its cuBLAS, and the waits not yet queued."""

    def __init__(self, index: int):
        self.gpu = cupy.cuda.Device(index)
        with self.gpu:
            self.stream = cupy.cuda.Stream()
            self.copies = cupy.cuda.Stream()  # from other devices
            # From the host: so a copy between devices never queues behind a batch of pictures.
            self.uploads = cupy.cuda.Stream()
            self.blas = Blas()
        # (event, first byte, end) of copies from or to memory of this lane
        self.waits: list[tuple[Any, int, int]] = []
        # (event, pinned memory) of copies through the host that may still read it
        self.staged: deque[tuple[Any, np.ndarray]] = deque()

    def mark(self, stream: Any) -> Any:
        """An event behind all that is queued on `stream` so far."""
        with self.gpu:
            event = cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def wait_for(self, event: Any, first: int, end: int) -> None:
        """Let this lane's next work wait for `event`, a copy that reads or writes [first, end)."""
        self.waits.append((event, first, end))
        if any(a.lane is self and a.operation != COPY for a in active.stack):
            self.queue_waits()

    def queue_waits(self) -> None:
        """Let the stream wait for all that `wait_for` noted."""
        while self.waits:
            self.stream.wait_event(self.waits.pop(0)[0])

    def pending(self, first: int, end: int) -> list[Any]:
        """The copies not yet waited for that touch [first, end)."""
        return [event for event, start, stop in self.waits if start < end and first < stop]


class Activation:
    """`with device.activate(operation, arrays)`: its GPU and stream become current, after the
    copies that touch its memory.
    """

    __slots__ = ("arrays", "lane", "operation")

    def __init__(self, lane: Lane, operation: str, arrays: Sequence[Any]):
        self.lane, self.operation, self.arrays = lane, operation, arrays

    def __enter__(self) -> None:
        lane = self.lane
        lane.gpu.__enter__()
        lane.stream.__enter__()
        active.stack.append(self)
        if self.operation != COPY:
            lane.queue_waits()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active.stack.pop()
        self.lane.stream.__exit__(kind, error, trace)
        self.lane.gpu.__exit__(kind, error, trace)


class _Active(threading.local):
    """The activations that this thread is inside of, the current one last."""

    def __init__(self) -> None:
        self.stack: list[Activation] = []


active = _Active()


def current_lane() -> Lane:
    """The lane that kernels launch on. Raises RuntimeError outside `device.activate()`."""
    if not active.stack:
        raise RuntimeError(
            "cuda: kernels run inside device.activate(), which sets their GPU and stream"
        )
    return active.stack[-1].lane
