"""Sheets and diagrams: what is drawn where."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from tinynet.training import drawings, plots
from tinynet.training.measure import Measure


@pytest.fixture
def figures(monkeypatch):
    """All figures that are drawn, none of which is written."""
    made, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: made.append(make(*size)) or made[-1])
    monkeypatch.setattr(plots, "_png", lambda figure, dpi: b"PNG")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **options: None)
    return made


def labels(ticks):
    return [tick.get_text() for tick in ticks]


def test_the_words_of_every_figure_can_be_read(figures, monkeypatch, tmp_path):
    """They are there, straight, within the figure, large enough, and none over another."""
    from matplotlib.text import Text

    monkeypatch.setattr(drawings, "_figure", plots._figure)
    monkeypatch.setattr(drawings, "_png", plots._png)
    drawn, path = [], tmp_path / "x.png"
    monkeypatch.setattr(Text, "draw", lambda self, renderer: drawn.append(self))
    many = [f"some class {k}" for k in range(5)]
    lines = [{"kind": kind, "epoch": 1, "loss": 2.0, "error": 60.0, "lr": 0.1} for kind in
             ("train", "test")]  # fmt: skip
    lines += [lines[0] | {"epoch": 2}, lines[0] | {"epoch": 3, "lr": 0.01}]
    error = {"error": Measure("error", "%")}
    pairs = [(name, [1.0, 2.0], (0.5, 2.5), 2.0) for name in many]
    heads = [(f"head {k}", np.eye(2)) for k in range(8)]
    weights = [("plus", np.eye(3, 5)), ("minus", -np.eye(3, 5))]
    for draw, words in (
        (lambda: plots.draw_curves(lines, error, path), ["epoch", "loss", "test", "error (%)"]),
        (lambda: plots.confusion_picture(np.ones((5, 5)), many, "light"), [*many, "20", "it was"]),
        (lambda: plots.share_pictures(heads, *2 * [["a", "b"]]), ["a", "b", "head 0", "head 7"]),
        (lambda: plots.share_pictures([("all", np.eye(15))], *2 * [3 * many]), [*many, "all"]),
        (lambda: plots.draw_differences(pairs, "loss", path), many),
        (lambda: plots.draw_many({"cat": [[3, 2]]}, "it", "up", 1.0, path), ["cat", "it", "up"]),
        (lambda: drawings.points_picture(np.eye(5)[:, :2], np.arange(5), many), many),
        (lambda: drawings.squares_picture(weights, [many, many]), [*many, "plus", "minus"]),
        (lambda: drawings.plane_picture(lambda p: p[:, 0], np.eye(2), np.eye(2)[0]), ["0", "1"]),
    ):  # fmt: skip
        draw()
        drawn.clear()
        figures[-1].draw_without_rendering()
        shown = [text for text in drawn if text.get_visible() and text.get_text()]
        assert {text.get_text() for text in shown} >= {*words}
        assert all(text.get_rotation() in (0, 90) and text.get_size() >= 8 for text in shown)
        boxes = [text.get_window_extent().padded(-0.5) for text in shown]
        page = figures[-1].bbox
        assert all(page.contains(*corner) for box in boxes for corner in (box.min, box.max)), words
        over = (one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert not any(over), words


def test_a_panel_is_called_by_the_titles_of_its_measures(figures, tmp_path):
    """All those of its unit, in their order, and the unit where there is one."""
    measures = {
        "a": Measure("the error", "%"),
        "b": Measure("bits a letter"),
        "c": Measure("another error", "%"),
        "d": Measure("perplexity"),
    }
    values = {"epoch": 1, "lr": 0.1} | dict.fromkeys(["loss", *measures], 1.0)
    lines = [values | {"kind": kind} for kind in ("train", "test")]
    plots.draw_curves(lines, measures, tmp_path / "c.png")
    assert [axes.get_ylabel() for axes in figures[0].axes] == [
        "loss", "the error, another error (%)", "bits a letter, perplexity"
    ]  # fmt: skip
    assert [labels(axes.get_legend().get_texts()) for axes in figures[0].axes] == [
        ["training", "test"],
        ["training the error", "test the error", "training another error", "test another error"],
        ["training bits a letter", "test bits a letter", "training perplexity", "test perplexity"],
    ]


def test_differences_of_pairs(figures, tmp_path):
    """A line each from above: its pairs, its interval, and what was expected where it is known."""
    rows = [
        ("relu", [1.0, 2.0, 4.0], (0.5, 3.5), 2.5),
        ("norm", [-1.0, 0.0], (-2.0, 1.0), None),
        ("pools", [0.25], (0.0, 0.5), 0.0),
    ]
    plots.draw_differences(rows, "error", tmp_path / "d.png")
    (axes,) = figures[0].axes
    assert labels(axes.get_yticklabels()) == ["relu", "norm", "pools"]
    assert axes.get_ylim() == (2.6, -0.6)
    *drawn, zero = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    expected = []
    for place, (_, differences, interval, known) in enumerate(rows):
        expected += [("None", list(interval), {place}), ("o", differences, {place})]
        expected += [("x", [known], {place})] if known is not None else []
    found = [(line.get_marker(), list(line.get_xdata()), set(line.get_ydata())) for line in drawn]
    assert found == expected
    assert axes.get_xlabel().startswith("error: pairs")
    assert (tmp_path / "d.png").read_bytes() == b"PNG"


def test_curves_of_several_runs(figures, tmp_path):
    """The first value is that of epoch 1; runs of one name have one colour."""
    curves = {"relu": [[3.0, 2.0], [3.5, 2.5, 1.5]], "tanh": [[4.0]]}
    plots.draw_many(curves, "epoch", "error, %", 2.25, tmp_path / "m.png")
    (axes,) = figures[0].axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) and line.get_linestyle() == "-"]
    flat = [curve for several in curves.values() for curve in several]
    for line, curve in zip(drawn, flat, strict=True):
        assert list(line.get_xdata()) == list(range(1, len(curve) + 1))
        assert list(line.get_ydata()) == curve
    assert [line.get_color() for line in drawn] == ["C0", "C0", "C1"]
    named = axes.get_legend()
    assert labels(named.get_texts()) == ["relu", "tanh"]
    assert [line.get_color() for line in named.get_lines()] == ["C0", "C1"]
    (target,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(target.get_ydata()) == [2.25, 2.25]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "error, %")
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= 4
    assert (tmp_path / "m.png").read_bytes() == b"PNG"


def test_tables_of_shares(figures, rng):
    panels = [(f"head {k}", rng.uniform(size=(2, 3))) for k in range(2)]
    plots.share_pictures(panels, ["a", "b"], ["x", "y", "z"])
    for (title, shares), axes in zip(panels, figures[0].axes, strict=True):
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), shares)
        assert image.get_clim() == (0, 1) and axes.get_title() == title
        assert image.cmap(0.0)[:3] == (1, 1, 1) and image.cmap(1.0)[:3] == (0, 0, 0)
        assert labels(axes.get_xticklabels()) == ["x", "y", "z"]
    first, second = figures[0].axes
    assert labels(first.get_yticklabels()) == ["a", "b"]
    assert not second.yaxis.get_tick_params()["labelleft"]  # the same rows


def test_a_figure_that_a_line_lacks_is_no_point(figures, tmp_path):
    """Nor is it 0: an evaluation of ten views, say, was added later."""
    lines = [
        {"kind": "test", "epoch": 1, "loss": 2.0, "lr": 1.0},
        {"kind": "test", "epoch": 2, "loss": 1.0, "error": 30.0, "lr": 1.0},
        {"kind": "train", "epoch": 2, "loss": 1.5, "lr": 1.0},
    ]
    measures = {"error": Measure("error", "%"), "never": Measure("never", "s")}
    plots.draw_curves(lines, measures, tmp_path / "c.png")
    loss, error, never = figures[0].axes
    assert [axes.get_xlim()[0] for axes in figures[0].axes] == [0, 0, 0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
    assert drawn == {"training": [1.5], "test": [2.0, 1.0]}
    (only,) = error.lines
    np.testing.assert_array_equal(only.get_ydata(), [np.nan, 30.0])
    assert list(only.get_xdata()) == [1, 2] and only.get_label() == "test error"
    assert not never.lines and never.get_ylabel() == "never (s)"
    assert [axes.get_ylabel() for axes in (loss, error)] == ["loss", "error (%)"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("share", "written"), [(0.005, ""), (0.01, "1"), (0.5, "50"), (0.994, "99")]
)
def test_shares_are_written_from_one_per_cent_on(share, written, figures):
    count = round(1000 * share)
    for theme, paper, ink in (("light", "Blues", "black"), ("dark", "Blues_r", "white")):
        plots.confusion_picture(np.array([[count, 1000 - count], [0, 0]]), ["a, b", "c"], theme)
        axes = figures[-1].axes[0]
        texts = {text.get_position(): text for text in axes.texts}
        assert (0, 1) not in texts and (1, 1) not in texts  # a class without pictures
        assert ((0, 0) in texts) == bool(written) and axes.images[0].cmap.name == paper
        assert axes.images[0].get_clim() == (0, 100)  # so two pictures can be compared
        if written:
            assert texts[0, 0].get_text() == written
            assert (texts[0, 0].get_color() == ink) == (share <= 0.5)  # seen on its ground


@pytest.mark.parametrize(("groups", "maps"), [(1, 5), (2, 6), (3, 3)])
def test_each_map_has_its_block_below_its_number(groups, maps, tmp_path):
    """Patches row by row in a block, blocks in the order of maps, a tower's over the next one's."""
    side, each = 8, 4
    shades = 10 + np.arange(maps * each, dtype=np.uint8).reshape(maps, each)
    patches = np.broadcast_to(shades[..., None, None, None], (maps, each, side, side, 1))
    plots.draw_patches(patches, tmp_path / "p.png", groups)
    sheet = np.asarray(Image.open(tmp_path / "p.png"))
    corners = np.empty((maps, each, 2), int)
    for place, shade in np.ndenumerate(shades):
        rows, columns = np.nonzero((sheet == shade).all(axis=2))
        found = [(y, x) for y, x in zip(rows, columns, strict=True)]
        top, left = min(y for y, _ in found), min(x for _, x in found)
        block = sheet[top : top + side, left : left + side]
        if not (block == shade).all():  # the grey of a letter's edge lies above
            y, x = next(
                (y, x) for y, x in found if (sheet[y : y + side, x : x + side] == shade).all()
                and sheet[y : y + side, x : x + side].shape == (side, side, 3)
            )  # fmt: skip
            top, left = y, x
        corners[place] = top, left
    first = corners[:, :1]
    inside = [(0, 0), (0, side), (side, 0), (side, side)]
    np.testing.assert_array_equal(corners - first, np.broadcast_to(inside, (maps, each, 2)))
    tops, lefts = corners[:, 0, 0], corners[:, 0, 1]
    of_group = maps // groups
    for group in range(groups):
        mine = slice(group * of_group, (group + 1) * of_group)
        places = [(top, left) for top, left in zip(tops[mine], lefts[mine], strict=True)]
        assert places == sorted(places) and len(set(places)) == of_group
        if group:
            assert tops[mine].min() > tops[: mine.start].max() + 2 * side
    size = tops.max() + 2 * side + 8, lefts.max() + 2 * side + 4, 3
    assert sheet.shape == size  # and no empty row or column
    numbers = [
        sheet[top - 14 : top, left : left + 2 * side].tobytes()
        for top, left in zip(tops, lefts, strict=True)
    ]
    assert len({*numbers}) == of_group  # each tower's from 0 on
    assert numbers == numbers[:of_group] * groups


def test_bars_are_shares_of_the_width():
    names, shares = ["a", "b", "c, d", "e", "f"], [0.5, 0.25, 0.125, 0.0, 1.0]
    for truth in (*names, "another"):
        picture = plots.bars(names, shares, truth, side=100).astype(int)
        assert picture.shape == (100, 100, 3)
        for row, (name, share) in enumerate(zip(names, shares, strict=True)):
            line = picture[20 * row + 12]
            colour = (0xE0, 0x7A, 0x1F) if name == truth else (0x0B, 0x6B, 0xCB)
            length = (line == colour).all(axis=1).sum()
            assert length == pytest.approx(max(1, 99 * share), abs=1.01)
            assert (line[length + 1 :] == 255).all()
            words = picture[20 * row : 20 * row + 10]  # the name up to its first comma
            assert words.min() < 128 and words[:, 20:].min() == 255


def test_a_contact_sheet_has_each_picture_over_its_words(tmp_path):
    colours = [(200, 20, 90), (10, 120, 30), (0, 0, 255), (7, 7, 7)]
    solid = [np.full((7, 7, 3), colour, np.uint8) for colour in colours]
    solid[3] = solid[3][:, :, :1]  # of one channel
    rows = [[(solid[0], "a"), (solid[1], "b\nb"), (solid[2], "c")], [(solid[3], "d")]]
    plots.contact_sheet(rows, tmp_path / "s.png", side=40)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    high = 40 + 2 * 18 + 14
    assert sheet.shape == (2 * high, 3 * 52, 3)
    for number, row in enumerate(rows):
        for column, (picture, words) in enumerate(row):
            top, left = number * high + 6, column * 52 + 6
            place = sheet[top : top + 40, left : left + 40]
            assert (place == picture[0, 0]).all()
            for line in range(2):  # of words, below
                below = sheet[top + 44 + 18 * line :][:16, left : left + 40]
                assert (below < 255).any() == (line <= words.count("\n"))


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (6, 6), (20, 10), (34, 7), (96, 16)])
def test_kernels_lie_row_by_row(count, columns, tmp_path, rng):
    """As many columns, up to 16, as fill all rows; up to seven as they are. No kernel is turned."""
    weights = rng.uniform(-1, 1, (count, 3, 2, 5)).astype(np.float32)
    weights[0, 1, 0, 3], weights[-1, 2, 1, 0] = 4.0, -3.0  # the largest of theirs
    plots.draw_kernels([weights], tmp_path / "k.png")
    sheet = np.asarray(Image.open(tmp_path / "k.png")).astype(int)
    zoom = 44 // 5
    rows = -(-count // columns)
    assert sheet.shape == (rows * (2 * zoom + 2) + 2, columns * (5 * zoom + 2) + 2, 3)
    for place, weight in enumerate(weights):
        row, column = divmod(place, columns)
        top, left = row * (2 * zoom + 2) + 2, column * (5 * zoom + 2) + 2
        found = sheet[top : top + 2 * zoom, left : left + 5 * zoom][::zoom, ::zoom]
        wanted = 127.5 + 127.5 * weight.transpose(1, 2, 0) / abs(weight).max()
        assert abs(found - wanted).max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_kernels_of_other_than_three_channels_are_drawn_as_their_mean(channels, tmp_path, rng):
    weights = rng.normal(size=(3, channels, 4, 4)).astype(np.float32)
    means = weights.mean(axis=1, keepdims=True).repeat(3, axis=1)
    plots.draw_kernels([weights], tmp_path / "a.png")
    plots.draw_kernels([means], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("measure", "value", "words"),
    [
        (Measure("error", "%"), 11.756, "error 11.76 %"),
        (Measure("perplexity", digits=3), 2.0, "perplexity 2.000"),
        (Measure("size", "m", 0), 1234.5678, "size 1235 m"),
        (Measure("loss", digits=4), float("nan"), "loss nan"),
    ],
)
def test_a_measure_in_words(measure, value, words):
    assert measure.words(value) == words
    assert words == f"{measure.title} {measure.value(value)}"
