"""What stands in a box, beside an arrow, and over the whole picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tinynet.drawing import text
from tinynet.drawing.graph import Box, Edge, Graph

MOST = 6  # parameters of a box that are listed


class Part(NamedTuple):
    """Some words of a line: seen after step `first` of backward, until step `until`."""

    kind: str
    words: str
    first: int = 0
    until: int | None = None


class Line(NamedTuple):
    """A line of a box: its parts stand side by side, or, if they are `versions`, in turns."""

    parts: list[Part]
    versions: bool = False

    @property
    def length(self) -> int:
        """Characters."""
        lengths = [len(part.words) for part in self.parts]
        return max(lengths) if self.versions else sum(lengths) + len(lengths) - 1


def summary(graph: Graph) -> str:
    """The graph in a line."""
    count = sum(len(box.parts) or 1 for box in graph.steps)
    words = f"{count:,} operation{'s' * (count != 1)} on {' and '.join(graph.devices)}; "
    words += f"{text.size(graph.kept)} kept for backward"
    return words + (f", and {text.size(graph.shared)} of parameters" if graph.shared else "")


def label(edge: Edge) -> tuple[str, str]:
    """Beside an arrow: its value, or its shape if that is long; its gradient, if there is one."""
    output = edge.source.outputs[edge.output]
    value = text.shape(output.shape)
    if output.value and text.is_short(output.value):
        value = text.brief(output.value)
    return value, text.brief(edge.gradient)


def lines_of(box: Box, graph: Graph) -> Iterator[Line]:
    """What stands in a box."""
    yield _title(box)
    if place := box.after if box.path[-1:].isdigit() and box.after else box.path:
        yield Line([Part("faint", place)])
    if box.parts:
        yield Line([Part("faint", f"{len(box.parts):,} operations")])
    yield from _parameters(box, graph)
    leaves = graph.out_of.get(box, [])
    for output in box.outputs:
        if output.value and not (box.runs and leaves):
            yield Line([Part("value", text.brief(output.value))])
    if leaves:
        yield from _sums(leaves)
    else:
        for output in box.outputs:
            if output.gradient:
                yield Line([Part("grad", f"grad {text.brief(output.gradient)}")])
    if box.kept:
        yield Line([Part("faint", f"keeps {text.size(box.kept)}")])


def _title(box: Box) -> Line:
    if not box.runs:
        shape = box.outputs[0].shape
        of = [Part("faint", text.shape(shape))] if shape else []
        return Line([Part("title", box.title), *of])
    named = next((f"{output.name} = " for output in box.outputs if output.name), "")
    way = f" {box.device} \u2192 {box.outputs[0].device}" if box.is_copy else ""
    return Line([Part("title", named + box.title + way)])


def _parameters(box: Box, graph: Graph) -> Iterator[Line]:
    """The parameters and constants that are drawn inside this box."""
    own = {edge.source: edge for edge in graph.into.get(box, []) if edge.source in graph.inside}
    for source, edge in sorted(own.items(), key=lambda pair: graph.place[pair[0]])[:MOST]:
        output = source.outputs[0]
        name = (output.name or edge.argument).removeprefix(f"{box.path}.")
        one = output.value and output.value.values.size == 1
        value = text.brief(output.value) if one else text.shape(output.shape)
        parts = [Part("", name), Part("value", value)]
        if output.gradient:
            parts.append(Part("grad", text.brief(output.gradient), box.step))
        yield Line(parts)
    if len(own) > MOST:
        yield Line([Part("faint", f"and {len(own) - MOST:,} more")])


def _sums(leaving: list[Edge]) -> Iterator[Line]:
    """The sum of gradients where several meet, step by step; that of a leaf in any case."""
    for output in dict.fromkeys(edge.output for edge in leaving):
        coming = [edge for edge in leaving if edge.output == output and edge.gradient]
        if not coming or len(coming) == 1 and leaving[0].source.runs:
            continue
        ends = [*(edge.target.step for edge in coming[1:]), None]
        versions = [
            Part("grad meet" if edge.before else "grad", _sum(edge), edge.target.step, end)
            for edge, end in zip(coming, ends, strict=True)  # of x * x, the first is never seen
        ]
        yield Line(versions, versions=True)


def _sum(edge: Edge) -> str:
    """What a gradient makes of the sum."""
    gradient, after = text.brief(edge.gradient), text.brief(edge.after)
    if edge.before is None:
        return f"grad {gradient}"
    if text.is_short(edge.before):
        return f"grad {text.brief(edge.before)} + {gradient} = {after}"
    return f"grad += {gradient} \u2192 {after}"  # norms cannot be added
