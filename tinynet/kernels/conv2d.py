"""Convolution (cross-correlation, as in all of deep learning) by im2col and matrix products.

    y[n, o, oh, ow] = b[o] + sum over c, i, j of  w[o, c, i, j] * x[n, c, oh*sh + i - ph, ow*sw + j - pw]

and max(y, 0) where a ReLU follows: done on each piece of y while it is warm, it costs no pass of its own over memory.

With col the columns of x (im2col.py), K = C*kh*kw and P = OH*OW*N, this is one matrix product, and so are its adjoints:

    y  = w @ col + b        (O, K) @ (K, P) -> (O, P)
    dw = dy @ col^T         (O, P) @ (P, K) -> (O, K)       since y is linear in w, with factors col
    db = sum of dy over P   (O, P) -> (O,)
    dx = col2im(w^T @ dy)   (K, O) @ (O, P) -> (K, P), then summed over the windows that cover a pixel

With groups, output channels of group g see the input channels of group g alone: each group is such a product.

Columns are never stored whole (AlexNet's conv2 at batch 128 would need 900 MB): they are built for a few output pixels at
a time in a small buffer of each thread, multiplied while they are warm, and dropped; backward builds them again. Building
them costs 4 to 15 % of the time of the product.

3x3 and 5x5 kernels with stride 1 go another, shorter way: winograd.py.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels import winograd
from tinynet.kernels.im2col import Pair, add_windows, output_size, pad, windows
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.relu import relu_backward
from tinynet.memory import pool
from tinynet.threads import parallel_for, piece_size, ranges, scratch

COLUMN_BYTES = (1 << 20, 4 << 20)  # the fewest and the most of columns built at once; of large ones, 2 to 8 MB did best
DX_BLOCKS = 8  # threads take blocks of input channels of dx, so no two ever add to the same pixel
DW_LANES = 8  # partial sums of dw, each over its own run of pixels, added in a fixed order


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    groups: int,
    relu: bool = False,
) -> np.ndarray:
    """(N, C, H, W), (O, C/groups, kh, kw), (O,) -> (N, O, OH, OW), its negative values cut to 0 if `relu`."""
    if winograd.suits(x, weight, stride, padding, groups):
        return winograd.winograd_forward(x, weight, bias, padding, relu)
    N, C, H, W = x.shape
    O, _, *kernel = weight.shape
    OH, OW = output_size((H, W), kernel, stride, padding)
    padded = pad(batch_last(x), padding)
    y = pool.empty((O, OH * OW * N), x.dtype)
    w = weight.reshape(groups, O // groups, -1)  # (G, O/G, K)
    G, _, K = w.shape

    def piece(task: tuple[int, slice, slice]) -> None:
        g, rows, cols = task
        col = _columns(padded[_group(C, groups, g)], kernel, stride, rows, cols)
        pixels = _pixels(rows, cols, OW, N)
        out = y[_group(O, groups, g), pixels]
        np.matmul(w[g], col, out=out)  # (O/G, K) @ (K, P) -> (O/G, P)
        if bias is not None:
            out += bias[_group(O, groups, g), None]
        if relu:
            np.maximum(out, 0, out=out)

    tiles = _tiles(OH, OW, K * N * x.itemsize)
    parallel_for(piece, [(g, *tile) for g in range(G) for tile in tiles])
    return batch_first(y.reshape(O, OH, OW, N))


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Pair,
    groups: int,
    needs: tuple[bool, bool, bool],
    y: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dy (N, O, OH, OW) -> (dx, dw, db), None for each one that `needs` does not ask for.

    y is what a forward with `relu` gave: dy counts where y > 0 alone.
    """
    if y is not None:
        dy = relu_backward(dy, y)
    if winograd.suits(x, weight, stride, padding, groups):
        dx = winograd.winograd_input_gradient(dy, weight, padding) if needs[0] else None
        dw = winograd.winograd_weight_gradient(dy, x, weight.shape[2], padding) if needs[1] else None
    else:
        dx = _input_gradient(dy, x.shape, weight, stride, padding, groups) if needs[0] else None
        dw = _weight_gradient(dy, x, weight.shape, stride, padding, groups) if needs[1] else None
    db = _bias_gradient(dy) if needs[2] else None
    return dx, dw, db


def _input_gradient(
    dy: np.ndarray, x_shape: tuple, weight: np.ndarray, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    N, C, H, W = x_shape
    O, C_group, kh, kw = weight.shape
    dy = batch_last(dy)
    _, OH, OW, _ = dy.shape
    ph, pw = padding
    dx = pool.empty((C, H + 2 * ph, W + 2 * pw, N), dy.dtype)
    dy = dy.reshape(O, -1)

    def piece(task: tuple[int, slice]) -> None:
        g, channels = task
        block = dx[_group(C, groups, g)][channels]
        block[...] = 0
        # (O/G, C_block, kh, kw) -> (O/G, K_block) -> (K_block, O/G)
        w = weight[_group(O, groups, g), channels].reshape(O // groups, -1).T
        K = len(w)
        for rows, cols in _tiles(OH, OW, K * N * dy.itemsize):
            pixels = _pixels(rows, cols, OW, N)
            dcol = scratch("columns", (K, pixels.stop - pixels.start), dy.dtype)
            np.matmul(w, dy[_group(O, groups, g), pixels], out=dcol)  # (K, O/G) @ (O/G, P) -> (K, P)
            shape = (len(block), kh, kw, rows.stop - rows.start, cols.stop - cols.start, N)
            add_windows(block, dcol.reshape(shape), stride, rows.start, cols.start)

    blocks = ranges(C_group, max(1, -(-C_group // DX_BLOCKS)))
    parallel_for(piece, [(g, block) for g in range(groups) for block in blocks])
    return batch_first(dx[:, ph : ph + H, pw : pw + W])


def _weight_gradient(
    dy: np.ndarray, x: np.ndarray, w_shape: tuple, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    N, C, H, W = x.shape
    O, C_group, *kernel = w_shape
    dy = batch_last(dy)
    _, OH, OW, _ = dy.shape
    K = C_group * kernel[0] * kernel[1]
    padded = pad(batch_last(x), padding)
    dy = dy.reshape(O, -1)
    tiles = _tiles(OH, OW, K * N * x.itemsize)
    lanes = [tiles[run] for run in ranges(len(tiles), max(1, -(-len(tiles) // DW_LANES)))]
    partial = pool.empty((len(lanes), O, K), x.dtype)

    def piece(task: tuple[int, int]) -> None:
        lane, g = task
        total = partial[lane, _group(O, groups, g)]
        for number, (rows, cols) in enumerate(lanes[lane]):
            col = _columns(padded[_group(C, groups, g)], kernel, stride, rows, cols)
            dy_piece = dy[_group(O, groups, g), _pixels(rows, cols, OW, N)]
            if number == 0:
                np.matmul(dy_piece, col.T, out=total)  # (O/G, P) @ (P, K) -> (O/G, K)
            else:
                product = scratch("product", total.shape, x.dtype)
                np.matmul(dy_piece, col.T, out=product)
                total += product

    parallel_for(piece, [(lane, g) for lane in range(len(lanes)) for g in range(groups)])
    return partial.sum(axis=0).reshape(w_shape)


def _bias_gradient(dy: np.ndarray) -> np.ndarray:
    dy = batch_last(dy)
    db = np.empty(len(dy), dy.dtype)

    def piece(o: int) -> None:
        db[o] = dy[o].sum()

    parallel_for(piece, range(len(dy)))
    return db


def _columns(padded: np.ndarray, kernel: Pair, stride: Pair, rows: slice, cols: slice) -> np.ndarray:
    """The columns (K, rows*cols*N) of some output pixels, in this thread's buffer."""
    (C, Hp, Wp, _), (kh, kw) = padded.shape, kernel
    out = output_size((Hp, Wp), kernel, stride, (0, 0))
    tile = windows(padded, kernel, stride, out)[:, :, :, rows, cols]
    col = scratch("columns", tile.shape, padded.dtype)
    np.copyto(col, tile)
    return col.reshape(C * kh * kw, -1)


def _tiles(OH: int, OW: int, pixel_bytes: int) -> list[tuple[slice, slice]]:
    """Tiles (rows, columns) of the output, some rows or a part of one, whose columns make a piece."""
    pixels = max(1, piece_size(OH * OW * pixel_bytes, *COLUMN_BYTES) // max(1, pixel_bytes))
    if pixels >= OW:
        return [(rows, slice(0, OW)) for rows in ranges(OH, pixels // OW)]
    parts = -(-OW // pixels)
    return [(slice(row, row + 1), cols) for row in range(OH) for cols in ranges(OW, -(-OW // parts))]


def _pixels(rows: slice, cols: slice, OW: int, N: int) -> slice:
    """Where a tile lies on the axis (OH*OW*N): rows are whole, or there is one."""
    return slice((rows.start * OW + cols.start) * N, ((rows.stop - 1) * OW + cols.stop) * N)


def _group(channels: int, groups: int, g: int) -> slice:
    return slice(g * (channels // groups), (g + 1) * (channels // groups))
