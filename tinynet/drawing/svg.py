"""A Graph -> SVG, by text alone.

Beside each arrow stand the value that ran down it (green) and the gradient that runs up it (red).
What is there from a step of backward on, or up to one, says so in data-from and data-to; the script
of the page shows it then. Without a script all is as after the last step.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tinynet.drawing.graph import Box, Edge, Graph
from tinynet.drawing.layout import lay_out
from tinynet.drawing.lines import Line, label, lines_of, summary
from tinynet.drawing.style import COLOURS, svg_style

# All in pixels.
CHARACTER = 7.3  # width of one: they are 12 high, all of one width
LINE = 16.0
BETWEEN = 62.0  # from a layer to the next: room for the two lines beside an arrow
MARGIN = 16.0
ASIDE = 7.0  # from an arrow to what stands beside it
NARROWEST = 56.0  # box

Point = tuple[float, float]


def svg(graph: Graph, alone: bool = True) -> str:
    """The <svg> element. alone: it is a file of its own, and so brings its colours."""
    picture = _Picture(graph)
    width, height = picture.width + 2 * MARGIN, picture.tops[-1] - BETWEEN + 2 * MARGIN
    style = f"<style>{svg_style()}</style>" if alone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tape" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img">'
        f"<title>{escape(summary(graph))}</title>{style}\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
        'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z"/></marker></defs>\n'
        f'<g transform="translate({MARGIN:.0f},{MARGIN:.0f})">\n'
        + "\n".join(picture.elements())
        + "\n</g></svg>"
    )


class _Picture:
    """Everything that is drawn, and where."""

    def __init__(self, graph: Graph):
        self.graph, shown = graph, graph.shown
        self.lines = {box: list(lines_of(box, graph)) for box in shown}
        self.arrows = {
            box: [edge for edge in graph.into.get(box, []) if edge.source in self.lines]
            for box in shown
        }
        self.edges = [edge for box in shown for edge in self.arrows[box]]
        self.widths = {box: self._width(box) for box in shown}
        index = {box: i for i, box in enumerate(shown)}
        ends = [(index[edge.source], index[edge.target]) for edge in self.edges]
        layout = lay_out(list(self.widths.values()), ends)
        self.width = layout.width
        self.centres = dict(zip(shown, layout.centres, strict=True))
        self.ranks = dict(zip(shown, layout.ranks, strict=True))
        self.tops = self._tops()
        self.bends = {
            edge: [(x, self.tops[rank]) for x, rank in bends]
            for edge, bends in zip(self.edges, layout.bends, strict=True)
        }

    def _width(self, box: Box) -> float:
        """Room for the lines in it, and for what stands beside the arrows into it."""
        labels = [_room(edge) for edge in self.arrows[box]]
        # a single arrow ends in the middle, and only one half is beside it
        beside = 2 * labels[0] - 16 if len(labels) == 1 else sum(labels)
        inside = max(line.length for line in self.lines[box]) * CHARACTER + 20
        return max(NARROWEST, inside, beside)

    def _height(self, box: Box) -> float:
        return LINE * len(self.lines[box]) + 12

    def _tops(self) -> list[float]:
        """The top of each layer, and of the one that would come next."""
        tallest = [0.0] * (max(self.ranks.values()) + 1)
        for box, rank in self.ranks.items():
            tallest[rank] = max(tallest[rank], self._height(box))
        tops = [0.0]
        for height in tallest:
            tops.append(tops[-1] + height + BETWEEN)
        return tops

    def _top(self, box: Box) -> float:
        return self.tops[self.ranks[box]]

    def elements(self) -> Iterator[str]:
        """Arrows first: words and boxes lie over them."""
        ends = {edge: x for box in self.lines for edge, x in self._ends(box)}
        yield from self._trunks()
        for edge, x in ends.items():
            path = [self._way(edge)[-1], (x, self._top(edge.target))]
            yield _arrow(edge, path, {edge.target.step}, ' marker-end="url(#tip)"')
        for edge, x in ends.items():
            yield from self._label(edge, x + ASIDE)
        for box in self.lines:
            yield from self._box(box)

    def _ends(self, box: Box) -> Iterator[tuple[Edge, float]]:
        """x where each arrow reaches its box: side by side, ordered by where they come from."""
        arrows = sorted(self.arrows[box], key=lambda edge: self._way(edge)[-1][0])
        if len(arrows) == 1:
            yield arrows[0], self.centres[box]
            return
        x = self.centres[box] - sum(map(_room, arrows)) / 2
        for edge in arrows:
            yield edge, x + ASIDE
            x += _room(edge)

    def _way(self, edge: Edge) -> list[Point]:
        """From the bottom of the source through the bends."""
        source = edge.source
        bottom = self._top(source) + self._height(source)
        return [(self.centres[source], bottom), *self.bends[edge]]

    def _trunks(self) -> Iterator[str]:
        """The way through the bends, which all arrows from one box share."""
        sharing: dict[Box, list[Edge]] = {}
        for edge in self.edges:
            if self.bends[edge]:
                sharing.setdefault(edge.source, []).append(edge)
        for edges in sharing.values():
            longest = max(edges, key=lambda edge: len(self.bends[edge]))
            yield _arrow(longest, self._way(longest), {edge.target.step for edge in edges})

    def _label(self, edge: Edge, x: float) -> Iterator[str]:
        y, (value, gradient) = self._top(edge.target), label(edge)
        yield f'<text class="value" x="{x:.0f}" y="{y - 25:.0f}">{escape(value)}</text>'
        if gradient:
            yield (
                f'<text class="grad" x="{x:.0f}" y="{y - 11:.0f}" '
                f'data-from="{edge.target.step}">{escape(gradient)}</text>'
            )

    def _box(self, box: Box) -> Iterator[str]:
        x, y, width, devices = (
            self.centres[box],
            self._top(box),
            self.widths[box],
            self.graph.devices,
        )
        kind = f"box {box.kind}" + " copy" * box.is_copy
        if box.device in devices:  # a fold may have several
            kind += f" d{devices.index(box.device) % COLOURS}"
        step = f' data-step="{box.step}"' if box.step else ""
        yield (
            f'<g class="{kind}"{step}><rect x="{x - width / 2:.0f}" y="{y:.0f}" '
            f'width="{width:.0f}" height="{self._height(box):.0f}" rx="{5 if box.runs else 14}"/>'
        )
        for number, line in enumerate(self.lines[box], 1):
            yield from _text(x, y + LINE * number + 1, line)
        yield "</g>"


def _room(edge: Edge) -> float:
    """The width of an arrow's end with what stands beside it."""
    return ASIDE + CHARACTER * max(map(len, label(edge))) + 8


def _arrow(edge: Edge, path: list[Point], steps: set[int], end: str = "") -> str:
    """steps: the arrow is lit at this step, if it is one."""
    kind = " copied" * edge.target.is_copy or " plain" * (edge.gradient is None)
    step = f' data-step="{min(steps)}"' if len(steps) == 1 and edge.gradient else ""
    return f'<path class="arrow{kind}" d="{_curve(path)}"{end}{step}/>'


def _curve(points: list[Point]) -> str:
    """A line through the points that leaves and reaches each of them vertically."""
    path = "M{:.0f},{:.0f}".format(*points[0])
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        bend = (y1 - y0) / 2
        path += f" C{x0:.0f},{y0 + bend:.0f} {x1:.0f},{y1 - bend:.0f} {x1:.0f},{y1:.0f}"
    return path


def _text(x: float, y: float, line: Line) -> Iterator[str]:
    """A line of a box: versions are texts in one place, of which one is seen at a time."""
    place = f'x="{x:.0f}" y="{y:.0f}"'
    if line.versions:
        for kind, words, first, until in line.parts:
            hidden, ends = ("", "") if until is None else (" hidden", f' data-to="{until}"')
            yield (
                f'<text class="{kind}{hidden}" {place} data-from="{first}"{ends}>'
                f"{escape(words)}</text>"
            )
        return
    spans = (
        f'<tspan class="{kind}"'
        + f' data-from="{first}"' * (first > 0)
        + f">{escape(words)}</tspan>"
        for kind, words, first, _ in line.parts
    )
    yield f"<text {place}>{' '.join(spans)}</text>"
