"""Pictures of what small nets have learnt, each as bytes of PNG. Those of a run: plots.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from tinynet.training.plots import _figure, _png, _themed, as_image


def picture_rows(rows: Sequence[np.ndarray], zoom: int = 2, gap: int = 2) -> bytes:
    """Rows of pictures, each (N, C, H, W) with values 0 to 1; a row may be shorter than others."""
    _, _, height, width = rows[0].shape
    high, wide = zoom * height + gap, zoom * width + gap
    size = max(map(len, rows)) * wide + gap, len(rows) * high + gap
    sheet = Image.new("L" if rows[0].shape[1] == 1 else "RGB", size, "white")
    for number, row in enumerate(rows):
        whole = np.clip(255 * row + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        for column, picture in enumerate(whole):
            large = as_image(picture).resize(
                (zoom * width, zoom * height), Image.Resampling.NEAREST
            )
            sheet.paste(large, (gap + column * wide, gap + number * high))
    return _bytes(sheet)


def stacked(pictures: Sequence[bytes]) -> bytes:
    """Pictures one under the other, all PNG."""
    opened = [Image.open(io.BytesIO(png)) for png in pictures]
    size = max(each.width for each in opened), sum(each.height for each in opened)
    sheet, top = Image.new(opened[0].mode, size, "white"), 0
    for each in opened:
        sheet.paste(each, (0, top))
        top += each.height
    return _bytes(sheet)


def _bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def points_picture(points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> bytes:
    """Points (N, 2), coloured by their labels (N,)."""
    from matplotlib import colormaps  # here, because it takes a third of a second

    colours = colormaps["tab10" if len(names) <= 10 else "turbo"].resampled(len(names))
    with _themed("light"):
        figure = _figure(6.4, 4.8)
        axes = figure.subplots()
        for label, name in enumerate(names):
            mine = points[labels == label]
            axes.scatter(mine[:, 0], mine[:, 1], 9, [colours(label)], label=name)
        axes.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left", fontsize=8)
        return _png(figure, 110)


def squares_picture(
    panels: Sequence[tuple[str, np.ndarray]], columns: Sequence[Sequence[str]]
) -> bytes:
    """Weights (rows, n), a panel each: white squares for positive ones, black ones for negative,
    none for 0, their areas the sizes. columns: for each row, the names of its n weights.
    """
    with _themed("light"):
        rows, n = panels[0][1].shape
        figure = _figure(0.4 * n + 1.5, (0.4 * rows + 0.35) * len(panels) + 1.2)
        places = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for number, ((title, weights), axes) in enumerate(zip(panels, places, strict=True)):
            largest = np.abs(weights).max()
            axes.set_facecolor("#9aa5b1")
            for colour, chosen in (("white", weights > 0), ("black", weights < 0)):
                for row, column in np.argwhere(chosen):
                    side = 0.92 * np.sqrt(abs(weights[row, column]) / largest)
                    corner = column - side / 2, row - side / 2
                    axes.add_patch(_rectangle(corner, side, colour))
            axes.set(xlim=(-0.5, n - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal", yticks=[])
            axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
            axes.set_xticks(range(n), columns[-1] if number == len(panels) - 1 else [""] * n)
            axes.tick_params(axis="x", rotation=90, length=0, labelsize=8)
            if number == 0:
                top = axes.secondary_xaxis("top")
                top.set_xticks(range(n), columns[0])
                top.tick_params(axis="x", rotation=90, length=0, labelsize=8)
        return _png(figure, 110)


def _rectangle(corner: tuple[float, float], side: float, colour: str):
    from matplotlib.patches import Rectangle  # here, because it takes a third of a second

    return Rectangle(corner, side, side, color=colour, linewidth=0)


def plane_picture(
    value: Callable[[np.ndarray], np.ndarray], points: np.ndarray, targets: np.ndarray
) -> bytes:
    """What a net says of each point of the plane, value (N, 2) -> (N,), as shades; a line where it
    is 0; and the points themselves, full where the target is above 0, in a red ring where the net
    says something else.
    """
    with _themed("light"):
        figure = _figure(4.2, 3.6)
        axes = figure.subplots()
        side = np.linspace(-1, 2, 121)
        x, y = np.meshgrid(side, side)
        values = value(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)).reshape(x.shape)
        largest = np.abs(values).max() or 1.0
        axes.contourf(x, y, values, 20, cmap="PuOr", vmin=-largest, vmax=largest)
        if values.min() < 0 < values.max():
            axes.contour(x, y, values, [0.0], colors="black", linewidths=1.5)
        for above, colour in ((True, "black"), (False, "white")):
            mine = points[(targets > 0) == above]
            axes.scatter(mine[:, 0], mine[:, 1], 90, colour, edgecolors="black", zorder=3)
        wrong = points[(value(points) > 0) != (targets > 0)]
        axes.scatter(wrong[:, 0], wrong[:, 1], 420, "none", edgecolors="#d62728", linewidths=2.5)
        axes.set(xticks=[0, 1], yticks=[0, 1], aspect="equal")
        return _png(figure, 110)
