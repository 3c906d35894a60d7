"""Colours and style, of the picture and of the page around it; light and dark."""

from __future__ import annotations

import re
from importlib.resources import files

COLOURS = 6  # of devices; a seventh one has the first colour again
LIGHT = {
    "paper": "#ffffff", "ink": "#1d2730", "faint": "#5b6770", "line": "#8a97a3", "leaf": "#f6f2e6",
    "shade": "#eef1f4", "value": "#0a6b2d", "grad": "#b3261e", "meet": "#ffe08a",
    "d0": "#2f6fbd", "d1": "#b0661f", "d2": "#7a4fb5", "d3": "#2b8a74", "d4": "#b0417f",
    "d5": "#6f7a1f",
}  # fmt: skip
DARK = {
    "paper": "#14191e", "ink": "#d5dce3", "faint": "#94a1ad", "line": "#66727d", "leaf": "#2d2a20",
    "shade": "#1f262d", "value": "#63cf8a", "grad": "#ff8a80", "meet": "#4a3b0e",
    "d0": "#6aa5ea", "d1": "#e0a063", "d2": "#b394e6", "d3": "#63c7ae", "d4": "#e88abb",
    "d5": "#b9c45c",
}  # fmt: skip


def svg_style() -> str:
    """For a picture that is a file of its own: it follows the system. Its colours stand where they
    are used, as converters know no var().
    """
    dark = _painted(DARK)
    return f"{_painted(LIGHT)}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def page_style() -> str:
    """For a picture inside a page."""
    return themed(".tinynet-drawing") + _read("picture.css") + _read("page.css")


def themed(root: str) -> str:
    """The colours below `root`: they follow the system, unless the page has a theme of its own, as
    pages of Furo and of Jupyter have.
    """
    dark = ('[data-theme="dark"]', '[data-jp-theme-light="false"]')
    light = ('[data-theme="light"]', '[data-jp-theme-light="true"]')
    return (
        _follow_system(root)
        + _colours(", ".join(f"{theme} {root}" for theme in light), LIGHT)
        + _colours(", ".join(f"{theme} {root}" for theme in dark), DARK)
    )


def script() -> str:
    return _read("steps.js")


def _follow_system(selector: str) -> str:
    dark = _colours(selector, DARK)
    return f"{_colours(selector, LIGHT)}@media (prefers-color-scheme: dark) {{ {dark}}}\n"


def _colours(selector: str, theme: dict[str, str]) -> str:
    return selector + " { " + "; ".join(f"--{name}: {c}" for name, c in theme.items()) + " }\n"


def _painted(theme: dict[str, str]) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda use: theme[use[1]], _read("picture.css"))


def _read(name: str) -> str:
    return (files("tinynet.drawing") / name).read_text(encoding="utf-8")
