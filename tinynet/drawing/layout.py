"""Where the boxes of a graph lie: in layers, the arrows running down.

1. Rank: a box lies below all it takes from; one that takes from nothing, just above its first user.
2. An arrow over several layers gets a bend in each, so that no box lies on it. All arrows from one
   box share their bends.
3. Order in a layer: by the average place of the neighbours above, then of those below, in turns.
4. Places: each box as near to the average of its neighbours as the order and the gaps allow.

Steps 1 to 4 are those of Sugiyama, Tagawa, Toda, "Methods for visual understanding of hierarchical
system structures", 1981.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

GAP = 26.0  # between neighbours in a layer
BEND = 14.0  # width of a bend
SWEEPS = 16


class Layout(NamedTuple):
    """centres: x of each box. ranks: its layer. bends: for each edge, (x, rank) of its bends, from
    the source on. width: of the whole.
    """

    centres: list[float]
    ranks: list[int]
    bends: list[list[tuple[float, int]]]
    width: float


def lay_out(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Layout:
    """widths: of the boxes, each after those it takes from. edges: (source, target)."""
    ranks = _ranks(len(widths), edges)
    all_widths, all_ranks = list(widths), list(ranks)
    links: set[tuple[int, int]] = set()
    bends: dict[tuple[int, int], int] = {}  # (source, rank) -> its bend there
    for source, target in edges:
        last = source
        for rank in range(ranks[source] + 1, ranks[target]):
            if (source, rank) not in bends:
                bends[source, rank] = len(all_ranks)
                all_ranks.append(rank)
                all_widths.append(BEND)
            links.add((last, bends[source, rank]))
            last = bends[source, rank]
        links.add((last, target))
    x = _places(np.array(all_widths), all_ranks, sorted(links))
    paths = [
        [(float(x[bends[a, rank]]), rank) for rank in range(ranks[a] + 1, ranks[b])]
        for a, b in edges
    ]
    right = float((x + np.array(all_widths) / 2).max())
    return Layout([float(place) for place in x[: len(widths)]], ranks, paths, right)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        above[target].append(source)
        below[source].append(target)
    ranks: list[int] = []
    for box in range(count):
        ranks.append(max((ranks[source] + 1 for source in above[box]), default=0))
    for box in range(count):
        if below[box] and not above[box]:
            ranks[box] = min(ranks[target] for target in below[box]) - 1
    return ranks


def _places(widths: np.ndarray, ranks: list[int], links: list[tuple[int, int]]) -> np.ndarray:
    """The centre of each box and bend; the leftmost begins at 0."""
    count = len(ranks)
    near: tuple[list[list[int]], ...] = [[] for _ in range(count)], [[] for _ in range(count)]
    for upper, lower in links:
        near[0][lower].append(upper)
        near[1][upper].append(lower)
    layers: list[list[int]] = [[] for _ in range(max(ranks) + 1)]
    for box in range(count):
        layers[ranks[box]].append(box)
    order = [0.0] * count
    for layer in layers:
        _number(order, layer)
    for sweep in range(SWEEPS):
        upwards = sweep % 2
        for layer in layers[:: -1 if upwards else 1]:
            layer.sort(key=lambda box: _mean(order, near[upwards][box], box))
            _number(order, layer)
    x = [0.0] * count
    for sweep in range(SWEEPS):
        for layer in layers[:: -1 if sweep % 2 else 1]:
            wanted = [_mean(x, near[0][box] + near[1][box], box) for box in layer]
            for box, place in zip(layer, _apart(wanted, widths[layer]), strict=True):
                x[box] = place
    return np.array(x) - (x - widths / 2).min()


def _number(order: list[float], layer: list[int]) -> None:
    """Number the boxes of a layer, its middle being 0."""
    for i, box in enumerate(layer):
        order[box] = i - len(layer) / 2


def _mean(of: list[float], boxes: list[int], own: int) -> float:
    return sum(of[box] for box in boxes) / len(boxes) if boxes else of[own]


def _apart(wanted: list[float], widths: np.ndarray) -> list[float]:
    """Places in this order, a gap between neighbours, with the least sum of squared distances from
    what is wanted.

    Less the room that the boxes to the left take, places may only grow. So the best ones are the
    wanted ones where they do; where they do not, neighbours share their average.
    """
    room = [0.0, *np.cumsum((widths[1:] + widths[:-1]) / 2 + GAP).tolist()]
    shared: list[tuple[float, int]] = []  # average, of how many
    for place, taken in zip(wanted, room, strict=True):
        average, members = place - taken, 1
        while shared and shared[-1][0] >= average:
            other, more = shared.pop()
            average = (average * members + other * more) / (members + more)
            members += more
        shared.append((average, members))
    places = (average for average, members in shared for _ in range(members))
    return [place + taken for place, taken in zip(places, room, strict=True)]
