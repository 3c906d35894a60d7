"""Widgets of the course: what they show is what tinynet computes."""

from __future__ import annotations

import json
import re
import sys
from itertools import product
from math import prod
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tinynet.exercises import EXERCISES
from tinynet.kernels.im2col import im2col_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.steps.sgd import sgd_step_definition

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))
from making.widgets import WIDGETS, columns, momentum, order, pool  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted(set(WIDGETS) - {"tape"})


def parts(svg: str) -> dict[str, ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    found = [e for e in root.iter() if "data-part" in e.attrib]
    assert len({e.attrib["data-part"] for e in found}) == len(found), "a name twice"
    return {e.attrib["data-part"]: e for e in found}


def words(part: ElementTree.Element) -> str:
    inner = part.find(f"{SVG}text")
    return (part if inner is None else inner).text or ""


def numbers(text: dict[str, str], name: str, shape: tuple[int, int]) -> np.ndarray:
    """The grid of this name in a state."""
    cells = [float(text[f"{name}{i}-{j}"] or "nan") for i, j in np.ndindex(shape)]
    return np.array(cells).reshape(shape)


@pytest.mark.parametrize("name", PICTURES)
def test_every_state_can_be_shown_and_the_last_one_is_seen_without_a_script(name):
    widget = WIDGETS[name]()
    html = widget.html()
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1])
    frames, before, last = data["frames"], data["before"], widget.last
    assert last == prod(len(slider["values"]) for slider in data["sliders"]) - 1 < len(frames)
    assert all(last < number < len(frames) for number in data["hover"].values())
    seen = parts(re.search(r"<svg.*</svg>", html, re.S)[0])
    assert set(data["hover"]) <= set(seen)
    for frame in frames:  # what one state changes, every other one puts back
        for kind in ("text", "mark", "path"):
            assert set(frame.get(kind, {})) <= set(before.get(kind, {})) <= set(seen)
    assert f"{frames[last]['note']}</figcaption>" in html
    for part, text in (before.get("text", {}) | frames[last].get("text", {})).items():
        assert words(seen[part]) == text
    for part, kind in before.get("mark", {}).items():
        marked = f"{kind} {frames[last].get('mark', {}).get(part, '')}".strip()
        assert seen[part].attrib.get("class", "") == marked
    for part, way in frames[last].get("path", {}).items():
        assert seen[part].attrib["d"] == way


def test_columns_go_back_to_their_windows():
    widget, X = columns.make(), columns.X
    pixels = np.arange(X.size).reshape(1, 1, *X.shape)
    holds = im2col_definition(pixels, *columns.GEOMETRY)
    seen = parts(widget.svg())
    for row, column in np.ndindex(holds.shape):
        assert words(seen[f"col{row}-{column}"]) == f"{X.ravel()[holds[row, column]]:g}"
    dcol = np.outer(columns.W, columns.DY)
    dx = np.zeros(X.size)
    for done, frame in enumerate(widget.frames[: widget.last + 1]):
        if done:
            np.add.at(dx, holds[:, done - 1], dcol[:, done - 1])
        np.testing.assert_array_equal(numbers(frame.text, "dx", X.shape), dx.reshape(X.shape))
    for pixel, (i, j) in enumerate(np.ndindex(X.shape)):
        frame = widget.frames[widget.hover[f"x{i}-{j}"]]
        copied = {f"col{row}-{column}" for row, column in np.argwhere(holds == pixel)}
        assert {name for name in frame.mark if name.startswith("col")} == copied
        assert re.search(rf"\b{dx[pixel]:g}\.$", frame.note)


def test_one_pixel_wins_in_four_windows_and_gets_all_gradients():
    geometry = pool.KERNEL, pool.STRIDE, pool.PADDING
    y, winner = max_pool2d_definition(pool.X, *geometry, False)
    dx, sums = np.zeros(pool.X.shape[2:]), []
    for i, j in np.ndindex(y.shape[2:]):
        row, column = divmod(winner[0, 0, i, j], 3)
        dx[2 * i + row, 2 * j + column] += pool.DY[0, 0, i, j]
        sums.append(dx.copy())
    widget = pool.make()
    for frame, expected in zip(widget.frames[5:], sums, strict=True):
        np.testing.assert_array_equal(numbers(frame.text, "dx", dx.shape), expected)
    np.testing.assert_array_equal(numbers(widget.frames[4].text, "y", (2, 2)), y[0, 0])
    again = [frame for frame in widget.frames if "both" in frame.mark.values()]
    assert [re.findall(r"\d+ \+ \d+ = \d+", frame.note) for frame in again] == [
        ["1 + 2 = 3"], ["3 + 4 = 7"], ["7 + 8 = 15"],
    ]  # fmt: skip


def test_the_two_orders_are_those_of_the_exercise():
    walk = EXERCISES["walk"]
    met = next(mistake for mistake in walk.mistakes if mistake.__name__ == "as_they_are_met")
    for function, visits in ((walk.solution, "Lcb"), (met, "Lbc")):
        expected = {step.name[0]: g for step, g in function(*walk.example()).items()}
        assert {name: float(g) for name, g in order.visits(visits)[-1].items()} == expected


def test_the_way_down_the_valley_is_that_of_the_rule():
    frames = iter(momentum.make().frames)
    for rate, m in product(momentum.RATES, momentum.MOMENTA):
        w, v = momentum.START, np.zeros(2)
        frame = next(frames)
        assert frame.note.startswith(f"lr {rate:g}, momentum {m:g}:")
        places = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", frame.path["way"])
        assert len(places) == momentum.STEPS + 1
        for place in places:
            expected = momentum.CENTRE + np.clip(w * momentum.SCALE, -2000, 2000)
            np.testing.assert_allclose([float(n) for n in place], expected, atol=0.051)
            w, v = sgd_step_definition(w, momentum.CURVES * w, v, rate, m, 0.0)


def test_the_tape_is_drawn_step_by_step():
    html = WIDGETS["tape"]().html()
    assert 'data-steps="3"' in html and "-10 + -5 = -15" in html
