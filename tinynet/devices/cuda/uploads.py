"""From the host to a GPU, while the GPU computes: through a ring of pinned slots.

host -> pinned slot -> landing buffer      on the upload stream, beside what was queued before
landing buffer -> array                    on the device's own stream, at the GPU's bandwidth
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np

from tinynet.devices.cuda.installation import cupy
from tinynet.devices.cuda.lane import Lane
from tinynet.devices.cuda.memory import pinned

# Bytes of a slot, and how many slots: together two batches of 128 pictures. A guess; if it is too
# small, `python benchmarks/gpu.py` shows fewer pictures/s from host than without uploads.
SLOT, SLOTS = 8 << 20, 16
SMALL = 64 << 10  # labels, crops, single numbers: a ring of slots of this size for what fits


class _Slot:
    """A pinned buffer on the host, and the landing buffer on the GPU that it is copied to."""

    def __init__(self, lane: Lane, nbytes: int):
        self.pinned = pinned(nbytes)
        with lane.gpu, lane.uploads:
            self.landing = cupy.empty(nbytes, np.uint8)
        self.copied = self.released = None


class Uploads:
    """The slots of one lane. `lock` is held during an upload: threads share the slots."""

    def __init__(self, lane: Lane):
        self.lane, self.lock = lane, threading.Lock()
        self._rings: dict[int, deque[_Slot]] = {}  # bytes of a slot -> slots, the oldest first

    def copy(self, source: np.ndarray, target: Any) -> None:
        """Queue the copy of bytes of the host to the GPU; return when `source` was read."""
        size = SMALL if len(source) <= SMALL < SLOT else SLOT
        ring = self._rings.setdefault(size, deque())
        for start in range(0, len(source), size):
            self._copy_piece(ring, size, source[start : start + size], target[start : start + size])

    def _copy_piece(self, ring: deque[_Slot], size: int, source: np.ndarray, target: Any) -> None:
        lane, n = self.lane, len(source)
        slot = ring.popleft() if len(ring) == SLOTS else _Slot(lane, size)
        ring.append(slot)
        if slot.copied is not None:
            slot.copied.synchronize()  # the copy of SLOTS pieces ago has read the pinned memory
            lane.uploads.wait_event(slot.released)  # and its landing buffer was emptied
        np.copyto(slot.pinned[:n], source)
        slot.landing[:n].set(slot.pinned[:n], stream=lane.uploads)
        slot.copied = lane.mark(lane.uploads)
        lane.stream.wait_event(slot.copied)
        target[...] = slot.landing[:n]
        slot.released = lane.mark(lane.stream)
