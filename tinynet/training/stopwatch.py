"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tinynet.devices import Device

PHASES = ("loading", "forward", "backward", "update", "testing")


class Stopwatch:
    """Seconds spent in each phase.

    A GPU works behind the program's back, so a phase's end is known only after waiting for it, and
    waiting at every batch would leave it idle. There one batch in 50 is measured, and stands for
    the other 49; a CPU's batches are measured all.
    """

    def __init__(self, devices: Sequence[Device]) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._devices = [device for device in devices if device.kind != "cpu"]
        self._every = 50 if self._devices else 1
        self._last: float | None = None  # when the phase began; None in a batch not measured

    def begin(self, step: int) -> None:
        """Start a batch."""
        self._last = None
        if step % self._every == 0:
            self._wait()
            self._last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """Book the time since the last call under `phase`."""
        if self._last is not None:
            self._wait()
            now = time.perf_counter()
            self.seconds[phase] += (now - self._last) * self._every
            self._last = now

    def _wait(self) -> None:
        for device in self._devices:
            device.synchronize()
