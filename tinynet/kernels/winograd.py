"""Convolution with 3x3 kernels and stride 1 in 2.25 times fewer multiplications: Winograd's F(2x2, 3x3).

In one dimension: two neighbouring outputs of a filter g of three taps, from four inputs d, need four products, not six:

    y0 = m0 + m1 + m2        m0 = (d0 - d2) g0        m1 = (d1 + d2) (g0 + g1 + g2) / 2
    y1 = m1 - m2 - m3        m3 = (d1 - d3) g2        m2 = (d2 - d1) (g0 - g1 + g2) / 2

or y = A^T [(G g) * (B^T d)] with the small matrices of these sums. Along rows and columns both, a tile of 2x2 outputs comes
from 4x4 inputs and needs 16 products instead of 36. Over all channels C, kernels O and tiles P, each of the 16 is an entry
of a matrix product, so forward, and its adjoint for the weights, are

    V = B^T d B     U = G g G^T     M = U @ V        y = A^T M A         (16, O, C) @ (16, C, P) -> (16, O, P)
    dM = A dy A^T                   dU = dM @ V^T    dg = G^T dU G       (16, O, P) @ (16, P, C) -> (16, O, C)

and dx is the convolution of dy with the kernels turned by 180 degrees, outputs and inputs exchanged.

AlexNet's conv3, conv4 and conv5 take half the time that they take by im2col. Rounding errors are about twice as large.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.im2col import Pair, pad
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.linear import matmul
from tinynet.memory import pool
from tinynet.threads import parallel_for, piece_size, ranges, scratch

G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
GG = np.kron(G, G)  # (16, 9): G g G^T of a kernel written as nine numbers
TILE_BYTES = (1 << 20, 4 << 20)  # the fewest and the most of V (or M) handled at once
LANES = 8  # partial sums of dU, each over its own run of tiles, added in a fixed order


def suits(weight: np.ndarray, stride: Pair, padding: Pair, groups: int) -> bool:
    """Whether this is the quicker way. Below 16 channels the transforms cost more than the products save."""
    return weight.shape[2:] == (3, 3) and stride == (1, 1) and max(padding) <= 2 and groups == 1 and min(weight.shape[:2]) >= 16


def winograd_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, padding: Pair) -> np.ndarray:
    """(N, C, H, W), (O, C, 3, 3), (O,) -> (N, O, H + 2 ph - 2, W + 2 pw - 2)."""
    N, C, H, W = x.shape
    O = len(weight)
    OH, OW = H + 2 * padding[0] - 2, W + 2 * padding[1] - 2
    padded = pad(batch_last(x), padding, extra=(OH % 2, OW % 2))
    y = pool.empty((O, OH, OW, N), x.dtype)
    U = _transform_weights(weight)

    def piece(tile: tuple[slice, slice]) -> None:
        V = _transform_input(padded, *tile)
        M = scratch("M", (16, O, V.shape[2]), x.dtype)
        np.matmul(U, V, out=M)
        rows, cols = (slice(2 * s.start, 2 * s.stop) for s in tile)
        y_ = y[:, rows, cols]
        th, tw = (s.stop - s.start for s in tile)
        _transform_output(M.reshape(4, 4, O, th, tw, N), y_)
        if bias is not None:
            y_ += bias[:, None, None, None]

    parallel_for(piece, _tiles(OH, OW, max(C, O) * N * x.itemsize))
    return batch_first(y)


def winograd_input_gradient(dy: np.ndarray, weight: np.ndarray, padding: Pair) -> np.ndarray:
    """dy (N, O, OH, OW) -> dx (N, C, OH + 2 - 2 ph, OW + 2 - 2 pw); padding at most 2."""
    turned = np.ascontiguousarray(weight[:, :, ::-1, ::-1].swapaxes(0, 1))
    return winograd_forward(dy, turned, None, (2 - padding[0], 2 - padding[1]))


def winograd_weight_gradient(dy: np.ndarray, x: np.ndarray, padding: Pair) -> np.ndarray:
    """dy (N, O, OH, OW), x (N, C, H, W) -> dw (O, C, 3, 3)."""
    (N, C, _, _), (_, O, OH, OW) = x.shape, dy.shape
    odd = (OH % 2, OW % 2)
    padded = pad(batch_last(x), padding, extra=odd)
    dy = pad(batch_last(dy), (0, 0), extra=odd)
    tiles = _tiles(OH, OW, max(C, O) * N * x.itemsize)
    lanes = [tiles[run] for run in ranges(len(tiles), -(-len(tiles) // LANES))]
    partial = pool.empty((len(lanes), 16, O, C), x.dtype)

    def piece(lane: int) -> None:
        for number, tile in enumerate(lanes[lane]):
            V = _transform_input(padded, *tile)
            dM = _transform_output_gradient(dy, *tile)
            if number == 0:
                np.matmul(dM, V.swapaxes(1, 2), out=partial[lane])
            else:
                product = scratch("product", (16, O, C), x.dtype)
                np.matmul(dM, V.swapaxes(1, 2), out=product)
                partial[lane] += product

    parallel_for(piece, range(len(lanes)))
    dU = partial.sum(axis=0).reshape(16, O * C)
    dg = matmul(GG.T.astype(x.dtype), dU)  # (9, 16) @ (16, O*C) -> (9, O*C)
    return np.ascontiguousarray(dg.T).reshape(O, C, 3, 3)


def _transform_weights(weight: np.ndarray) -> np.ndarray:
    """U = G g G^T: (O, C, 3, 3) -> (16, O, C)."""
    O, C, _, _ = weight.shape
    return matmul(GG.astype(weight.dtype), weight.reshape(O * C, 9).T).reshape(16, O, C)


def _transform_input(padded: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    """V = B^T d B for some tiles: padded (C, Hp, Wp, N) -> (16, C, tiles*N), in this thread's buffer."""
    d = padded[:, 2 * rows.start : 2 * rows.stop + 2, 2 * cols.start : 2 * cols.stop + 2]
    C, height, width, N = d.shape
    th, tw = height // 2 - 1, width // 2 - 1
    half = scratch("half", (4, C, th, width, N), d.dtype)
    _apply_B([d[:, i : i + 2 * th - 1 : 2] for i in range(4)], half)
    V = scratch("V", (4, 4, C, th, tw, N), d.dtype)
    _apply_B([half[:, :, :, j : j + 2 * tw - 1 : 2] for j in range(4)], V.swapaxes(0, 1))
    return V.reshape(16, C, -1)


def _apply_B(d: list[np.ndarray], out: np.ndarray) -> None:
    np.subtract(d[0], d[2], out=out[0])
    np.add(d[1], d[2], out=out[1])
    np.subtract(d[2], d[1], out=out[2])
    np.subtract(d[1], d[3], out=out[3])


def _transform_output(M: np.ndarray, y: np.ndarray) -> None:
    """y = A^T M A: M (4, 4, O, th, tw, N), overwritten -> y (O, rows, columns, N), which may lack the last of each."""
    M[0] += M[1]
    M[0] += M[2]
    M[1] -= M[2]
    M[1] -= M[3]
    for i in range(2):
        m = M[i, :, :, : (y.shape[1] - i + 1) // 2]
        m[0] += m[1]
        np.add(m[0], m[2], out=y[:, i::2, 0::2])
        m = m[:, :, :, : y.shape[2] // 2]
        m[1] -= m[2]
        np.subtract(m[1], m[3], out=y[:, i::2, 1::2])


def _transform_output_gradient(dy: np.ndarray, rows: slice, cols: slice) -> np.ndarray:
    """dM = A dy A^T for some tiles: dy (O, even, even, N) -> (16, O, tiles*N), in this thread's buffer."""
    dy = dy[:, 2 * rows.start : 2 * rows.stop, 2 * cols.start : 2 * cols.stop]
    O, height, width, N = dy.shape
    half = scratch("half", (4, O, height // 2, width, N), dy.dtype)
    _apply_A(dy[:, 0::2], dy[:, 1::2], half)
    dM = scratch("M", (4, 4, O, height // 2, width // 2, N), dy.dtype)
    _apply_A(half[:, :, :, 0::2], half[:, :, :, 1::2], dM.swapaxes(0, 1))
    return dM.reshape(16, O, -1)


def _apply_A(even: np.ndarray, odd: np.ndarray, out: np.ndarray) -> None:
    np.copyto(out[0], even)
    np.add(even, odd, out=out[1])
    np.subtract(even, odd, out=out[2])
    np.negative(odd, out=out[3])


def _tiles(OH: int, OW: int, pixel_bytes: int) -> list[tuple[slice, slice]]:
    """Runs of 2x2 tiles (tile rows, tile columns), some rows or a part of one, of about TILE_BYTES each."""
    TH, TW = -(-OH // 2), -(-OW // 2)
    tile_bytes = max(1, 16 * pixel_bytes)
    tiles = max(1, piece_size(TH * TW * tile_bytes, *TILE_BYTES) // tile_bytes)  # an empty batch has none
    if tiles >= TW:
        return [(rows, slice(0, TW)) for rows in ranges(TH, tiles // TW)]
    parts = -(-TW // tiles)
    return [(slice(row, row + 1), cols) for row in range(TH) for cols in ranges(TW, -(-TW // parts))]
