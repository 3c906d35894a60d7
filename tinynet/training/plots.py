"""Pictures of a run: curves, the first layer's kernels, confusion, contact sheets."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tinynet.training.measure import Measure

TRAIN = "#9aa5b1"
TESTS = ("#0b6bcb", "#e07a1f", "#2f8f5b", "#6a4fb3")


def draw_curves(lines: Sequence[dict], measures: dict[str, Measure], path: Path) -> None:
    """The loss, and what else was measured, over the epochs: from the lines of `metrics.jsonl`."""
    train = [line for line in lines if line["kind"] == "train"]
    test = [line for line in lines if line["kind"] == "test"]
    units = list(dict.fromkeys(measure.unit for measure in measures.values()))
    figure = _figure(5 * (1 + len(units)), 4)
    loss, *others = figure.subplots(1, 1 + len(units), squeeze=False)[0]
    loss.set_title("loss")
    panels = {"loss": loss}
    for axes, unit in zip(others, units, strict=True):
        same = [name for name, measure in measures.items() if measure.unit == unit]
        panels |= dict.fromkeys(same, axes)
        axes.set_title(", ".join(measures[name].title for name in same) + f" ({unit})" * bool(unit))
    seen: Counter[Axes] = Counter()
    for name, axes in panels.items():
        title = "" if name == "loss" else measures[name].title
        if any(name in line for line in train):
            axes.plot(*_points(train, name), color=TRAIN, linewidth=1.2, label=f"training {title}")
        if any(name in line for line in test):
            colour = TESTS[seen[axes] % len(TESTS)]
            axes.plot(*_points(test, name), color=colour, marker=".", label=f"test {title}")
        seen[axes] += 1
    for axes in others:
        axes.set_ylim(bottom=0)  # after plotting: it also fixes the top
    for earlier, before, after in zip(train, train[1:], train[2:], strict=False):
        if (
            earlier["lr"] == before["lr"] != after["lr"]
        ):  # a step, not the slope of a smooth schedule
            for axes in (loss, *others):
                axes.axvline(before["epoch"], color="#d5d9de", linewidth=1, zorder=0)
            loss.annotate(
                f"lr {after['lr']:.2g}",
                (before["epoch"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(3, -12),
                textcoords="offset points",
                fontsize=8,
                color="#6b7580",
            )
    for axes in (loss, *others):
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        if axes.lines:
            axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_kernels(towers: Sequence[np.ndarray], path: Path) -> None:
    """The first layer's kernels, each (O, C, h, w), one tower over the next (paper, figure 3).

    Grey is zero. Each tower is scaled by its own largest weight. Three channels are shown as
    colour, any other number as their mean.
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
        weight = weight.mean(axis=1, keepdims=True).repeat(3, axis=1)
    largest = np.abs(weight).max()
    bytes_ = np.clip(127.5 + 127.5 * weight / (largest or 1.0), 0, 255).astype(np.uint8)
    pictures = bytes_.transpose(0, 2, 3, 1)  # (O, 3, h, w) -> (O, h, w, 3)
    zoom = max(1, 44 // max(height, width))
    columns = max(n for n in range(1, min(columns, count) + 1) if count % n == 0 or n < 8)
    rows = -(-count // columns)
    cell_w, cell_h = width * zoom + 2, height * zoom + 2
    sheet = Image.new("RGB", (columns * cell_w + 2, rows * cell_h + 2), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        small = Image.fromarray(picture).resize((width * zoom, height * zoom), Image.NEAREST)
        sheet.paste(small, (2 + column * cell_w, 2 + row * cell_h))
    return sheet


def draw_confusion(confusion: np.ndarray, classes: Sequence[str], path: Path) -> None:
    """Rows: the true class; columns: what the net said; each row in % of its pictures.

    Names, up to their first comma, and figures are written for up to 30 classes.
    """
    count = len(classes)
    named = count <= 30
    side = 3.5 + 0.42 * count if named else 9
    figure = _figure(side + 1, side)
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes = figure.subplots()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xlabel("the net said")
    axes.set_ylabel("it was")
    if named:
        names = [name.split(",")[0] for name in classes]
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        for row in range(count):
            for column in range(count):
                if share[row, column] >= 1:
                    axes.text(
                        column,
                        row,
                        f"{share[row, column]:.0f}",
                        ha="center",
                        va="center",
                        fontsize=8,
                        color="white" if share[row, column] > 50 else "black",
                    )
    figure.colorbar(picture, ax=axes, shrink=0.7, label="% of the class's pictures")
    figure.savefig(path, dpi=110)


def contact_sheet(
    rows: Sequence[Sequence[tuple[np.ndarray, str]]], path: Path, side: int = 128
) -> None:
    """Rows of pictures, uint8 (H, W, C), each with a caption below; \\n in it begins a new line."""
    font = ImageFont.load_default(13)
    lines = max(caption.count("\n") + 1 for row in rows for _, caption in row)
    width, height = side + 12, side + 18 * lines + 14
    size = (width * max(len(row) for row in rows), height * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        for column, (picture, caption) in enumerate(row):
            left, top = column * width + 6, number * height + 6
            sheet.paste(as_image(picture).resize((side, side), Image.BICUBIC), (left, top))
            for below, line in enumerate(caption.split("\n")):
                while line and draw.textlength(line, font) > side:
                    line = line[:-1]
                draw.text((left, top + side + 4 + 18 * below), line, "black", font)
    sheet.save(path)


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
