"""Convolution with stride 1 in four times fewer multiplications: Winograd's way, on tiles.

A small case first. A filter (g0, g1, g2) on four inputs (d0, d1, d2, d3) makes two outputs, and the
definition takes six products:

    y0 = d0 g0 + d1 g1 + d2 g2        y1 = d1 g0 + d2 g1 + d3 g2

Four products are enough:

    m1 = (d0 - d2) g0                 m2 = (d1 + d2) (g0 + g1 + g2)/2
    m4 = (d3 - d1) g2                 m3 = (d2 - d1) (g0 - g1 + g2)/2

    y0 = m1 + m2 + m3                 y1 = m2 - m3 + m4

In numbers: d = (1, 2, 3, 4) and g = (1, 2, 3) give m = (-2, 15, 1, 6), so y = (14, 20). The sums
of g are made once for all tiles. In matrices this is

    y = A^T [(G g) * (B^T d)]

The matrices come from the product of two polynomials, in three steps.

1. (h0 + h1 t) (g0 + g1 t + g2 t^2) has four coefficients, c. Four values determine them: those at
t = 0, 1 and -1, and the last coefficient, which is called the value at infinity.

    at 0: h0 g0     at 1: (h0 + h1) (g0 + g1 + g2)     at -1: (h0 - h1) (g0 - g1 + g2)
    at infinity: h1 g2

So the values are (A h) * (G g). The row of A and G for a point p is (1, p, p^2, ...), for infinity
(0, ..., 0, 1). With B, the inverse of the matrix (4, 4) of such rows, c = B [(A h) * (G g)].

2. Without values, c = T h, where column k of T holds g, moved down by k:

        g0  0
    T = g1 g0        c0 = g0 h0, c1 = g1 h0 + g0 h1, ...
        g2 g1
         0 g2

The filter is the transpose of it: y = T^T d, since y0 = g0 d0 + g1 d1 + g2 d2.

3. Both ways give the same c for every h, so T = B diag(G g) A. Transposed, T^T = A^T diag(G g) B^T,
which is the line above. (There, the halves of B are written at the sums of g.)

In general there are m outputs, r weights, n = m + r - 1 inputs and as many points: A (n, m),
G (n, r), B (n, n), and n products instead of m r.

Along rows and columns both, a tile of m x m outputs comes from n x n inputs by q = n^2 products.
Tiles of 6x6 make 4x4 outputs of a 3x3 kernel with 36 products instead of 144. Tiles of 7x7 make 5x5
with 49 instead of 225, and 3x3 outputs of a 5x5 kernel with as many. Over all channels C, kernels O
and tiles P, each of the q is an entry of a matrix product, so forward, and its adjoint for the
weights, are

    V = B^T d B     U = G g G^T     M = U @ V       (q, O, C) @ (q, C, P) -> (q, O, P)
    y = A^T M A

    dM = A dy A^T                   dU = dM @ V^T   (q, O, P) @ (q, P, C) -> (q, O, C)
    dg = G^T dU G

The inputs' gradient is such a convolution again, of dy with the kernels turned (conv2d.py). The
transforms are matrix products as well, with the Kronecker product of the small matrix with itself:
q numbers in, q out. A wide product of so few rows would be bound by BLAS's own copies. So tiles
come in runs of about 64, whose products need none: all matrices of a run lie in the nearest cache.

A sum of costs (`_cost`) says which way is the quickest: im2col, or which tile. Tiles of 7x7 fit
AlexNet, where conv2 makes 27 = 9 * 3 outputs a side, conv3 to conv5 make 13, just under 3 * 5.
Tiles of 6x6 fit sides of 8, 16 and 32, and lose fewer digits.

Rounding errors in float32 of 512 channels, root mean square and largest, as shares of the deviation
of the result (x, weights and dy drawn from a normal distribution; pictures of 13x13):

    way           outputs           dx                dw
    im2col        4e-7  2e-6        4e-7  3e-6        2e-7  1e-6
    6x6           2e-6  2e-5        1e-6  2e-5        1e-6  1e-5
    7x7           6e-6  9e-5        3e-6  4e-5        3e-6  5e-5

To compare digits, take im2col: `with tinynet.direct_convolution():`.

Source: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms
for Convolutional Neural Networks", CVPR 2016, section 4.
"""

from __future__ import annotations

import functools
import threading
from contextlib import ContextDecorator
from typing import NamedTuple

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import Job, parts, ranges
from tinynet.kernels.im2col import Pair, patch, windows
from tinynet.kernels.layout import batch_first, batch_last, cut_to_zero
from tinynet.kernels.linear import matmul

# Side of a tile's inputs -> its points; infinity is one more. Of the sets of small numbers these
# lose the fewest digits.
POINTS = {6: (0, 1, -1, 0.5, -2), 7: (0, 1, -1, 0.5, -0.5, -3)}
# Tiles times pictures of one product. Where O * C is at most SMALL, RUN of them stay in the nearest
# cache, and BLAS copies nothing; else many make up for the copy.
RUN, LONG_RUN, SMALL = 64, 384, 1 << 14
PIECE = 1 << 14  # numbers of an entry (tiles, pictures and channels) that a piece has about
LANES = 8  # partial sums of dU, each over its own pieces, added in a fixed order
HALF = 16  # a batch is halved, but not so far that runs of memory become shorter than this

_patch = Scratch()
_M = Scratch()
_V = Scratch()
_d = Scratch()
_outputs = Scratch()
_block = Scratch()
_dU = Scratch()
_product = Scratch()

_local = threading.local()


class direct_convolution(ContextDecorator):
    """Within it (or in a function decorated with it) no convolution of this thread goes Winograd's
    way, forward or backward: slower, with a sixth to a fifteenth of the rounding error. It
    serves to compare digits.
    """

    def __enter__(self) -> None:
        _local.direct = getattr(_local, "direct", 0) + 1

    def __exit__(self, *exception: object) -> None:
        _local.direct -= 1


# Nanoseconds of one core, measured where BLAS makes 85 GFLOP/s: a multiplication and addition in a
# product; a number copied to make columns; a number of a tile gathered or put back. Only their
# ratios count.
PRODUCT, COPY, TILE_COPY = 0.024, 0.5, 0.9


def tile_side(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, groups: int
) -> int | None:
    """The side of the tiles with which Winograd's way is the quickest, or None where im2col is: for
    few channels the transforms cost more than the products save, for few tiles those of the weights
    do, and a tile that hangs over the edge works for nothing.
    """
    O, C, r, width = weight.shape
    if not (r == width and r in (3, 5) and stride == (1, 1) and groups == 1):
        return None
    if getattr(_local, "direct", 0):
        return None
    N, _, H, W = x.shape
    OH, OW = H + 2 * padding[0] - r + 1, W + 2 * padding[1] - r + 1
    return _quickest(N, C, O, r, OH, OW)


@functools.lru_cache(1024)
def _quickest(N: int, C: int, O: int, r: int, OH: int, OW: int) -> int | None:
    best: tuple[float, int | None] = _cost_of_im2col(N, C, O, r, OH, OW), None
    for side in POINTS if r == 3 else (7,):
        best = min(best, (_cost(side, N, C, O, r, OH, OW), side), key=lambda way: way[0])
    return best[1]


def _cost(side: int, N: int, C: int, O: int, r: int, OH: int, OW: int) -> float:
    """Of a forward: the transforms of inputs, outputs and weights, and the products."""
    m, q = side - r + 1, side**2
    tiles = N * -(-OH // m) * -(-OW // m)
    each = q * PRODUCT + TILE_COPY  # to make a number of a transform
    weights = O * C * q * (r * r * PRODUCT + TILE_COPY)
    return tiles * (C * q * each + O * m * m * each + O * C * q * PRODUCT) + weights


def _cost_of_im2col(N: int, C: int, O: int, r: int, OH: int, OW: int) -> float:
    pixels = N * OH * OW
    return pixels * (O * C * r * r * PRODUCT + C * r * COPY + O * COPY)


class Piece(NamedTuple):
    """Some tiles of some pictures. Each run of them, so many rows, makes products of its own."""

    rows: slice  # of tiles
    cols: slice  # of tiles
    pictures: slice
    runs: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Runs, rows of tiles in each, columns, pictures."""
        rows, cols, pictures = (s.stop - s.start for s in self[:3])
        return self.runs, rows // self.runs, cols, pictures

    def pixels(self, m: int, first: Pair = (0, 0), more: int = 0) -> tuple[slice, slice]:
        """Rows and columns of the picture on which its tiles, m a side, lie: moved by `first`, and
        `more` at the end.
        """
        rows, cols = (
            slice(s.start * m + f, s.stop * m + f + more)
            for s, f in zip((self.rows, self.cols), first, strict=True)
        )
        return rows, cols


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    padding: Pair,
    side: int,
    relu: bool = False,
) -> Job:
    """(N, C, H, W), (O, C, r, r), (O,) -> (N, O, H + 2 ph - r + 1, W + 2 pw - r + 1), by tiles of
    that side.
    """
    (O, C, r, _), (N, _, H, W) = weight.shape, x.shape
    m, q = side - r + 1, side**2
    A, G, B = _matrices(side, r, x.dtype)
    OH, OW = H + 2 * padding[0] - r + 1, W + 2 * padding[1] - r + 1
    x = batch_last(x)
    y = pool.empty((O, OH, OW, N), x.dtype)
    U = matmul(G, weight.reshape(O * C, r * r).T).reshape(q, O, C)

    def work(piece: Piece) -> None:
        V = _transform_input(x, B, padding, m, piece)
        runs, P = piece.runs, V.shape[-1]
        M = np.matmul(U, V, out=_M.array((runs, q, O, P), x.dtype))
        if bias is not None:
            # At the point (1, 1), whose column of A^T is ones, the bias reaches every output.
            M[:, side + 1] += bias[:, None]
        # (m*m, q) @ (runs, O, q, P) -> (runs, O, m*m, P)
        outputs = _outputs.array((runs, O, m * m, P), x.dtype)
        np.matmul(A, M.swapaxes(1, 2), out=outputs)
        if relu:
            flat = outputs.reshape(runs * O, -1)
            cut_to_zero(flat, flat)
        _put(outputs, y, m, piece)

    return Job(work, _all_pieces(N, OH, OW, m, O, C), lambda: batch_first(y))


def weight_gradient(dy: np.ndarray, x: np.ndarray, r: int, padding: Pair, side: int) -> Job:
    """dy (N, O, OH, OW), x (N, C, H, W) -> dw (O, C, r, r).

    (dx is a forward, of dy with the kernels turned: conv2d.py. It takes no longer than the adjoint
    of each step would, which adds up overlapping tiles.)
    """
    (N, O, OH, OW), C = dy.shape, x.shape[1]
    m, q = side - r + 1, side**2
    A, G, B = _matrices(side, r, x.dtype)
    At, dy, x = np.ascontiguousarray(A.T), batch_last(dy), batch_last(x)
    pieces = _all_pieces(N, OH, OW, m, O, C)
    lanes = [pieces[some] for some in parts(len(pieces), LANES)]
    partial = pool.empty((len(lanes), r * r, O * C), x.dtype)

    def lane(number: int) -> None:
        dU, product = (scratch.array((q, O, C), x.dtype) for scratch in (_dU, _product))
        dU[...] = 0
        for piece in lanes[number]:
            dM = _transform_output_gradient(dy, At, m, piece)
            V = _transform_input(x, B, padding, m, piece)
            for dM_, V_ in zip(dM, V, strict=True):  # each run: (q, O, P) @ (q, P, C) -> (q, O, C)
                dU += np.matmul(dM_, V_.swapaxes(1, 2), out=product)
        np.matmul(G.T, dU.reshape(q, O * C), out=partial[number])

    def result() -> np.ndarray:
        return np.ascontiguousarray(partial.sum(axis=0).T).reshape(O, C, r, r)

    return Job(lane, range(len(lanes)), result)


@functools.cache
def _matrices(side: int, r: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (m*m, q), G (q, r*r) and B^T (q, q), for tiles written as a column of q numbers."""

    def vandermonde(n: int) -> np.ndarray:
        """Coefficients (n,) -> values at the points; at infinity it is the last coefficient."""
        return np.vstack([np.vander(POINTS[side], n, increasing=True), np.eye(n)[-1]])

    A, G, B = vandermonde(side - r + 1), vandermonde(r), np.linalg.inv(vandermonde(side))
    A2, G2, B2 = (np.kron(matrix, matrix).astype(dtype) for matrix in (A.T, G, B.T))
    return A2, G2, B2


def _transform_input(
    x: np.ndarray, B: np.ndarray, padding: Pair, m: int, piece: Piece
) -> np.ndarray:
    """V = B^T d B for the tiles of a piece: x (C, H, W, N) -> (runs, q, C, P), in this thread's
    buffer. P is the tiles of a run, times pictures.
    """
    C, q = len(x), len(B)
    side = int(q**0.5)
    runs, h, w, n = piece.shape
    place = piece.pixels(m, (-padding[0], -padding[1]), side - m)
    part = patch(x[..., piece.pictures], *place, _patch)
    view = windows(part, (side, side), (m, m), (runs * h, w))  # (C, side, side, rows, columns, n)
    d = _d.array((runs, C, side, side, h, w, n), x.dtype)
    np.copyto(d, view.reshape(C, side, side, runs, h, w, n).transpose(3, 0, 1, 2, 4, 5, 6))
    V = _V.array((runs, q, C, h * w * n), x.dtype)
    # (q, q) @ (runs, C, q, P) -> (runs, C, q, P)
    np.matmul(B, d.reshape(runs, C, q, -1), out=V.swapaxes(1, 2))
    return V


def _transform_output_gradient(dy: np.ndarray, At: np.ndarray, m: int, piece: Piece) -> np.ndarray:
    """dM = A dy A^T for the tiles of a piece: dy (O, OH, OW, N) -> (runs, q, O, P), in this
    thread's buffer; dy is 0 where a tile hangs over the edge.
    """
    O, q = len(dy), len(At)
    runs, h, w, n = piece.shape
    part = patch(dy[..., piece.pictures], *piece.pixels(m), _patch)
    d = _outputs.array((runs, O, m, m, h, w, n), dy.dtype)
    np.copyto(d, part.reshape(O, runs, h, m, w, m, n).transpose(1, 0, 3, 5, 2, 4, 6))
    dM = _M.array((runs, q, O, h * w * n), dy.dtype)
    # (q, m*m) @ (runs, O, m*m, P) -> (runs, O, q, P)
    np.matmul(At, d.reshape(runs, O, m * m, -1), out=dM.swapaxes(1, 2))
    return dM


def _put(outputs: np.ndarray, y: np.ndarray, m: int, piece: Piece) -> None:
    """Write the outputs (runs, O, m*m, P) of a piece to where they belong in y (O, OH, OW, N);
    those over the edge are dropped.
    """
    O, (runs, h, w, n) = len(y), piece.shape
    rows, cols = piece.pixels(m)
    place = y[:, rows, cols, piece.pictures]
    size = O, runs * h * m, w * m, n
    block = place if place.shape == size else _block.array(size, y.dtype)
    np.copyto(
        block.reshape(O, runs, h, m, w, m, n),
        outputs.reshape(runs, O, m, m, h, w, n).transpose(1, 0, 4, 2, 5, 3, 6),
    )
    if block is not place:
        np.copyto(place, block[:, : place.shape[1], : place.shape[2]])


def _all_pieces(N: int, OH: int, OW: int, m: int, O: int, C: int) -> list[Piece]:
    """Of all pictures, in halves so that their number is even."""
    halves = ranges(N, max(HALF, -(-N // 2)))
    return [piece for half in halves for piece in _pieces(OH, OW, half, m, O, C)]


def _pieces(OH: int, OW: int, pictures: slice, m: int, O: int, C: int) -> list[Piece]:
    """All tiles of some pictures, cut so that a run has about RUN tiles times pictures, or
    LONG_RUN, and a piece as many runs as make it worth a call of a few functions.
    """
    run = RUN if O * C <= SMALL else LONG_RUN
    TH, TW = -(-OH // m), -(-OW // m)
    N = pictures.stop - pictures.start
    n = -(-N // -(-N // run)) if N else 1  # pictures of a run: an equal share, at most `run`
    w = min(TW, max(1, run // n))  # columns of tiles of a run, as many as fill it
    # Rows likewise, but no more than half of them: there is a piece for a second thread.
    h = min(-(-TH // 2), max(1, run // (n * w))) if w == TW else 1
    runs = max(1, PIECE // (max(O, C) * h * w * n))  # of a piece
    pieces = []
    for first in range(pictures.start, pictures.stop, n):
        some = slice(first, min(first + n, pictures.stop))
        for cols in ranges(TW, w):
            whole = TH - TH % h
            for rows in ranges(whole, h * runs):
                pieces.append(Piece(rows, cols, some, (rows.stop - rows.start) // h))
            if whole < TH:
                pieces.append(Piece(slice(whole, TH), cols, some, 1))
    return pieces
