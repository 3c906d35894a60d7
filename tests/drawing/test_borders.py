"""Where a drawing begins to leave out, to fold and to round: one more, one less; and what it holds
while it is made.
"""

from __future__ import annotations

import re
import weakref
from itertools import combinations

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.drawing import folding, lines, reading
from tinynet.drawing.layout import GAP, lay_out
from tinynet.drawing.lines import lines_of, summary
from tinynet.drawing.text import array, brief, full, listed, number, shape, size
from tinynet.tracer import Value

CPU = tinynet.device("cpu")
PAGE = 24  # arguments that a page lists


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def of(*values):
    return Value.of(np.array(values, np.float64), CPU)


def words(line):
    return " ".join(part.words for part in line.parts)


@pytest.mark.parametrize(
    "count, expected",
    [(0, "0 bytes"), (1, "1 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB"),
     (999_500, "1 MB"), (999_999, "1 MB"), (1_005_001, "1.01 MB"), (999_600_000, "1 GB"),
     (2_500_000_000_000, "2.5 TB"), (12_000_000_000_000_000, "1.2e+04 TB")],
)  # fmt: skip
def test_sizes(count, expected):
    assert size(count) == expected


def test_numbers_and_ranges():
    assert [number(x) for x in (-0.0, -1e-9, 0.99996, 12345.0, 1e5, float("-inf"))] == [
        "0", "-1e-09", "1", "1.234e+04", "1e+05", "-inf",
    ]  # fmt: skip
    assert shape(()) == "1" and shape((2,)) == "2" and shape((2, 0, 3)) == "2\u00d70\u00d73"
    assert full(Value.of(np.arange(20.0), CPU)) == "20, norm 49.7, from 0 to 19"
    assert full(Value.of(-np.arange(20.0), CPU)) == "20, norm 49.7, from -19 to 0"
    assert full(Value.of(np.zeros(20), CPU)) == "20, norm 0, from 0 to 0"
    assert brief(of(1, 2, 3)) == "[1, 2, 3]" and brief(of(1, 2, 3, 4)) == "\u20165.477\u2016"
    assert brief(Value.of(np.array(2.5), CPU)) == "2.5" and brief(None) == ""
    for one, told in (([2.5], "[2.5]"), ([[2.5]], "[[2.5]]"), (2.5, "2.5")):  # its shape is seen
        value = Value.of(np.array(one), CPU)
        assert [array(np.array(one)), brief(value), full(value), listed(value)] == [told] * 4
    assert listed("x" * 60) == "x" * 60 and listed("x" * 61) == "x" * 59 + "\u2026"
    assert listed(of(1, 2)) == "[1, 2]" and listed(0.1 + 0.2) == "0.3" and listed(()) == "()"
    assert listed((True, None, 3)) == "(True, None, 3)" and listed((1,)) == "(1,)"
    assert array(np.array([[1.0, 2.0], [3.0, np.nan]])) == "[[1, 2], [3, nan]]"
    assert array(np.array(True)) == "1" and array(np.array(1 + 2j)) == "(1+2j)"
    assert full(Value.of(np.zeros((0, 3)), CPU)) == "[]" and full(of(0, 1, 2, 3)) == "[0, 1, 2, 3]"


def test_operations_are_counted_with_those_in_folds():
    x = leaf(1.0)
    y = x
    for _ in range(7):
        y = y * 2.0
    one = tinynet.draw(x * 2.0).graph
    assert summary(one).startswith("1 operation on cpu; ")
    folded = folding.fold(tinynet.draw(y).graph, "none")
    assert summary(folded).startswith("7 operations on cpu; ")
    together = folding._folded(folded, [(0, 5, "five", "")], named_leaves=True)
    assert len(together.steps) == 3 and summary(together) == summary(folded)


class Many(tinynet.Function):
    """The sum of any number of arguments."""

    @staticmethod
    def forward(ctx, *arrays):
        ctx.count = len(arrays)
        return sum(arrays)

    @staticmethod
    def backward(ctx, dy):
        return (dy,) * ctx.count


@pytest.mark.parametrize("more", [-1, 0, 1, 2])
def test_long_lists_are_cut_and_say_by_how_much(more, tmp_path):
    class Net(nn.Module):
        def __init__(self, count):
            for i in range(count):
                setattr(self, f"p{i}", nn.Parameter(np.ones(2, np.float32)))

        def forward(self):
            return Many.apply(*self.parameters())

    def told(count):
        net = Net(count)
        with tinynet.tracing(net):
            y = net()
        drawing = tinynet.draw(y)
        (box,) = drawing.graph.steps
        return [words(line) for line in lines_of(box, drawing.graph)], drawing

    inside, _ = told(lines.MOST + more)
    listed_ = [line for line in inside if line.startswith("p")]
    rest = [line for line in inside if line.startswith("and ")]
    assert len(listed_) == min(lines.MOST, lines.MOST + more)
    assert rest == ([f"and {more} more"] if more > 0 else [])
    _, drawing = told(PAGE + more)
    text = drawing.save(tmp_path / "a.html").read_text()
    assert text.count("to <b>p") == min(PAGE, PAGE + more)
    assert ("and to " in text) == (more > 0)
    assert more <= 0 or f"and to {more} more" in text


class Twice(nn.Module):
    def forward(self, x):
        return F.tanh(F.tanh(x))


@pytest.mark.parametrize("more", [0, 1])
def test_only_what_has_more_than_300_boxes_is_folded(more):
    """x and 299 operations are 300 boxes. One more, and they are one; a net goes by modules."""
    x = leaf(1.0)
    y = x
    for _ in range(folding.FOLDED - 1 + more):
        y = F.tanh(y)
    graph = tinynet.draw(y).graph
    assert len(graph.shown) == (1 if more else folding.FOLDED)
    net = nn.Sequential(*(nn.Sequential(Twice(), nn.Tanh()) for _ in range(4)))
    with tinynet.tracing(net):
        z = net(leaf(np.zeros(folding.FOLDED)))
        for _ in range(folding.FOLDED - 13 + more):
            z = F.tanh(z)
    graph = tinynet.draw(z).graph
    assert any(box.kind == "fold" for box in graph.boxes) == bool(more)


def test_devices_of_results_and_leaves():
    there = leaf([1.0, 2.0], device="cpu:1")
    assert tinynet.draw(there.to("cpu")).graph.devices == ["cpu", "cpu:1"]
    here = leaf([1.0, 2.0])
    assert tinynet.draw(here.to("cpu:1")).graph.devices == ["cpu", "cpu:1"]
    assert tinynet.draw(there * 2.0).graph.devices == ["cpu:1"]


def test_memory_of_a_view_of_a_parameter_is_the_parameters():
    memory = np.ones((10, 4), np.float32)
    p, x = nn.Parameter(np.ones(4, np.float32)), leaf(np.ones(4, np.float32))
    p.data = memory[3]
    graph = tinynet.draw((p * x).sum()).graph
    assert (graph.shared, graph.kept) == (16, 16)


def test_sums_are_let_go_when_they_have_been_used(monkeypatch):
    """Of a net with a hundred shortcuts one sum is alive at a time, not a hundred."""
    alive, most, add_up = [], [0], reading.add_up

    def spy(parts, device):
        most[0] = max(most[0], sum(ref() is not None for ref in alive))
        total = add_up(parts, device)
        alive.append(weakref.ref(total))
        return total

    monkeypatch.setattr(reading, "add_up", spy)
    y = leaf(np.ones(50))
    for _ in range(100):
        y = y * 0.5 + y
    tinynet.draw(y, group="none")
    assert len(alive) == 100 and most[0] <= 2


def test_gradients_of_leaves_are_let_go_when_they_have_been_read(monkeypatch):
    """Those of a net's parameters would fill its memory once more."""
    given, most, walk = [], [0], reading.walk

    def spy(loss):
        for node, arrived, leaving in walk(loss):
            given.append(weakref.ref(leaving[1]))
            yield node, arrived, leaving
            most[0] = max(most[0], sum(ref() is not None for ref in given))

    monkeypatch.setattr(reading, "walk", spy)
    y = leaf(np.ones(50))
    for _ in range(10):
        y = y * leaf(np.ones(50))
    tinynet.draw(y)
    assert len(given) == 10 and most[0] <= 2


def crossings(layout, edges):
    """How many pairs of arrows from one layer to the next cross."""
    place, rank = layout.centres, layout.ranks
    return sum(
        (place[a] - place[c]) * (place[b] - place[d]) < 0
        for (a, b), (c, d) in combinations(edges, 2)
        if rank[a] == rank[c] and rank[b] == rank[d] == rank[a] + 1
    )


TREES = {
    "two of two": [(0, 4), (2, 4), (1, 5), (3, 5)],
    "two of three": [(0, 6), (3, 6), (1, 7), (4, 7), (2, 8), (5, 8)],
    "a tree": [(0, 4), (2, 4), (1, 5), (3, 5), (5, 6), (4, 6)],
    "exchanged below": [(0, 2), (1, 3), (2, 5), (3, 4), (5, 6), (4, 6)],
    "a chain beside a tree": [(0, 3), (0, 5), (1, 4), (2, 6), (3, 6), (3, 8), (4, 7), (5, 9)],
    "an arrow beside a tree": [(0, 2), (1, 2), (1, 4), (2, 5), (3, 6), (4, 7)],
    "two ways from one": [(0, 5), (0, 6), (1, 4), (2, 6), (3, 9), (4, 9), (5, 9), (6, 9)],
}


@pytest.mark.parametrize("name", TREES)
def test_arrows_that_need_not_cross_do_not(name):
    edges = TREES[name]
    count = 1 + max(max(edge) for edge in edges)
    layout = lay_out([30.0] * count, edges)
    assert crossings(layout, edges) == 0
    for a, b in combinations(range(count), 2):
        if layout.ranks[a] == layout.ranks[b]:
            assert abs(layout.centres[a] - layout.centres[b]) >= 30 + GAP - 1e-9


def test_places_are_as_near_as_can_be():
    """_apart against its definition, by many small moves: none that keeps the gaps is better."""
    from tinynet.drawing.layout import _apart

    rng = np.random.default_rng(0)
    for _ in range(50):
        n = int(rng.integers(1, 7))
        wanted, widths = list(rng.normal(0, 60, n)), rng.uniform(5, 60, n)
        found = np.array(_apart(wanted, widths))
        room = (widths[1:] + widths[:-1]) / 2 + GAP
        assert (np.diff(found) >= room - 1e-9).all()
        cost = ((found - wanted) ** 2).sum()
        for first, last in combinations(range(n + 1), 2):  # a row of neighbours moves together
            for step in (-0.01, 0.01):
                moved = found.copy()
                moved[first:last] += step
                if (np.diff(moved) >= room - 1e-9).all():
                    assert ((moved - wanted) ** 2).sum() >= cost - 1e-9


def test_a_seventh_device_has_the_first_ones_colour(tmp_path):
    x = leaf([1.0])
    for i in range(1, 7):
        x = x.to(f"cpu:{i}") * 2.0
    text = tinynet.draw(x).save(tmp_path / "a.svg").read_text()
    classes = [c.split()[-1] for c in re.findall(r'<g class="box operation( d\d+)"', text)]
    assert classes == ["d1", "d2", "d3", "d4", "d5", "d0"]
    page = tinynet.draw(x).save(tmp_path / "a.html").read_text()
    keys = re.findall(r'class="key"><i style="background: var\(--(d\d+)\)', page)
    assert keys == ["d0", "d1", "d2", "d3", "d4", "d5", "d0"]


def test_an_arrow_that_several_share_is_lit_at_no_step(tmp_path):
    x = leaf(1.0)
    y = x
    for _ in range(3):
        y = y * 0.5 + x
    text = tinynet.draw(y).save(tmp_path / "a.svg").read_text()
    arrows = re.findall(r'<path class="arrow[^"]*" d="[^"]*"([^>]*)/>', text)
    (trunk,) = (arrow for arrow in arrows if "marker-end" not in arrow)
    assert "data-step" not in trunk
    assert all("data-step" in arrow for arrow in arrows if arrow != trunk)
