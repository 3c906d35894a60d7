"""Convolution with dilation: the kernel looks at every d-th pixel.

    y[n, o, oh, ow] = b[o] + sum over c, i, j of
                             w[o, c, i, j] * x[n, c, oh*sh + i*dh - ph, ow*sw + j*dw - pw]

It is done by ordinary convolutions, with the same number of products. Take one axis, and write s, d
and p for stride, dilation and padding, g for the greatest common divisor of s and d, R = d / g.
Output oh = R q + r (r = 0 ... R - 1) sees the pixels

    (R q + r) s + i d - p  =  d (q s/g + i) + (r s - p)        since R s = d s/g

which are the pixels q s/g + i of the picture x_r[u] = x[d u + r s - p]. So the outputs of one r are
an ordinary convolution of x_r with stride s/g, without padding or dilation. The R x R pictures of
both axes go through it as if they were more pictures of the batch:

    apart: x -> x_r        conv2d        together: outputs of all r -> y, each in its place

Two of the x_r never hold the same pixel: r s - r' s is a multiple of d only if r - r' is one of R.
So both steps copy, and their adjoints copy back; a pixel that no window sees gets the gradient 0.

Source: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", 2015, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.devices import Device
from tinynet.kernels.im2col import Pair

Piece = tuple[slice, slice]  # where in x_r, where in x


def dilated_size(kernel: Pair, dilation: Pair) -> Pair:
    """Pixels from the first that a kernel looks at to the last."""
    kh, kw = ((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    return kh, kw


def dilated_conv2d_definition(
    x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> np.ndarray:
    """The formula at the top without b, one output at a time."""
    (N, _, H, W), (O, C_group, kh, kw) = x.shape, weight.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    OH = (H + 2 * ph - (kh - 1) * dh - 1) // sh + 1
    OW = (W + 2 * pw - (kw - 1) * dw - 1) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    y = np.zeros((N, O, OH, OW), np.result_type(x, weight))
    for n, o, oh, ow in np.ndindex(y.shape):
        first = o // (O // groups) * C_group
        for c, i, j in np.ndindex(C_group, kh, kw):
            pixel = padded[n, first + c, oh * sh + i * dh, ow * sw + j * dw]
            y[n, o, oh, ow] += weight[o, c, i, j] * pixel
    return y


class Axis:
    """One axis of a dilated convolution: how it falls apart."""

    def __init__(self, size: int, kernel: int, stride: int, padding: int, dilation: int):
        common = math.gcd(stride, dilation)
        self.size, self.stride, self.parts = size, stride // common, dilation // common
        self.outputs = (size + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1
        self.rows = -(-self.outputs // self.parts)  # outputs of one r; the last may be too many
        self.length = (self.rows - 1) * self.stride + kernel  # of an x_r
        self.pieces: list[Piece] = []  # by r, without what lies outside of the picture
        for r in range(self.parts):
            start = r * stride - padding
            first = max(0, -(start // dilation))
            end = max(first, min(self.length, -((start - size) // dilation)))
            begin = start + first * dilation
            last = begin + (end - first - 1) * dilation + 1
            self.pieces.append((slice(first, end), slice(begin, max(begin, last), dilation)))


class Apart:
    """How a picture of two axes falls apart, and its outputs come together. Arrays are of any
    device; batch innermost in memory, as everywhere.
    """

    def __init__(self, device: Device, *axes: Axis):
        self.device, self.axes = device, axes
        self.stride = axes[0].stride, axes[1].stride

    def inputs(self, x: Any) -> Any:
        """(N, C, H, W) -> all x_r, (R*R*N, C, length, length)."""
        (N, C, *_), (h, w) = x.shape, self.axes
        parts = self.device.empty((C, h.length, w.length, h.parts, w.parts, N), x.dtype)
        parts.fill(0)
        x = x.transpose(1, 2, 3, 0)
        for r, (into_h, of_h), s, (into_w, of_w) in self._pieces():
            parts[:, into_h, into_w, r, s] = x[:, of_h, of_w]
        return parts.reshape(C, h.length, w.length, -1).transpose(3, 0, 1, 2)

    def inputs_backward(self, dparts: Any) -> Any:
        """The adjoint: each gradient back in its pixel's place."""
        h, w = self.axes
        C = dparts.shape[1]
        dparts = dparts.transpose(1, 2, 3, 0).reshape(C, h.length, w.length, h.parts, w.parts, -1)
        dx = self.device.empty((C, h.size, w.size, dparts.shape[-1]), dparts.dtype)
        dx.fill(0)
        for r, (into_h, of_h), s, (into_w, of_w) in self._pieces():
            dx[:, of_h, of_w] = dparts[:, into_h, into_w, r, s]
        return dx.transpose(3, 0, 1, 2)

    def outputs(self, y: Any) -> Any:
        """(R*R*N, O, rows, rows) -> (N, O, OH, OW)."""
        h, w = self.axes
        O = y.shape[1]
        y = y.transpose(1, 2, 3, 0).reshape(O, h.rows, w.rows, h.parts, w.parts, -1)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(O, h.rows * h.parts, w.rows * w.parts, -1)
        return y[:, : h.outputs, : w.outputs].transpose(3, 0, 1, 2)

    def outputs_backward(self, dy: Any) -> Any:
        """The adjoint: outputs that were too many get the gradient 0."""
        (N, O, *_), (h, w) = dy.shape, self.axes
        parts = self.device.empty((O, h.rows * h.parts, w.rows * w.parts, N), dy.dtype)
        parts.fill(0)
        parts[:, : h.outputs, : w.outputs] = dy.transpose(1, 2, 3, 0)
        parts = parts.reshape(O, h.rows, h.parts, w.rows, w.parts, N).transpose(0, 1, 3, 2, 4, 5)
        return parts.reshape(O, h.rows, w.rows, -1).transpose(3, 0, 1, 2)

    def _pieces(self) -> Iterator[tuple]:
        """(r, *piece) of the rows with (s, *piece) of the columns."""
        for r, rows in enumerate(self.axes[0].pieces):
            for s, columns in enumerate(self.axes[1].pieces):
                yield r, rows, s, columns
