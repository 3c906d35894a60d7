"""Where the time goes: `with tinynet.profile() as p: ...; print(p)`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from tinynet.devices import Device

active: Profile | None = None  # what is being recorded into
_NOT_RECORDING = nullcontext(lambda inputs, outputs: None)


class Event(NamedTuple):
    """One run of an operation. start, seconds: wall time. bytes: of the arrays that went in and
    came out.
    """

    operation: str
    phase: str  # "forward", "backward", or what a user of `record` called it
    device: str
    start: float
    seconds: float
    bytes: int


class Profile:
    """Records every operation while it is entered as a context; one at a time.

    On a GPU the device is waited for before and after each operation, so a profiled step is slower
    than one that is not.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seconds = 0.0  # in the context as a whole

    def __enter__(self) -> Profile:
        global active
        if active is not None:
            raise RuntimeError("profile: another profile is being recorded already")
        active, self._entered = self, time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        global active
        active = None
        self.seconds += time.perf_counter() - self._entered

    def rows(self) -> list[dict[str, Any]]:
        """One row for each operation and phase, the longest first: operation, phase, calls,
        seconds, bytes, share.
        """
        totals: dict[tuple[str, str], list] = {}
        for event in self.events:
            row = totals.setdefault((event.operation, event.phase), [0, 0.0, 0])
            row[0] += 1
            row[1] += event.seconds
            row[2] += event.bytes
        rows = [
            dict(
                operation=operation,
                phase=phase,
                calls=calls,
                seconds=seconds,
                bytes=nbytes,
                share=seconds / max(self.seconds, 1e-12),
            )
            for (operation, phase), (calls, seconds, nbytes) in totals.items()
        ]
        return sorted(rows, key=lambda row: -row["seconds"])

    def __str__(self) -> str:
        lines = [
            f"{'operation':<22} {'phase':<9} {'calls':>6} {'ms':>10} {'MB':>9} {'GB/s':>6} "
            f"{'share':>6}"
        ]
        rows = self.rows()
        for row in rows:
            rate = row["bytes"] / max(row["seconds"], 1e-12) / 1e9
            lines.append(
                f"{row['operation']:<22} {row['phase']:<9} {row['calls']:>6} "
                f"{1e3 * row['seconds']:>10.2f} "
                f"{row['bytes'] / 1e6:>9.1f} {rate:>6.1f} {row['share']:>6.1%}"
            )
        rest = self.seconds - sum(row["seconds"] for row in rows)
        lines.append(f"{'(between operations)':<32} {'':>6} {1e3 * rest:>10.2f}")
        lines.append(f"{'total':<32} {'':>6} {1e3 * self.seconds:>10.2f}")
        return "\n".join(lines)

    def save_chrome_trace(self, path: str | os.PathLike) -> None:
        """Write the events for chrome://tracing or ui.perfetto.dev, one row a device; time 0 is
        when the first one started.
        """
        zero = min((e.start for e in self.events), default=0.0)
        events = [
            dict(
                name=f"{e.operation} {e.phase}",
                cat=e.phase,
                ph="X",
                pid=0,
                tid=e.device,
                ts=1e6 * (e.start - zero),
                dur=1e6 * e.seconds,
                args={"bytes": e.bytes},
            )
            for e in self.events
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ms"}, file)


def record(
    operation: str, phase: str, device: Device
) -> AbstractContextManager[Callable[[Iterable, Iterable], None]]:
    """A context for one run of an operation; the function it gives takes the arrays in and out, to
    count their bytes.

    Costs 0.1 us while nothing is being profiled.
    """
    return _NOT_RECORDING if active is None else _record(active, operation, phase, device)


@contextmanager
def _record(profile: Profile, operation: str, phase: str, device: Device) -> Any:
    arrays: list[Any] = []
    device.synchronize()
    start = time.perf_counter()
    yield lambda inputs, outputs: arrays.extend([*inputs, *outputs])
    device.synchronize()
    seconds = time.perf_counter() - start
    nbytes = sum(getattr(array, "nbytes", 0) for array in arrays)
    profile.events.append(Event(operation, phase, str(device), start, seconds, nbytes))
