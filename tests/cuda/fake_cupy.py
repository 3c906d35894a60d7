"""A strict stand-in for CuPy on NumPy arrays: on it the CUDA path's host code runs without a GPU.

It has only what tinynet uses of CuPy, and is stricter than CuPy where CuPy is silent:

- an array lives on a device and in a block of that device's memory; using it while another device
  is current raises, and so does mixing it with NumPy arrays, or converting it to one otherwise
  than by asnumpy, get or set;
- every operation runs on the current stream and remembers which blocks it read and wrote. Streams
  keep vector clocks: they know what other streams had done at the events they waited for. An
  operation that touches a block before what it depends on is certain to be done raises
  `Unordered`, also when the block has been freed and used again since;
- `RawKernel` compiles the very text of the kernel as C++ (on_cpu.py) and takes only NumPy scalars
  of the declared types;
- what CuPy computes lies in C order, however its operands lie, and it goes along axes as they are
  written: operands of `large` elements or more that lie otherwise are counted (`against_memory`);
- `empty` is full of NaNs, pinned memory may not be written again before the copy from it was
  waited for.

`install(gpus)` puts it into sys.modules in place of CuPy, `uninstall()` takes it out again.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import sys
import threading
import types
import weakref
from bisect import bisect_right
from collections import Counter
from typing import Any

import numpy as np
import on_cpu

import tinynet  # noqa: F401
from tinynet.devices.base import _devices as devices

GPU_BYTES = 1 << 34
C_TYPES = {
    "bool": np.bool_, "unsigned char": np.uint8, "unsigned short": np.uint16,
    "unsigned int": np.uint32, "int": np.int32, "long long": np.int64,
    "unsigned long long": np.uint64, "float": np.float32, "double": np.float64,
    "double2": np.complex128, "float2": np.complex64,
}  # fmt: skip


class Unordered(AssertionError):
    """Two streams touch the same memory, and nothing orders them."""


class CUDARuntimeError(RuntimeError):
    pass


class FakeOutOfMemoryError(MemoryError):
    pass


class Machine:
    """What a test may set: how many GPUs there are, which reach each other, the driver; and what it
    may count.
    """

    def __init__(self, gpus: int):
        self.gpus, self.driver, self.runtime = gpus, 13000, 13000
        self.compute_capability = "90"
        self.peers, self.peers_lie = True, False
        self.pinned = 1 << 40  # bytes of pinned memory that the host gives
        self.cublas_memory = True  # whether cuBLAS finds room for its workspace
        self.memory = GPU_BYTES
        self.host_waits = 0  # how often the host waited for a device
        self.peer_bytes: Counter = Counter()  # (source, target) -> bytes copied directly
        # (its stream's number, what that stream knew) of every direct copy on a stream of its own
        self.copies: list[tuple[int, Clock]] = []
        self.launches: Counter = Counter()
        # "add (8, 3, 5, 5)" -> how often an operand of that many elements was read against memory
        self.against_memory: Counter = Counter()
        self.large = 256
        self.used_names: set[str] = set()  # of CuPy's functions
        self.broken_library = ""  # what CuPy says when it compiles
        self.host = Clock()
        self.blocks: list[tuple[int, weakref.ref[Block]]] = []  # by address
        self.idle: dict[tuple, list] = {}
        self.held: Counter = Counter()
        self.used: Counter = Counter()
        self.allocator: Any = None
        self.local = threading.local()


class Clock(dict):
    """stream -> how many of its operations are known to be done."""

    def join(self, other: dict) -> None:
        for stream, time in other.items():
            if time > self.get(stream, 0):
                self[stream] = time

    def knows(self, moment: tuple[int, int]) -> bool:
        return self.get(moment[0], 0) >= moment[1]


class History:
    """Who wrote a piece of memory last, and who has read it since."""

    def __init__(self) -> None:
        self.write, self.reads = (0, 0), {}

    def read_by(self, stream: Stream, what: str) -> None:
        if not stream.clock.knows(self.write):
            raise Unordered(
                f"{what} on {stream} reads what stream {self.write[0]} wrote; nothing makes it "
                f"wait for that"
            )
        self.reads[stream.number] = stream.clock[stream.number]

    def written_by(self, stream: Stream, what: str) -> None:
        for moment in [self.write, *self.reads.items()]:
            if not stream.clock.knows(moment):
                raise Unordered(
                    f"{what} on {stream} writes what stream {moment[0]} still uses; nothing makes "
                    f"it wait"
                )
        self.write, self.reads = (stream.number, stream.clock[stream.number]), {}


machine = Machine(0)


# --- streams, events, devices ---------------------------------------------------------------------

_numbers = itertools.count(1)


class Stream:
    def __init__(self, null: bool = False, non_blocking: bool = False):
        self.number, self.device_id, self.clock = next(_numbers), current_gpu(), Clock()
        self.ptr = self.number

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
        if not self.done:
            machine.host_waits += 1
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


# --- memory ---------------------------------------------------------------------------------------


class Block:
    """A piece of a GPU's memory. When it is freed, the pool keeps it for the stream that it was
    allocated on.
    """

    def __init__(self, nbytes: int):
        self.device_id, self.size, self.nbytes = (
            current_gpu(),
            -(-max(nbytes, 1) // 512) * 512,
            nbytes,
        )
        if machine.used[self.device_id] + self.size > machine.memory:
            raise FakeOutOfMemoryError
        self.arena = machine.idle.setdefault(
            (self.device_id, current_stream().number, self.size), []
        )
        if self.arena:
            self.bytes, self.history = self.arena.pop()
        else:
            raw = np.empty(self.size + 512, np.uint8)
            start = -raw.ctypes.data % 512
            self.bytes, self.history = raw[start : start + self.size], History()
            machine.held[self.device_id] += self.size
        self.bytes.fill(0xFF)  # NaN, read as floats
        machine.used[self.device_id] += self.size
        self.ptr = self.bytes.ctypes.data
        place = bisect_right(machine.blocks, self.ptr, key=lambda entry: entry[0])
        self.machine = machine
        machine.blocks.insert(
            place, (self.ptr, weakref.ref(self))
        )  # a registry that keeps no block alive

    def __del__(self) -> None:
        if not hasattr(self, "machine"):
            return
        here = self.machine
        here.used[self.device_id] -= self.size
        place = bisect_right(here.blocks, self.ptr, key=lambda entry: entry[0]) - 1
        del here.blocks[place]
        self.arena.append((self.bytes, self.history))


def block_at(pointer: int) -> Block:
    place = bisect_right(machine.blocks, pointer, key=lambda entry: entry[0]) - 1
    block = machine.blocks[place][1]() if place >= 0 else None
    if block is None or pointer >= block.ptr + block.nbytes:
        raise AssertionError("a pointer to no living array")
    return block


class MemoryPointer:
    def __init__(self, block: Block, ptr: int):
        self.mem, self.ptr, self.device_id = block, ptr, block.device_id

    def copy_from_device_async(
        self, source: MemoryPointer, size: int, stream: Stream | None = None
    ) -> None:
        logged, stream = stream is not None, stream or current_stream()
        machine.used_names.add("cuda.MemoryPointer.copy_from_device_async")
        if source.device_id != self.device_id:
            if not machine.peers:
                raise CUDARuntimeError("cudaErrorInvalidDevice: no peer access")
            machine.peer_bytes[source.device_id, self.device_id] += size
        operate("copy", stream, [source.mem], [self.mem])
        if logged:
            machine.copies.append((stream.number, Clock(stream.clock)))
        to, of = self.ptr - self.mem.ptr, source.ptr - source.mem.ptr
        data = source.mem.bytes[of : of + size]
        if source.device_id != self.device_id and machine.peers_lie:
            data = data[::-1]
        self.mem.bytes[to : to + size] = data


class MemoryPool:
    def malloc(self, nbytes: int) -> MemoryPointer:
        block = Block(nbytes)
        return MemoryPointer(block, block.ptr)

    def used_bytes(self) -> int:
        return machine.used[current_gpu()]

    def total_bytes(self) -> int:
        return machine.held[current_gpu()]

    def free_all_blocks(self) -> None:
        pass


def set_allocator(allocator: Any) -> None:
    machine.allocator = allocator


def allocate(nbytes: int) -> Block:
    return (machine.allocator or MemoryPool().malloc)(nbytes).mem


def operate(what: str, stream: Stream, reads: list, writes: list) -> None:
    """One operation on a stream, in order after all that its memory needs."""
    stream.tick()
    for place in reads:
        place.history.read_by(stream, what)
    for place in writes:
        place.history.written_by(stream, what)


class Pinned(np.ndarray):
    """Host memory that copies run from while the host goes on: it knows who uses it."""

    history: History | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.history = getattr(source, "history", None)


def empty_pinned(shape: Any, dtype: Any = float) -> Pinned:
    array = np.empty(shape, dtype).view(Pinned)
    machine.pinned -= array.nbytes
    if machine.pinned < 0:
        raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
    array.history = History()
    return array


# --- arrays ---------------------------------------------------------------------------------------


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


def filled(value: Any, shape: Any, dtype: Any = float) -> ndarray:
    array = new(shape, dtype)
    operate("full", current_stream(), [], [array._block])
    array._values.fill(value)
    return array


def asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        if (
            a._block.device_id != current_gpu()
        ):  # CuPy copies to the current device, and records no event: never do that
            raise AssertionError("asarray of another GPU's array copies it to the current GPU")
        return a if dtype is None or np.dtype(dtype) == a.dtype else a.astype(dtype)
    values = np.asarray(a, dtype)
    out = new(values.shape, values.dtype)
    operate("asarray", current_stream(), [], [out._block])
    np.copyto(out._values, values)
    return out


def asnumpy(a: ndarray) -> np.ndarray:
    on_current(a)
    return a.get()


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    if a.flags.c_contiguous:
        return a if a.ndim else a.reshape(1)
    return call(np.ascontiguousarray, "ascontiguousarray", (a,), {}, fresh=True)


def as_strided(a: ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> ndarray:
    machine.used_names.add("lib.stride_tricks.as_strided")
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + a.itemsize
    assert 0 in shape or reach <= a.nbytes, "as_strided: past the end of the array"
    return a._view(np.lib.stride_tricks.as_strided(a._values, shape, strides))


def concatenate(
    arrays: Any, axis: int = 0
) -> ndarray:  # CuPy's result is in C order, whatever its arguments'
    return call(
        lambda a: np.ascontiguousarray(np.concatenate(a, axis)),
        "concatenate",
        (list(arrays),),
        {},
        fresh=True,
    )


class RawKernel:
    """The kernel's own text, compiled as C++."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()):
        self.code, self.name, self.options = code, name, options
        macros = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        resolve = lambda kind: macros.get(kind, kind)  # noqa: E731
        self.types = [
            (resolve(kind.rstrip("*")), kind.endswith("*")) for kind in on_cpu.declared(code)[name]
        ]

    def compile(self) -> None:
        if machine.broken_library:
            raise RuntimeError(machine.broken_library)

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        assert len(args) == len(self.types), (
            f"{self.name}: {len(args)} arguments for {len(self.types)} parameters"
        )
        assert all(isinstance(n, int) and n > 0 for n in (*grid, *block)), (
            f"{self.name}: grid {grid}, block {block}"
        )
        assert grid[0] < 2**31 and all(n <= 65535 for n in grid[1:]) and math.prod(block) <= 1024
        blocks, by_value = [], []
        for argument, (kind, pointer) in zip(args, self.types, strict=True):
            if kind.startswith("All<"):  # parts by value: CuPy takes NumPy arrays of one element
                assert isinstance(argument, np.ndarray) and argument.size == 1
                by_value += self._pointed_to(argument["parts"])
            elif pointer:
                assert isinstance(argument, ndarray), f"{self.name}: {argument!r} for {kind}*"
                assert argument.dtype == C_TYPES[kind], f"{self.name}: {argument.dtype} for {kind}*"
                blocks.append(on_current(argument))
            else:
                assert type(argument) is C_TYPES[kind], f"{self.name}: {type(argument)} for {kind}"
        constant = ["const" in p for p in on_cpu.DECLARATION.search(self._head())[2].split(",")]
        written = [
            a._block
            for a, c, (_, pointer) in zip(args, constant, self.types, strict=True)
            if pointer and not c
        ]
        blocks += [block for block, _ in by_value]
        written += [block for block, constant in by_value if not constant]
        operate(self.name, current_stream(), blocks, written)
        machine.launches[self.name] += 1
        on_cpu.run(self.code, self.name, self.options, grid, block, [plain(a) for a in args])

    def _pointed_to(self, parts: np.ndarray) -> list[tuple[Block, bool]]:
        """(block, whether it is only read) of every pointer in the parts that count."""
        found = []
        for part in parts.reshape(-1):
            for name in part.dtype.names if part["count"] else ():
                if part.dtype[name] == np.uintp:
                    found.append((block_at(int(part[name])), name == "grad"))
                    assert found[-1][0].device_id == current_gpu()
        return found

    def _head(self) -> str:
        start = self.code.index(f'extern "C" __global__ void {self.name}(')
        return self.code[start : self.code.index(")", start) + 1]


# --- cuBLAS: column by column, on raw pointers, checked against the blocks they point into ---


class Blas:
    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    modes: dict[int, int] = {}

    class CUBLASError(RuntimeError):
        def __init__(self, status: int):
            super().__init__(f"CUBLAS_STATUS_{status}")
            self.status = status

    def create(self) -> int:
        if not machine.cublas_memory:
            raise self.CUBLASError(1)
        handle = next(_numbers)
        self.modes[handle] = 0
        return handle

    def setMathMode(self, handle: int, mode: int) -> None:
        self.modes[handle] = mode

    def sgemm(self, *args: Any) -> None:
        self._gemm(np.float32, *args)

    def dgemm(self, *args: Any) -> None:
        self._gemm(np.float64, *args)

    def sgemmStridedBatched(self, *args: Any) -> None:
        self._gemms(np.float32, *args)

    def dgemmStridedBatched(self, *args: Any) -> None:
        self._gemms(np.float64, *args)

    def _gemms(self, *args: Any) -> None:
        self._each(*args)

    def _gemm(self, *args: Any) -> None:
        self._product(*args)

    def _operate(self, *blocks: Block) -> None:
        operate("gemm", current_stream(), [*blocks], [blocks[-1]])
        machine.launches["gemm"] += 1

    def _each(
        self, dtype: Any, handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, a: int, lda: int, far_a: int, b: int, ldb: int, far_b: int, beta: int, c: int,
        ldc: int, far_c: int, count: int,
    ) -> None:  # fmt: skip
        size = np.dtype(dtype).itemsize
        reach = (n - 1) * ldc + m  # the elements from the first to the last of one result
        assert count > 0 and (count == 1 or far_c >= reach or (far_c >= m and ldc >= count * far_c))
        for i in range(count):
            places = a + i * far_a * size, b + i * far_b * size, c + i * far_c * size
            self._product(
                dtype, handle, transa, transb, m, n, k, alpha, places[0], lda, places[1], ldb,
                beta, places[2], ldc,
            )  # fmt: skip
        machine.launches["gemm"] -= count - 1

    def _product(
        self, dtype: Any, handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        if not machine.cublas_memory:
            raise self.CUBLASError(3)
        assert all(isinstance(v, int) and 0 < v < 2**31 for v in (m, n, k, lda, ldb, ldc))
        A, block_a = self._matrix(dtype, a, lda, *((k, m) if transa else (m, k)))
        B, block_b = self._matrix(dtype, b, ldb, *((n, k) if transb else (k, n)))
        C, block_c = self._matrix(dtype, c, ldc, m, n)
        number = ctypes.c_float if dtype == np.float32 else ctypes.c_double
        alpha, beta = (dtype(number.from_address(p).value) for p in (alpha, beta))
        self._operate(block_a, block_b, block_c)
        A, B = A.T if transa else A, B.T if transb else B
        if self.modes[handle] == 3 and dtype == np.float32:
            A, B = tf32(A), tf32(B)
        product = alpha * (A @ B)
        C[...] = product if beta == 0 else product + beta * C

    def _matrix(
        self, dtype: Any, pointer: int, ld: int, rows: int, columns: int
    ) -> tuple[np.ndarray, Block]:
        assert ld >= rows, f"gemm: leading dimension {ld} for {rows} rows"
        block, size = block_at(pointer), np.dtype(dtype).itemsize
        assert block.device_id == current_gpu(), "gemm on another GPU's memory"
        assert pointer + ((columns - 1) * ld + rows) * size <= block.ptr + block.nbytes, (
            "gemm: past the end of an array"
        )
        matrix = np.ndarray(
            (rows, columns), dtype, block.bytes, pointer - block.ptr, (size, ld * size)
        )
        return matrix, block


def tf32(a: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits of mantissa."""
    bits = np.array(a, np.float32, order="C").view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)


# --- the module -----------------------------------------------------------------------------------


def _runtime() -> types.SimpleNamespace:
    def count() -> int:
        if machine.gpus == 0:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return machine.gpus

    return types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: machine.driver,
        runtimeGetVersion=lambda: machine.runtime,
        getDeviceCount=count,
        getDevice=current_gpu,
        deviceCanAccessPeer=lambda device, peer: int(machine.peers),
        memGetInfo=lambda: (machine.memory - machine.held[current_gpu()], machine.memory),
        getDeviceProperties=lambda index: {
            "name": b"Stand-in",
            "l2CacheSize": 1 << 20,
            "multiProcessorCount": 1,
        },
    )


def _event_time(start: Event, end: Event) -> float:
    return 1.0


class _Module(types.ModuleType):
    """Any other function is NumPy's, on the stand-in's arrays."""

    def __getattr__(self, name: str) -> Any:
        if name == "argsort":
            return lambda a: call(
                lambda v: np.argsort(v, kind="stable"), name, (a,), {}, fresh=True
            )
        function = getattr(np, name, None)
        if function is None or name.startswith("_"):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        if isinstance(function, type) or not callable(function):
            return function
        if isinstance(function, np.ufunc):
            return _Ufunc(function)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            machine.used_names.add(name)
            if function is np.may_share_memory:
                return function(*plain(args))
            out = kwargs.pop("out", None)
            return call(function, name, args, kwargs, out=out)

        return wrapped


class _Ufunc:
    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc
        machine.used_names.add(ufunc.__name__)

    def __call__(self, *args: Any, out: ndarray | None = None, **kwargs: Any) -> Any:
        return call(self.ufunc, self.ufunc.__name__, args, kwargs, out=out)


def install(gpus: int = 2) -> Machine:
    """Put the stand-in into sys.modules; returns the machine it simulates."""
    global machine
    machine = Machine(gpus)
    cupy = _Module("cupy")
    own = dict(
        ndarray=ndarray, empty=new, asarray=asarray, array=asarray, asnumpy=asnumpy,
        RawKernel=RawKernel, ascontiguousarray=ascontiguousarray, concatenate=concatenate,
        zeros=lambda shape, dtype=float: filled(0, shape, dtype),
        ones=lambda shape, dtype=float: filled(1, shape, dtype),
        full=lambda shape, value, dtype=float: filled(value, shape, dtype),
        zeros_like=lambda a: filled(0, a.shape, a.dtype),
        empty_like=lambda a: new(a.shape, a.dtype),
        arange=lambda *a, dtype=None: asarray(np.arange(*a, dtype=dtype)),
    )  # fmt: skip
    for name, value in own.items():
        setattr(cupy, name, value)
    cupy.__version__ = "0 (stand-in)"
    cupy.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=as_strided))
    cupy.cuda = types.SimpleNamespace(
        Device=Device, Stream=Stream, Event=Event, MemoryPool=MemoryPool,
        set_allocator=set_allocator, runtime=_runtime(), cublas=Blas(),
        memory=types.SimpleNamespace(OutOfMemoryError=FakeOutOfMemoryError),
        get_current_stream=current_stream, get_elapsed_time=_event_time,
    )  # fmt: skip
    cupyx = types.ModuleType("cupyx")
    cupyx.empty_pinned = empty_pinned
    hide()
    sys.modules.update(cupy=cupy, cupyx=cupyx)
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
