"""Pictures of small nets, pixel by pixel, and point by point where matplotlib draws them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from tinynet.training import drawings
from tinynet.training.drawings import (
    picture_rows,
    plane_picture,
    points_picture,
    squares_picture,
    stacked,
)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize(("channels", "zoom", "gap"), [(1, 2, 2), (3, 3, 1), (1, 1, 0)])
def test_rows_of_pictures(channels, zoom, gap, rng):
    """Each pixel zoom x zoom, rounded to the nearest shade; white between, and where one misses."""
    rows = [rng.uniform(-0.1, 1.1, (count, channels, 3, 5)) for count in (2, 4, 3)]
    high, wide = 3 * zoom + gap, 5 * zoom + gap
    expected = np.full((3 * high + gap, 4 * wide + gap, channels), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            shades = np.rint(255 * picture.clip(0, 1)).transpose(1, 2, 0)
            large = shades.repeat(zoom, axis=0).repeat(zoom, axis=1)
            top, left = gap + r * high, gap + c * wide
            expected[top : top + 3 * zoom, left : left + 5 * zoom] = large
    found = pixels(picture_rows(rows, zoom, gap))
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_pictures_are_small_files():
    """As small as Pillow can make them."""
    png, plain = picture_rows([np.linspace(0, 1, 4096).reshape(1, 1, 64, 64)]), io.BytesIO()
    Image.open(io.BytesIO(png)).save(plain, "png")
    assert len(png) < len(plain.getvalue())


def test_pictures_one_under_the_other():
    rows = [[np.full((n, 1, 2, 3), shade)] for n, shade in ((1, 0.0), (3, 0.2), (2, 0.4))]
    found = pixels(stacked([picture_rows(row, zoom=1, gap=0) for row in rows]))
    assert found.shape == (6, 9)  # the widest has three
    for place, (count, shade) in enumerate(((1, 0), (3, 51), (2, 102))):
        assert (found[2 * place : 2 * place + 2, : 3 * count] == shade).all()
        assert (found[2 * place : 2 * place + 2, 3 * count :] == 255).all()


@pytest.fixture
def figure(monkeypatch):
    """Drawings give the figure instead of its PNG."""
    monkeypatch.setattr(drawings, "_png", lambda figure, dpi: figure)


def test_points_have_the_colours_of_their_labels(figure, rng):
    points, labels = rng.normal(size=(9, 2)), np.array([2, 0, 0, 1, 2, 2, 0, 1, 0])
    (axes,) = points_picture(points, labels, ["a", "b", "c"]).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]
    for label, drawn in enumerate(axes.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), points[labels == label])
    for count in (3, 10, 11, 26):
        names = [chr(97 + k) for k in range(count)]
        (axes,) = points_picture(np.zeros((count, 2)), np.arange(count), names).axes
        found = {tuple(drawn.get_facecolor()[0][:3]) for drawn in axes.collections}
        assert len(found) == count
        assert (found <= {*colormaps["tab10"].colors}) == (count <= 10)  # far from each other


def test_squares_have_the_areas_of_weights(figure):
    """The largest weight of a panel fills its place; white is positive, black negative, 0 none."""
    panels = [("one", np.array([[1.0, -0.25, 0.0], [0.5, -1.0, 0.125]])), ("two", np.eye(2, 3) * 8)]
    columns = [["a", "b", "c"], ["d", "e", "f"]]
    drawn = squares_picture(panels, columns)
    for (title, weights), axes in zip(panels, drawn.axes, strict=True):
        assert axes.get_ylabel() == title
        assert axes.get_ylim() == (1.5, -0.5)  # the first row is the upper one
        assert axes.get_xlim() == (-0.5, 2.5)
        assert len(axes.patches) == np.count_nonzero(weights)
        for square in axes.patches:
            side = square.get_width()
            assert square.get_height() == side
            column, row = square.get_x() + side / 2, square.get_y() + side / 2
            assert (column, row) == pytest.approx((round(column), round(row)))
            weight = weights[round(row), round(column)]
            assert side**2 == pytest.approx(0.92**2 * abs(weight) / abs(weights).max())
            assert square.get_facecolor()[:3] == ((1, 1, 1) if weight > 0 else (0, 0, 0))
    above, below = drawn.axes[0].child_axes[0], drawn.axes[1]
    assert [text.get_text() for text in above.get_xticklabels()] == columns[0]
    assert [text.get_text() for text in below.get_xticklabels()] == columns[1]
    assert not any(text.get_text() for text in drawn.axes[0].get_xticklabels())
    assert not squares_picture([("zeros", np.zeros((1, 2)))], [["a", "b"]]).axes[0].patches


def test_the_plane_and_its_points(figure, monkeypatch):
    """Of x - 2 y + 0.3: (1, 0) is above 0, (0, 1) and (1, 1) below, (0, 0) above."""
    values = []

    def value(points):
        values.append(points)
        return points[:, 0] - 2 * points[:, 1] + np.float32(0.3)

    points = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    targets = np.array([-1.0, 1.0, 1.0, -1.0])  # so (0, 0) and (0, 1) are wrong
    shades = []
    from matplotlib.axes import Axes

    contourf = Axes.contourf
    monkeypatch.setattr(
        Axes, "contourf", lambda self, *a, **k: (shades.append((a, k)), contourf(self, *a, **k))[1]
    )
    (axes,) = plane_picture(value, points, targets).axes
    (x, y, z, _), options = shades[0]
    np.testing.assert_allclose(z, x - 2 * y + 0.3, atol=1e-5)
    assert {0, 1} <= {*x.ravel()} and {0, 1} <= {*y.ravel()}  # a point's shade is its own
    assert options["vmax"] == -options["vmin"] == pytest.approx(abs(z).max())
    full, empty, wrong = (c for c in axes.collections if not hasattr(c, "levels"))
    assert full.get_offsets().tolist() == [[0, 1], [1, 0]]
    assert empty.get_offsets().tolist() == [[0, 0], [1, 1]]
    assert wrong.get_offsets().tolist() == [[0, 0], [0, 1]]
    assert full.get_facecolor()[0].tolist() == [0, 0, 0, 1]
    assert empty.get_facecolor()[0].tolist() == [1, 1, 1, 1]
    _, line = (c for c in axes.collections if hasattr(c, "levels"))
    x, y = np.concatenate([path.vertices for path in line.get_paths()]).T
    assert list(line.levels) == [0] and len(x) > 2
    np.testing.assert_allclose(x - 2 * y, -0.3, atol=1e-5)
    assert list(axes.get_xticks()) == list(axes.get_yticks()) == [0, 1] and axes.get_aspect() == 1
    for same in (  # nothing changes its sign; Pyplot would warn of a line that it cannot find
        lambda points: 0 * points[:, 0] + 2,
        lambda points: np.maximum(points[:, 0], 0),
        lambda points: np.minimum(points[:, 0], 0),
    ):
        (axes,) = plane_picture(same, points, targets).axes
        assert sum(hasattr(c, "levels") for c in axes.collections) == 1
    (axes,) = plane_picture(lambda points: points @ [1, -2], points, targets).axes
    assert axes.collections[-1].get_offsets().tolist() == [[0, 1]]  # (0, 0) is not above 0
    (axes,) = plane_picture(lambda points: 0 * points[:, 0], points, targets).axes
    assert axes.collections[0].norm(0.0) == 0.5  # nothing said has the shade between both sides
