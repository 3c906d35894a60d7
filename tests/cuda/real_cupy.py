"""Real CuPy on a machine without a driver: its own arrays, over host memory.

CuPy's ndarray makes views, strides, flags, reshapes and pointers without a GPU. What would run on
one is replaced: memory is the host's, kernels run behind the shim (on_cpu.py), CuPy's own
operations are NumPy's on the same memory with results in C order, streams do nothing, cuBLAS is
NumPy's `@` on raw pointers (fake_cupy.Blas). So the host code meets the real thing where the
stand-in is only our idea of it: signatures, view rules, dtypes, what may be passed to a launch.

`install(patch)` does it for the time of a test.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import mmap
import operator
import sys
import types
from collections.abc import Iterable
from typing import Any

import fake_cupy
import numpy as np
import on_cpu
import pytest
from fake_cupy.creation import take_wrapped

INSTALLED = importlib.util.find_spec("cupy") is not None
# CuPy's functions that launch kernels of its own, besides its ufuncs: NumPy's of these names
FUNCTIONS = (
    "all any arange argmax argmin concatenate full matmul max mean min ones prod sum tile where"
).split()
METHODS = (
    "all any max mean sum prod argmax argmin min clip cumsum cumprod repeat take round".split()
)
OPERATORS = (
    "add sub mul truediv floordiv pow mod lt le gt ge eq ne and or xor matmul neg invert abs pos"
).split()


class Counts:
    """What CuPy was asked for, where no driver did it. With `compute` off nothing is computed."""

    def __init__(self) -> None:
        self.compute = True
        self.kernels: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.allocations = self.events = self.waits = 0

    def forget(self) -> None:
        self.kernels.clear()
        self.bytes.clear()
        self.allocations = self.events = self.waits = 0

    def note(self, name: str, arrays: Iterable[Any]) -> None:
        self.kernels[name] = self.kernels.get(name, 0) + 1
        moved = sum(a.nbytes for a in arrays if hasattr(a, "nbytes"))
        self.bytes[name] = self.bytes.get(name, 0) + moved


def install(patch: pytest.MonkeyPatch, idle: bool = False) -> Counts:
    """Real CuPy with these replacements, in place of what tinynet has seen so far. idle: what a
    driver would do costs next to no time, and nothing is computed or counted (host_time.py).
    """
    import cupy
    import cupyx

    fake_cupy.hide()
    sys.modules.update(cupy=cupy, cupyx=cupyx)

    counts, core = Counts(), cupy.ndarray
    counts.compute = not idle

    def host(a: Any) -> Any:
        """The memory of a CuPy array as NumPy's; anything else as it is."""
        if isinstance(a, (list, tuple)):
            return type(a)(host(part) for part in a)
        if not isinstance(a, core):
            return a
        if a.size == 0:
            return np.empty(a.shape, a.dtype)
        reach = [(n - 1) * step for n, step in zip(a.shape, a.strides, strict=True)]
        before, after = (sum(r for r in reach if (r < 0) == sign) for sign in (True, False))
        memory = (ctypes.c_uint8 * (after - before + a.itemsize)).from_address(a.data.ptr + before)
        return np.ndarray(a.shape, a.dtype, memory, -before, a.strides)

    def given(values: Any) -> Any:
        """New memory of CuPy's with these values, in C order."""
        if isinstance(values, (list, tuple)):
            return type(values)(given(v) for v in values)
        values = np.asarray(values)
        out = cupy.empty(values.shape, values.dtype)
        if counts.compute and out.size:
            host(out)[...] = values
        return out

    def run(name: str, function: Any, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        arrays = [a for a in (*args, *kwargs.values()) if isinstance(a, (core, list, tuple))]
        if any(isinstance(a, np.ndarray) and a.ndim for a in args):
            raise TypeError(f"{name}: Unsupported type <class 'numpy.ndarray'>")
        counts.note(name, arrays)
        if not counts.compute and all(isinstance(a, core) for a in args) and len(args) == 2:
            shape = np.broadcast_shapes(*(a.shape for a in args))  # of an operator
            return cupy.empty(shape, np.result_type(*(a.dtype for a in args)))
        if not counts.compute and name == "concatenate":
            parts, axis = args[0], kwargs.get("axis", 0)
            shape = [sum(a.shape[i] for a in parts) if i == axis else n
                     for i, n in enumerate(parts[0].shape)]  # fmt: skip
            return cupy.empty(shape, parts[0].dtype)
        with np.errstate(all=None if counts.compute else "ignore"):  # of what was never computed
            result = function(*map(host, args), **{k: host(v) for k, v in kwargs.items()})
        if out is None:
            return given(result)
        host(out)[...] = result
        return out

    # --- arrays -----------------------------------------------------------------------------------

    def method(name: str, function: Any) -> None:
        patch.setattr(core, name, lambda *args, **kw: run(name, function, *args, **kw))

    for name in OPERATORS:
        dunder = f"__{name}__"
        plain = getattr(operator, dunder)
        method(dunder, plain)
        if name in ("add", "sub", "mul", "truediv", "pow", "and", "or"):
            method(f"__r{name}__", lambda a, b, f=plain: f(b, a))
            patch.setattr(
                core, f"__i{name}__",
                lambda a, b, f=plain: run("in place", f, a, b, out=a),
            )  # fmt: skip
    for name in METHODS:
        method(name, lambda a, *args, f=name, **kw: getattr(a, f)(*args, **kw))
    patch.setattr(
        core, "__array_ufunc__",
        lambda self, ufunc, how, *args, out=(None,), **kw: run(
            ufunc.__name__, getattr(ufunc, how), *args, out=out[0], **kw
        ),
    )  # fmt: skip

    views = core.__getitem__

    def getitem(self: Any, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, (list, core)) for part in parts):
            return run("take", operator.getitem, self, key)
        return views(self, key)

    def setitem(self: Any, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("assigning a NumPy array to a CuPy array is not allowed")
        counts.note("assign", [value])
        if counts.compute:
            host(self)[host(key)] = host(value)

    shaped = core.reshape

    def reshape(self: Any, *shape: Any, order: str = "C") -> Any:
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
        view = host(self)
        try:
            view.shape = tuple(np.empty(self.shape, bool).reshape(wanted).shape)
        except AttributeError:  # CuPy copies by a kernel of its own
            return shaped(given(host(self)), *shape)
        return shaped(self, *shape)

    def get(self: Any, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True
            ) -> np.ndarray:  # fmt: skip
        if out is None:
            return np.array(host(self), order=order)
        np.copyto(out, host(self))
        return out

    def put(self: Any, array: np.ndarray, stream: Any = None) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != self.dtype:
            raise TypeError(f"set: expected a NumPy array of {self.dtype}, got {type(array)}")
        assert array.shape == self.shape and self.flags.c_contiguous
        if self.size and counts.compute:
            host(self)[...] = array

    def astype(self: Any, dtype: Any, order: str = "K", copy: bool = True) -> Any:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        return run("astype", lambda a: a.astype(dtype), self)

    def filled(self: Any, value: Any) -> None:
        counts.note("fill", [self])
        if counts.compute and self.size:
            host(self).fill(value)

    for name, function in dict(
        __getitem__=getitem, __setitem__=setitem, reshape=reshape, get=get, set=put, astype=astype,
        fill=filled, item=lambda self: host(self).item(), __float__=lambda self: float(host(self)),
        __int__=lambda self: int(host(self)), __bool__=lambda self: bool(host(self)),
        copy=lambda self, order="C": run("copy", np.array, self),
    ).items():  # fmt: skip
        if not idle or name not in ("__getitem__", "reshape"):  # views need no driver
            patch.setattr(core, name, function)

    # --- the module -------------------------------------------------------------------------------

    ufuncs = [name for name, thing in vars(cupy).items() if isinstance(thing, cupy.ufunc)]
    for name in (*FUNCTIONS, *(name for name in ufuncs if hasattr(np, name))):
        patch.setattr(cupy, name, functools.partial(run, name, getattr(np, name)))

    def zeros(shape: Any, dtype: Any = float) -> Any:
        out = cupy.empty(shape, dtype)
        filled(out, 0)
        return out

    for name, function in dict(
        zeros=zeros, zeros_like=lambda a: zeros(a.shape, a.dtype),
        asarray=lambda a, dtype=None: a if isinstance(a, core) else given(np.asarray(a, dtype)),
        asnumpy=lambda a: a.get(),
        take_along_axis=lambda *args, **kw: run("take_along_axis", take_wrapped, *args, **kw),
        argsort=lambda a: run("argsort", lambda v: np.argsort(v, kind="stable"), a),
        ascontiguousarray=lambda a: a if a.flags.c_contiguous else run("pack", np.array, a),
        RawKernel=_IdleKernel if idle else functools.partial(_Kernel, counts, host),
    ).items():  # fmt: skip
        patch.setattr(cupy, name, function)
    patch.setattr(cupyx, "empty_pinned", np.empty)
    memory = _idle_memory(cupy.cuda) if idle else _memory(cupy.cuda, counts)
    for name, thing in dict(
        Device=_Device, Stream=functools.partial(_Stream, counts),
        Event=functools.partial(_Event, counts), MemoryPool=memory, runtime=_runtime(cupy),
        cublas=_IdleBlas(counts) if idle else _Blas(counts),
    ).items():  # fmt: skip
        patch.setitem(
            vars(cupy.cuda), name, thing
        )  # getattr would load cuBLAS, to keep the old one
    return counts


def uninstall() -> None:
    """Bring back what tinynet had seen before; the patch undoes the rest."""
    fake_cupy.uninstall()


class _Kernel:
    """A RawKernel that runs behind the shim; its arguments are what CuPy's launch takes."""

    def __init__(self, counts: Counts, host: Any, code: str, name: str, options: tuple = ()):
        self.counts, self.host = counts, host
        self.code, self.name, self.options = code, name, options

    def compile(self) -> None:
        pass

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        assert all(1 <= n <= 65535 for n in grid[1:]) and 1 <= grid[0] < 2**31
        self.counts.note(self.name, args)
        if self.counts.compute:
            values = [self.host(a) for a in args]
            on_cpu.run(self.code, self.name, self.options, grid, block, values)


class _Device:
    compute_capability = "90"

    def __init__(self, index: int):
        self.id = index

    def __enter__(self) -> _Device:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Stream(_Device):
    """Everything is done at once: nothing to wait for."""

    def __init__(self, counts: Counts):
        self.counts = counts

    def wait_event(self, event: Any) -> None:
        self.counts.waits += 1


class _Event(_Device):
    done = True

    def __init__(self, counts: Counts, disable_timing: bool = False):
        counts.events += 1

    def record(self, stream: Any = None) -> None:
        pass


class _Blas(fake_cupy.Blas):
    """The stand-in's products, on pointers that it knows no blocks of."""

    def __init__(self, counts: Counts):
        self.counts = counts

    def _gemms(self, dtype: Any, *args: Any) -> None:
        self.counts.note("gemm", ())
        if self.counts.compute:
            self._each(dtype, *args)

    def _gemm(self, dtype: Any, *args: Any) -> None:
        self.counts.note("gemm", ())
        if self.counts.compute:
            self._product(dtype, *args)

    def _operate(self, *blocks: Any) -> None:
        pass

    def _matrix(self, dtype: Any, pointer: int, ld: int, rows: int, columns: int) -> tuple:
        assert ld >= rows, f"gemm: leading dimension {ld} for {rows} rows"
        size = np.dtype(dtype).itemsize
        memory = (ctypes.c_uint8 * (((columns - 1) * ld + rows) * size)).from_address(pointer)
        return np.ndarray((rows, columns), dtype, memory, strides=(size, ld * size)), None


def _memory(cuda: Any, counts: Counts) -> type:
    """A MemoryPool of the host's memory."""

    class Pointer(cuda.MemoryPointer):
        def copy_from_device_async(self, source: Any, size: int, stream: Any = None) -> None:
            if counts.compute:
                ctypes.memmove(self.ptr, source.ptr, size)

    class Pool:
        def malloc(self, nbytes: int) -> Any:
            counts.allocations += 1
            raw = np.empty(max(nbytes, 1) + 512, np.uint8)
            if counts.compute:
                raw.fill(0xFF)  # NaN, read as floats
            start = raw.ctypes.data + -raw.ctypes.data % 512
            return Pointer(cuda.UnownedMemory(start, max(nbytes, 1), raw, device_id=0), 0)

        def used_bytes(self) -> int:
            return 0

        def total_bytes(self) -> int:
            return 0

        def free_all_blocks(self) -> None:
            pass

    return Pool


def _runtime(cupy: Any) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        CUDARuntimeError=cupy.cuda.runtime.CUDARuntimeError,
        driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, getDeviceCount=lambda: 1,
        getDevice=lambda: 0, deviceCanAccessPeer=lambda a, b: 1,
        memGetInfo=lambda: (1 << 37, 1 << 37),
    )  # fmt: skip


# --- what costs next to no time -------------------------------------------------------------------


class _IdleKernel:
    def __init__(self, code: str, name: str, options: tuple = ()):
        pass

    def compile(self) -> None:
        pass

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        pass


class _IdleBlas(_Blas):
    def sgemm(self, *args: Any) -> None:
        pass

    def sgemmStridedBatched(self, *args: Any) -> None:
        pass


def _idle_memory(cuda: Any) -> type:
    """A MemoryPool of addresses that nobody may touch, given out in turn."""
    size = 1 << 34
    places = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    first = np.frombuffer(places, np.uint8).ctypes.data

    class Pool(_memory(cuda, Counts())):  # type: ignore[misc]
        used = 0

        def malloc(self, nbytes: int) -> Any:
            if self.used + nbytes > size:
                self.used = 0
            start, room = first + self.used, -(-max(nbytes, 1) // 512) * 512
            self.used += room
            memory = cuda.UnownedMemory(start, room, places, device_id=0)
            return cuda.MemoryPointer(memory, 0)

    return Pool
