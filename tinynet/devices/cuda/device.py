"""A GPU as a device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tinynet.devices.base import Device
from tinynet.devices.cuda import blas, copies, memory
from tinynet.devices.cuda.installation import check_gpu, cupy
from tinynet.devices.cuda.lane import COPY, Activation, Lane
from tinynet.devices.cuda.uploads import Uploads
from tinynet.devices.layout import memory_order
from tinynet.devices.memory import MemoryStats


class CudaDevice(Device):
    """GPU number `index`, seen through one stream of work."""

    kind = "cuda"
    xp = cupy
    stages = True
    set_tf32 = staticmethod(blas.set_tf32)  # of all GPUs

    def __init__(self, name: str, index: int, kernels: ModuleType):
        super().__init__(name, index, kernels)
        check_gpu(name, index)
        cupy.cuda.set_allocator(memory.allocate)
        self._lane = Lane(index)
        self._uploads = Uploads(self._lane)

    def twin(self) -> CudaDevice:
        """Another logical device on the same GPU, with streams of its own: the second of the pair
        `cuda:0,cuda:0`.

        Operations refuse to mix the two, as they refuse to mix two GPUs.
        """
        return _twin(self)

    def activate(self, operation: str = "", arrays: Sequence[Any] = ()) -> Activation:
        return Activation(self._lane, operation, arrays)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.activate():
            return cupy.empty(shape, dtype)

    def upload(self, array: np.ndarray) -> Any:
        """As Device.upload. The host waits only for its own memory to be read; the GPU goes on
        computing meanwhile.
        """
        array = np.asarray(array)
        if array.flags.c_contiguous:  # itself: it may be staged
            return self._upload(array)
        order, back = memory_order(array.strides)
        return self._upload(np.asarray(array.transpose(order), order="C")).transpose(back)

    def _upload(self, array: np.ndarray) -> Any:
        with self._uploads.lock, self.activate():
            out = cupy.empty(array.shape, array.dtype)
            self._uploads.copy(array, out.reshape(-1).view(np.uint8))
        return out

    def stage(self, array: np.ndarray) -> None:
        """As Device.stage, for arrays in C order."""
        if array.flags.c_contiguous:
            self._uploads.stage(array)

    def download(self, array: Any) -> np.ndarray:
        order, back = memory_order(array.strides)
        with self.activate():
            return cupy.asnumpy(array.transpose(order)).transpose(back)

    def copy_from(self, array: Any, source: Device) -> Any:
        if not isinstance(source, CudaDevice):
            return self.upload(array)
        order, back = memory_order(array.strides)
        packed = array.transpose(order)
        if not packed.flags.c_contiguous:
            with source.activate("pack"):
                packed = cupy.ascontiguousarray(packed)
        with self.activate(COPY):
            out = cupy.empty(packed.shape, packed.dtype)
        if out.size:
            copies.copy(out, packed, self._lane, source._lane)
        return out.transpose(back)

    def synchronize(self) -> None:
        self._lane.queue_waits()
        self._lane.stream.synchronize()  # which waits for every upload and copy of this lane

    def memory_stats(self) -> MemoryStats:
        with self._lane.gpu:
            return memory.stats(self.index)

    def reset_peak(self) -> None:
        with self._lane.gpu:
            memory.reset_peak(self.index)

    def free_memory(self) -> int:
        with self._lane.gpu:
            return cupy.cuda.runtime.memGetInfo()[0]


class _Twin(CudaDevice):
    """The second logical device of one GPU; `first` made it."""

    def __init__(self, first: CudaDevice):
        super().__init__(f"{first.name}'", first.index, first.kernels)
        self.first = first

    def twin(self) -> CudaDevice:
        return self

    def __reduce__(self) -> tuple:
        return _twin, (self.first,)


@functools.cache
def _twin(first: CudaDevice) -> _Twin:
    return _Twin(first)
