"""The batch size that fits the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinynet.devices import Device

# of what is free. The rest is for the pools' gaps, for pictures being loaded, and for other
# programs
SHARE = 0.5


def fitting_batch_size(
    step: Callable[[int], object], devices: Sequence[Device], most: int
) -> tuple[int, str]:
    """The largest of most, most/2, most/4 ... with which a training step fits every device, and the
    reason in a line.

    step(n) makes a training step of n pictures, and is called with most/8 and most/4. What a step
    takes is a constant (weights, gradients), which it has by then, and so much a picture: the slope
    between the two peaks.
    """
    few, more = max(1, most // 8), max(2, most // 4)
    step(few)  # so that gradients are there before anything is measured
    peaks = [_peaks(step, count, devices) for count in (few, more)]
    fits = []
    for device, least, larger in zip(devices, *peaks, strict=True):
        each, free = max(1, (larger - least) // (more - few)), device.free_memory()
        room = more + int(SHARE * free) // each
        reason = (
            f"{each / 1e6:.2f} MB a picture on {device.name}; {SHARE:.0%} of the "
            f"{free / 1e9:.2f} GB free there are room for {room:,}"
        )
        fits.append((room, reason))
    room, reason = min(fits)
    size = most
    while size > max(1, room):  # nothing may be free any more
        size //= 2
    return size, reason


def _peaks(step: Callable[[int], object], count: int, devices: Sequence[Device]) -> list[int]:
    for device in devices:
        device.reset_peak()
    step(count)
    return [device.memory_stats().peak for device in devices]
