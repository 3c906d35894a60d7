"""Overlapping max-pooling: a pixel that wins in several windows gets all of their gradients."""

from __future__ import annotations

import numpy as np
from making.picture import Frame, Picture
from making.widgets.widget import Slider, Widget

from tinynet.kernels.max_pool2d import max_pool2d_backward, max_pool2d_forward

X = np.array(  # chapter 7's, as DY
    [[[[1.0, 5, 2, 0, 3], [0, 4, 1, 7, 2], [3, 0, 9, 1, 0], [1, 0, 2, 6, 1], [4, 2, 0, 3, 8]]]]
)
DY = np.array([[[[1.0, 2], [4, 8]]]])
KERNEL, STRIDE, PADDING = (3, 3), (2, 2), (0, 0)


def make() -> Widget:
    y, winner = max_pool2d_forward(X, KERNEL, STRIDE, PADDING, False)
    windows = list(np.ndindex(y.shape[2:]))
    won = {}  # window -> the pixel that won in it
    for window in windows:
        i, j = divmod(int(winner[0, 0][window]), KERNEL[1])
        won[window] = window[0] * STRIDE[0] + i, window[1] * STRIDE[1] + j

    picture = Picture(292, 430, "overlapping max-pooling, 3x3 with stride 2")
    for title, left, top, grid, name, kind in (
        ("x", 10, 30, X[0, 0], "x", "value"),
        ("y", 212, 30, y[0, 0], "y", "value"),
        ("dx", 10, 246, np.zeros(X.shape[2:]), "dx", "grad"),
        ("dy", 212, 246, DY[0, 0], "dy", "grad"),
    ):
        picture.text(left, top - 10, title, "left strong")
        picture.grid(left, top, grid, kind, name=name)

    def state(done: int) -> Frame:
        """After `done` of the steps: forward window by window, then backward window by window."""
        forward, backward = min(done, len(windows)), max(0, done - len(windows))
        part = np.zeros_like(DY)
        for window in windows[:backward]:
            part[0, 0][window] = DY[0, 0][window]
        dx = max_pool2d_backward(part, winner, X.shape, KERNEL, STRIDE, PADDING)[0, 0]
        text = {f"dx{i}-{j}": f"{dx[i, j]:g}" for i, j in np.ndindex(dx.shape)}
        for number, (i, j) in enumerate(windows):
            text[f"y{i}-{j}"] = f"{y[0, 0, i, j]:g}" if number < forward else ""
        frame = Frame("Four windows of 3x3, two pixels apart: they overlap.", text)
        if not done:
            return frame
        window = windows[(done - 1) % len(windows)]
        name, pixel = f"{window[0]}-{window[1]}", f"{won[window][0]}-{won[window][1]}"
        for i, j in np.ndindex(KERNEL):
            frame.mark[f"x{window[0] * STRIDE[0] + i}-{window[1] * STRIDE[1] + j}"] = "on"
        frame.mark[f"x{pixel}"] = "won"
        frame.mark[f"y{name}"] = "on"
        if not backward:
            frame.note = (
                f"Forward, window {window}: the largest is {y[0, 0][window]:g}, at pixel "
                f"{won[window]}. Its position is kept: a byte."
            )
            return frame
        before = dx[won[window]] - DY[0, 0][window]
        frame.mark |= {f"dy{name}": "given", f"dx{pixel}": "both" if before else "given"}
        frame.note = (
            f"Backward, window {window}: dy = {DY[0, 0][window]:g} goes whole to its winner, pixel "
            f"{won[window]}. "
        )
        frame.note += (
            f"It won before: {before:g} + {DY[0, 0][window]:g} = "
            f"{dx[won[window]]:g}. This is why the line says <code>+=</code>."
            if before
            else "The other eight get nothing."
        )
        return frame

    steps = ["before"]
    steps += [f"{way}, window {window}" for way in ("forward", "backward") for window in windows]
    return Widget(picture, [state(k) for k in range(len(steps))], [Slider("step", steps)])
