"""The memory of GPUs, and pinned memory of the host: every block knows who uses it."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from typing import Any

import numpy as np

from fake_cupy.machine import CUDARuntimeError, FakeOutOfMemoryError, machine
from fake_cupy.order import Clock, History, Unordered
from fake_cupy.streams import Stream, current_gpu, current_stream, operate


class Block:
    """A piece of a GPU's memory. When it is freed, the pool keeps it for the stream that it was
    allocated on.
    """

    def __init__(self, nbytes: int):
        self.device_id, self.nbytes = current_gpu(), nbytes
        self.size = -(-max(nbytes, 1) // 512) * 512
        with machine.lock:
            if machine.used[self.device_id] + self.size > machine.memory:
                raise FakeOutOfMemoryError
            kind = self.device_id, current_stream().number, self.size
            self.idle = machine.idle.setdefault(kind, [])
            if self.idle:
                self.bytes, self.history = self.idle.pop()
            else:
                raw = np.empty(self.size + 512, np.uint8)
                start = -raw.ctypes.data % 512
                self.bytes, self.history = raw[start : start + self.size], History()
                machine.held[self.device_id] += self.size
            self.bytes.fill(0xFF)  # NaN, read as floats
            self.ptr = self.bytes.ctypes.data
            # A machine may have been restarted before a block of its is freed.
            self.lock, self.used, self.all = machine.lock, machine.used, machine.blocks
            self.used[self.device_id] += self.size
            place = bisect_right(self.all, self.ptr, key=lambda entry: entry[0])
            self.all.insert(place, (self.ptr, weakref.ref(self)))  # which keeps no block alive

    def __del__(self) -> None:
        if not hasattr(self, "all"):  # there was no memory for it
            return
        with self.lock:
            self.used[self.device_id] -= self.size
            del self.all[bisect_right(self.all, self.ptr, key=lambda entry: entry[0]) - 1]
            self.idle.append((self.bytes, self.history))


def block_at(pointer: int) -> Block:
    with machine.lock:
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
            if not machine.peers or (source.device_id, self.device_id) in machine.no_way:
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


class PinnedHistory(History):
    """It ends with the last array of a piece of pinned memory."""

    def __init__(self) -> None:
        super().__init__()
        self.host = machine.host  # another one's after a restart

    def __del__(self) -> None:
        uses = [self.write, *self.reads.items()]
        if self.host is machine.host and not all(self.host.knows(moment) for moment in uses):
            machine.gone_in_use += 1


class Pinned(np.ndarray):
    """Host memory that copies run from while the host goes on: it knows who uses it."""

    history: History | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.history = getattr(source, "history", None)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.copyto and isinstance(args[0], Pinned):
            reads = args[0].history.reads.items()
            if not all(machine.host.knows(moment) for moment in reads):
                raise Unordered("pinned memory was written to while a copy may read it")
        return super().__array_function__(function, types, args, kwargs)


def empty_pinned(shape: Any, dtype: Any = float) -> Pinned:
    array = np.empty(shape, dtype).view(Pinned)
    machine.pinned -= array.nbytes
    if machine.pinned < 0:
        raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
    array.history = PinnedHistory()
    return array
