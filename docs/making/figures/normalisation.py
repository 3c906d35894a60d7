"""Who shares a denominator with whom, in local response normalisation."""

from __future__ import annotations

import numpy as np
from making.picture import Picture

from tinynet.kernels.local_response_norm import (
    local_response_norm_backward,
    local_response_norm_forward,
)

X = np.array([1.0, 2.0, 3.0, 2.0, 1.0]).reshape(1, 5, 1, 1)
SIZE, ALPHA, BETA, K = 3, 3.0, 0.75, 1.0  # alpha / size = 1
DY = np.array([0.0, 0.0, 1.0, 0.0, 0.0]).reshape(X.shape)
CELL = 48, 26


def draw() -> Picture:
    y = local_response_norm_forward(X, SIZE, ALPHA, BETA, K).ravel()
    dx = local_response_norm_backward(DY, X, SIZE, ALPHA, BETA, K).ravel()
    x, channels = X.ravel(), X.shape[1]
    picture = Picture(422, 304, "the windows of local response normalisation")
    picture.text(10, 18, f"5 channels of one pixel, a window of {SIZE}", "left title")
    picture.text(34, 44, "x")
    picture.text(216, 44, "x squared, if in the window of c = 0 ... 4")
    picture.text(394, 44, "dx", "grad")
    for m in range(channels):
        picture.box(10, 52 + 26 * m, f"{x[m]:g}", kind="on" if m == 2 else "", size=CELL)
        picture.box(370, 52 + 26 * m, f"{dx[m]:.3f}", kind="given" if dx[m] else "", size=CELL)
        for c in range(channels):
            inside = abs(m - c) <= SIZE // 2
            place = 96 + 48 * c, 52 + 26 * m
            picture.box(
                *place, f"{x[m] ** 2:g}" if inside else "", "", "" if inside else "off", CELL
            )
    for c in range(channels):
        s = K + ALPHA / SIZE * sum(x[max(0, c - SIZE // 2) : c + SIZE // 2 + 1] ** 2)
        place = 96 + 48 * c
        picture.text(place + 24, 200, f"s={s:g}", "faint")
        picture.box(place, 208, f"{y[c]:.3f}", kind="on" if c == 2 else "", size=CELL)
    picture.text(76, 225, "y =", "")
    for line, words in enumerate(
        (
            "Forward sums a column: s = 1 + its sum, y = x / s^0.75.",
            "Backward sums a row. Here dy is 1 for c = 2, else 0:",
            "the neighbours get less than 0, they made s larger.",
        )
    ):
        picture.text(10, 258 + 18 * line, words, "left faint")
    return picture
