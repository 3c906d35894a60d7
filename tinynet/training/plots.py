"""Pictures of a run: curves, the first layer's kernels, confusion, contact sheets."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tinynet.training.measure import Measure

TRAIN = "#9aa5b1"
# matplotlib's settings for a page in the light and in the dark, where they are not its defaults
THEMES = {
    "light": {"axes.prop_cycle": "cycler('color', ['#0b6bcb', '#e07a1f', '#2f8f5b', '#6a4fb3'])"},
    "dark": {
        "axes.prop_cycle": "cycler('color', ['#5aa9f5', '#f0a050', '#5cc28a', '#a58ff0'])",
        "figure.facecolor": "#14191e",
        "axes.facecolor": "#14191e",
        "axes.edgecolor": "#8b97a3",
        "axes.labelcolor": "#d5dce3",
        "xtick.color": "#8b97a3",
        "ytick.color": "#8b97a3",
        "text.color": "#d5dce3",
    },
}


class Panel(NamedTuple):
    """One pair of axes: what is drawn in it, by name, and what stands at its side."""

    names: list[str]
    label: str


def draw_curves(lines: Sequence[dict], measures: dict[str, Measure], path: Path) -> None:
    """The loss, and what else was measured, over the epochs: from the lines of `metrics.jsonl`."""
    panels = _panels(measures)
    with _themed("light"):
        figure = _figure(5 * len(panels), 4)
        places = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, axes in zip(panels, places, strict=True):
            _draw_panel(panel, axes, lines, measures)
        figure.savefig(path, dpi=120)


def curves(lines: Sequence[dict], measures: dict[str, Measure], theme: str) -> list[bytes]:
    """The same, each panel a PNG of its own, in a theme: for a page, where they stand side by side
    or one under the other.
    """
    found = []
    with _themed(theme):
        for panel in _panels(measures):
            figure = _figure(4.4, 3.4)
            _draw_panel(panel, figure.subplots(), lines, measures)
            found.append(_png(figure, 160))
    return found


def _panels(measures: dict[str, Measure]) -> list[Panel]:
    """The loss, and one panel for all measures of a unit."""
    panels = [Panel(["loss"], "loss")]
    for unit in dict.fromkeys(measure.unit for measure in measures.values()):
        same = [name for name, measure in measures.items() if measure.unit == unit]
        titles = ", ".join(measures[name].title for name in same)
        panels.append(Panel(same, titles + f" ({unit})" * bool(unit)))
    return panels


def _draw_panel(
    panel: Panel, axes: Axes, lines: Sequence[dict], measures: dict[str, Measure]
) -> None:
    train = [line for line in lines if line["kind"] == "train"]
    test = [line for line in lines if line["kind"] == "test"]
    for number, name in enumerate(panel.names):
        title = "" if name == "loss" else f" {measures[name].title}"
        if any(name in line for line in train):
            axes.plot(*_points(train, name), color=TRAIN, linewidth=1.2, label=f"training{title}")
        if any(name in line for line in test):
            colour = f"C{number}"
            axes.plot(*_points(test, name), color=colour, marker=".", label=f"test{title}")
    if panel.names != ["loss"]:
        axes.set_ylim(bottom=0)  # after plotting: it also fixes the top
    for earlier, before, after in zip(train, train[1:], train[2:], strict=False):
        if earlier["lr"] == before["lr"] != after["lr"]:  # a step, no slope of a smooth schedule
            axes.axvline(before["epoch"], color=TRAIN, linewidth=0.8, linestyle=":", zorder=0)
            if panel.names == ["loss"]:
                axes.annotate(
                    f"lr {after['lr']:.2g}",
                    (before["epoch"], 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(-3, -3),
                    textcoords="offset points",
                    rotation=90,
                    ha="right",
                    va="top",
                    fontsize=8,
                    color=TRAIN,
                )
    axes.set_xlabel("epoch")
    axes.set_ylabel(panel.label)
    axes.set_xlim(left=0)
    if axes.lines:
        axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def draw_kernels(towers: Sequence[np.ndarray], path: Path) -> None:
    """The first layer's kernels, each (O, C, h, w), one tower over the next (paper, figure 3).

    Grey is zero. Each kernel is scaled by its own largest weight, so that one strong kernel does
    not make the others look grey. Three channels are shown as colour, any other number as their
    mean.
    """
    blocks = [_kernel_grid(weight) for weight in towers]
    gap = 12
    width = max(block.width for block in blocks)
    height = sum(block.height for block in blocks) + gap * (len(blocks) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height + gap
    sheet.save(path)


def _kernel_grid(weight: np.ndarray, columns: int = 16) -> Image.Image:
    """One tower's kernels (O, C, h, w) as a grid of little pictures."""
    count, channels, height, width = weight.shape
    if channels != 3:
        weight = weight.mean(axis=1, keepdims=True)
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    largest[largest == 0] = 1.0
    bytes_ = np.clip(127.5 + 127.5 * weight / largest, 0, 255).astype(np.uint8)
    pictures = bytes_.transpose(0, 2, 3, 1)  # (O, 1 or 3, h, w) -> (O, h, w, 1 or 3)
    zoom = max(1, 44 // max(height, width))
    columns = max(n for n in range(1, min(columns, count) + 1) if count % n == 0 or n < 8)
    rows = -(-count // columns)
    cell_w, cell_h = width * zoom + 2, height * zoom + 2
    sheet = Image.new("RGB", (columns * cell_w + 2, rows * cell_h + 2), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        small = as_image(picture).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        sheet.paste(small, (2 + column * cell_w, 2 + row * cell_h))
    return sheet


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows: the true class; columns: what the net said; each row in % of its pictures.

    Names, up to their first comma, and figures are written for up to 30 classes.
    """
    path.write_bytes(confusion_picture(confusion, classes, "light"))


def confusion_picture(confusion: np.ndarray, classes: Sequence[str], theme: str) -> bytes:
    """The same as a PNG, in a theme."""
    with _themed(theme):
        count = len(classes)
        named = count <= 30
        side = 3.5 + 0.42 * count if named else 9
        figure = _figure(side + 1, side)
        share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        axes = figure.subplots()
        few, many = ("black", "white") if theme == "light" else ("white", "black")
        cmap = "Blues" if theme == "light" else "Blues_r"  # little is the colour of the page
        picture = axes.imshow(share, cmap=cmap, vmin=0, vmax=100)
        axes.set_xlabel("the net said")
        axes.set_ylabel("it was")
        if named:
            names = [name.split(",")[0] for name in classes]
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names)
            for row, column in np.argwhere(share >= 1).tolist():
                axes.text(
                    column,
                    row,
                    f"{share[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=many if share[row, column] > 50 else few,
                )
        figure.colorbar(picture, ax=axes, shrink=0.7, label="% of the class's pictures")
        return _png(figure, 110)


def share_pictures(
    panels: Sequence[tuple[str, np.ndarray]], rows: Sequence[str], columns: Sequence[str]
) -> bytes:
    """Tables of shares (rows, columns), 0 white and 1 black, side by side, each with its title."""
    with _themed("light"):
        size = 0.32 * len(columns) + 0.6, 0.3 * len(rows) + 1.6
        figure = _figure(size[0] * len(panels) + 1.2, size[1])
        places = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for (title, shares), axes in zip(panels, places, strict=True):
            axes.imshow(shares, cmap="Greys", vmin=0, vmax=1, aspect="auto")
            axes.set_title(title, fontsize=10)
            axes.set_xticks(range(len(columns)), columns, rotation=90)
            axes.set_yticks(range(len(rows)), rows)
        return _png(figure, 110)


def draw_differences(
    rows: Sequence[tuple[str, Sequence[float], tuple[float, float], float | None]],
    label: str,
    path: Path,
) -> None:
    """Paired differences, a line each: (title, differences, interval (low, high), what was
    expected or None). A dot is a pair, the bar the interval, a cross what was expected.
    """
    with _themed("light"):
        figure = _figure(6.4, 1.1 + 0.45 * len(rows))
        axes = figure.subplots()
        for place, (_, differences, (low, high), expected) in enumerate(rows):
            axes.plot([low, high], [place, place], color="C0", linewidth=5, alpha=0.35)
            axes.plot(differences, [place] * len(differences), "o", color="C0", markersize=4)
            if expected is not None:
                axes.plot([expected], [place], "x", color="C1", markersize=8, markeredgewidth=2)
        axes.axvline(0, color=TRAIN, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [title for title, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(f"{label}: pairs, 95 % interval, x the paper")
        axes.spines[["top", "right"]].set_visible(False)
        path.write_bytes(_png(figure, 120))


def draw_many(
    curves: dict[str, list[list[float]]], across: str, up: str, target: float, path: Path
) -> None:
    """Curves from 1 on, those of one name in one colour, and a line at `target`."""
    with _themed("light"):
        figure = _figure(6.4, 4)
        axes = figure.subplots()
        for number, (name, several) in enumerate(curves.items()):
            for curve in several:
                axes.plot(range(1, len(curve) + 1), curve, color=f"C{number}", linewidth=1.3)
            axes.plot([], color=f"C{number}", label=name)
        axes.axhline(target, color=TRAIN, linewidth=0.8, linestyle="--")
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        path.write_bytes(_png(figure, 120))


def contact_sheet(
    rows: Sequence[Sequence[tuple[np.ndarray, str]]], path: Path, side: int = 128
) -> None:
    """Rows of pictures, uint8 (H, W, C), each with a caption below; \\n in it begins a new line."""
    lines = max(caption.count("\n") + 1 for row in rows for _, caption in row)
    width, height = side + 12, side + 18 * lines + 14
    size = (width * max(len(row) for row in rows), height * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, row in enumerate(rows):
        for column, (picture, caption) in enumerate(row):
            left, top = column * width + 6, number * height + 6
            sheet.paste(
                as_image(picture).resize((side, side), Image.Resampling.BICUBIC), (left, top)
            )
            for below, line in enumerate(caption.split("\n")):
                while line and draw.textlength(line, font) > side:
                    line = line[:-1]
                draw.text((left, top + side + 4 + 18 * below), line, "black", font)
    sheet.save(path)


def draw_patches(patches: np.ndarray, path: Path, groups: int = 1) -> None:
    """What excites each map, uint8 (maps, k k, side, side, C): a block of k x k for each map, with
    its number; the first maps / groups of them (a tower's) over the next.
    """
    maps, each, side = patches.shape[:3]
    across = math.isqrt(each)
    block, font = across * side + 8, ImageFont.load_default(11)
    of_group = maps // groups
    columns = min(of_group, max(4, 1600 // block))
    rows = -(-of_group // columns)
    tall, gap = block + 14, 12
    sheet = Image.new("RGB", (columns * block, groups * rows * tall + (groups - 1) * gap), "white")
    draw = ImageDraw.Draw(sheet)
    for number in range(maps):
        group, place = divmod(number, of_group)
        row, column = divmod(place, columns)
        left, top = column * block + 4, (group * rows + row) * tall + group * gap
        draw.text((left, top), str(place), "black", font)
        for rank, patch in enumerate(patches[number]):
            down, right = divmod(rank, across)
            sheet.paste(as_image(patch), (left + right * side, top + 14 + down * side))
    sheet.save(path)


def bars(names: Sequence[str], shares: Sequence[float], truth: str, side: int = 128) -> np.ndarray:
    """Five bars with their names (paper, figure 4), uint8 (side, side, 3): shares of 1, the bar of
    the true class in another colour.
    """
    picture = Image.new("RGB", (side, side), "white")
    draw, font, tall = ImageDraw.Draw(picture), ImageFont.load_default(11), side // len(names)
    for row, (name, share) in enumerate(zip(names, shares, strict=True)):
        top, colour = row * tall, "#e07a1f" if name == truth else "#0b6bcb"
        draw.text((0, top), name.split(",")[0], "black", font)
        draw.rectangle((0, top + tall - 10, max(1, share * (side - 1)), top + tall - 5), colour)
    return np.asarray(picture)


def as_image(picture: np.ndarray) -> Image.Image:
    """A uint8 picture (H, W, 1 or 3) as a Pillow image."""
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert("RGB")


def _points(lines: Sequence[dict], name: str) -> tuple[list[float], list[float]]:
    """x: epochs, y: the values called `name`."""
    return [line["epoch"] for line in lines], [line.get(name, math.nan) for line in lines]


def _figure(width: float, height: float) -> Figure:
    """An empty matplotlib figure, sizes in inches."""
    from matplotlib.figure import Figure  # here, because it takes a third of a second

    return Figure((width, height), layout="constrained")


def _themed(theme: str) -> AbstractContextManager:
    """While entered, matplotlib draws by its own defaults and the theme, whatever else it was set
    to, as by a matplotlibrc.
    """
    from matplotlib import style

    return style.context(["default", THEMES[theme]])


def _png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    return buffer.getvalue()
