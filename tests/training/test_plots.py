"""Pictures of a run."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba_array
from PIL import Image, ImageFont

from tinynet.training import drawings, plots
from tinynet.training.plots import contact_sheet, draw_curves, draw_kernels
from tinynet.training.task import Classification

LINES = [
    {"kind": "train", "epoch": 0.5, "loss": 2.0, "top1_error": 80.0, "lr": 0.01},
    {"kind": "train", "epoch": 1.0, "loss": 1.5, "top1_error": 60.0, "lr": 0.01},
    {"kind": "test", "epoch": 1, "loss": 1.6, "top1_error": 61.0, "top5_error": 20.0, "lr": 0.01},
    {"kind": "train", "epoch": 1.5, "loss": 1.2, "top1_error": 50.0, "lr": 0.001},
]


def test_kernels_show_sign_and_colour(tmp_path):
    red = np.zeros((2, 3, 4, 4), np.float32)
    red[0, 0] = 0.5  # the first kernel likes red
    red[1] = -0.5  # the second is dark everywhere
    draw_kernels([red, red[:, :1]], tmp_path / "k.png")
    picture = np.asarray(Image.open(tmp_path / "k.png")).astype(int)
    side = 4 * 11  # 44 // 4 pixels each weight
    assert tuple(picture[2 + side // 2, 2 + side // 2]) == (255, 127, 127)
    assert tuple(picture[2 + side // 2, 4 + side + side // 2]) == (0, 0, 0)
    below = side + 4 + 12 + 2 + side // 2  # the second tower, one channel: grey
    assert tuple(picture[below, 2 + side // 2]) == (255, 255, 255)


def test_each_kernel_is_drawn_by_its_own_largest_weight(tmp_path):
    weights = np.zeros((2, 3, 4, 4), np.float32)
    weights[0, 0], weights[1, 0] = 100.0, 0.01  # a strong one hides no weak one
    draw_kernels([weights], tmp_path / "k.png")
    picture = np.asarray(Image.open(tmp_path / "k.png"))
    assert picture[10, 10].tolist() == picture[10, 60].tolist() == [255, 127, 127]


def test_kernels_that_are_all_zero(tmp_path):
    draw_kernels([np.zeros((3, 3, 11, 11), np.float32)], tmp_path / "k.png")
    assert np.asarray(Image.open(tmp_path / "k.png"))[5, 5].tolist() == [127] * 3


@pytest.mark.filterwarnings("error::UserWarning")
def test_curves(tmp_path):
    draw_curves(LINES, Classification.measures, tmp_path / "c.png")
    assert Image.open(tmp_path / "c.png").size == (1200, 480)
    draw_curves([], Classification.measures, tmp_path / "empty.png")  # a run killed at its start


def test_curves_show_every_point(tmp_path, monkeypatch):
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    draw_curves(LINES, Classification.measures, tmp_path / "c.png")
    loss, error = figures[0].axes
    assert error.get_ylim()[0] == 0 and 80 <= error.get_ylim()[1] < 100
    assert 2 <= loss.get_ylim()[1] < 2.5 and loss.get_ylim()[0] > 1  # each by its own values
    assert [line.get_label() for line in error.lines[:3]] == [
        "training top-1 error", "test top-1 error", "test top-5 error"
    ]  # fmt: skip
    for axes in (loss, error):
        named = [text.get_text() for text in axes.get_legend().get_texts()]
        assert named == [line.get_label() for line in axes.lines if line.get_linestyle() == "-"]
    assert [text.get_text() for text in loss.texts] == ["lr 0.001"]
    for axes in (loss, error):  # a line where the rate was divided: after the last batch before it
        marks = [line.get_xdata() for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(mark) for mark in marks] == [[1.0, 1.0]]
    assert loss.texts[0].xy[0] == 1.0
    smooth = [dict(line, lr=0.1 / (k + 1)) for k, line in enumerate(LINES)]
    draw_curves(smooth, Classification.measures, tmp_path / "c.png")
    assert not figures[1].axes[0].texts


def test_curves_on_a_page_are_those_of_the_file(tmp_path, monkeypatch):
    """Each panel is a picture of its own."""
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    draw_curves(LINES, Classification.measures, tmp_path / "c.png")
    shown = plots.curves(LINES, Classification.measures, "dark")
    for png, alone, panel in zip(shown, figures[1:], figures[0].axes, strict=True):
        (axes,) = alone.axes
        assert png.startswith(b"\x89PNG")
        assert axes.get_ylabel() == panel.get_ylabel()
        for line, same in zip(axes.lines, panel.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())
            assert line.get_label() == same.get_label() or line.get_linestyle() == ":"


def test_every_plot_has_its_pixels_and_its_own_colours(tmp_path, monkeypatch):
    """Its inches times its dots an inch: fewer are blurred on a page. The colours are its theme's,
    whatever matplotlib is set to, as by a matplotlibrc.
    """

    def draw(figure, renderer):  # nothing, because it takes long
        for artist in figure.findobj():
            for name in ("get_color", "get_facecolor", "get_edgecolor"):
                found = to_rgba_array(getattr(artist, name, list)())
                assert (1, 0, 0, 1) not in map(tuple, found), artist

    monkeypatch.setattr("matplotlib.figure.Figure.draw", draw)
    parts = "figure.face", "axes.face", "axes.edge", "axes.label", "xtick.", "ytick.", "text."
    red = {f"{part}color": "red" for part in parts}
    two, names, path = np.eye(2), ["cat", "dog"], tmp_path / "x.png"
    pairs = [("relu", [1.0, 2.0], (0.5, 2.5), 2.0)] * 2

    def file(draw, *arguments) -> bytes:
        draw(*arguments, path)
        return path.read_bytes()

    with matplotlib.rc_context(red | {"axes.prop_cycle": matplotlib.cycler(color=["red"])}):
        curves = [plots.curves(LINES, Classification.measures, theme) for theme in plots.THEMES]
        for pictures, size in (
            ([file(draw_curves, LINES, Classification.measures)], (2 * 5 * 120, 4 * 120)),
            (sum(curves, []), (4.4 * 160, 3.4 * 160)),
            ([plots.confusion_picture(two, names, "dark")], (5.34 * 110, 4.34 * 110)),
            ([file(plots.draw_confusion, two, names)], (5.34 * 110, 4.34 * 110)),
            ([plots.confusion_picture(np.eye(31), ["x"] * 31, "light")], (10 * 110, 9 * 110)),
            ([plots.share_pictures([("a", two)] * 3, names, names)], (4.92 * 110, 2.2 * 110)),
            ([file(plots.draw_differences, pairs, "error")], (6.4 * 120, 2 * 120)),
            ([file(plots.draw_many, {"a": [[1.0, 2.0]]}, "x", "y", 1.5)], (6.4 * 120, 4 * 120)),
            ([drawings.points_picture(two, np.arange(2), names)], (6.4 * 110, 4.8 * 110)),
            ([drawings.squares_picture([("a", two)], [names])], (2.3 * 110, 2.35 * 110)),
            ([drawings.plane_picture(lambda x: x @ [1, 0], two, two[0])], (4.2 * 110, 3.6 * 110)),
        ):
            for png in pictures:
                assert Image.open(io.BytesIO(png)).size == pytest.approx(size, abs=1)


@pytest.mark.parametrize("letters", [98, 99])
def test_of_a_long_caption_as_many_letters_as_fit_are_shown(letters, tmp_path):
    fit = max(n for n in range(99) if ImageFont.load_default(13).getlength("n" * n) <= 100)
    for name, count in (("a", letters), ("b", fit)):
        picture = np.zeros((4, 4, 1), np.uint8)
        contact_sheet([[(picture, "n" * count)]], tmp_path / f"{name}.png", side=100)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_contact_sheet(tmp_path, rng):
    grey, colour = rng.integers(0, 256, (2, 28, 28, 3), np.uint8)
    row = [(grey[:, :, :1], "a\nlong " + "name " * 30), (colour, "b")]
    contact_sheet([row, row[:1]], tmp_path / "s.png", side=100)
    sheet = Image.open(tmp_path / "s.png")
    assert sheet.size == (2 * 112, 2 * (100 + 36 + 14))
    assert np.asarray(sheet)[160:, 120:].min() == 255  # the second row has one picture
