"""A stand-in for CuPy's NCCL, among ranks that all hold the same: a sum is a multiple."""

from __future__ import annotations

from typing import Any

import numpy as np
from fake_cupy import streams
from fake_cupy.memory import block_at


class Nccl:
    """cupy.cuda.nccl. `calls`: (GPU, stream, values) of each sum."""

    available = True
    NCCL_SUM, NCCL_FLOAT32, NCCL_FLOAT64 = range(3)

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.streams: dict[int, Any] = {}
        nccl = self

        class Stream(streams.Stream):
            """One that is found by its pointer, as NCCL is given it."""

            def __init__(self, *args: Any, **kwargs: Any):
                super().__init__(*args, **kwargs)
                nccl.streams[self.ptr] = self

        self.Stream = Stream

    def get_unique_id(self) -> tuple[int, ...]:
        return (1, 2, 3)

    def NcclCommunicator(self, size: int, key: tuple[int, ...], rank: int) -> Communicator:
        assert key == self.get_unique_id() and 0 <= rank < size
        return Communicator(self, size, streams.current_gpu())


class Communicator:
    def __init__(self, nccl: Nccl, size: int, gpu: int):
        self.nccl, self.size, self.gpu = nccl, size, gpu

    def allReduce(self, source: int, target: int, count: int, kind: int, op: int, ptr: int) -> None:
        assert source == target and op == self.nccl.NCCL_SUM
        assert streams.current_gpu() == self.gpu
        stream, block = self.nccl.streams[ptr], block_at(source)
        assert stream.device_id == block.device_id == self.gpu
        streams.operate("allReduce", stream, [block], [block])
        dtype = {self.nccl.NCCL_FLOAT32: np.float32, self.nccl.NCCL_FLOAT64: np.float64}[kind]
        first = source - block.bytes.ctypes.data
        values = block.bytes[first : first + count * np.dtype(dtype).itemsize].view(dtype)
        values *= self.size
        self.nccl.calls.append((self.gpu, ptr, count))

    def allGather(self, source: int, target: int, count: int, kind: int, ptr: int) -> None:
        assert streams.current_gpu() == self.gpu
        stream = self.nccl.streams[ptr]
        of, to = block_at(source), block_at(target)
        assert stream.device_id == of.device_id == to.device_id == self.gpu
        streams.operate("allGather", stream, [of], [to])
        size = count * {self.nccl.NCCL_FLOAT32: 4, self.nccl.NCCL_FLOAT64: 8}[kind]
        first, begin = source - of.bytes.ctypes.data, target - to.bytes.ctypes.data
        for rank in range(self.size):
            to.bytes[begin + rank * size :][:size] = of.bytes[first : first + size]
        self.nccl.calls.append((self.gpu, ptr, count))
