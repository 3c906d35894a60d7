"""Copies keep the memory layout: an array is copied in the order in which its memory lies."""

from __future__ import annotations

Axes = tuple[int, ...]


def memory_order(strides: tuple[int, ...]) -> tuple[Axes, Axes]:
    """The axes from the one with the longest step in memory to the one with the shortest.

    And the axes that undo this order: a.transpose(order).transpose(back) is a.
    """
    order = tuple(sorted(range(len(strides)), key=lambda axis: -strides[axis]))
    return order, tuple(order.index(axis) for axis in range(len(order)))
