"""The definition of every kernel as plain nested loops, one output element at a time: slow, short,
and hard to get wrong.

Backward here is not derived by hand a second time: `pullback` takes the derivative numerically
where a kernel is not linear, and the transposed matrix where it is.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def inside(i, n):
    return 0 <= i < n


def conv2d(x, weight, bias, stride, padding, groups):
    (N, _, H, W), (O, C_group, kh, kw) = x.shape, weight.shape
    OH = (H + 2 * padding[0] - kh) // stride[0] + 1
    OW = (W + 2 * padding[1] - kw) // stride[1] + 1
    y = np.zeros((N, O, OH, OW), np.result_type(x, weight))
    for n, o, oh, ow in np.ndindex(y.shape):
        group = o // (O // groups)
        total = bias[o] if bias is not None else 0.0
        for c, i, j in np.ndindex(C_group, kh, kw):
            h, w = oh * stride[0] + i - padding[0], ow * stride[1] + j - padding[1]
            if inside(h, H) and inside(w, W):
                total += weight[o, c, i, j] * x[n, group * C_group + c, h, w]
        y[n, o, oh, ow] = total
    return y


def im2col(x, kernel, stride, padding):
    N, C, H, W = x.shape
    OH = (H + 2 * padding[0] - kernel[0]) // stride[0] + 1
    OW = (W + 2 * padding[1] - kernel[1]) // stride[1] + 1
    col = np.zeros((C * kernel[0] * kernel[1], OH * OW * N), x.dtype)
    rows = itertools.product(range(C), range(kernel[0]), range(kernel[1]))
    for row, (c, i, j) in enumerate(rows):
        for column, (oh, ow, n) in enumerate(itertools.product(range(OH), range(OW), range(N))):
            h, w = oh * stride[0] + i - padding[0], ow * stride[1] + j - padding[1]
            if inside(h, H) and inside(w, W):
                col[row, column] = x[n, c, h, w]
    return col


def pool_windows(size, kernel, stride, padding, ceil_mode):
    """For one axis: the list of windows, each a list of (position in the window, pixel)."""
    starts = []
    start = -padding
    while start + kernel <= size + padding or (
        ceil_mode and start < size and start - stride + kernel < size + padding
    ):
        starts.append(start)
        start += stride
    return [[(i, s + i) for i in range(kernel) if inside(s + i, size)] for s in starts], starts


def max_pool2d(x, kernel, stride, padding, ceil_mode):
    """y, and the winner's position in its window: the first of the largest; of NaNs, the window's
    first pixel.
    """
    N, C, H, W = x.shape
    rows, _ = pool_windows(H, kernel[0], stride[0], padding[0], ceil_mode)
    cols, _ = pool_windows(W, kernel[1], stride[1], padding[1], ceil_mode)
    y = np.zeros((N, C, len(rows), len(cols)), x.dtype)
    winner = np.zeros(y.shape, int)
    for n, c, oh, ow in np.ndindex(y.shape):
        best, where, nan = -math.inf, None, False
        for i, h in rows[oh]:
            for j, w in cols[ow]:
                value = x[n, c, h, w]
                nan = nan or math.isnan(value)
                if where is None or value > best:
                    best, where = value, i * kernel[1] + j
        if nan:
            best, where = math.nan, rows[oh][0][0] * kernel[1] + cols[ow][0][0]
        y[n, c, oh, ow], winner[n, c, oh, ow] = best, where
    return y, winner


def avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad):
    N, C, H, W = x.shape
    rows, row_starts = pool_windows(H, kernel[0], stride[0], padding[0], ceil_mode)
    cols, col_starts = pool_windows(W, kernel[1], stride[1], padding[1], ceil_mode)
    y = np.zeros((N, C, len(rows), len(cols)), x.dtype)
    for n, c, oh, ow in np.ndindex(y.shape):
        total = sum(x[n, c, h, w] for _, h in rows[oh] for _, w in cols[ow])
        if count_include_pad:  # the pixels of the window that lie within picture and padding
            height = min(row_starts[oh] + kernel[0], H + padding[0]) - row_starts[oh]
            width = min(col_starts[ow] + kernel[1], W + padding[1]) - col_starts[ow]
            y[n, c, oh, ow] = total / (height * width)
        else:
            y[n, c, oh, ow] = total / (len(rows[oh]) * len(cols[ow]))
    return y


def local_response_norm(x, size, alpha, beta, k):
    y = np.zeros_like(x)
    C = x.shape[1]
    for index in np.ndindex(x.shape):
        n, c, *rest = index
        window = [j for j in range(c - size // 2, c + (size - 1) // 2 + 1) if inside(j, C)]
        squares = sum(x[(n, j, *rest)] ** 2 for j in window)
        y[index] = x[index] / (k + alpha / size * squares) ** beta
    return y


def spatial_response_norm(x, size, alpha, beta, k):
    y = np.zeros_like(x)
    _, _, H, W = x.shape
    reach = range(-(size // 2), (size - 1) // 2 + 1)
    for n, c, h, w in np.ndindex(x.shape):
        squares = sum(
            x[n, c, h + i, w + j] ** 2
            for i in reach
            for j in reach
            if inside(h + i, H) and inside(w + j, W)
        )
        y[n, c, h, w] = x[n, c, h, w] / (k + alpha / size**2 * squares) ** beta
    return y


def softmax(x, axis):
    y = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        line = list(index)
        total = 0.0
        for m in range(x.shape[axis]):
            line[axis] = m
            total += math.exp(x[tuple(line)] - x[index])
        y[index] = 1 / total
    return y


def cross_entropy(logits, target):
    """Losses (N,)."""
    return np.array(
        [
            math.log(sum(math.exp(v - row[t]) for v in row))
            for row, t in zip(logits, target, strict=True)
        ]
    )


def linear(x, weight, bias):
    y = np.zeros((len(x), len(weight)), x.dtype)
    for n, o in np.ndindex(y.shape):
        y[n, o] = sum(x[n, i] * weight[o, i] for i in range(x.shape[1])) + (
            0 if bias is None else bias[o]
        )
    return y


def pictures(pictures, mean, top, left, flip, colour, size, scale, border=0):
    N, H, W, C = pictures.shape
    h, w = size
    out = np.zeros((N, C, h + border, w + border), np.float64)
    for n, c, i, j in np.ndindex(N, C, h, w):
        column = w - 1 - j if flip[n] else j
        t, s = (top[n], left[n]) if (H, W) != size else (0, 0)
        tm, sm = (top[n], left[n]) if mean.shape[:2] != size else (0, 0)
        value = float(pictures[n, t + i, s + column, c]) - float(mean[tm + i, sm + column, c])
        out[n, c, i, j] = scale * (value + (colour[n, c] if colour is not None else 0))
    return out


# Philox4x64-10 (Salmon et al. 2011, table 2 and section 3.3), in Python's integers

MASK = 2**64 - 1
MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B


def philox(counter, key):
    """Four 64-bit words from a counter of four words and a key of two: ten rounds."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & MASK, (p0 >> 64) ^ x3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def dropout_mask(shape, p, seed, call):
    """True where kept. Lane l of word i is element 4 i + l, elements counted with the batch axis
    innermost.
    """
    count = math.prod(shape)
    lanes = []
    block = 1
    while len(lanes) < count:
        for word in philox((block, 0, 0, 0), (seed, call)):
            lanes += [(word >> 16 * lane) & 0xFFFF for lane in range(4)]
        block += 1
    mask = np.zeros(shape, bool)
    order = shape if len(shape) < 2 else (*shape[1:], shape[0])
    for lane, index in zip(lanes, np.ndindex(order), strict=False):
        place = index if len(shape) < 2 else (index[-1], *index[:-1])
        mask[place] = lane >= round(p * 65536)
    return mask


def sgd_step(weight, grad, velocity, lr, momentum, weight_decay):
    """New weight and velocity."""
    weight, velocity = weight.copy(), velocity.copy()
    for i in np.ndindex(weight.shape):
        velocity[i] = momentum * velocity[i] - lr * (grad[i] + weight_decay * weight[i])
        weight[i] = weight[i] + velocity[i]
    return weight, velocity


def transposed(linear_map, x_shape, dy):
    """A^T dy of a linear map A given as a function: one column of A for each element of x."""
    dx = np.zeros(x_shape)
    for index in np.ndindex(x_shape):
        unit = np.zeros(x_shape)
        unit[index] = 1
        dx[index] = (linear_map(unit) * dy).sum()
    return dx


def derivative(function, x, dy, eps=1e-6):
    """The gradient of <dy, function(x)> by central differences."""
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for step in (eps, -eps):
            moved = x.copy()
            moved[index] += step
            values.append(function(moved))
        dx[index] = (dy * (values[0] - values[1])).sum() / (2 * eps)
    return dx
