"""Pictures as SVG text: boxes with words in them, lines, arrows. Lengths in pixels, from the upper
left.

As a file a picture is light or dark as the system is; inside a page it follows the page's theme.

A part with a name can be changed: a Frame says what is in it, and how it is marked. So one picture
has many states. widgets.js shows them as `Picture.show` does here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from tinynet.drawing.style import themed

CELL = 34  # side of a box with a number in it
STYLE = """
.tinynet-picture { background: var(--paper); max-width: 100%; height: auto }
.tinynet-picture text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink);
  stroke: none; text-anchor: middle }
.tinynet-picture .left { text-anchor: start } .tinynet-picture .strong { font-weight: 600 }
.tinynet-picture .faint { fill: var(--faint) }
.tinynet-picture .value { fill: var(--value) } .tinynet-picture .grad { fill: var(--grad) }
.tinynet-picture .cell { fill: var(--leaf); stroke: var(--line) }
.tinynet-picture .shade { fill: var(--shade); stroke: var(--line) }
.tinynet-picture .meet { fill: var(--meet); stroke: var(--line) }
.tinynet-picture .bar { fill: var(--value) } .tinynet-picture .barg { fill: var(--grad) }
.tinynet-picture .line { fill: none; stroke: var(--line); stroke-width: 1.4 }
.tinynet-picture .w0 { fill: none; stroke: var(--d0); stroke-width: 3 }
.tinynet-picture .w1 { fill: none; stroke: var(--d1); stroke-width: 3 }
.tinynet-picture .w2 { fill: none; stroke: var(--d2); stroke-width: 3 }
.tinynet-picture .w3 { fill: none; stroke: var(--d3); stroke-width: 3 }
.tinynet-picture .on { stroke: var(--d0); stroke-width: 3 }
.tinynet-picture .given { stroke: var(--grad); stroke-width: 3 }
.tinynet-picture .won { fill: var(--meet); stroke: var(--d0); stroke-width: 3 }
.tinynet-picture .both { fill: var(--meet); stroke: var(--grad); stroke-width: 3 }
.tinynet-picture marker path { fill: var(--line) }
"""
TIP = (
    '<marker id="tinynet-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
    'markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>'
)


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
    """One element: <text> with words, a <path>, or a <g> with a rectangle and words in it."""

    tag: str
    kind: str
    attributes: dict[str, str]
    words: str = ""
    name: str = ""
    inner: str = ""  # <g>: all but its words, which stand between {}

    def svg(self) -> str:
        given = {"data-part": self.name, "class": self.kind} | self.attributes
        names = "".join(f' {name}="{escape(value)}"' for name, value in given.items() if value)
        words = escape(self.words)
        return f"<{self.tag}{names}>{self.inner.format(words) or words}</{self.tag}>"


class Picture:
    """Elements in the order in which they are drawn."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[Part] = []

    def text(self, x: float, y: float, words: Any, kind: str = "", name: str = "") -> None:
        place = {"x": f"{x:g}", "y": f"{y:g}"}
        self.parts.append(Part("text", kind, place, str(words), name))

    def box(
        self, x: float, y: float, width: float, height: float, kind: str = "cell",
        words: Any = None, of: str = "", name: str = "",
    ) -> None:  # fmt: skip
        """A rectangle, with words in its middle. of: the class of the words."""
        inner = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
        if words is not None:
            kind_of = f' class="{of}"' * bool(of)
            place = f'x="{x + width / 2:g}" y="{y + height / 2 + 5:g}"'
            inner += f"<text{kind_of} {place}>{{}}</text>"
        self.parts.append(Part("g", kind, {}, number(words), name, inner))

    def grid(
        self, x: float, y: float, rows: Any, kind: str = "", shade: Any = None, name: str = ""
    ) -> None:
        """A matrix of numbers, each in its cell. shade: which cells are marked. The cell in row 1,
        column 2 has the name "NAME1-2".
        """
        for i, row in enumerate(np.asarray(rows)):
            for j, value in enumerate(row):
                marked = shade is not None and bool(np.asarray(shade)[i][j])
                place = x + j * CELL, y + i * CELL, CELL, CELL, "meet" if marked else "cell"
                self.box(*place, value, kind, f"{name}{i}-{j}" if name else "")

    def path(
        self,
        points: Sequence[tuple[float, float]],
        kind: str = "line",
        arrow: bool = False,
        name: str = "",
    ) -> None:
        """Straight lines through the points."""
        end = {"marker-end": "url(#tinynet-tip)"} if arrow else {}
        self.parts.append(Part("path", kind, {"d": way(points)} | end, name=name))

    def show(self, frame: Frame) -> None:
        """Put the picture, which shows no frame yet, into this state."""
        for part in self.parts:
            part.words = frame.text.get(part.name, part.words)
            part.kind = f"{part.kind} {frame.mark.get(part.name, '')}".strip()
            if part.name in frame.path:
                part.attributes["d"] = frame.path[part.name]

    def named(self, names: Iterable[str]) -> dict[str, Part]:
        found = {part.name: part for part in self.parts}
        return {name: found[name] for name in names}

    def svg(self) -> str:
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tinynet-picture" role="img" '
            f'width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}">',
            f"<title>{escape(self.title)}</title>",
            f"<style>{themed('.tinynet-picture')}{STYLE}</style>",
            TIP,
            *(part.svg() for part in self.parts),
            "</svg>\n",
        ]
        return "\n".join(lines)


def number(value: Any) -> str:
    """A number with two digits after the point at most; words as they are."""
    if value is None or isinstance(value, str):
        return value or ""
    text = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def way(points: Iterable[tuple[float, float]]) -> str:
    """The d of a <path>."""
    places = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{places}" if places else ""
