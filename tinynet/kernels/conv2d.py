"""Convolution (cross-correlation, as in all of deep learning) by im2col and matrix products.

    y[n, o, oh, ow] = b[o] + sum over c, i, j of
                             w[o, c, i, j] * x[n, c, oh*sh + i - ph, ow*sw + j - pw]

and max(y, 0) where a ReLU follows: done on each piece of y while it is warm, it costs no pass of
its own over memory.

With col the columns of x (im2col.py), K = C*kh*kw and P = OH*OW*N, this is one matrix product, and
so are its adjoints:

    y  = w @ col + b        (O, K) @ (K, P) -> (O, P)
    dw = dy @ col^T         (O, P) @ (P, K) -> (O, K)       since y is linear in w, with factors col
    db = sum of dy over P   (O, P) -> (O,)
    dx = col2im(w^T @ dy)   (K, O) @ (O, P) -> (K, P), then summed over a pixel's windows

With groups, output channels of group g see the input channels of group g alone: each group is such
a product.

Columns are never stored whole (AlexNet's conv1 at batch 128 would need 560 MB a tower): they are
built for a few output pixels at a time in a small buffer of each thread, multiplied while they are
warm, and dropped; backward builds them again. The windows of neighbouring rows of outputs share
rows of the picture, which are copied once for all of them (_columns).

3x3 and 5x5 kernels with stride 1 go another, shorter way: winograd.py.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, piece_size, ranges
from tinynet.kernels import winograd
from tinynet.kernels.im2col import Pair, add_windows, output_size, pad, windows
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.relu import relu_backward

# The fewest and the most of columns built at once; of large ones, 2 to 16 MB did best.
COLUMN_BYTES = (1 << 20, 8 << 20)
# output pixels, all pictures counted, of a row in a piece: BLAS is at full speed from about there
# on
PIXELS = 1024
FEW = 256  # pixels of a row: with fewer, the columns of all rows of a piece are brought together
DX_BLOCKS = 8  # threads take blocks of input channels of dx, so no two ever add to the same pixel
DW_LANES = 8  # partial sums of dw, each over its own run of pixels, added in a fixed order

Tile = tuple[slice, slice]  # output rows, output columns

_dcol = Scratch()
_shifted = Scratch()
_one = Scratch()
_product = Scratch()


def conv2d_forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    groups: int,
    relu: bool = False,
) -> np.ndarray:
    """(N, C, H, W), (O, C/groups, kh, kw), (O,) -> (N, O, OH, OW), its negative values cut to 0 if
    `relu`.
    """
    if winograd.suits(x, weight, stride, padding, groups):
        return winograd.winograd_forward(x, weight, bias, padding, relu)
    N, C, H, W = x.shape
    O, C_group, *kernel = weight.shape
    OH, OW = output_size((H, W), kernel, stride, padding)
    padded = pad(batch_last(x), padding)
    y = pool.empty((O, OH, OW, N), x.dtype)
    w = weight.transpose(0, 2, 3, 1).reshape(O, -1)  # (O, kh*kw*C/groups)

    def piece(task: tuple[int, Tile]) -> None:
        g, tile = task
        col = _columns(padded[_group(C, groups, g)], kernel, stride, tile)
        o = _group(O, groups, g)
        out = _pixels(y[o], tile, len(col))
        np.matmul(w[o], col, out=out)  # (O/G, K) @ (rows, K, P) -> (rows, O/G, P)
        if bias is not None:
            out += bias[o, None]
        if relu:
            np.maximum(out, 0, out=out)

    tiles = _tiles(OH, OW, N, C_group * stride[0] * kernel[1] * x.itemsize)
    parallel_for(piece, [(g, tile) for g in range(groups) for tile in tiles])
    return batch_first(y)


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

    y is what a forward with `relu` gave: dy counts 0 where y <= 0.
    """
    if y is not None:
        dy = relu_backward(dy, y)
    if winograd.suits(x, weight, stride, padding, groups):
        dx, dw = winograd.winograd_backward(dy, x, weight, padding, needs[:2])
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
    ph, pw = padding
    if stride == (1, 1) and ph < kh and pw < kw:
        # Then dx is the convolution of dy with the kernels turned by 180 degrees, inputs and
        # outputs exchanged.
        turned = (
            weight[:, :, ::-1, ::-1].reshape(groups, O // groups, C_group, kh, kw).swapaxes(1, 2)
        )
        turned = turned.reshape(C, O // groups, kh, kw)
        return conv2d_forward(dy, turned, None, stride, (kh - 1 - ph, kw - 1 - pw), groups)
    dy = batch_last(dy)
    _, OH, OW, _ = dy.shape
    dx = pool.empty((C, H + 2 * ph, W + 2 * pw, N), dy.dtype)

    def piece(task: tuple[int, slice]) -> None:
        g, channels = task
        block = dx[_group(C, groups, g)][channels]
        block[...] = 0
        # (O/G, C_block, kh, kw) -> (O/G, K_block) -> (K_block, O/G)
        w = weight[_group(O, groups, g), channels].reshape(O // groups, -1).T
        for tile in _tiles(OH, OW, N, len(w) * dy.itemsize):
            rows, cols = tile
            height, width = rows.stop - rows.start, cols.stop - cols.start
            dcol = _dcol.array((height, len(block), kh, kw, width, N), dy.dtype)
            # (K, O/G) @ (rows, O/G, P) -> (rows, K, P)
            np.matmul(
                w,
                _pixels(dy[_group(O, groups, g)], tile, height),
                out=dcol.reshape(height, len(w), width * N),
            )
            add_windows(block, np.moveaxis(dcol, 0, 3), stride, rows.start, cols.start)

    blocks = ranges(C_group, max(1, -(-C_group // DX_BLOCKS)))
    parallel_for(piece, [(g, block) for g in range(groups) for block in blocks])
    return batch_first(dx[:, ph : ph + H, pw : pw + W])


def _weight_gradient(
    dy: np.ndarray, x: np.ndarray, w_shape: tuple, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    O, C_group, *kernel = w_shape
    N, C, H, W = x.shape
    dy = batch_last(dy)
    _, OH, OW, _ = dy.shape
    padded = pad(batch_last(x), padding)
    tiles = _tiles(OH, OW, N, C_group * stride[0] * kernel[1] * x.itemsize)
    lanes = [tiles[run] for run in ranges(len(tiles), max(1, -(-len(tiles) // DW_LANES)))]
    partial = pool.empty((len(lanes), O, kernel[0] * kernel[1] * C_group), x.dtype)

    def piece(task: tuple[int, int]) -> None:
        lane, g = task
        total = partial[lane, _group(O, groups, g)]
        total[...] = 0
        product = _product.array(total.shape, x.dtype)
        for tile in lanes[lane]:
            col = _columns(padded[_group(C, groups, g)], kernel, stride, tile)
            for dy_row, col_row in zip(
                _pixels(dy[_group(O, groups, g)], tile, len(col)), col, strict=True
            ):
                np.matmul(dy_row, col_row.T, out=product)  # (O/G, P) @ (P, K) -> (O/G, K)
                total += product

    parallel_for(piece, [(lane, g) for lane in range(len(lanes)) for g in range(groups)])
    return np.moveaxis(partial.sum(axis=0).reshape(O, *kernel, C_group), 3, 1)


def _bias_gradient(dy: np.ndarray) -> np.ndarray:
    dy = batch_last(dy)
    db = np.empty(len(dy), dy.dtype)

    def piece(o: int) -> None:
        db[o] = dy[o].sum()

    parallel_for(piece, range(len(dy)))
    return db


def _columns(padded: np.ndarray, kernel: Pair, stride: Pair, tile: Tile) -> np.ndarray:
    """The columns of a tile: (rows, K, P) with K = (i, j, c) and P = (columns, N), in this thread's
    buffer.

    The buffer holds, for each row of the picture, its pixels shifted by each j: (row, j, c, P). The
    columns of a row of outputs are kh of these rows one after another, so they are a view, and the
    next row's overlap them. This copies a pixel kw / sw times, where whole columns hold it kh kw /
    (sh sw) times: conv2 to conv5 of `mini` take a fifth less time. Of few pictures a row is short,
    and one product of all whole rows, (1, K, rows*P), is quicker than many small ones.
    """
    (C, _, _, N), (kh, kw), (sh, sw), (rows, cols) = padded.shape, kernel, stride, tile
    width = cols.stop - cols.start
    part = padded[
        :, rows.start * sh : (rows.stop - 1) * sh + kh, cols.start * sw : (cols.stop - 1) * sw + kw
    ]
    # (C, kw, row, columns, N)
    shifted = windows(part, (1, kw), (1, sw), (part.shape[1], width))[:, 0]
    buffer = _shifted.array((part.shape[1], kw, C, width, N), padded.dtype)
    np.copyto(buffer, shifted.transpose(2, 1, 0, 3, 4))
    shape, item = (rows.stop - rows.start, kh * kw * C, width * N), buffer.itemsize
    col = as_strided(
        buffer, shape, (sh * kw * C * width * N * item, width * N * item, item), writeable=False
    )
    if width * N >= FEW or width < (padded.shape[2] - kw) // sw + 1:
        return col
    one = _one.array((1, shape[1], shape[0] * shape[2]), padded.dtype)
    np.copyto(one.reshape(shape[1], shape[0], shape[2]), col.swapaxes(0, 1))
    return one


def _tiles(OH: int, OW: int, N: int, pixel_bytes: int) -> list[Tile]:
    """Tiles of the output, about PIXELS wide, and as many rows high as make a piece."""
    cols = ranges(OW, -(-OW // max(1, OW * N // PIXELS)))
    row_bytes = max(1, pixel_bytes * N * (cols[0].stop - cols[0].start))
    rows = ranges(OH, max(1, piece_size(OH * len(cols) * row_bytes, *COLUMN_BYTES) // row_bytes))
    return [(row, col) for row in rows for col in cols]


def _pixels(y: np.ndarray, tile: Tile, parts: int) -> np.ndarray:
    """A tile of y (O, OH, OW, N) in parts, each a row (or one for all, where rows are whole): a
    view (parts, O, P).
    """
    rows, cols = tile
    part = y[:, rows, cols]
    return part.reshape(len(y), parts, part[0].size // parts).swapaxes(0, 1)


def _group(channels: int, groups: int, g: int) -> slice:
    return slice(g * (channels // groups), (g + 1) * (channels // groups))
