"""Where arrays live: names of devices and, behind each, its array module, kernels, memory and
copies.

    cpu, cpu:0, cpu:1 ...    the same memory and cores under several names: logical devices, which operations refuse to
                             mix, so that a network split over two devices can be tried on any
                             machine
    cuda, cuda:0 ...         GPUs, through CuPy (tinynet/cuda.py)

"cpu" is "cpu:0", and "cuda" is "cuda:0".
"""

from __future__ import annotations

import importlib
import re
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from tinynet.memory import MemoryStats, pool

_NAME = re.compile(r"(cpu|cuda)(?::(\d+))?")
_NOTHING_TO_DO = nullcontext()
_devices: dict[str, Device] = {}


class Device:
    """One place where arrays live and kernels run. Made by `device(name)`, one object a name.

    Devices are equal when kind and index are; a string compares like the device it names.
    """

    kind: str
    xp: ModuleType  # numpy or cupy

    def __init__(self, name: str, index: int):
        self.name, self.index = name, index

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) and _NAME.fullmatch(other):
            kind, index = _NAME.fullmatch(other).groups()
            return (self.kind, self.index) == (kind, int(index or 0))
        return isinstance(other, Device) and (self.kind, self.index) == (other.kind, other.index)

    def __hash__(self) -> int:
        return hash((self.kind, self.index))

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return device, (self.name,)  # copies and pickles are the one object again

    @property
    def kernels(self) -> ModuleType:
        """The kernels that run here: tinynet.kernels or tinynet.kernels.cuda, the same names in
        both.
        """
        raise NotImplementedError

    def activate(self, operation: str = "") -> AbstractContextManager:
        """A context in which whatever is launched runs on this device; errors inside it name the
        operation.
        """
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array here."""
        raise NotImplementedError

    def upload(self, array: np.ndarray) -> Any:
        """A copy here of an array of the host, in the same memory layout."""
        raise NotImplementedError

    def download(self, array: Any) -> np.ndarray:
        """A copy on the host of an array that lives here; waits for the device."""
        raise NotImplementedError

    def copy_from(self, array: Any, source: Device) -> Any:
        """A copy here of an array that lives on `source`, in the same memory layout."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until everything launched here is done."""

    def memory_stats(self) -> MemoryStats:
        """Bytes used by living arrays, held from the system, and the peak of used."""
        raise NotImplementedError

    def reset_peak(self) -> None:
        """Begin the peak of `memory_stats` anew, at what is used now."""
        raise NotImplementedError

    def free_memory(self) -> int:
        """Bytes that the system would still give. On the CPU: as Linux tells it, and
        FileNotFoundError elsewhere.
        """
        raise NotImplementedError


class CpuDevice(Device):
    """The host's memory and cores. All logical CPUs share one memory pool."""

    kind = "cpu"
    xp = np

    @property
    def kernels(self) -> ModuleType:
        return importlib.import_module("tinynet.kernels")

    def activate(self, operation: str = "") -> AbstractContextManager:
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
        with open("/proc/meminfo") as lines:
            return next(
                1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")
            )


def device(name: str | Device) -> Device:
    """The device of that name: "cpu", "cpu:1", "cuda", "cuda:1" ...

    Raises ValueError for a name of another form, DeviceUnavailableError where there is no such GPU.
    """
    if isinstance(name, Device):
        return name
    if name not in _devices:
        match = _NAME.fullmatch(name) if isinstance(name, str) else None
        if match is None:
            raise ValueError(f"device: expected 'cpu', 'cpu:N', 'cuda' or 'cuda:N', got {name!r}")
        kind, index = match.group(1), int(match.group(2) or 0)
        if kind == "cpu":
            _devices[name] = CpuDevice(name, index)
        else:
            from tinynet.cuda import CudaDevice  # only here, so that nothing else needs CuPy

            _devices[name] = CudaDevice(name, index)
    return _devices[name]


def memory_stats(name: str | Device) -> MemoryStats:
    """Bytes of a device's memory: used by living arrays, held from the system, and the most ever
    used.
    """
    return device(name).memory_stats()


def set_tf32(on: bool) -> None:
    """Whether GPUs may round the inputs of float32 matrix products to TF32 (10 bits of mantissa):
    quicker, coarser.

    Off unless set. Raises DeviceUnavailableError where CuPy is missing.
    """
    from tinynet import cuda

    cuda.set_tf32(on)
