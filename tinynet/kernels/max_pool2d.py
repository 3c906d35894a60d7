"""Max-pooling, windows overlapping or not.

    y[n, c, oh, ow] = max over i, j of x[n, c, oh*sh + i - ph, ow*sw + j - pw]

where x is minus infinity outside the picture. The gradient goes whole to the pixel that won; a
pixel that won in several windows gets the sum (`+=`):

    dx[n, c, h, w] = sum of dy[n, c, oh, ow] over the windows in which (h, w) won

Of equal values the first in (i, j) order wins. Forward keeps the winner's position i*kw + j, in a
byte for windows of up to 255 pixels, so backward needs neither x nor y. A NaN in a window comes
out, and its gradient goes to the window's first pixel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.im2col import Pair
from tinynet.kernels.layout import batch_first, batch_last, select

Index = tuple[slice, slice, slice]
EVERY = slice(None)
PIECE = 1 << 17  # output elements handled at once

_below = Scratch()
_candidate = Scratch()
_won = Scratch()
_share = Scratch()


def pool_output_size(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> Pair:
    """(OH, OW); with ceil_mode a last window may hang over the end, if it begins inside picture or
    left padding.
    """
    out = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        m = n + 2 * p - k
        o = (-(-m // s) if ceil_mode else m // s) + 1
        out.append(o - 1 if ceil_mode and (o - 1) * s >= n + p else o)
    OH, OW = out
    return OH, OW


def window_parts(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, rows: slice, OW: int
) -> Iterator[tuple[int, Index, Index]]:
    """For each window position: its number i*kw + j, the outputs for which it lies inside the
    picture, those inputs.

    Both as indices into (C, rows, columns, N). Outputs are taken from `rows` only, and counted from
    rows.start.
    """
    (H, W), (kh, kw), (sh, sw), (ph, pw) = size, kernel, stride, padding
    for i in range(kh):
        r = _inside(i - ph, sh, H, rows.start, rows.stop)
        for j in range(kw):
            c = _inside(j - pw, sw, W, 0, OW)
            if r and c:
                outputs = EVERY, slice(r[0] - rows.start, r[1] - rows.start), slice(*c)
                yield i * kw + j, outputs, (EVERY, _inputs(i - ph, sh, r), _inputs(j - pw, sw, c))


def _inside(offset: int, stride: int, size: int, start: int, stop: int) -> tuple[int, int] | None:
    """The range of outputs o in [start, stop) with 0 <= o*stride + offset < size."""
    first = max(start, -(offset // stride))  # ceil(-offset / stride)
    last = min(stop, (size - 1 - offset) // stride + 1)
    return (first, last) if first < last else None


def _inputs(offset: int, stride: int, outputs: tuple[int, int]) -> slice:
    first, last = outputs
    return slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)


def windows_definition(
    size: int, kernel: int, stride: int, padding: int, ceil_mode: bool
) -> list[range]:
    """The windows along one axis, as pixels; those below 0 and from `size` on are padding."""
    windows, start = [], -padding
    while start + kernel <= size + padding or (
        # ceil_mode: one more that hangs over the end, if the one before left pixels uncovered
        ceil_mode and start < size and start - stride + kernel < size + padding
    ):
        windows.append(range(start, start + kernel))
        start += stride
    return windows


def max_pool2d_definition(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The formula at the top, one output at a time: y and the winners' positions, the first of the
    largest; of NaNs, the window's first pixel.
    """
    N, C, H, W = x.shape
    rows = windows_definition(H, kernel[0], stride[0], padding[0], ceil_mode)
    columns = windows_definition(W, kernel[1], stride[1], padding[1], ceil_mode)
    y = np.zeros((N, C, len(rows), len(columns)), x.dtype)
    winner = np.zeros(y.shape, int)
    for n, c, oh, ow in np.ndindex(y.shape):
        window = [
            (x[n, c, h, w], i * kernel[1] + j)
            for i, h in enumerate(rows[oh])
            for j, w in enumerate(columns[ow])
            if 0 <= h < H and 0 <= w < W
        ]
        y[n, c, oh, ow], winner[n, c, oh, ow] = max(window, key=lambda pair: pair[0])
        if any(np.isnan(value) for value, _ in window):
            y[n, c, oh, ow], winner[n, c, oh, ow] = np.nan, window[0][1]
    return y, winner


def max_pool2d_forward(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W) -> y and the winners' positions, both (N, C, OH, OW)."""
    N, C, H, W = x.shape
    OH, OW = pool_output_size((H, W), kernel, stride, padding, ceil_mode)
    x = batch_last(x)
    y = pool.empty((C, OH, OW, N), x.dtype)
    position_type = np.min_scalar_type(kernel[0] * kernel[1])
    no_winner = position_type.type(np.iinfo(position_type).max)
    winner = pool.empty((C, OH, OW, N), position_type)

    def piece(task: tuple[slice, slice]) -> None:
        channels, rows = task
        x_, y_, winner_ = x[channels], y[channels, rows], winner[channels, rows]
        y_.fill(-np.inf)
        winner_.fill(no_winner)
        parts = list(window_parts((H, W), kernel, stride, padding, rows, OW))
        for _, outputs, inputs in parts:
            np.maximum(y_[outputs], x_[inputs], out=y_[outputs])
        # The winner is the first position that holds the maximum. A window of four values:
        #     x            3    7    7    5      maximum 7
        #     position     0    1    2    3
        #     candidate  255    1    2  255      the position, or 255 where x is below the maximum
        # The smallest candidate is the winner, 1. All but the comparison runs on bytes, which costs
        # a quarter of the same on floats.
        for position, outputs, inputs in parts:
            shape = y_[outputs].shape
            below = np.less(x_[inputs], y_[outputs], out=_below.array(shape, np.bool_))
            candidate = _candidate.array(shape, position_type)
            np.multiply(below.view(np.uint8), no_winner, out=candidate)
            candidate |= position_type.type(position)
            np.minimum(winner_[outputs], candidate, out=winner_[outputs])

    channel_blocks, row_blocks = pool_pieces(C, OH, OW * N)
    parallel_for(piece, [(channels, rows) for channels in channel_blocks for rows in row_blocks])
    return batch_first(y), batch_first(winner)


def max_pool2d_backward(
    dy: np.ndarray,
    winner: np.ndarray,
    x_shape: tuple[int, int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
) -> np.ndarray:
    """dy, winner (N, C, OH, OW) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    dy, winner = batch_last(dy), batch_last(winner)
    _, OH, OW, _ = dy.shape
    dx = pool.empty((C, H, W, N), dy.dtype)

    channel_blocks, row_blocks = pool_pieces(C, OH, OW * N)

    def piece(channels: slice) -> None:  # all rows of its channels: windows overlap
        dx[channels] = 0
        for rows in row_blocks:
            dx_, dy_, winner_ = dx[channels], dy[channels, rows], winner[channels, rows]
            for position, outputs, inputs in window_parts(
                (H, W), kernel, stride, padding, rows, OW
            ):
                shape = dy_[outputs].shape
                won = np.equal(winner_[outputs], position, out=_won.array(shape, np.bool_))
                dx_[inputs] += select(won, dy_[outputs], out=_share.array(shape, dy.dtype))

    parallel_for(piece, channel_blocks)
    return batch_first(dx)


def pool_pieces(C: int, OH: int, row: int) -> tuple[list[slice], list[slice]]:
    """Blocks of channels and of output rows: one of each is about PIECE elements, if an output row
    has `row` of them.
    """
    rows = pieces_of(OH, each=row, most=PIECE)
    return pieces_of(C, each=rows[0].stop * row, most=PIECE), rows
