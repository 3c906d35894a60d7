"""The order of axes in memory, for arrays of either backend."""

from __future__ import annotations

import functools

Axes = tuple[int, ...]


@functools.lru_cache(1 << 12)
def memory_order(strides: tuple[int, ...]) -> tuple[Axes, Axes]:
    """The axes from the one with the longest step in memory to the one with the shortest.

    And the axes that undo this order: a.transpose(order).transpose(back) is a.
    """
    order = tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis])))
    return order, tuple(order.index(axis) for axis in range(len(order)))
