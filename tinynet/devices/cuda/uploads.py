"""From the host to a GPU, while the GPU computes: through a ring of pinned slots.

host -> pinned slot                        by the host; of a staged array earlier, in another thread
pinned slot -> landing buffer              on the upload stream, beside what was queued before
landing buffer -> array                    on the device's own stream, at the GPU's bandwidth
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

import numpy as np

from tinynet.devices.cuda.installation import cupy
from tinynet.devices.cuda.lane import Lane
from tinynet.devices.cuda.memory import pinned

# Bytes of a slot, and how many slots: together five batches of 128 pictures, of which three may be
# staged: one that is trained on, one that is ready, one that is being copied. A guess; if they are
# too few, `python benchmarks/gpu.py` shows fewer pictures/s from host than without uploads.
SLOT, SLOTS = 8 << 20, 16
SMALL = 64 << 10  # labels, crops, single numbers: a ring of slots of this size for what fits


class _Slot:
    """A pinned buffer on the host, and the landing buffer on the GPU that it is copied to."""

    def __init__(self, lane: Lane, nbytes: int):
        self.lane, self.pinned = lane, pinned(nbytes)
        with lane.gpu, lane.uploads:
            self.landing = cupy.empty(nbytes, np.uint8)
        self.copied = self.released = None

    def fill(self, source: np.ndarray) -> None:
        """Take bytes of the host, once the copy of SLOTS pieces ago has read those before."""
        if self.copied is not None:
            self.copied.synchronize()
        np.copyto(self.pinned[: len(source)], source)

    def send(self, target: Any) -> None:
        """Queue the copy of what was taken to an array of so many bytes."""
        lane, n = self.lane, len(target)
        if self.released is not None:  # its landing buffer must have been emptied
            lane.uploads.wait_event(self.released)
        self.landing[:n].set(self.pinned[:n], stream=lane.uploads)
        self.copied = lane.mark(lane.uploads)
        lane.stream.wait_event(self.copied)
        target[...] = self.landing[:n]
        self.released = lane.mark(lane.stream)


class _Ring:
    """Slots of one size, taken in turn and given back."""

    def __init__(self, lane: Lane, nbytes: int):
        self.lane, self.nbytes = lane, nbytes
        self.free: deque[_Slot] = deque()
        self.made = 0

    def take(self) -> _Slot:
        if self.made == SLOTS:
            return self.free.popleft()
        self.made += 1
        return _Slot(self.lane, self.nbytes)

    @property
    def taken(self) -> int:
        return self.made - len(self.free)


class Uploads:
    """The slots of one lane. `lock` is held during an upload: threads share the slots."""

    def __init__(self, lane: Lane):
        self.lock = threading.Lock()
        self._small, self._large = _Ring(lane, SMALL), _Ring(lane, SLOT)
        # id of a staged array -> (a reference that does not keep it, slots with its first bytes)
        self._staged: dict[int, tuple[weakref.ref, list[_Slot]]] = {}

    def stage(self, array: np.ndarray) -> None:
        """Take the bytes of a C-contiguous array, as far as there are slots (a quarter of them is
        kept back): the upload of this very array then only queues copies.
        """
        source, slots = _bytes(array), []
        if len(source) <= SMALL or id(array) in self._staged:
            return
        for start in range(0, len(source), SLOT):
            with self.lock:
                if self._large.taken >= SLOTS - SLOTS // 4:
                    break
                slots.append(self._large.take())
            slots[-1].fill(source[start : start + SLOT])
        key = id(array)  # no other array has it as long as this one lives
        self._staged[key] = weakref.ref(array, lambda _: self._take_back(key)), slots

    def _take_back(self, key: int) -> list[_Slot]:
        """The slots of a staged array; they are free again. No lock: this runs wherever an array
        that nobody uploaded ends.
        """
        _, slots = self._staged.pop(key, (None, []))
        self._large.free.extend(slots)
        return slots

    def copy(self, array: np.ndarray, target: Any) -> None:
        """Queue the copy of a C-contiguous array to bytes of the GPU; return when it was read."""
        source = _bytes(array)
        ring = self._small if len(source) <= SMALL else self._large
        staged = self._take_back(
            id(array)
        )  # `lock` is held: nobody takes them before they are sent
        for number, start in enumerate(range(0, len(source), ring.nbytes)):
            piece = slice(start, start + ring.nbytes)
            if number < len(staged):
                slot = staged[number]
            else:
                slot = ring.take()
                slot.fill(source[piece])
                ring.free.append(slot)
            slot.send(target[piece])


def _bytes(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1).view(np.uint8)
