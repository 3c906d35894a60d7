"""The figures of the course: python docs/learn/figures.py writes them into docs/learn/figures/.

Every number in them is computed here, by tinynet. They are text: tests/learn compares each file
with what this program makes.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.drawing.style import DARK, LIGHT

FOLDER = Path(__file__).parent / "figures"
CELL = 34  # side of a pixel
FIGURES: dict[str, Callable[[], str]] = {}

STYLE = """.figure { background: var(--paper) }
.figure text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink);
               text-anchor: middle }
.figure .left { text-anchor: start } .figure .faint { fill: var(--faint) }
.figure .value { fill: var(--value) } .figure .grad { fill: var(--grad) }
.figure .strong { font-weight: 600 }
.figure .cell { fill: var(--leaf); stroke: var(--line) }
.figure .shade { fill: var(--shade); stroke: var(--line) }
.figure .meet { fill: var(--meet); stroke: var(--line) }
.figure .bar { fill: var(--value) } .figure .barg { fill: var(--grad) }
.figure .line { fill: none; stroke: var(--line); stroke-width: 1.4 }
.figure .w0 { fill: none; stroke: var(--d0); stroke-width: 3 }
.figure .w1 { fill: none; stroke: var(--d1); stroke-width: 3 }
.figure .w2 { fill: none; stroke: var(--d2); stroke-width: 3 }
.figure .w3 { fill: none; stroke: var(--d3); stroke-width: 3 }
.figure marker path { fill: var(--line) }
"""


class Picture:
    """An SVG that is light or dark as the system is. Lengths in pixels, from the upper left."""

    def __init__(self, width: int, height: int, title: str):
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: Any, kind: str = "") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(str(text))}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str = "cell") -> None:
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
        )

    def path(self, points: list[tuple[float, float]], kind: str = "line", arrow: bool = False):
        end = ' marker-end="url(#tip)"' * arrow
        d = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{kind}" d="{d}"{end}/>')

    def grid(self, x: float, y: float, rows: Any, kind: str = "", shade: Any = None) -> None:
        """A matrix of numbers, each in its cell; `shade`: which cells are marked."""
        for i, row in enumerate(np.asarray(rows)):
            for j, value in enumerate(row):
                marked = shade is not None and bool(np.asarray(shade)[i][j])
                left, top = x + j * CELL, y + i * CELL
                self.box(left, top, CELL, CELL, "meet" if marked else "cell")
                self.text(left + CELL / 2, top + CELL / 2 + 5, number(value), kind)

    def svg(self) -> str:
        light, dark = (
            "; ".join(f"--{name}: {c}" for name, c in theme.items()) for theme in (LIGHT, DARK)
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" role="img" '
                f'width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}">',
                f"<title>{escape(self.title)}</title>",
                f"<style>.figure {{ {light} }}",
                f"@media (prefers-color-scheme: dark) {{ .figure {{ {dark} }} }}",
                f"{STYLE}</style>",
                '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
                'markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker>',
                *self.parts,
                "</svg>\n",
            ]
        )


def number(value: Any) -> str:
    if isinstance(value, (str, np.str_)):
        return str(value)
    text = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def figure(make: Callable[[], Any]) -> Callable[[], Any]:
    """Enter what makes a picture under its function's name."""
    FIGURES[make.__name__.replace("_", "-")] = make
    return make


# ------------------------------------------------------------------ chapter 2


@figure
def order() -> str:
    """b = 2a, c = 3b, L = b + c: visited newest first, and as met."""
    picture = Picture(640, 250, "the same tape visited in the right and in a wrong order")
    ways = [
        ("newest first: L, c, b", {"L": "1", "c": "1", "b": "1 + 3 = 4", "a": "8"}, "c b".split()),
        (
            "as they are met: L, b, c",
            {"L": "1", "c": "1", "b": "1", "a": "2: wrong"},
            "b c".split(),
        ),
    ]
    for left, (title, gradients, then) in zip((0, 320), ways, strict=True):
        picture.text(left + 150, 24, title, "strong")
        places = {"L": (150, 60), "c": (220, 110), "b": (80, 150), "a": (80, 215)}
        for start, end in (("L", "b"), ("L", "c"), ("c", "b"), ("b", "a")):
            (x0, y0), (x1, y1) = places[start], places[end]
            points = [(left + x0, y0 + 14), (left + x1 + (34 if start == "c" else 0), y1 - 14)]
            picture.path(points, arrow=True)
        for name, (x, y) in places.items():
            picture.box(left + x - 34, y - 14, 68, 28, "shade" if name != "a" else "cell")
            picture.text(
                left + x, y + 5, {"b": "b = 2a", "c": "c = 3b", "L": "L = b+c"}.get(name, name)
            )
            picture.text(left + x + 40, y + 5, gradients[name], "grad left")
            if name in then:
                picture.text(left + x - 46, y + 5, f"{then.index(name) + 2}.", "faint")
        picture.text(left + 104, 65, "1.", "faint")
    return picture.svg()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(make(), encoding="utf-8")
        print(f"{name}.svg")


if __name__ == "__main__":
    main()
