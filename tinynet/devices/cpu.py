"""The host's memory and cores as a device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from tinynet.devices.base import Device
from tinynet.devices.memory import MemoryStats, pool

_NOTHING_TO_DO = nullcontext()


class CpuDevice(Device):
    """The host's memory and cores. All logical CPUs share one memory pool."""

    kind = "cpu"
    xp = np
    always_active = True

    def activate(
        self, operation: str = "", arrays: Sequence[Any] = ()
    ) -> AbstractContextManager[None]:
        return _NOTHING_TO_DO

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return pool.empty(shape, dtype)

    def upload(self, array: np.ndarray) -> np.ndarray:
        return array.copy(order="K")

    def download(self, array: np.ndarray) -> np.ndarray:
        return array.copy(order="K")

    def copy_from(self, array: Any, source: Device) -> np.ndarray:
        return source.download(array)

    def memory_stats(self) -> MemoryStats:
        return pool.stats()

    def reset_peak(self) -> None:
        pool.reset_peak()

    def free_memory(self) -> int:
        try:
            with open("/proc/meminfo") as file:
                lines = file.readlines()
        except FileNotFoundError:
            raise OSError(
                "cpu: expected Linux, which tells how much memory is free in /proc/meminfo; give "
                "the batch size as a number"
            ) from None
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
