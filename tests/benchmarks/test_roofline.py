"""The names in a roofline: each beside its point, none over another."""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_no_name_covers_another(monkeypatch, rng):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from kernels import name_points

    figure = Figure((13, 8))
    axes = figure.subplots()
    crowd = [
        (1 + x, 5 * (1 + y), f"dropout{k}") for k, (x, y) in enumerate(rng.random((25, 2)) / 9)
    ]
    same = [(1.05, 5.2, f"fc{k}") for k in range(6)]
    points = {"tab:blue": crowd, "tab:red": same}
    for colour, found in points.items():
        axes.scatter(*zip(*(point[:2] for point in found), strict=True), color=colour)
    axes.loglog()
    rooms = name_points(axes, points)
    assert len(rooms) == len(axes.texts) == 31
    for k, room in enumerate(rooms):
        assert not any(room.overlaps(other) for other in rooms[:k])
    figure.canvas.draw()
    for text, room in zip(axes.texts, rooms, strict=True):  # they stand where they were measured
        left, middle = text.get_position()
        start = axes.transData.transform(text.xy) + (left, middle)
        expected = room.x1 if text.get_ha() == "right" else room.x0
        assert abs(start[0] - expected) < 2 and room.y0 <= start[1] <= room.y1


def test_similar_pictures_say_their_true_class(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "examples"))
    import similar

    from tinynet.data import fashion_mnist

    test = fashion_mnist()[1]
    assert similar.caption("test:1", test) == f"{test.classes[test.labels[1]]}\ntest:1"
    assert similar.caption(str(tmp_path / "Bag" / "x.png"), test) == "Bag\nx.png"
    assert similar.caption(str(tmp_path / "cats" / "x.png"), test) == "class unknown\nx.png"
    sys.modules.pop("similar")
