"""A widget: a picture, its states, and what chooses among them.

All states are computed here, with tinynet's own kernels. widgets.js only shows one: that of the
sliders, or that of the part under the pointer. Without it, the last state of the sliders is seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from making.picture import Frame, Picture


@dataclass
class Slider:
    """label: what it sets; values: the words beside it, one for each place."""

    label: str
    values: Sequence[str]


@dataclass
class Widget:
    """frames: first one for each setting of the sliders, the last slider changing fastest; then
    those that only a pointer shows. hover: part -> number of its frame.
    """

    picture: Picture
    frames: list[Frame]
    sliders: list[Slider]
    hover: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The number of the frame that is seen without a script."""
        return prod(len(slider.values) for slider in self.sliders) - 1

    def data(self) -> dict[str, Any]:
        """What widgets.js reads. before: the parts that frames change, as they are in none."""
        texts = {name for frame in self.frames for name in frame.text}
        paths = {name for frame in self.frames for name in frame.path}
        marks = {name for frame in self.frames for name in frame.mark}
        parts = self.picture.named(texts | paths | marks)
        before = Frame(
            "",
            {name: parts[name].words for name in sorted(texts)},
            {name: parts[name].kind for name in sorted(marks)},
            {name: parts[name].attributes["d"] for name in sorted(paths)},
        )
        return {
            "sliders": [vars(slider) for slider in self.sliders],
            "hover": self.hover,
            "before": before.plain(),
            "frames": [frame.plain() for frame in self.frames],
        }

    def svg(self) -> str:
        """The last state."""
        self.picture.show(self.frames[self.last])
        return self.picture.svg()

    def html(self) -> str:
        data = json.dumps(self.data(), separators=(",", ":")).replace("</", "<\\/")
        return (
            '<figure class="tinynet-widget">\n'
            f'<div class="scroll">{self.svg()}</div>\n'
            f'<figcaption aria-live="polite">{self.frames[self.last].note}</figcaption>\n'
            f'<script type="application/json">{data}</script></figure>\n'
        )
