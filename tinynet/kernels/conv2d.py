"""Convolution (cross-correlation, as in all of deep learning) by im2col and matrix products.

    y[n, o, oh, ow] = b[o] + sum over c, i, j of
                             w[o, c, i, j] * x[n, c, oh*sh + i - ph, ow*sw + j - pw]

and max(y, 0) where a ReLU follows: done on each piece of y while it is warm, it costs no pass of
its own over memory.

With col the columns of x (im2col.py), K = C*kh*kw and P = OH*OW*N, this is one matrix product. Its
adjoints are matrix products too:

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

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided
from threadpoolctl import threadpool_info

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import NO_JOB, Job, parts, piece_size, pieces_of, run_job, run_jobs
from tinynet.kernels import winograd
from tinynet.kernels.im2col import Pair, add_windows, output_size, patch, windows
from tinynet.kernels.layout import batch_first, batch_last, cut_to_zero
from tinynet.kernels.relu import relu_backward


def _blas_has_small_kernels() -> bool:
    kinds = {library.get("architecture", "").lower() for library in threadpool_info()}
    return bool(kinds & {"skylakex", "cooperlake", "sapphirerapids"})


# The fewest and the most of columns built at once; of large ones, 2 to 16 MB did best.
COLUMN_BYTES = (1 << 20, 8 << 20)
PIXELS = 1024  # output pixels, all pictures counted, of a row in a tile
# Pixels of one of forward's products. OpenBLAS has kernels for small products that copy nothing,
# but only for AVX-512. There narrow products, which stay in the nearest cache, are 1.3 to 2 times
# as quick as wide ones with 16 to 48 output channels; elsewhere they lose a sixth.
RUN = 64 if _blas_has_small_kernels() else 1024
FEW = 32  # with fewer pixels in a row, the columns of all rows of a tile are brought together
DX_BLOCKS = 8  # threads take blocks of input channels of dx, so no two ever add to the same pixel
DW_LANES = 8  # partial sums of dw, each over its own run of pixels, added in a fixed order
DB_ELEMENTS = 1 << 17  # of dy, summed by one piece of db

Tile = tuple[slice, slice]  # output rows, output columns

_dcol = Scratch()
_padded = Scratch()
_shifted = Scratch()
_one = Scratch()
_product = Scratch()


def conv2d_definition(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    groups: int,
) -> np.ndarray:
    """The formula at the top, one output at a time: the tests prove all ways equal to it."""
    (N, _, H, W), (O, C_group, kh, kw) = x.shape, weight.shape
    (sh, sw), (ph, pw) = stride, padding
    OH, OW = (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((N, O, OH, OW), np.result_type(x, weight))
    for n, o, oh, ow in np.ndindex(y.shape):
        first = o // (O // groups) * C_group  # the first channel that the group of o sees
        total = 0 if bias is None else bias[o]
        for c, i, j in np.ndindex(C_group, kh, kw):
            total += weight[o, c, i, j] * padded[n, first + c, oh * sh + i, ow * sw + j]
        y[n, o, oh, ow] = total
    return y


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
    y: np.ndarray = run_job(_forward(x, weight, bias, stride, padding, groups, relu))
    return y


def conv2d_each_forward(
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    biases: Sequence[np.ndarray | None],
    stride: Pair,
    padding: Pair,
    groups: int,
    relu: bool = False,
) -> list[np.ndarray]:
    """A y for each weight, of the same x; the kernels have one size. By one hand-over, so that each
    thread begins with a convolution of its own.
    """
    jobs = [
        _forward(x, weight, bias, stride, padding, groups, relu)
        for weight, bias in zip(weights, biases, strict=True)
    ]
    (N, _, H, W), (_, _, kh, kw) = x.shape, weights[0].shape
    pixels = math.prod(output_size((H, W), (kh, kw), stride, padding)) * N
    return run_jobs(jobs, pixels * weights[0].size)


def _forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    stride: Pair,
    padding: Pair,
    groups: int,
    relu: bool = False,
) -> Job:
    side = winograd.tile_side(x, weight, stride, padding, groups)
    if side:
        return winograd.forward(x, weight, bias, padding, side, relu)
    N, C, H, W = x.shape
    O, C_group, *sides = weight.shape
    kernel = sides[0], sides[1]
    OH, OW = output_size((H, W), kernel, stride, padding)
    x = batch_last(x)
    y = pool.empty((O, OH, OW, N), x.dtype)
    w = weight.transpose(0, 2, 3, 1).reshape(O, -1)  # (O, kh*kw*C/groups)

    def piece(task: tuple[int, Tile]) -> None:
        g, tile = task
        o = _group(O, groups, g)
        run = _run(tile[1].stop - tile[1].start, N)
        col = _columns(x[_group(C, groups, g)], kernel, stride, padding, tile, run)
        out = _rows(y[o], tile)
        # (O/G, K) @ (runs, rows, K, P) -> (runs, rows, O/G, P)
        np.matmul(w[o], col, out=_pixels(out, col.shape))
        if bias is not None:
            out += bias[o, None, None]
        if relu:
            cut_to_zero(out, out)

    tiles = _tiles(OH, OW, N, C_group * stride[0] * kernel[1] * x.itemsize)
    pieces = [(g, tile) for g in range(groups) for tile in tiles]
    return Job(piece, pieces, lambda: batch_first(y))


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
    each = conv2d_each_backward([dy], x, [weight], stride, padding, groups, [needs], [y])
    return each[0]


def conv2d_each_backward(
    dys: Sequence[np.ndarray],
    x: np.ndarray,
    weights: Sequence[np.ndarray],
    stride: Pair,
    padding: Pair,
    groups: int,
    needs: Sequence[tuple[bool, bool, bool]],
    ys: Sequence[np.ndarray | None],
) -> list[tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]]:
    """(dx, dw, db) of each convolution of the same x, as conv2d_backward has them. All by one
    hand-over: of two convolutions each thread begins with one.
    """
    jobs: list[Job] = []
    for dy, weight, need, y in zip(dys, weights, needs, ys, strict=True):
        if y is not None:
            dy = relu_backward(dy, y)
        jobs += (
            _input_gradient(dy, x.shape, weight, stride, padding, groups) if need[0] else NO_JOB,
            _weight_gradient(dy, x, weight, stride, padding, groups) if need[1] else NO_JOB,
            _bias_gradient(dy) if need[2] else NO_JOB,
        )
    found = run_jobs(jobs, dys[0].size * weights[0][0].size)
    return list(zip(found[::3], found[1::3], found[2::3], strict=True))


def _input_gradient(
    dy: np.ndarray, x_shape: tuple, weight: np.ndarray, stride: Pair, padding: Pair, groups: int
) -> Job:
    N, C, H, W = x_shape
    O, C_group, kh, kw = weight.shape
    ph, pw = padding
    if stride == (1, 1):
        # Then dx is the convolution of dy with the kernels turned by 180 degrees, inputs and
        # outputs exchanged. Where the padding was wider than the kernel, it is below 0 here: the
        # outputs that saw padding alone are left out.
        turned = (
            weight[:, :, ::-1, ::-1].reshape(groups, O // groups, C_group, kh, kw).swapaxes(1, 2)
        )
        turned = turned.reshape(C, O // groups, kh, kw)
        return _forward(dy, turned, None, stride, (kh - 1 - ph, kw - 1 - pw), groups)
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
            dy_ = _rows(dy[_group(O, groups, g)], tile).swapaxes(0, 1)
            # (K, O/G) @ (rows, O/G, P) -> (rows, K, P)
            np.matmul(w, dy_, out=dcol.reshape(height, len(w), width * N))
            add_windows(block, np.moveaxis(dcol, 0, 3), stride, rows.start, cols.start)

    pieces = [(g, block) for g in range(groups) for block in parts(C_group, DX_BLOCKS)]
    return Job(piece, pieces, lambda: batch_first(dx[:, ph : ph + H, pw : pw + W]))


def _weight_gradient(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, groups: int
) -> Job:
    """By dw^T = col @ dy^T: BLAS is up to twice as quick with the long matrix in front."""
    O, C_group, *sides = weight.shape
    kernel = sides[0], sides[1]
    side = winograd.tile_side(x, weight, stride, padding, groups)
    if side:
        return winograd.weight_gradient(dy, x, kernel[0], padding, side)
    N, C, _, _ = x.shape
    dy, x = batch_last(dy), batch_last(x)
    _, OH, OW, _ = dy.shape
    tiles = _tiles(OH, OW, N, C_group * stride[0] * kernel[1] * x.itemsize)
    lanes = [tiles[run] for run in parts(len(tiles), DW_LANES)]
    K = kernel[0] * kernel[1] * C_group
    partial = pool.empty((len(lanes), groups, K, O // groups), x.dtype)

    def piece(task: tuple[int, int]) -> None:
        lane, g = task
        total = partial[lane, g]
        total[...] = 0
        product = _product.array(total.shape, x.dtype)
        for tile in lanes[lane]:
            whole = tile[1].stop - tile[1].start, N
            col = _columns(x[_group(C, groups, g)], kernel, stride, padding, tile, whole)
            dys = _pixels(_rows(dy[_group(O, groups, g)], tile), col.shape)
            for col_, dy_ in zip(col[0], dys[0], strict=True):
                np.matmul(col_, dy_.T, out=product)  # (K, P) @ (P, O/G) -> (K, O/G)
                total += product

    def result() -> np.ndarray:
        dw = partial.sum(axis=0).reshape(groups, *kernel, C_group, O // groups)
        return np.ascontiguousarray(dw.transpose(0, 4, 3, 1, 2)).reshape(weight.shape)

    return Job(piece, [(lane, g) for lane in range(len(lanes)) for g in range(groups)], result)


def _bias_gradient(dy: np.ndarray) -> Job:
    dy = batch_last(dy).reshape(dy.shape[1], -1)  # (O, P)
    db = np.empty(len(dy), dy.dtype)
    pieces = pieces_of(len(dy), each=dy.shape[1], most=DB_ELEMENTS)
    return Job(lambda o: np.sum(dy[o], axis=1, out=db[o]), pieces, lambda: db)


def _columns(
    x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair, tile: Tile, run: Pair
) -> np.ndarray:
    """The columns of a tile of x (C, H, W, N): (runs, rows, K, P) with K = (i, j, c), in this
    thread's buffer. A run is some columns of the picture times some pictures, P their product.

    The buffer holds, for each row of the picture, its pixels shifted by each j: (run, row, j, c,
    P). The columns of a row of outputs are kh of these rows one after another, so they are a view,
    and the next row's overlap them. This copies a pixel kw / sw times, where whole columns hold it
    kh kw / (sh sw) times: conv2 to conv5 of `mini` take a fifth less time. Of few pictures a row is
    short, and one product of all rows, (1, 1, K, rows*P), is quicker than many small ones.
    """
    (C, _, _, N), (kh, kw), (sh, sw), (rows, cols) = x.shape, kernel, stride, tile
    height, width = rows.stop - rows.start, cols.stop - cols.start
    top, left = rows.start * sh - padding[0], cols.start * sw - padding[1]
    R = (height - 1) * sh + kh
    right = left + (width - 1) * sw + kw
    part = patch(x, slice(top, top + R), slice(left, right), _padded)
    shifted = windows(part, (1, kw), (1, sw), (R, width))[:, 0]  # (C, kw, R, width, N)
    p, n = run
    runs, P, K = (width // p) * (N // n), p * n, kh * kw * C
    buffer = _shifted.array((runs, R, kw, C, P), x.dtype)
    np.copyto(
        buffer.reshape(width // p, N // n, R, kw, C, p, n),
        shifted.reshape(C, kw, R, width // p, p, N // n, n).transpose(3, 5, 2, 1, 0, 4, 6),
    )
    step = kw * C * P * buffer.itemsize  # from a row of the picture to the next
    strides = R * step, sh * step, P * buffer.itemsize, buffer.itemsize
    col = as_strided(buffer, (runs, height, K, P), strides, writeable=False)
    whole_rows = width == (x.shape[2] + 2 * padding[1] - kw) // sw + 1
    if runs > 1 or P >= FEW or not whole_rows:
        return col
    one = _one.array((1, 1, K, height * P), x.dtype)
    np.copyto(one.reshape(K, height, P), col[0].swapaxes(0, 1))
    return one


@functools.cache
def _run(width: int, N: int) -> Pair:
    """(columns, pictures) of a run, so that their product comes as near to RUN as it can: whole
    columns, or a part of the pictures of one.
    """
    choices = [(p, N) for p in range(1, width + 1) if width % p == 0]
    choices += [(1, n) for n in range(1, N) if N % n == 0]
    return min(choices, key=lambda run: max(run[0] * run[1] / RUN, RUN / (run[0] * run[1])))


def _tiles(OH: int, OW: int, N: int, pixel_bytes: int) -> list[Tile]:
    """Tiles of the output, about PIXELS wide, and as many rows high as make a piece; none of an
    empty batch.
    """
    if N == 0:
        return []
    cols = parts(OW, max(1, OW * N // PIXELS))
    row_bytes = pixel_bytes * N * cols[0].stop
    most = piece_size(OH * len(cols) * row_bytes, *COLUMN_BYTES)
    rows = pieces_of(OH, each=row_bytes, most=most)
    return [(row, col) for row in rows for col in cols]


def _rows(y: np.ndarray, tile: Tile) -> np.ndarray:
    """A tile of y (O, OH, OW, N): a view (O, rows, columns*N)."""
    rows, cols = tile
    part = y[:, rows, cols]
    return part.reshape(*part.shape[:2], -1)


def _pixels(part: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tile (O, rows, columns*N) of y or dy, cut as its columns (runs, rows, K, P) are: a view
    (runs, rows, O, P).
    """
    runs, rows, _, P = shape
    return part.reshape(len(part), rows, runs, P).transpose(2, 1, 0, 3)


def _group(channels: int, groups: int, g: int) -> slice:
    return slice(g * (channels // groups), (g + 1) * (channels // groups))
