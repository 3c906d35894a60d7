"""Sums over ranks between GPUs, by NCCL, through CuPy.

Each logical device has a stream of its own for them. Three waits order them:

1. The sums' stream waits for an event behind all that the device's stream has queued when a bucket
   is full: the gradients are in it then.
2. The sum runs while the device's stream goes on with backward.
3. At the end the device's stream waits for an event behind the sum, before anything reads it or
   writes to the bucket again.

The host waits for none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.devices.cuda import CudaDevice, cupy
from tinynet.parallel.ranks import Ranks, RanksError


class NcclSums:
    """The sums of the devices of one rank."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.nccl: Any = getattr(cupy.cuda, "nccl", None)
        if not getattr(self.nccl, "available", False):
            raise RanksError(
                "ranks on GPUs: expected NCCL, which CuPy does not find; pip install "
                "nvidia-nccl-cu12 or nvidia-nccl-cu13, by the CUDA of CuPy, or compute on the CPU"
            )
        self.known: dict[CudaDevice, tuple[Any, Any]] = {}

    def begin(self, array: Any, device: CudaDevice) -> Summing:
        """Begin to replace an array, contiguous on the device, by its sum over all ranks. All must
        begin the same sums in the same order.
        """
        size, op = array.size, self.nccl.NCCL_SUM

        def add_up(communicator: Any, place: int, kind: int, stream: int) -> None:
            communicator.allReduce(place, place, size, kind, op, stream)

        return self._begin(array, device, add_up)

    def begin_gather(self, array: Any, device: CudaDevice) -> tuple[Summing, Any]:
        """Begin to gather arrays (rows, width) of one size from all ranks; see Ranks."""
        whole = device.empty((self.ranks.size * len(array), *array.shape[1:]), array.dtype)
        size, target = array.size, whole.data.ptr

        def collect(communicator: Any, place: int, kind: int, stream: int) -> None:
            communicator.allGather(place, target, size, kind, stream)

        return self._begin(array, device, collect), whole

    def _begin(self, array: Any, device: CudaDevice, call: Callable[..., None]) -> Summing:
        communicator, stream = self._of(device)
        lane, kinds = device._lane, {"f4": self.nccl.NCCL_FLOAT32, "f8": self.nccl.NCCL_FLOAT64}
        lane.queue_waits()
        written = lane.mark(lane.stream)
        with lane.gpu:
            stream.wait_event(written)
            call(communicator, array.data.ptr, kinds[array.dtype.str[1:]], stream.ptr)
        return Summing(lane, lane.mark(stream), array)

    def _of(self, device: CudaDevice) -> tuple[Any, Any]:
        """The communicator and the stream of a device; the first time all ranks make them."""
        if device not in self.known:
            key = self.ranks.first(self.nccl.get_unique_id)
            with device._lane.gpu:
                made = self.nccl.NcclCommunicator(self.ranks.size, key, self.ranks.rank)
                # The null stream, which others may use, must not wait for other ranks.
                self.known[device] = made, cupy.cuda.Stream(non_blocking=True)
        return self.known[device]


class Summing:
    """A sum, or a gathering, under way; as MPI's requests are."""

    def __init__(self, lane: Any, done: Any, array: Any):
        self.lane, self.done = lane, done
        self.array = array  # alive until then: the pool knows nothing of the other stream

    def Test(self) -> None:
        """Nothing: a GPU goes on by itself."""

    def Wait(self) -> None:
        """Let what the device does from here on wait for the sum."""
        self.lane.stream.wait_event(self.done)
