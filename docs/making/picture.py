"""Small pictures as SVG text: boxes with words in them, lines, arrows.

A part with a name can be changed: a Frame says what is in it, and how it is marked. So one picture
has many states. widgets.js shows them as `Picture.show` does here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tinynet.drawing.style import themed

CELL = 30.0, 30.0  # pixels: a box with a number in it
STYLE = """
.tinynet-picture { max-width: 100%; height: auto; background: var(--paper) }
.tinynet-picture text { font: 12px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink);
  text-anchor: middle }
.tinynet-picture .left { text-anchor: start }
.tinynet-picture .title { font: 600 13px system-ui, sans-serif }
.tinynet-picture .faint { fill: var(--faint) }
.tinynet-picture .value { fill: var(--value) }
.tinynet-picture .grad { fill: var(--grad) }
.tinynet-picture rect { fill: var(--shade); stroke: var(--line) }
.tinynet-picture rect.empty { fill: none; stroke-dasharray: 3 3 }
.tinynet-picture path { fill: none; stroke: var(--line); stroke-width: 1.5; stroke-linejoin: round }
.tinynet-picture .level { stroke-width: .8 }
.tinynet-picture .tip { fill: var(--line); stroke: none }
.tinynet-picture .d0 { stroke: var(--d0) } .tinynet-picture .d1 { stroke: var(--d1) }
.tinynet-picture text.d0 { fill: var(--d0); stroke: none }
.tinynet-picture text.d1 { fill: var(--d1); stroke: none }
.tinynet-picture .wide { stroke-width: 3 }
.tinynet-picture .off rect { fill: none } .tinynet-picture .off text { opacity: .25 }
.tinynet-picture .on rect { stroke: var(--d0); stroke-width: 3 }
.tinynet-picture .won rect { fill: var(--meet); stroke: var(--d0); stroke-width: 2 }
.tinynet-picture .given rect { stroke: var(--grad); stroke-width: 3 }
.tinynet-picture .both rect { fill: var(--meet); stroke: var(--grad); stroke-width: 3 }
"""


@dataclass
class Frame:
    """A state: words of parts, classes of parts, ways of lines; and what is said about it, HTML."""

    note: str
    text: dict[str, str] = field(default_factory=dict)
    mark: dict[str, str] = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON, without what is empty."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass
class Part:
    """One element. words: of a <text>, at `place` if the element is not one itself."""

    tag: str
    name: str = ""
    kind: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    words: str = ""
    place: tuple[float, float] | None = None
    inner: str = ""

    def svg(self) -> str:
        given = {"data-part": self.name, "class": self.kind} | self.attributes
        names = "".join(f' {name}="{escape(value)}"' for name, value in given.items() if value)
        words = escape(self.words)
        if self.place:
            words = f'<text x="{self.place[0]:g}" y="{self.place[1]:g}">{words}</text>'
        return f"<{self.tag}{names}>{self.inner}{words}</{self.tag}>"


class Picture:
    """Elements in the order in which they are drawn."""

    def __init__(self, width: float, height: float, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[Part] = []

    def box(
        self, x: float, y: float, words: Any = "", name: str = "", kind: str = "",
        size: tuple[float, float] = CELL,
    ) -> None:  # fmt: skip
        """A rectangle with its top left corner at (x, y), and words in its middle."""
        width, height = size
        rect = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
        middle = x + width / 2, y + height / 2 + 4
        self.parts.append(Part("g", name, kind, words=str(words), place=middle, inner=rect))

    def grid(
        self, x: float, y: float, rows: Iterable[Sequence[Any]], name: str = "", kind: str = "",
        cell: tuple[float, float] = CELL,
    ) -> None:  # fmt: skip
        """A matrix of boxes; the one in row 1, column 2 has the name "NAME1-2"."""
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                place = x + j * cell[0], y + i * cell[1]
                self.box(*place, value, f"{name}{i}-{j}" if name else "", kind, cell)

    def text(self, x: float, y: float, words: str, kind: str = "", name: str = "") -> None:
        place = {"x": f"{x:g}", "y": f"{y:g}"}
        self.parts.append(Part("text", name, kind, place, words))

    def line(self, points: Sequence[tuple[float, float]], kind: str = "", name: str = "") -> None:
        self.parts.append(Part("path", name, kind, {"d": way(points)}))

    def arrow(self, points: Sequence[tuple[float, float]], kind: str = "") -> None:
        """A line with a tip; its last piece is horizontal or vertical."""
        (x0, y0), (x, y) = points[-2:]
        across, along = (y > y0) - (y < y0), (x > x0) - (x < x0)
        back = x - 8 * along, y - 8 * across
        sides = [(back[0] + 4 * s * across, back[1] + 4 * s * along) for s in (1, -1)]
        self.line([*points[:-1], back], kind)
        self.parts.append(Part("path", kind="tip", attributes={"d": way([(x, y), *sides]) + " z"}))

    def show(self, frame: Frame) -> None:
        """Put the picture, which shows no frame yet, into this state."""
        for part in self.parts:
            part.words = frame.text.get(part.name, part.words)
            part.kind = f"{part.kind} {frame.mark.get(part.name, '')}".strip()
            if part.name in frame.path:
                part.attributes["d"] = frame.path[part.name]

    def state(self, names: Iterable[str]) -> dict[str, Part]:
        """The parts of these names."""
        found = {part.name: part for part in self.parts}
        return {name: found[name] for name in names}

    def svg(self) -> str:
        """The whole picture. As a file it follows the system's theme, inside a page the page's."""
        inside = "\n".join(part.svg() for part in self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tinynet-picture" '
            f'width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" role="img">'
            f"<title>{escape(self.title)}</title><style>{themed('.tinynet-picture')}{STYLE}</style>"
            f"\n{inside}\n</svg>"
        )


def way(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines through the points, as the d of a <path>."""
    places = " L".join(f"{round(x, 1):g},{round(y, 1):g}" for x, y in points)
    return f"M{places}" if places else ""
