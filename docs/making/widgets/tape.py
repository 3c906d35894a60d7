"""The tape of L = q + x q, with q = x y: the drawing that `tinynet.draw` makes of it."""

from __future__ import annotations

import tinynet
from tinynet.drawing.svg import svg


class Tape:
    def __init__(self) -> None:
        x, y = tinynet.tensor(-2.0, requires_grad=True), tinynet.tensor(5.0, requires_grad=True)
        with tinynet.tracing():
            q = x * y
            L = q + x * q
        self.drawing = tinynet.draw(L)

    def html(self) -> str:
        return self.drawing._repr_html_()

    def svg(self) -> str:
        """The picture after backward."""
        return svg(self.drawing.graph)
