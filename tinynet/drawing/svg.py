"""A Graph -> SVG, by text alone.

Beside each arrow stand the value that ran down it (green) and the gradient that runs up it (red).
What is there from a step of backward on, or up to one, says so in data-from and data-to; the script
of the page shows it then. Without a script all is as after the last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from tinynet.drawing import text
from tinynet.drawing.graph import Box, Edge, Graph
from tinynet.drawing.layout import Layout, lay_out
from tinynet.drawing.style import COLOURS, svg_style

CHARACTER = 7.3  # width of one, in pixels: 12 pixels high, all of one width
LINE = 16.0
BETWEEN = 62.0  # from a layer to the next: room for the two lines beside an arrow
MARGIN = 16.0
MOST = 6  # parameters of a box that are listed


class Line(NamedTuple):
    """A line of a box: parts (class, text, first step, first step that hides it again)."""

    parts: list[tuple[str, str, int, int | None]]

    @property
    def length(self) -> int:
        """Characters: of all that are there at once, at the most."""
        fixed = sum(len(words) + 1 for _, words, first, _ in self.parts if not first)
        return fixed + max((len(words) for _, words, first, _ in self.parts if first), default=0)


def svg(graph: Graph, alone: bool = True) -> str:
    """The <svg> element. alone: it is a file of its own, and so brings its colours."""
    shown = graph.shown
    lines = {box: list(lines_of(box, graph)) for box in shown}
    arrows = {box: [e for e in graph.into.get(box, []) if e.source in lines] for box in shown}
    labels = {box: [_width_of_label(edge) for edge in arrows[box]] for box in shown}
    widths = [_width(lines[box], labels[box]) for box in shown]
    index = {box: i for i, box in enumerate(shown)}
    edges = [edge for box in shown for edge in arrows[box]]
    layout = lay_out(widths, [(index[edge.source], index[edge.target]) for edge in edges])
    bends = dict(zip(edges, layout.bends, strict=True))
    tops = _tops(layout, [len(lines[box]) for box in shown])
    trunks = _trunks(edges, bends)
    canvas = _Canvas(layout, bends, tops, index, widths, {box: len(lines[box]) for box in shown})
    ends = {box: canvas.ends(arrows[box], labels[box]) for box in shown}
    body = [
        *(canvas.trunk(edge, steps) for edge, steps in trunks),
        *(line for box in shown for line in canvas.arrows(arrows[box], ends[box])),
        *(line for box in shown for line in canvas.labels(arrows[box], ends[box])),
        *(line for box in shown for line in canvas.box(box, lines[box], graph)),
    ]
    width, height = layout.width + 2 * MARGIN, tops[-1] - BETWEEN + 2 * MARGIN
    style = f"<style>{svg_style()}</style>" if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tape" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
        f"<title>{escape(summary(graph))}</title>{style}\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>\n'
        f'<g transform="translate({MARGIN:.0f},{MARGIN:.0f})">\n' + "\n".join(body) + "\n</g></svg>"
    )


def summary(graph: Graph) -> str:
    """The graph in a line."""
    count = sum(len(box.parts) or 1 for box in graph.steps)
    devices = " and ".join(graph.devices)
    words = f"{count:,} operation{'s' * (count != 1)} on {devices}; "
    words += f"{text.size(graph.kept)} kept for backward"
    return words + (f", and {text.size(graph.shared)} of parameters" if graph.shared else "")


def lines_of(box: Box, graph: Graph) -> Iterator[Line]:
    """What stands in a box."""
    named = [output.name for output in box.outputs if output.name]
    if box.runs:
        title = f"{named[0]} = {box.title}" if named else box.title
        if box.is_copy:
            title += f" {box.device} \u2192 {box.outputs[0].device}"
        yield _line(("title", title))
    else:
        shape = box.outputs[0].shape
        of = [("faint", text.shape(shape))] if shape else []
        yield _line(("title", box.title), *of)
    if place := box.after if box.path[-1:].isdigit() and box.after else box.path:
        yield _line(("faint", place))
    if box.parts:
        yield _line(("faint", f"{len(box.parts):,} operations"))
    yield from _parameters(box, graph)
    ends = box not in graph.out_of
    for output in box.outputs:
        if output.value and (ends or not box.runs):
            yield _line(("value", text.brief(output.value)))
    if ends:
        for output in box.outputs:
            if output.gradient:
                yield _line(("grad", f"grad {text.brief(output.gradient)}"))
    else:
        yield from _sums(graph.out_of[box])
    if box.kept:
        yield _line(("faint", f"keeps {text.size(box.kept)}"))


def _line(*parts: tuple[str, str]) -> Line:
    return Line([(kind, words, 0, None) for kind, words in parts])


def _parameters(box: Box, graph: Graph) -> Iterator[Line]:
    """The parameters and constants that are drawn inside this box."""
    own = {edge.source: edge for edge in graph.into.get(box, []) if edge.source in graph.inside}
    for source, edge in list(own.items())[:MOST]:
        output = source.outputs[0]
        name = (output.name or edge.argument).removeprefix(f"{box.path}.")
        value = output.value
        known = text.brief(value) if value and value.values.size == 1 else text.shape(output.shape)
        line = _line(("name", name), ("value", known))
        if output.gradient:
            line.parts.append(("grad", text.brief(output.gradient), box.step, None))
        yield line
    if len(own) > MOST:
        yield _line(("faint", f"and {len(own) - MOST:,} more"))


def _sums(edges: list[Edge]) -> Iterator[Line]:
    """The sum of gradients at the source of these edges, where several meet; a leaf's always."""
    outputs = dict.fromkeys(edge.output for edge in edges)
    for number in outputs:
        coming = [edge for edge in edges if edge.output == number and edge.gradient]
        if len(coming) < 2 and edges[0].source.runs:
            continue
        line = Line([])
        for i, edge in enumerate(coming):
            until = coming[i + 1].target.step if i + 1 < len(coming) else None
            if until == edge.target.step:
                continue  # both come from one operation, x * x: the second one shows their sum
            kind = "grad meet" if edge.before else "grad"
            line.parts.append((kind, _sum(edge), edge.target.step, until))
        if line.parts:
            yield line


def _sum(edge: Edge) -> str:
    gradient, after = text.brief(edge.gradient), text.brief(edge.after)  # type: ignore[arg-type]
    if not edge.before:
        return f"grad {gradient}"
    before = text.brief(edge.before)
    exact = "\u2016" not in before
    return (
        f"grad {before} + {gradient} = {after}" if exact else f"grad += {gradient} \u2192 {after}"
    )


def _width_of_label(edge: Edge) -> float:
    return CHARACTER * max(map(len, _label(edge))) + 12


def _label(edge: Edge) -> tuple[str, str]:
    """What stands beside an arrow: the value, the gradient."""
    output = edge.source.outputs[edge.output]
    few = output.value is not None and "\u2016" not in text.brief(output.value)
    value = text.brief(output.value) if few else text.shape(output.shape)  # type: ignore[arg-type]
    return value, text.brief(edge.gradient) if edge.gradient else ""


def _width(lines: list[Line], labels: list[float]) -> float:
    inside = max(line.length for line in lines) * CHARACTER + 20
    return max(56.0, inside, sum(labels))


def _tops(layout: Layout, counts: list[int]) -> list[float]:
    """The top of each layer, and of the one that would come next."""
    tallest = [0] * (max(layout.ranks) + 1)
    for rank, count in zip(layout.ranks, counts, strict=True):
        tallest[rank] = max(tallest[rank], count)
    tops = [0.0]
    for count in tallest:
        tops.append(tops[-1] + LINE * count + 12 + BETWEEN)
    return tops


class _Canvas:
    """Draws at the places of a layout."""

    def __init__(
        self,
        layout: Layout,
        bends: dict[Edge, list[tuple[float, int]]],
        tops: list[float],
        index: dict[Box, int],
        widths: list[float],
        counts: dict[Box, int],
    ):
        self.layout, self.bends, self.tops = layout, bends, tops
        self.index, self.widths, self.counts = index, widths, counts

    def top(self, box: Box) -> float:
        return self.tops[self.layout.ranks[self.index[box]]]

    def box(self, box: Box, lines: list[Line], graph: Graph) -> Iterator[str]:
        i = self.index[box]
        x, y, width = self.layout.centres[i], self.top(box), self.widths[i]
        kind = f"box {box.kind}" + " copy" * box.is_copy
        colour = (
            f"d{graph.devices.index(box.device) % COLOURS}" if box.device in graph.devices else ""
        )
        step = f' data-step="{box.step}"' if box.step else ""
        yield (
            f'<g class="{kind} {colour}"{step}><rect x="{x - width / 2:.0f}" y="{y:.0f}" '
            f'width="{width:.0f}" height="{LINE * len(lines) + 12:.0f}" '
            f'rx="{5 if box.runs else 14}"/>'
        )
        for number, line in enumerate(lines, 1):
            yield from _text(x, y + LINE * number + 1, line)
        yield "</g>"

    def ends(self, edges: list[Edge], labels: list[float]) -> list[float]:
        """x where each arrow reaches its box: side by side, ordered by where they come from."""
        came = [self.bends[e][-1][0] if self.bends[e] else self._start(e)[0] for e in edges]
        ends = [0.0] * len(edges)
        left = self.layout.centres[self.index[edges[0].target]] - sum(labels) / 2 if edges else 0
        for i in sorted(range(len(edges)), key=came.__getitem__):
            ends[i] = left + labels[i] / 2
            left += labels[i]
        return ends

    def arrows(self, edges: list[Edge], ends: list[float]) -> Iterator[str]:
        """All arrows into one box."""
        for edge, x in zip(edges, ends, strict=True):
            begin = self._through(edge)[-1]
            path = [begin, (x, self.top(edge.target))]
            step = f' data-step="{edge.target.step}"' if edge.gradient else ""
            kind = _kind(edge)
            yield (f'<path class="arrow {kind}" d="{_curve(path)}" marker-end="url(#tip)"{step}/>')

    def labels(self, edges: list[Edge], ends: list[float]) -> Iterator[str]:
        """What stands beside them."""
        for edge, x in zip(edges, ends, strict=True):
            y, step = self.top(edge.target), edge.target.step
            value, gradient = _label(edge)
            yield f'<text class="value" x="{x:.0f}" y="{y - 25:.0f}">{escape(value)}</text>'
            if gradient:
                yield (
                    f'<text class="grad" x="{x:.0f}" y="{y - 11:.0f}" data-from="{step}">'
                    f"{escape(gradient)}</text>"
                )

    def trunk(self, longest: Edge, steps: set[int]) -> str:
        """What all arrows from one output share: the way through its bends."""
        step = f' data-step="{steps.pop()}"' if len(steps) == 1 else ""
        return f'<path class="arrow {_kind(longest)}" d="{_curve(self._through(longest))}"{step}/>'

    def _through(self, edge: Edge) -> list[tuple[float, float]]:
        """From the source to the last bend."""
        bends = [(bend, self.tops[rank]) for bend, rank in self.bends[edge]]
        return [self._start(edge), *bends]

    def _start(self, edge: Edge) -> tuple[float, float]:
        source = edge.source
        x = self.layout.centres[self.index[source]]
        return x, self.top(source) + LINE * self.counts[source] + 12


def _kind(edge: Edge) -> str:
    return "copied" if edge.target.is_copy else "plain" if edge.gradient is None else ""


def _trunks(
    edges: list[Edge], bends: dict[Edge, list[tuple[float, int]]]
) -> list[tuple[Edge, set[int]]]:
    """For each box whose arrows have bends: the arrow with the most, and the steps of all."""
    found: dict[Box, list[Edge]] = {}
    for edge in edges:
        if bends[edge]:
            found.setdefault(edge.source, []).append(edge)
    return [
        (max(some, key=lambda edge: len(bends[edge])), {edge.target.step for edge in some})
        for some in found.values()
    ]


def _curve(points: list[tuple[float, float]]) -> str:
    """A line through the points that leaves and reaches each of them vertically."""
    path = "M{:.0f},{:.0f}".format(*points[0])
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        bend = (y1 - y0) / 2
        path += f" C{x0:.0f},{y0 + bend:.0f} {x1:.0f},{y1 - bend:.0f} {x1:.0f},{y1:.0f}"
    return path


def _text(x: float, y: float, line: Line) -> Iterator[str]:
    """A line of a box; the versions of a sum lie over each other, and one is seen at a time."""
    if all(first for _, _, first, _ in line.parts):
        for kind, words, first, until in line.parts:
            hidden = " hidden" * (until is not None)
            ends = f' data-to="{until}"' if until is not None else ""
            yield (
                f'<text class="{kind}{hidden}" x="{x:.0f}" y="{y:.0f}" data-from="{first}"{ends}>'
                f"{escape(words)}</text>"
            )
        return
    spans = (
        f'<tspan class="{kind}"' + (f' data-from="{first}"' if first else "") + f">{escape(words)}"
        f"{' ' * (i + 1 < len(line.parts))}</tspan>"
        for i, (kind, words, first, _) in enumerate(line.parts)
    )
    yield f'<text x="{x:.0f}" y="{y:.0f}">{"".join(spans)}</text>'
