"""What every device can do, and how a name finds its device.

    cpu, cpu:1 ...      the same memory and cores under several names: logical devices, which
                        operations refuse to mix, so that a network split over two devices can be
                        tried on any machine
    cuda:0, cuda:1 ...  GPUs, through CuPy (tinynet/devices/cuda)

"cpu:0" is another way to write "cpu", and "cuda" another way to write "cuda:0".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np

from tinynet.devices.memory import MemoryStats

_FORM = re.compile(r"(cpu|cuda)(?::(\d+))?")


class Device:
    """One place where arrays live and kernels run. Made by `device(name)`, one object a device.

    A device equals itself and the string of its name: `x.device == "cpu"`. Python wants equal
    things to have equal hashes, and two strings have two, so only one string can be equal: a
    comparison with another spelling ("cpu:0") raises ValueError instead of being False.
    """

    kind: str
    xp: ModuleType  # numpy or cupy
    stages = False  # whether `stage` saves time
    always_active = False  # whether work runs here without `activate`, too

    def __init__(self, name: str, index: int, kernels: ModuleType):
        self.name, self.index = name, index
        self.kernels = kernels  # tinynet.kernels or tinynet.kernels.cuda: the same names in both

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return self is other
        parts = _parts(other)
        if parts is not None and parts[0] != other:
            raise ValueError(
                f"device: expected {parts[0]!r}, the name of that device, to compare with, got "
                f"{other!r}; write {parts[0]!r} or tinynet.device({other!r})"
            )
        return self.name == other

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return find_device, (self.name,)  # copies and pickles are the one object again

    def activate(
        self, operation: str = "", arrays: Sequence[Any] = ()
    ) -> AbstractContextManager[None]:
        """A context in which whatever is launched runs on this device.

        operation, arrays: what runs, and what it was given; a message about too little memory
        names the one and the batch size of the other.
        """
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array here."""
        raise NotImplementedError

    def upload(self, array: np.ndarray) -> Any:
        """A copy here of an array of the host, in the same memory layout."""
        raise NotImplementedError

    def stage(self, array: np.ndarray) -> None:
        """Make what can be made ready of an upload of this very array, which is not changed before
        that. May be called in another thread than the upload.
        """

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
        """Let the peak of `memory_stats` start again from what is used now."""
        raise NotImplementedError

    def free_memory(self) -> int:
        """Bytes that the system would still give.

        On the CPU: what Linux tells; OSError elsewhere.
        """
        raise NotImplementedError


# Kind -> a function that gives the class of its devices and the module of their kernels.
Load = Callable[[], tuple[type[Device], ModuleType]]
_loads: dict[str, Load] = {}
_devices: dict[str, Device] = {}


def register(kind: str, load: Load) -> None:
    """Let `device` find devices of that kind.

    `load` is called when one of them is asked for, not before: CuPy may be missing, and its import
    takes a second.
    """
    _loads[kind] = load


def find_device(name: str | Device) -> Device:
    """The device of that name: "cpu", "cpu:1", "cuda", "cuda:1" ...

    Raises ValueError for a name of another form, DeviceUnavailableError where there is no such GPU.
    """
    if isinstance(name, Device):
        return name
    if name not in _devices:
        parts = _parts(name) if isinstance(name, str) else None
        if parts is None:
            raise ValueError(f"device: expected 'cpu', 'cpu:N', 'cuda' or 'cuda:N', got {name!r}")
        own_name, kind, index = parts
        if own_name not in _devices:
            make, kernels = _loads[kind]()
            # Two threads may both be here; setdefault keeps the first of their objects.
            _devices.setdefault(own_name, make(own_name, index, kernels))
        _devices[name] = _devices[own_name]
    return _devices[name]


def _parts(name: str) -> tuple[str, str, int] | None:
    """The device's own name, its kind and its index; None for what names no device."""
    match = _FORM.fullmatch(name)
    if match is None:
        return None
    kind, index = match.group(1), int(match.group(2) or 0)
    return "cpu" if (kind, index) == ("cpu", 0) else f"{kind}:{index}", kind, index


def memory_stats(name: str | Device) -> MemoryStats:
    """Bytes of a device's memory: used by living arrays, held from the system, the most used."""
    return find_device(name).memory_stats()


def set_tf32(on: bool) -> None:
    """Whether GPUs may round the inputs of float32 matrix products to TF32 (10 bits of mantissa):
    quicker, coarser.

    Off unless set. Raises DeviceUnavailableError where CuPy is missing.
    """
    gpu: Any = _loads["cuda"]()[0]
    gpu.set_tf32(on)
