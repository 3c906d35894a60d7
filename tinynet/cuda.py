"""GPUs through CuPy: streams, copies, memory, and what is said when there is none.

Every logical device has a stream of its own. Launches only queue work there and return; nothing
waits for the GPU but `download`, `synchronize`, and whoever reads a number. Three rules keep
streams from reading what is not yet written:

1. Work for a device is launched inside `device.activate()`, so it runs on its stream, one launch
after the other. 2. A copy between devices runs on the receiver's copy stream: after all that both
devices had queued so far, and before
   whatever either of them queues next. The second half matters as much: CuPy's memory pool hands a
   freed block to the next request of the same stream, and knows nothing of a copy elsewhere that
   still reads it.
3. The waits of rule 2 are queued when a device is next activated for anything but a copy, not at
once. So two devices
   that swap their halves copy both ways at the same time: neither copy waits for the other.

`cuda:0,cuda:0` is a pair of two logical devices on one GPU (`twin`), and runs the same code as two
GPUs.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from importlib import import_module, metadata
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from tinynet.device import Device
from tinynet.errors import DeviceUnavailableError, OutOfMemoryError
from tinynet.memory import MemoryStats

WHEELS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")
INSTALL = (
    "pip install 'tinynet[cuda13]' (driver 580 or newer) or 'tinynet[cuda12]' (driver 525 or newer)"
)
COPY = "Copy"  # the operation under which nothing is launched but copies
# Pinned memory for uploads: bytes that are filled at once, and how many such slots, together two
# batches of 128 pictures. A guess; if it is too small, `python benchmarks/gpu.py` shows fewer
# pictures/s from host than without uploads.
SLOT, SLOTS = 8 << 20, 16


def _import_cupy() -> ModuleType:
    wheels = [name for name in WHEELS if _installed(name)]
    if len(wheels) > 1:
        raise DeviceUnavailableError(
            f"cuda: {' and '.join(wheels)} are both installed and overwrite each other's files: "
            f"pip uninstall -y {' '.join(wheels)}, then {INSTALL}"
        )
    try:
        return import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceUnavailableError(f"cuda: CuPy cannot be imported: {error}") from error
        raise DeviceUnavailableError(f"cuda: CuPy is not installed: {INSTALL}") from None
    except Exception as error:  # a broken installation may raise anything
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceUnavailableError(
            f"cuda: {wheels[0] if wheels else 'CuPy'} cannot be imported ({reason[0]}): {INSTALL}"
        ) from error


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


cupy = _import_cupy()


def _check_gpu(name: str, index: int) -> None:
    """Raise one clear line unless GPU `index` can be used with this CuPy, this driver and these
    libraries.
    """
    runtime = cupy.cuda.runtime
    try:
        driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except Exception as error:
        raise DeviceUnavailableError(
            f"{name}: CuPy finds no CUDA runtime ({error}): {INSTALL}"
        ) from error
    if driver == 0:
        raise DeviceUnavailableError(f"{name}: no NVIDIA driver is running on this machine")
    if driver // 1000 < built // 1000:
        raise DeviceUnavailableError(
            f"{name}: the driver knows CUDA {driver // 1000}.{driver % 1000 // 10}, but this CuPy "
            f"is built for "
            f"CUDA {built // 1000}: update the driver, or install the CuPy that fits it "
            f"(pip uninstall cupy-cuda{built // 1000}x; pip install "
            f"'tinynet[cuda{driver // 1000}]')"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceUnavailableError(f"{name}: no GPU can be used: {error}") from error
    if index >= count:
        have = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
        raise DeviceUnavailableError(f"{name}: no such GPU; this machine has {have}")
    try:  # what the kernels will need: the compiler, CUDA's headers, a GPU that takes code, cuBLAS
        with cupy.cuda.Device(index):
            cupy.RawKernel('extern "C" __global__ void nothing(int) {}', "nothing").compile()
        cupy.cuda.cublas.CUBLAS_OP_N  # noqa: B018  loading the library is the test
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DeviceUnavailableError(
            f"{name}: CuPy, built for CUDA {built // 1000}, cannot compile a kernel or load cuBLAS "
            f"here ({reason[0]}): "
            f"pip install 'tinynet[cuda{built // 1000}]'"
        ) from error


class _Lane:
    """What a logical device owns: its streams, cuBLAS with a workspace of its own, waits not yet
    queued, upload slots.

    A cuBLAS handle for each stream keeps its results the same bits every run (two streams that
    share a workspace may be given different algorithms).
    """

    def __init__(self, index: int):
        self.gpu = cupy.cuda.Device(index)
        with self.gpu:
            self.stream = cupy.cuda.Stream()
            self.copies = cupy.cuda.Stream()  # from other devices
            self.uploads = (
                cupy.cuda.Stream()
            )  # from the host: a boundary never queues behind a batch of pictures
            self.blas = cupy.cuda.cublas.create()
        self.tf32 = False
        self.waits: list[
            tuple[Any, int, int]
        ] = []  # (event, first byte, end) of copies from or to memory of this lane
        self.slots: deque[_Slot] = deque()
        self.staged: deque[tuple[Any, np.ndarray]] = deque()
        self.lock = threading.Lock()

    def mark(self, stream: Any) -> Any:
        """An event behind all that is queued on `stream` so far."""
        with self.gpu:
            event = cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def wait_for(self, event: Any, first: int, end: int) -> None:
        """Let this lane's next work wait for `event`, a copy that reads or writes [first, end)."""
        self.waits.append((event, first, end))
        if any(lane is self and operation != COPY for lane, operation in _active.stack):
            self.queue_waits()

    def queue_waits(self) -> None:
        while self.waits:
            self.stream.wait_event(self.waits.pop(0)[0])

    def pending(self, first: int, end: int) -> list[Any]:
        """The copies not yet waited for that touch [first, end)."""
        return [event for event, start, stop in self.waits if start < end and first < stop]


class _Slot:
    """A pinned buffer on the host, and the buffer on the GPU that it is copied to while the GPU
    computes.
    """

    def __init__(self, lane: _Lane):
        self.pinned = import_module("cupyx").empty_pinned((SLOT,), np.uint8)
        with lane.gpu, lane.uploads:
            self.landing = cupy.empty(SLOT, np.uint8)
        self.copied = self.released = None


class _Active(threading.local):
    """The devices activated in this thread and for which operation, the current one last."""

    def __init__(self) -> None:
        self.stack: list[tuple[_Lane, str]] = []


_active = _Active()
_tf32 = False


class _Activation:
    """`with device.activate(operation)`: its GPU and stream become current, after the copies that
    touch its memory.
    """

    __slots__ = ("lane", "operation")

    def __init__(self, lane: _Lane, operation: str):
        self.lane, self.operation = lane, operation

    def __enter__(self) -> None:
        lane = self.lane
        lane.gpu.__enter__()
        lane.stream.__enter__()
        _active.stack.append((lane, self.operation))
        if self.operation != COPY:
            lane.queue_waits()

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.stack.pop()
        self.lane.stream.__exit__(kind, error, trace)
        self.lane.gpu.__exit__(kind, error, trace)


@functools.cache
def _lane(index: int, twin: bool) -> _Lane:
    cupy.cuda.set_allocator(_malloc)
    return _Lane(index)


def current_lane() -> _Lane:
    """The lane that kernels launch on. Raises RuntimeError outside `device.activate()`."""
    if not _active.stack:
        raise RuntimeError(
            "cuda: kernels run inside device.activate(), which sets their GPU and stream"
        )
    return _active.stack[-1][0]


class CudaDevice(Device):
    """GPU number `index`, seen through one stream of work."""

    kind = "cuda"
    xp = cupy

    def __init__(self, name: str, index: int, twin: bool = False):
        super().__init__(name, index)
        _check_gpu(name, index)
        self.is_twin = twin
        self._lane = _lane(index, twin)

    def twin(self) -> CudaDevice:
        """Another logical device on the same GPU, with streams of its own: the second of the pair
        `cuda:0,cuda:0`.

        Operations refuse to mix the two, as they refuse to mix two GPUs.
        """
        return _twin(self.index)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CudaDevice):
            return (self.index, self.is_twin) == (other.index, other.is_twin)
        return not self.is_twin and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.kind, self.index, self.is_twin))

    def __reduce__(self) -> tuple:
        return (_twin, (self.index,)) if self.is_twin else super().__reduce__()

    @property
    def kernels(self) -> ModuleType:
        return _kernels()

    def activate(self, operation: str = "") -> _Activation:
        return _Activation(self._lane, operation)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.activate():
            return cupy.empty(shape, dtype)

    def upload(self, array: np.ndarray) -> Any:
        """As Device.upload. The host waits only for its own memory to be read; the GPU goes on
        computing meanwhile.

        Through a ring of pinned slots: host -> slot -> landing buffer on the upload stream, while
        the GPU still works on what was queued before; then, on the device's own stream, landing
        buffer -> array (at the GPU's own bandwidth).
        """
        array = np.asarray(array)
        order = _memory_order(array.strides)
        packed = np.asarray(array.transpose(order), order="C")
        source = packed.reshape(-1).view(np.uint8)
        with self._lane.lock, self.activate():
            out = cupy.empty(packed.shape, packed.dtype)
            target = out.reshape(-1).view(np.uint8)
            for start in range(0, len(source), SLOT):
                self._upload_piece(source[start : start + SLOT], target[start : start + SLOT])
        return out.transpose(_inverse(order))

    def _upload_piece(self, source: np.ndarray, target: Any) -> None:
        lane, n = self._lane, len(source)
        slot = lane.slots.popleft() if len(lane.slots) == SLOTS else _Slot(lane)
        lane.slots.append(slot)
        if slot.copied is not None:
            slot.copied.synchronize()  # the copy of SLOTS pieces ago has read the pinned memory
            lane.uploads.wait_event(slot.released)  # and its landing buffer was emptied
        np.copyto(slot.pinned[:n], source)
        slot.landing[:n].set(slot.pinned[:n], stream=lane.uploads)
        slot.copied = lane.mark(lane.uploads)
        lane.stream.wait_event(slot.copied)
        target[...] = slot.landing[:n]
        slot.released = lane.mark(lane.stream)

    def download(self, array: Any) -> np.ndarray:
        with self.activate():
            return cupy.asnumpy(array)

    def copy_from(self, array: Any, source: Device) -> Any:
        if not isinstance(source, CudaDevice):
            return self.upload(array)
        here, there = self._lane, source._lane
        order = _memory_order(array.strides)
        packed = array.transpose(order)
        if not packed.flags.c_contiguous:
            with source.activate("pack"):
                packed = cupy.ascontiguousarray(packed)
        with self.activate(COPY):
            out = cupy.empty(packed.shape, packed.dtype)
        if out.size:
            self._copy(out, packed, source)
            done = here.mark(here.copies)
            here.wait_for(done, *_bytes(out))
            there.wait_for(done, *_bytes(packed))
        return out.transpose(_inverse(order))

    def _copy(self, out: Any, packed: Any, source: CudaDevice) -> None:
        here, there = self._lane, source._lane
        before = [there.mark(there.stream), *there.pending(*_bytes(packed))]
        after = [here.mark(here.stream)]
        if _reaches(source.index, self.index):
            for event in before + after:
                here.copies.wait_event(event)
            out.data.copy_from_device_async(packed.data, packed.nbytes, here.copies)
            return
        # No peer access: through pinned memory, GPU -> host on the sender's copy stream, host ->
        # GPU on ours.
        pinned = import_module("cupyx").empty_pinned((packed.nbytes,), np.uint8)
        for event in before:
            there.copies.wait_event(event)
        with there.gpu:
            packed.reshape(-1).view(np.uint8).get(stream=there.copies, out=pinned, blocking=False)
        for event in [*after, there.mark(there.copies)]:
            here.copies.wait_event(event)
        out.reshape(-1).view(np.uint8).set(pinned, stream=here.copies)
        here.staged.append(
            (here.mark(here.copies), pinned)
        )  # keeps the pinned memory until the copy is done
        while len(here.staged) > 1 and here.staged[0][0].done:
            here.staged.popleft()

    def synchronize(self) -> None:
        self._lane.queue_waits()
        for stream in (self._lane.uploads, self._lane.copies, self._lane.stream):
            stream.synchronize()

    def memory_stats(self) -> MemoryStats:
        with self._lane.gpu:
            return MemoryStats(_pool.used_bytes(), _pool.total_bytes(), _peak.get(self.index, 0))

    def reset_peak(self) -> None:
        with self._lane.gpu:
            _peak[self.index] = _pool.used_bytes()

    def free_memory(self) -> int:
        with self._lane.gpu:
            return cupy.cuda.runtime.memGetInfo()[0]


@functools.cache
def _twin(index: int) -> CudaDevice:
    return CudaDevice(f"cuda:{index}'", index, twin=True)


@functools.cache
def _kernels() -> ModuleType:
    return import_module("tinynet.kernels.cuda")


def set_tf32(on: bool) -> None:
    """Let float32 matrix products round their inputs to TF32 (10 bits of mantissa): several times
    quicker on GPUs from 2020 on, with errors around 1e-3 instead of 1e-7. Off at the start. Nothing
    but matrix products is affected.
    """
    global _tf32
    _tf32 = bool(on)


def blas_handle() -> int:
    """The current lane's cuBLAS, set to the precision that `set_tf32` asked for."""
    lane = current_lane()
    if lane.tf32 != _tf32:
        cupy.cuda.cublas.setMathMode(
            lane.blas, 3 if _tf32 else 0
        )  # CUBLAS_TF32_TENSOR_OP_MATH, CUBLAS_DEFAULT_MATH
        lane.tf32 = _tf32
    return lane.blas


# --- layout ---------------------------------------------------------------------------------------


def _memory_order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the one with the longest step in memory to the one with the shortest."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def _bytes(array: Any) -> tuple[int, int]:
    """[first, end) of a contiguous array's memory."""
    return array.data.ptr, array.data.ptr + array.nbytes


# --- peers ----------------------------------------------------------------------------------------


@functools.cache
def _reaches(source: int, target: int) -> bool:
    """Whether GPU `target` can copy from GPU `source` directly. Found by doing it: some machines
    report that it works, and then copy garbage (an IOMMU between the two).
    """
    if source == target:
        return True
    runtime = cupy.cuda.runtime
    if not runtime.deviceCanAccessPeer(target, source):
        return False
    pattern = np.random.Generator(np.random.Philox(1)).integers(0, 256, 1 << 20, np.uint8)
    try:
        with cupy.cuda.Device(source) as device:
            there = cupy.asarray(pattern)
            device.synchronize()
        with cupy.cuda.Device(target) as device:
            here = cupy.zeros(pattern.shape, np.uint8)
            here.data.copy_from_device_async(there.data, there.nbytes)
            device.synchronize()
            return np.array_equal(cupy.asnumpy(here), pattern)
    except runtime.CUDARuntimeError:
        return False


# --- memory ---------------------------------------------------------------------------------------

_pool = cupy.cuda.MemoryPool()
_peak: dict[int, int] = {}


def _malloc(nbytes: int) -> Any:
    """CuPy's pool, with a record of the most ever used, and an error that helps."""
    gpu = cupy.cuda.runtime.getDevice()
    try:
        memory = _pool.malloc(nbytes)
    except cupy.cuda.memory.OutOfMemoryError:
        raise _out_of_memory(gpu, nbytes) from None
    used = _pool.used_bytes()
    if used > _peak.get(gpu, 0):
        _peak[gpu] = used
    if (
        _active.stack
        and (lane := _active.stack[-1][0]).waits
        and lane.pending(memory.ptr, memory.ptr + nbytes)
    ):
        lane.queue_waits()  # a copy elsewhere still reads what lay in this block before
    return memory


def _out_of_memory(gpu: int, asked: int) -> OutOfMemoryError:
    free, total = cupy.cuda.runtime.memGetInfo()
    used = _pool.used_bytes()
    free += _pool.total_bytes() - used
    operation, batch = _active.stack[-1][1] if _active.stack else "", _batch_size()
    advice = "use a smaller batch size"
    if batch > 1:
        # As if all that is in use grew with the batch. Weights do not, and later layers will want
        # more: an upper bound.
        advice = (
            f"of a batch of {batch}, at most {batch * (used + free) // (used + asked)} would fit"
        )
    return OutOfMemoryError(
        f"cuda:{gpu}: {operation or 'an operation'} asked for {_size(asked)}, but {_size(free)} of "
        f"{_size(total)} are free "
        f"(tinynet uses {_size(used)}): {advice}"
    )


def _batch_size() -> int:
    """N of the first array that the running Function was given, read off the stack; 0 if none runs."""
    frame = sys._getframe(1)
    while frame is not None:
        if "ctx" in frame.f_locals:
            arrays = (
                v for v in frame.f_locals.values() if isinstance(v, cupy.ndarray) and v.ndim > 1
            )
            return next((array.shape[0] for array in arrays), 0)
        frame = frame.f_back
    return 0


def _size(nbytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} GiB"
