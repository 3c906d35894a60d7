"""im2col: the windows of a convolution as the columns of a matrix, and its adjoint col2im.

    col[(c, i, j), (oh, ow, n)] = x[n, c, oh*sh + i - ph, ow*sw + j - pw]

where x is 0 outside the picture. im2col copies each pixel into every column whose window covers it.
Its adjoint takes the gradients of these copies back to the pixel. Windows overlap, so there they
are summed (`+=`):

    dx[n, c, h, w] = sum of dcol[(c, i, j), (oh, ow, n)]
                     over all (i, j, oh, ow) with oh*sh + i - ph = h and ow*sw + j - pw = w

Letters: N batch, C channels, (H, W) picture, (kh, kw) kernel, (sh, sw) stride, (ph, pw) padding,
(OH, OW) output.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.kernels.layout import batch_first, batch_last

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """(OH, OW), the number of windows: floor((size + 2 padding - kernel) / stride) + 1 an axis."""
    OH, OW = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return OH, OW


def pad(x: np.ndarray, padding: Pair) -> np.ndarray:
    """(C, H, W, N) -> (C, H + 2 ph, W + 2 pw, N), zeros around; x itself without padding."""
    (ph, pw), (C, H, W, N) = padding, x.shape
    if (ph, pw) == (0, 0):
        return x
    padded = pool.empty((C, H + 2 * ph, W + 2 * pw, N), x.dtype)
    padded[:, :ph] = padded[:, ph + H :] = 0
    padded[:, ph : ph + H, :pw] = padded[:, ph : ph + H, pw + W :] = 0
    padded[:, ph : ph + H, pw : pw + W] = x
    return padded


def patch(x: np.ndarray, rows: slice, cols: slice, scratch: Scratch) -> np.ndarray:
    """Rows and columns of x (C, H, W, N) that may reach beyond its edges, with zeros there.

    A view of x where all of them lie inside, else an array of `scratch`. A convolution pads its
    input so, a piece at a time, while the piece is warm and on all threads.
    """
    C, H, W, N = x.shape
    if 0 <= rows.start and rows.stop <= H and 0 <= cols.start and cols.stop <= W:
        return x[:, rows, cols]
    part = scratch.array((C, rows.stop - rows.start, cols.stop - cols.start, N), x.dtype)
    top, bottom = _inside(rows, H)
    left, right = _inside(cols, W)
    part[:, :top] = part[:, bottom:] = 0
    part[:, top:bottom, :left] = part[:, top:bottom, right:] = 0
    part[:, top:bottom, left:right] = x[
        :,
        rows.start + top : rows.start + bottom,
        cols.start + left : cols.start + right,
    ]
    return part


def _inside(span: slice, size: int) -> Pair:
    """The part of a span that lies in [0, size), counted from the span's start."""
    length = span.stop - span.start
    first = max(0, -span.start)
    return first, max(first, min(length, size - span.start))


def windows(padded: np.ndarray, kernel: Pair, stride: Pair, out: Pair) -> np.ndarray:
    """A read-only view (C, kh, kw, OH, OW, N) of a padded (C, Hp, Wp, N): it copies no pixel."""
    C, _, _, N = padded.shape
    c, h, w, n = padded.strides
    return as_strided(
        padded, (C, *kernel, *out, N), (c, h, w, h * stride[0], w * stride[1], n), writeable=False
    )


def im2col_definition(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """The formula at the top, one entry at a time: (N, C, H, W) -> (C*kh*kw, OH*OW*N)."""
    (N, C, H, W), (kh, kw), (sh, sw), (ph, pw) = x.shape, kernel, stride, padding
    OH, OW = (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    col = np.zeros((C, kh, kw, OH, OW, N), x.dtype)
    for c, i, j, oh, ow, n in np.ndindex(col.shape):
        col[c, i, j, oh, ow, n] = padded[n, c, oh * sh + i, ow * sw + j]
    return col.reshape(C * kh * kw, OH * OW * N)


def im2col(x: np.ndarray, kernel: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """(N, C, H, W) -> (C*kh*kw, OH*OW*N), all columns at once; conv2d builds some at a time."""
    N, C, H, W = x.shape
    OH, OW = output_size((H, W), kernel, stride, padding)
    padded = pad(batch_last(x), padding)
    # (C, kh, kw, OH, OW, N) -> (C*kh*kw, OH*OW*N)
    columns = windows(padded, kernel, stride, (OH, OW))
    return columns.reshape(C * kernel[0] * kernel[1], OH * OW * N)


def col2im(
    col: np.ndarray, x_shape: tuple[int, int, int, int], kernel: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """(C*kh*kw, OH*OW*N) -> (N, C, H, W): the adjoint of `im2col`."""
    N, C, H, W = x_shape
    (ph, pw), out = padding, output_size((H, W), kernel, stride, padding)
    dx = np.zeros((C, H + 2 * ph, W + 2 * pw, N), col.dtype)
    add_windows(dx, col.reshape(C, *kernel, *out, N), stride, 0, 0)
    return batch_first(dx[:, ph : ph + H, pw : pw + W])


def add_windows(dx: np.ndarray, windows: np.ndarray, stride: Pair, row: int, column: int) -> None:
    """Add windows (C, kh, kw, rows, columns, N), the first of which is output (row, column), to a
    padded dx.
    """
    _, kh, kw, rows, columns, _ = windows.shape
    sh, sw = stride
    top, left = row * sh, column * sw
    for i in range(kh):
        for j in range(kw):
            dx[
                :,
                top + i : top + i + (rows - 1) * sh + 1 : sh,
                left + j : left + j + (columns - 1) * sw + 1 : sw,
            ] += windows[:, i, j]
