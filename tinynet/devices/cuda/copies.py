"""Copies between GPUs: directly where one reaches the other, through pinned memory elsewhere."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinynet.devices.cuda import memory
from tinynet.devices.cuda.installation import cupy
from tinynet.devices.cuda.lane import Lane


def copy(out: Any, array: Any, here: Lane, there: Lane) -> None:
    """Queue the copy of `array`, of lane `there`, to `out`, of lane `here`; both C-contiguous.

    What either lane queues next waits for it.
    """
    before = [there.mark(there.stream), *there.pending(*_bytes(array))]
    after = [here.mark(here.stream)]
    if _reaches(there.gpu.id, here.gpu.id):
        for event in before + after:
            here.copies.wait_event(event)
        out.data.copy_from_device_async(array.data, array.nbytes, here.copies)
    else:
        _copy_through_host(out, array, here, there, before, after)
    done = here.mark(here.copies)
    here.wait_for(done, *_bytes(out))
    there.wait_for(done, *_bytes(array))


def _copy_through_host(
    out: Any, array: Any, here: Lane, there: Lane, before: list[Any], after: list[Any]
) -> None:
    """GPU -> pinned memory on the sender's copy stream, pinned memory -> GPU on the receiver's."""
    pinned = memory.pinned(array.nbytes)
    for event in before:
        there.copies.wait_event(event)
    with there.gpu:
        array.reshape(-1).view(np.uint8).get(stream=there.copies, out=pinned, blocking=False)
    for event in [*after, there.mark(there.copies)]:
        here.copies.wait_event(event)
    out.reshape(-1).view(np.uint8).set(pinned, stream=here.copies)
    # This keeps the pinned memory until the copy is done.
    here.staged.append((here.mark(here.copies), pinned))
    while len(here.staged) > 1 and here.staged[0][0].done:
        here.staged.popleft()


def _bytes(array: Any) -> tuple[int, int]:
    """First byte and end of a contiguous array's memory."""
    return array.data.ptr, array.data.ptr + array.nbytes


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
