"""Dropout: one mask, drawn in forward, serves backward too."""

from __future__ import annotations

import numpy as np
from making.picture import Picture

from tinynet.kernels.dropout import dropout_backward, dropout_forward

X = np.arange(1.0, 16.0).reshape(3, 5)
DY = np.arange(15.0).reshape(3, 5) % 4 + 1
P, SEED, CALL = 0.5, 0, 0
CELL = 26, 26


def draw() -> Picture:
    y, mask = dropout_forward(X, P, SEED, CALL)
    dx = dropout_backward(DY, mask, P)
    picture = Picture(432, 260, "dropout with p = 0.5: x, its mask, y; dy, the same mask, dx")
    for top, names, arrays in (
        (30, ("x", "mask", "y = 2 x mask"), (X, mask, y)),
        (160, ("dy", "the same mask", "dx = 2 dy mask"), (DY, mask, dx)),
    ):
        for column, (name, array) in enumerate(zip(names, arrays, strict=True)):
            left = 10 + 144 * column
            picture.text(left, top - 10, name, "left title")
            for i, j in np.ndindex(X.shape):
                kind = "" if mask[i, j] else "off"
                place = left + 26 * j, top + 26 * i
                picture.box(*place, f"{float(array[i, j]):g}", kind=kind, size=CELL)
    return picture
