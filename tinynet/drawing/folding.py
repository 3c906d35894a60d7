"""Several boxes in one: by module, and by repetition.

A fold holds operations that ran one after the other, with nothing between them. So no path leads
out of it and back into it: the folded graph has no circle, and backward passes a fold in one go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from os.path import commonprefix  # of any sequences

import numpy as np

from tinynet.drawing.graph import Box, Edge, Graph, counted

FOLDED = 300  # boxes; "auto" folds a graph that has more
LONGEST = 64  # boxes in a unit whose repetitions are found

Run = tuple[int, int, str, str]  # operations [start, stop) become one box: its title, its path


def fold(graph: Graph, group: str | int) -> Graph:
    """group: "none"; a depth, 1 for the modules that are called first, 2 for those they call, and
    so on; "auto", the greatest depth that leaves at most 300 boxes, and if none does, repetitions
    in one.
    """
    if group == "none":
        return graph
    if group != "auto":
        return _folded(graph, _modules(graph.steps[::-1], int(group)), named_leaves=True)
    deepest = max(len(box.modules) for box in graph.boxes)
    for depth in range(deepest, 1, -1):  # 1 would be the net in one box
        if len(graph.shown) <= FOLDED:
            return graph
        graph = _folded(graph, _modules(graph.steps[::-1], depth), named_leaves=True)
    if len(graph.shown) > FOLDED:
        graph = _folded(graph, _repetitions(graph.steps[::-1]), named_leaves=False)
    return graph


def _modules(boxes: list[Box], depth: int) -> Iterator[Run]:
    """Operations of one call of a module at that depth: neighbours with the same modules."""
    start = 0
    for modules, run in groupby(boxes, lambda box: box.modules[:depth]):
        stop = start + len(list(run))
        if len(modules) == depth:
            path, kind = modules[-1]
            yield start, stop, kind, path
        start = stop


def _repetitions(boxes: list[Box]) -> Iterator[Run]:
    """Runs of a unit of up to 64 boxes that comes twice or more, the longest runs first."""
    alike: dict[tuple, int] = {}
    kinds = np.array([alike.setdefault(_kind(box), len(alike)) for box in boxes])
    for start, stop, period in _periodic(kinds, 0, len(kinds)):
        times = (stop - start) // period
        unit = counted(boxes[start : start + period])
        yield start, stop, f"{times} \u00d7 " + (unit if period == 1 else f"({unit})"), ""


def _kind(box: Box) -> tuple:
    """What makes two boxes repetitions of each other."""
    return box.title, counted(box.parts), tuple(output.shape for output in box.outputs)


def _periodic(kinds: np.ndarray, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, period): whole repetitions in kinds[low:high], which do not overlap."""
    waiting = [(low, high)]
    while waiting:
        low, high = waiting.pop()
        found = []  # boxes, -period, -start
        for period in range(1, min(LONGEST, (high - low) // 2) + 1):
            same = kinds[low : high - period] == kinds[low + period : high]
            turns = np.flatnonzero(np.diff(np.concatenate([[0], same, [0]])))
            starts, stops = turns[::2], turns[1::2]  # of stretches where the next unit is the same
            lengths = (stops - starts + period) // period * period
            if len(lengths) and (longest := lengths.max()) >= 2 * period:
                found.append((longest, -period, -starts[lengths.argmax()]))
        if found:
            length, period, start = max(found)  # the most, of the shortest unit, the first
            start = low - start
            yield int(start), int(start + length), -period
            waiting += [(low, start), (start + length, high)]


def _folded(graph: Graph, runs: Iterable[Run], named_leaves: bool) -> Graph:
    """The graph with each run of operations in one box. Leaves that only they use go in as well,
    but for parameters, and for those that have a name if `named_leaves` are to stay.
    """
    operations = graph.steps[::-1]
    home: dict[Box, Box] = {}  # box -> the fold it goes into
    for start, stop, title, path in runs:
        parts = operations[start:stop]
        if len(parts) > 1:
            fold = _fold_of(parts, title, path)
            if operations[-1] in parts:
                fold.outputs += operations[-1].outputs
            home.update(dict.fromkeys(parts, fold))
    for box, edges in graph.out_of.items():
        stays = box.kind == "parameter" or (named_leaves and box.outputs[0].name)
        users = {home.get(edge.target) for edge in edges}
        if not box.runs and not stays and len(users) == 1 and (only := users.pop()):
            home[box] = only
    edges = []
    for edge in graph.edges:
        source, target = home.get(edge.source, edge.source), home.get(edge.target, edge.target)
        if source is target:
            continue
        if target is not edge.target:
            edge = replace(edge, local=None, target=target)
        if source is not edge.source:
            output = edge.source.outputs[edge.output]
            if not any(output is other for other in source.outputs):
                source.outputs.append(output)
            index = next(i for i, other in enumerate(source.outputs) if other is output)
            edge = replace(edge, source=source, output=index)
        edges.append(edge)
    return Graph(_in_order(graph.boxes, home, edges), edges, graph.remarks, graph.name)


def _fold_of(parts: list[Box], title: str, path: str) -> Box:
    """The box of these boxes, without outputs yet."""
    return Box(
        "fold",
        title,
        [],
        ", ".join(sorted({name for box in parts for name in box.device.split(", ")})),
        modules=tuple(commonprefix([box.modules for box in parts])),
        path=path,
        kept=sum(box.kept for box in parts),
        shared=sum(box.shared for box in parts),
        parts=[part for box in parts for part in box.parts or [box]],
    )


def _in_order(before: list[Box], home: dict[Box, Box], edges: list[Edge]) -> list[Box]:
    """The boxes that are left of those there were before, each after those it takes from."""
    position = {box: i for i, box in enumerate(before)}
    sources: dict[Box, list[Box]] = {}
    for edge in edges:
        sources.setdefault(edge.target, []).append(edge.source)
    boxes: dict[Box, None] = {}
    for box in dict.fromkeys(home.get(box, box) for box in before if box.runs):
        leaves = (source for source in sources.get(box, []) if not source.runs)
        boxes.update(dict.fromkeys(sorted(leaves, key=position.__getitem__)))
        boxes[box] = None
    return list(boxes)
