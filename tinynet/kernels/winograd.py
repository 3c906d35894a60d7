"""Convolution with stride 1 in four times fewer multiplications: Winograd's way, on 7x7 tiles.

A small case first. A filter (g0, g1, g2) on four inputs (d0, d1, d2, d3) makes two outputs, and the
definition takes six products:

    y0 = d0 g0 + d1 g1 + d2 g2        y1 = d1 g0 + d2 g1 + d3 g2

Four products are enough:

    m1 = (d0 - d2) g0                 m2 = (d1 + d2) (g0 + g1 + g2)/2
    m4 = (d1 - d3) g2                 m3 = (d2 - d1) (g0 - g1 + g2)/2

    y0 = m1 + m2 + m3                 y1 = m2 - m3 - m4

In numbers: d = (1, 2, 3, 4) and g = (1, 2, 3) give m = (-2, 15, 1, -6), so y = (14, 20). The sums
of g are made once for all tiles. In matrices this is

    y = A^T [(G g) * (B^T d)]

Where the matrices come from: the product of two polynomials with m and r coefficients is one with
n = m + r - 1 coefficients. Evaluate both at n points, multiply the n pairs of values, and find the
polynomial through the products. One point is "infinity": the value there is the last coefficient.
So the product is B^-1 [(G g) * (A h)], with Vandermonde matrices A (n, m), G (n, r) and B (n, n);
their row for a point p is (1, p, p^2, ...). The filter, from n inputs to m outputs, is the
transpose of the map from the m coefficients h to those of the product, and a transposed product of
matrices is the product of the transposes in the other order. With B for the inverse, that is the
line above.

Along rows and columns both, a tile of m x m outputs comes from 7x7 inputs by 49 products: instead
of 225 for 3x3 kernels (m = 5) and of 225 for 5x5 ones (m = 3). Over all channels C, kernels O and
tiles P, each of the 49 is an entry of a matrix product, so forward, and its adjoints for weights
and inputs, are

    V = B^T d B     U = G g G^T     M = U @ V       (49, O, C) @ (49, C, P) -> (49, O, P)
    y = A^T M A

    dM = A dy A^T                   dU = dM @ V^T   (49, O, P) @ (49, P, C) -> (49, O, C)
    dg = G^T dU G                   dV = U^T @ dM   (49, C, O) @ (49, O, P) -> (49, C, P)
    dd = B dV B^T

and dx is the sum of dd over the tiles that cover a pixel. The transforms are matrix products as
well, with the Kronecker product of the small matrix with itself: 49 numbers in, 49 out.

Tiles of 7x7 fit AlexNet: conv2 makes 27 = 9 * 3 outputs a side, conv3 to conv5 make 13, just under
3 * 5. conv2 takes 0.6, conv3 to conv5 take 0.5 of the time that they take by im2col. Rounding
errors are some 20 times those of im2col: 2e-6 of the outputs' deviation in float32.

Source: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast Algorithms
for Convolutional Neural Networks", CVPR 2016, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, ranges
from tinynet.kernels.im2col import Pair, add_windows, pad, windows
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.linear import matmul

POINTS = (0, 1, -1, 0.5, -0.5, 2)  # and infinity; larger or closer ones lose more digits
SIDE = len(POINTS) + 1  # of a tile's inputs
COLUMNS = 384  # tiles times pictures handled at once: 256 to 768 did best
# backward is cut by pictures, so that no two threads add to the same pixel of dx, or to the same
# sum of dU
LANES = 8
RUN = 32  # pictures of a lane, unless there are few: shorter runs of memory are slower to copy

_M = Scratch()
_V = Scratch()
_d = Scratch()
_outputs = Scratch()
_sums = Scratch()
_dU = Scratch()
_product = Scratch()

Tiles = tuple[slice, slice, slice]  # a piece of work: tile rows, tile columns, pictures


def suits(x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, groups: int) -> bool:
    """Whether this is the quicker way: with few channels the transforms of inputs and outputs, with
    few tiles those of the weights, cost more than the products save. Where the limits lie was
    measured.
    """
    O, C, r, width = weight.shape
    if not (r == width and r in (3, 5) and stride == (1, 1) and groups == 1):
        return False
    (N, _, H, W), m = x.shape, SIDE - r + 1
    tiles = N * -(-(H + 2 * padding[0] - r + 1) // m) * -(-(W + 2 * padding[1] - r + 1) // m)
    return O * C >= 32 * (O + C) and tiles >= 80


def winograd_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, padding: Pair, relu: bool = False
) -> np.ndarray:
    """(N, C, H, W), (O, C, r, r), (O,) -> (N, O, H + 2 ph - r + 1, W + 2 pw - r + 1)."""
    O, C, r, _ = weight.shape
    A, G, B = _matrices(r, x.dtype)
    N, _, H, W = x.shape
    OH, OW = H + 2 * padding[0] - r + 1, W + 2 * padding[1] - r + 1
    padded = _pad(x, padding, r)
    y = pool.empty((O, OH, OW, N), x.dtype)
    U = matmul(G, weight.reshape(O * C, r * r).T).reshape(SIDE**2, O, C)

    def piece(tiles: Tiles) -> None:
        V = _transform_input(padded, B, r, tiles)
        M = _M.array((SIDE**2, O, V.shape[2]), x.dtype)
        np.matmul(U, V, out=M)
        if bias is not None:
            # At the point (1, 1), whose column of A^T is ones, the bias reaches every output.
            M[SIDE + 1] += bias[:, None]
        outputs = _outputs.array((len(A), M[0].size), x.dtype)
        np.matmul(A, M.reshape(SIDE**2, -1), out=outputs)
        for part, place in zip(outputs, _pixels(y, r, tiles), strict=True):
            part = part.reshape(O, *_size(tiles))[:, : place.shape[1], : place.shape[2]]
            np.maximum(part, 0, out=place) if relu else np.copyto(place, part)

    halves = ranges(N, -(-N // 2))  # for an even number of pieces where a picture has an odd one
    parallel_for(piece, [tiles for half in halves for tiles in _pieces(OH, OW, half, r)])
    return batch_first(y)


def winograd_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, padding: Pair, needs: tuple[bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dy (N, O, OH, OW), x (N, C, H, W) -> (dx, dw), None for each one that `needs` does not ask
    for.
    """
    (N, O, OH, OW), (_, C, H, W), r = dy.shape, x.shape, weight.shape[2]
    A, G, B = _matrices(r, x.dtype)
    (ph, pw), dy, padded = padding, batch_last(dy), _pad(x, padding, r)
    U = matmul(G, weight.reshape(O * C, r * r).T).reshape(SIDE**2, O, C)
    lanes = ranges(N, max(-(-N // LANES), min(RUN, -(-N // 2))))
    dx: Any = pool.empty((C, H, W, N), x.dtype) if needs[0] else None
    partial: Any = pool.empty((len(lanes), r * r, O * C), x.dtype) if needs[1] else None

    def lane(number: int) -> None:
        pictures = lanes[number]
        # Sums of dx, with its padding.
        sums = _sums.array((*padded.shape[:3], pictures.stop - pictures.start), x.dtype)
        sums[...] = 0
        dU = _dU.array((SIDE**2, O, C), x.dtype)
        for count, tiles in enumerate(_pieces(OH, OW, pictures, r)):
            dM = _transform_output_gradient(dy, A, r, tiles)
            if needs[1]:
                V = _transform_input(padded, B, r, tiles)
                product = _product.array(dU.shape, x.dtype) if count else dU
                np.matmul(dM, V.swapaxes(1, 2), out=product)
                if count:
                    dU += product
            if needs[0]:
                dV = _V.array((SIDE**2, C, dM.shape[2]), x.dtype)
                np.matmul(U.swapaxes(1, 2), dM, out=dV)
                d = _d.array((SIDE, SIDE, C, *_size(tiles)), x.dtype)
                np.matmul(B.T, dV.reshape(SIDE**2, -1), out=d.reshape(SIDE**2, -1))
                m = SIDE - r + 1
                add_windows(sums, np.moveaxis(d, 2, 0), (m, m), tiles[0].start, tiles[1].start)
        if needs[0]:
            dx[..., pictures] = sums[:, ph : ph + H, pw : pw + W]
        if needs[1]:
            np.matmul(G.T, dU.reshape(SIDE**2, O * C), out=partial[number])

    parallel_for(lane, range(len(lanes)))
    dw = np.ascontiguousarray(partial.sum(axis=0).T).reshape(O, C, r, r) if needs[1] else None
    return batch_first(dx) if needs[0] else None, dw


def _matrices(r: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T (m*m, 49), G (49, r*r) and B^T (49, 49), for tiles written as a column of numbers."""

    def vandermonde(n: int) -> np.ndarray:
        """Coefficients (n,) -> values at the points; at infinity it is the last coefficient."""
        return np.vstack([np.vander(POINTS, n, increasing=True), np.eye(n)[-1]])

    A, G, B = vandermonde(SIDE - r + 1), vandermonde(r), np.linalg.inv(vandermonde(SIDE))
    A2, G2, B2 = (np.kron(matrix, matrix).astype(dtype) for matrix in (A.T, G, B.T))
    return A2, G2, B2


def _pad(x: np.ndarray, padding: Pair, r: int) -> np.ndarray:
    """x with its padding, and with as many more zeros as the last tiles need: (C, Hp, Wp, N)."""
    m = SIDE - r + 1
    extra = tuple(-(n + 2 * p - r + 1) % m for n, p in zip(x.shape[2:], padding, strict=True))
    return pad(batch_last(x), padding, extra)


def _transform_input(padded: np.ndarray, B: np.ndarray, r: int, tiles: Tiles) -> np.ndarray:
    """V = B^T d B for some tiles: padded (C, Hp, Wp, N) -> (49, C, tiles*pictures), in this
    thread's buffer.
    """
    C, Hp, Wp, _ = padded.shape
    m = SIDE - r + 1
    TH, TW = (Hp - r + 1) // m, (Wp - r + 1) // m
    # (C, 7, 7, rows, columns, pictures)
    part = (..., *tiles)
    view = windows(padded, (SIDE, SIDE), (m, m), (TH, TW))[part]
    d = _d.array((SIDE, SIDE, C, *_size(tiles)), padded.dtype)
    np.copyto(d, np.moveaxis(view, 0, 2))
    V = _V.array((SIDE**2, C * d[0, 0, 0].size), padded.dtype)
    np.matmul(B, d.reshape(V.shape), out=V)
    return V.reshape(SIDE**2, C, -1)


def _transform_output_gradient(dy: np.ndarray, A: np.ndarray, r: int, tiles: Tiles) -> np.ndarray:
    """dM = A dy A^T for some tiles: dy (O, OH, OW, N) -> (49, O, tiles*pictures), in this thread's
    buffer.
    """
    O, size = len(dy), _size(tiles)
    d = _outputs.array((len(A), O, *size), dy.dtype)
    for part, place in zip(d, _pixels(dy, r, tiles), strict=True):
        _, height, width, _ = place.shape
        part[:, :height, :width] = place
        # Outputs that the last tiles have and dy has not.
        part[:, height:] = part[:, :height, width:] = 0
    dM = _M.array((SIDE**2, O * d[0, 0].size), dy.dtype)
    np.matmul(A.T, d.reshape(len(A), -1), out=dM)
    return dM.reshape(SIDE**2, O, -1)


def _pixels(y: np.ndarray, r: int, tiles: Tiles) -> Iterator[np.ndarray]:
    """For each of a tile's m*m outputs, where it lies in y (O, OH, OW, N): a view (O, rows,
    columns, pictures).
    """
    m = SIDE - r + 1
    rows, cols, pictures = tiles
    for i in range(m):
        for j in range(m):
            yield y[
                :,
                rows.start * m + i : rows.stop * m : m,
                cols.start * m + j : cols.stop * m : m,
                pictures,
            ]


def _pieces(OH: int, OW: int, pictures: slice, r: int) -> list[Tiles]:
    """The tiles of some pictures in pieces, each some rows of tiles or a part of one, COLUMNS in
    all or less.
    """
    m = SIDE - r + 1
    TH, TW = -(-OH // m), -(-OW // m)
    at_once = max(1, COLUMNS // (pictures.stop - pictures.start))
    rows = ranges(TH, max(1, at_once // TW))
    cols = ranges(TW, min(TW, at_once))
    return [(row, col, pictures) for row in rows for col in cols]


def _size(tiles: Tiles) -> tuple[int, ...]:
    return tuple(s.stop - s.start for s in tiles)
