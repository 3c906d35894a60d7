"""Has an array been changed? Its mark tells."""

from __future__ import annotations

from typing import Any

from numpy import ndarray

SAMPLES = 1024  # elements of an array that are looked at, at least


def mark(array: Any) -> int | None:
    """A hash of up to 2 * SAMPLES elements, spread evenly: all of a small array (0.2 us), some of a
    large one (1.5 us).

    So a change of a whole array is always noticed; a change of a few elements in a large one may
    pass. Not on a GPU, where reading would wait for the device.
    """
    if not isinstance(array, ndarray):
        return None
    if array.size <= SAMPLES:
        return hash(array.tobytes())
    # One contiguous run of memory, the batch first or last, is a view of one axis: five times
    # quicker to step through than `flat`.
    batch_last = array.transpose(*range(1, array.ndim), 0)
    dense = array.flags.c_contiguous or batch_last.flags.c_contiguous
    elements = array.ravel("K") if dense else array.flat
    return hash(elements[:: array.size // SAMPLES].tobytes())
