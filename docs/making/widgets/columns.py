"""im2col copies each pixel into every column whose window holds it; col2im adds these up."""

from __future__ import annotations

import numpy as np
from making.picture import Frame, Picture
from making.widgets.widget import Slider, Widget

from tinynet.kernels.im2col import col2im, im2col

X = np.array([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]])  # chapter 6's, as W and DY
W = np.array([[1.0, 2], [3, 4]])
DY = np.array([[1.0, 0], [2, 1]])
GEOMETRY = (2, 2), (1, 1), (0, 0)  # kernel, stride, padding


def make() -> Widget:
    shape = (1, 1, *X.shape)
    col = im2col(X.reshape(shape), *GEOMETRY)
    dcol = W.reshape(-1, 1) @ DY.reshape(1, -1)
    full = col2im(dcol, shape, *GEOMETRY)[0, 0]
    number = np.arange(float(X.size)).reshape(shape)  # of each pixel
    holds = im2col(number, *GEOMETRY).astype(int)  # the pixel that lies in each place of col

    picture = Picture(340, 350, "im2col and col2im")
    for title, left, top, grid, name, kind in (
        ("x", 10, 30, X, "x", "value"),
        ("col = im2col(x)", 150, 30, col, "col", "value"),
        ("dx = col2im(dcol)", 10, 204, np.zeros(X.shape), "dx", "grad"),
        ("dcol", 194, 204, dcol, "dcol", "grad"),
    ):
        picture.text(left, top - 10, title, "left strong")
        picture.grid(left, top, grid, kind, name=name)

    def state(done: int) -> Frame:
        """After the first `done` columns of dcol were added."""
        part = dcol * (np.arange(dcol.shape[1]) < done)
        dx = col2im(part, shape, *GEOMETRY)[0, 0]
        text = {f"dx{i}-{j}": f"{dx[i, j]:g}" for i, j in np.ndindex(X.shape)}
        if not done:
            return Frame("Each window of 2x2 in x is a column. dx begins with zeros.", text)
        frame = Frame(f"Column {done - 1} of dcol goes back to the window it came from.", text)
        if done > 1:
            frame.note += " It is <b>added</b>: this window overlaps with those before."
        if done == dcol.shape[1]:
            frame.note += " Point at a pixel of x or dx to see its columns."
        for row, pixel in enumerate(holds[:, done - 1]):
            i, j = divmod(pixel, X.shape[1])
            frame.mark |= {f"x{i}-{j}": "on", f"col{row}-{done - 1}": "on"}
            frame.mark |= {f"dx{i}-{j}": "given", f"dcol{row}-{done - 1}": "given"}
        return frame

    def pointed(i: int, j: int) -> Frame:
        """What is seen with the pointer at pixel (i, j)."""
        places = np.argwhere(holds == i * X.shape[1] + j)
        total = " + ".join(f"{dcol[row, column]:g}" for row, column in places)
        note = f"Pixel ({i}, {j}) lies in one window only: one copy, and its gradient, {total}."
        if len(places) > 1:
            note = (
                f"Pixel ({i}, {j}) lies in {len(places)} windows, so im2col copies it "
                f"{len(places)} times. col2im adds the gradients of the copies: "
                f"{total} = {full[i, j]:g}."
            )
        frame = Frame(note, dict(frames[last].text), {f"x{i}-{j}": "on", f"dx{i}-{j}": "given"})
        for row, column in places:
            frame.mark |= {f"col{row}-{column}": "on", f"dcol{row}-{column}": "given"}
        return frame

    last = dcol.shape[1]
    frames = [state(done) for done in range(last + 1)]
    hover = {}
    for i, j in np.ndindex(X.shape):
        hover |= {f"x{i}-{j}": len(frames), f"dx{i}-{j}": len(frames)}
        frames.append(pointed(i, j))
    words = ["im2col", *(f"column {column} added" for column in range(last))]
    return Widget(picture, frames, [Slider("col2im", words)], hover)
