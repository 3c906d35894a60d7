"""A strict stand-in for CuPy on NumPy arrays: on it the CUDA path's host code runs without a GPU.

It has only what tinynet uses of CuPy, and is stricter than CuPy where CuPy is silent:

- an array lives on a device and in a block of that device's memory; using it while another device
  is current raises, and so does mixing it with NumPy arrays, or converting it to one otherwise
  than by asnumpy, get or set (arrays.py, creation.py);
- every operation runs on the current stream and remembers which blocks it read and wrote. Streams
  keep vector clocks: they know what other streams had done at the events they waited for. An
  operation that touches a block before what it depends on is certain to be done raises
  `Unordered`, also when the block has been freed and used again since (order.py, streams.py);
- `RawKernel` compiles the very text of the kernel as C++ (../on_cpu.py) and takes only NumPy
  scalars of the declared types (kernels.py); cuBLAS is checked pointer by pointer (blas.py);
- what CuPy computes lies in C order, however its operands lie, and it goes along axes as they are
  written: operands of `large` elements or more that lie otherwise are counted (`against_memory`);
- `empty` is full of NaNs, pinned memory may not be written again before the copy from it was
  waited for (memory.py).

`install(gpus)` puts it into sys.modules in place of CuPy, `uninstall()` takes it out again. What a
test sets and counts is `machine` (machine.py).
"""

from __future__ import annotations

import sys
from typing import Any

import tinynet  # noqa: F401
from fake_cupy.blas import Blas
from fake_cupy.machine import Machine, machine
from fake_cupy.memory import empty_pinned
from fake_cupy.module import modules
from fake_cupy.order import Unordered
from tinynet.devices.base import _devices as devices

__all__ = ["Blas", "Machine", "Unordered", "empty_pinned", "hide", "install", "uninstall"]


def install(gpus: int = 2) -> Machine:
    """Put the stand-in into sys.modules; returns the machine it simulates."""
    machine.restart(gpus)
    hide()
    sys.modules.update(modules())
    return machine


_hidden: dict[str, Any] = {}
_hidden_devices: dict[str, Any] = {}


def hide() -> None:
    """Take CuPy (or the stand-in) out of sys.modules, and all of tinynet that has seen it;
    `uninstall` brings them back.
    """
    _hidden.update(_take_out())
    _hidden_devices.update(
        {name: devices.pop(name) for name in list(devices) if name.startswith("cuda")}
    )


def uninstall() -> None:
    """Take the stand-in out, and put back what was there before."""
    _take_out()
    for name in [name for name in devices if name.startswith("cuda")]:
        del devices[name]
    devices.update(_hidden_devices)
    sys.modules.update(_hidden)
    for name, module in _hidden.items():
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], child, module)
    _hidden.clear()
    _hidden_devices.clear()


def _take_out() -> dict[str, Any]:
    names = [
        n
        for n in sys.modules
        if n in ("cupy", "cupyx") or n.startswith(("tinynet.devices.cuda", "tinynet.kernels.cuda"))
    ]
    for parent in ("tinynet.devices", "tinynet.kernels"):
        if parent in sys.modules:
            sys.modules[parent].__dict__.pop("cuda", None)
    return {name: sys.modules.pop(name) for name in names}
