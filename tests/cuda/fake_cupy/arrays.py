"""CuPy's array, stricter: it knows its GPU and its block, and refuses what CuPy would let pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fake_cupy.machine import machine
from fake_cupy.memory import Block, MemoryPointer, allocate
from fake_cupy.order import Unordered
from fake_cupy.streams import Device, Stream, current_gpu, current_stream, operate


class ndarray:
    """A CuPy array."""

    __array_priority__ = 100

    def __init__(self, values: np.ndarray, block: Block):
        self._values, self._block = values, block

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    strides = property(lambda self: self._values.strides)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    flags = property(lambda self: self._values.flags)
    data = property(lambda self: MemoryPointer(self._block, self._values.ctypes.data))
    device = property(lambda self: Device(self._block.device_id))
    T = property(lambda self: self._view(self._values.T))

    def _view(self, values: np.ndarray) -> ndarray:
        return ndarray(values, self._block)

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        target = out[0] if out else None
        return call(
            getattr(ufunc, method), f"{ufunc.__name__}.{method}", inputs, kwargs, out=target
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"the stand-in's array has no {name}")

        def method(*args: Any, **kwargs: Any) -> Any:
            machine.used_names.add(f"ndarray.{name}")
            out = kwargs.pop("out", None)
            return call(
                lambda a, *rest, **kw: getattr(a, name)(*rest, **kw),
                name,
                (self, *args),
                kwargs,
                out=out,
            )

        return method

    def fill(self, value: Any) -> None:
        look("fill", self)
        operate("fill", current_stream(), [], [on_current(self)])
        self._values.fill(value)

    def copy(self, order: str = "C") -> ndarray:
        return call(lambda a: a.copy(order), "copy", (self,), {}, fresh=True)

    def astype(self, dtype: Any, copy: bool = True) -> ndarray:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        values = self._values.astype(dtype)
        out = new(self.shape, dtype, like=values)  # this one keeps the order of its operand
        look("astype", reordered(self, values), reordered(out, values))
        operate("astype", current_stream(), [on_current(self)], [out._block])
        np.copyto(out._values, values)
        return out

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._values if dtype is None else self._values.view(dtype))

    def get(
        self, stream: Stream | None = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> np.ndarray:
        stream = stream or current_stream()
        machine.used_names.add("ndarray.get")
        assert stream.device_id == self._block.device_id
        if out is not None and not blocking:
            operate("get", stream, [self._block], [out])
            np.copyto(out, self._values)
            return out
        operate("get", stream, [self._block], [])
        stream.synchronize()
        if not self.flags.f_contiguous:
            look("get", self)  # CuPy makes a copy in C order first
        return np.array(self._values, order=order)

    def set(self, array: np.ndarray, stream: Stream | None = None) -> None:
        stream = stream or current_stream()
        machine.used_names.add("ndarray.set")
        if (
            not isinstance(array, np.ndarray)
            or array.dtype != self.dtype
            or array.shape != self.shape
        ):
            raise TypeError(
                f"set: {type(array).__name__} {array.dtype} {array.shape} for {self.dtype} "
                f"{self.shape}"
            )
        assert stream.device_id == self._block.device_id
        pinned = getattr(array, "history", None)
        if pinned is not None and pinned.write == (0, 0):  # written by the host alone
            for moment in pinned.reads.items():
                if not machine.host.knows(moment):
                    raise Unordered(
                        "pinned memory was written again before the copy from it was waited for"
                    )
        operate("set", stream, [array] if pinned is not None else [], [self._block])
        np.copyto(self._values, array)

    def item(self) -> Any:
        return self.get().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __getitem__(self, key: Any) -> ndarray:
        return call(lambda a, k: a[k], "index", (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise TypeError("assigning a NumPy array to a CuPy array is not allowed")
        keys = key if isinstance(key, tuple) else (key,)
        others = [a for a in (*keys, value) if isinstance(a, ndarray)]
        if not any(isinstance(k, ndarray) for k in keys):
            look("assign", self._view(self._values[plain(key)]), *others)
        operate("assign", current_stream(), [on_current(a) for a in others], [on_current(self)])
        self._values[plain(key)] = plain(value)


def _operator(name: str) -> Any:
    def method(self: ndarray, *others: Any) -> Any:
        return call(lambda *a: getattr(a[0], name)(*a[1:]), name, (self, *others), {})

    def inplace(self: ndarray, other: Any) -> ndarray:
        plain_name = "__" + name[3:]
        result = call(lambda a, b: getattr(a, plain_name)(b), name, (self, other), {})
        operate(name, current_stream(), [on_current(result)], [on_current(self)])
        np.copyto(self._values, result._values, casting="same_kind")
        return self

    return inplace if name.startswith("__i") and name not in ("__invert__",) else method


for _name in (
    "add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv floordiv rfloordiv pow "
    "rpow mod neg pos abs invert matmul lt le gt ge eq ne and or xor rand ror"
).split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = None


def on_current(array: ndarray) -> Block:
    if array._block.device_id != current_gpu():
        raise AssertionError(
            f"an array of GPU {array._block.device_id} used while GPU {current_gpu()} is current"
        )
    return array._block


def plain(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._values
    if isinstance(value, (tuple, list)):
        return type(value)(plain(v) for v in value)
    return value


def arrays_in(value: Any) -> list[ndarray]:
    if isinstance(value, ndarray):
        return [value]
    if isinstance(value, np.ndarray) and value.ndim >= 0 and not isinstance(value, np.generic):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: a NumPy array among CuPy arrays")
    if isinstance(value, (tuple, list)):
        return [a for v in value for a in arrays_in(v)]
    return []


def call(
    function: Any,
    name: str,
    args: tuple,
    kwargs: dict,
    out: ndarray | None = None,
    fresh: bool = False,
) -> Any:
    """Run a NumPy function on the values; results that are views stay views, others get memory of
    their own.
    """
    inputs = arrays_in(list(args)) + arrays_in(list(kwargs.values()))
    result = function(*plain(list(args)), **{k: plain(v) for k, v in kwargs.items()})
    if out is not None:
        look(name, *inputs, out)
        operate(name, current_stream(), [on_current(a) for a in inputs], [on_current(out)])
        np.copyto(out._values, result, casting="same_kind")
        return out
    if isinstance(result, (list, tuple)):
        return type(result)(give(r, name, inputs, fresh) for r in result)
    if isinstance(result, (np.ndarray, np.generic)):
        return give(np.asarray(result), name, inputs, fresh)
    return result


def look(what: str, *arrays: ndarray) -> None:
    """Count the large arrays whose memory an operation walks otherwise than from one end to the
    other.
    """
    for array in arrays:
        steps = [s for s, n in zip(array.strides, array.shape, strict=True) if n > 1 and s]
        if array.size >= machine.large and steps != sorted(steps, reverse=True):
            machine.against_memory[f"{what} {array.shape}"] += 1


def reordered(array: ndarray, like: np.ndarray) -> ndarray:
    """A view with the axes in the memory order of `like`."""
    order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
    return array._view(array._values.transpose(order))


def give(result: np.ndarray, name: str, inputs: list[ndarray], fresh: bool) -> ndarray:
    if not fresh:
        for array in inputs:
            if result.size == 0 or np.may_share_memory(result, array._block.bytes):
                return ndarray(result, array._block)
    blocks = [on_current(a) for a in inputs]  # a view needs no device; all else does
    look(name, *inputs)
    out = new(result.shape, result.dtype)
    operate(name, current_stream(), blocks, [out._block])
    np.copyto(out._values, result)
    return out


def new(shape: Any, dtype: Any = float, like: np.ndarray | None = None) -> ndarray:
    shape = (shape,) if np.ndim(shape) == 0 else tuple(int(n) for n in shape)
    dtype = np.dtype(dtype)
    block = allocate(math.prod(shape) * dtype.itemsize)
    flat = block.bytes[: math.prod(shape) * dtype.itemsize].view(dtype)
    if like is not None:  # NumPy's order "K": the same order of axes in memory
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        return ndarray(flat.reshape([shape[i] for i in order]).transpose(np.argsort(order)), block)
    return ndarray(flat.reshape(shape), block)
