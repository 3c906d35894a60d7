"""Chapter 7: who gets the gradient of a maximum."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks


def max_pool2d_backward(dy, winner, x_shape, kernel, stride, padding):
    """dx[n, c, h, w] = sum of dy[n, c, oh, ow] over the windows in which pixel (h, w) won

    Window (oh, ow) begins at row oh*sh - ph and column ow*sw - pw of the picture.
    dy (N, C, OH, OW). winner (N, C, OH, OW): the place in its window of the pixel that won,
    i*kw + j for row i and column j. It is a uint8, which holds nothing below 0: count with
    int(winner[...]). x_shape (N, C, H, W), kernel (kh, kw), stride (sh, sw), padding (ph, pw).
    Returns dx (N, C, H, W).
    """
    dx = np.zeros(x_shape, dy.dtype)
    for n, c, oh, ow in np.ndindex(dy.shape):
        i, j = divmod(int(winner[n, c, oh, ow]), kernel[1])
        h, w = oh * stride[0] - padding[0] + i, ow * stride[1] - padding[1] + j
        dx[n, c, h, w] += dy[n, c, oh, ow]
    return dx


def overwrites(dy, winner, x_shape, kernel, stride, padding):
    dx = np.zeros(x_shape, dy.dtype)
    for n, c, oh, ow in np.ndindex(dy.shape):
        i, j = divmod(int(winner[n, c, oh, ow]), kernel[1])
        h, w = oh * stride[0] - padding[0] + i, ow * stride[1] - padding[1] + j
        dx[n, c, h, w] = dy[n, c, oh, ow]
    return dx


def cut(dy, winner, x_shape, kernel, stride, top, left):
    """dx of the padded picture, then a part of it that begins at (top, left)."""
    N, C, H, W = x_shape
    size = 2 * max(H, W) * max(kernel)  # no window reaches beyond
    whole = max_pool2d_backward(dy, winner, (N, C, size, size), kernel, stride, (0, 0))
    return whole[:, :, top : top + H, left : left + W]


def not_cut(dy, winner, x_shape, kernel, stride, padding):
    shape = (*x_shape[:2], x_shape[2] + 2 * padding[0], x_shape[3] + 2 * padding[1])
    return max_pool2d_backward(dy, winner, shape, kernel, stride, (0, 0))


def cut_at_the_corner(dy, winner, x_shape, kernel, stride, padding):
    return cut(dy, winner, x_shape, kernel, stride, 0, 0)


def cut_exchanged(dy, winner, x_shape, kernel, stride, padding):
    return cut(dy, winner, x_shape, kernel, stride, padding[1], padding[0])


def without_padding(dy, winner, x_shape, kernel, stride, padding):
    return max_pool2d_backward(dy, winner, x_shape, kernel, stride, (0, 0))


def padding_twice(dy, winner, x_shape, kernel, stride, padding):
    ph, pw = padding
    return max_pool2d_backward(dy, winner, x_shape, kernel, stride, (2 * ph, 2 * pw))


def sides_exchanged(dy, winner, x_shape, kernel, stride, padding):
    return max_pool2d_backward(dy, winner, x_shape, kernel, stride, padding[::-1])


def first_of_each_pair(dy, winner, x_shape, kernel, stride, padding):
    return max_pool2d_backward(dy, winner, x_shape, kernel, stride[:1] * 2, padding[:1] * 2)


def kh_for_kw(dy, winner, x_shape, kernel, stride, padding):
    return max_pool2d_backward(dy, winner, x_shape, kernel[::-1], stride, padding)


def stride_is_kernel(dy, winner, x_shape, kernel, stride, padding):
    return max_pool2d_backward(dy, winner, x_shape, kernel, kernel, padding)


def shares(dy, winner, x_shape, kernel, stride, padding):
    parts = [
        cut(dy, np.full_like(winner, n), x_shape, kernel, stride, *padding)
        for n in range(kernel[0] * kernel[1])
    ]
    return sum(parts) / len(parts)


def example():
    x = np.array(
        [[1.0, 5, 2, 0, 3], [0, 4, 1, 7, 2], [3, 9, 2, 1, 0], [1, 0, 2, 6, 1], [4, 2, 0, 3, 8]]
    )
    _, winner = kernels.max_pool2d_forward(x[None, None], (3, 3), (2, 2), (0, 0), False)
    return np.array([[[[1.0, 2], [4, 8]]]]), winner, (1, 1, 5, 5), (3, 3), (2, 2), (0, 0)


def probes(rng):
    for shape, kernel, stride, padding in [
        ((1, 2, 6, 8), (2, 3), (2, 2), (0, 0)),
        ((2, 2, 7, 6), (3, 2), (2, 1), (1, 0)),
        ((1, 2, 6, 9), (3, 5), (1, 2), (0, 2)),
        ((2, 1, 5, 6), (3, 3), (2, 2), (1, 1)),
        ((2, 1, 6, 5), (3, 2), (3, 2), (1, 0)),  # windows lie inside without the padding, too
    ]:
        y, winner = kernels.max_pool2d_forward(
            rng.normal(size=shape), kernel, stride, padding, False
        )
        yield rng.normal(size=y.shape), winner, shape, kernel, stride, padding


EXERCISE = Exercise(
    solution=max_pool2d_backward,
    chapter=7,
    question="Who gets the gradient of a maximum?",
    hint="Begin with zeros. For each output: row i and column j of the winner in its window, by "
    "divmod(int(winner), kw); then its row and column in the picture; then add dy there.",
    ours="tinynet.kernels.max_pool2d_backward",
    results=("dx",),
    mistakes={
        overwrites: "you keep only the last gradient where windows overlap: a pixel may win in "
        "several windows. Use +=.",
        not_cut: "dx has the shape of the padded picture. The padding gets no gradient: cut it "
        "off, or count rows from oh*sh - ph.",
        cut_at_the_corner: "you cut the padding off at the end alone: dx begins at (ph, pw).",
        cut_exchanged: "you cut dx out at (pw, ph): ph is above and below, pw left and right.",
        without_padding: "a window begins at row oh*sh - ph: the padding is missing.",
        padding_twice: "you subtract the padding twice.",
        sides_exchanged: "the padding of rows and columns is exchanged: ph belongs to the rows.",
        first_of_each_pair: "you use padding[0] and stride[0] for the columns too. padding is "
        "(ph, pw) and stride is (sh, sw).",
        kh_for_kw: "the winner is i*kw + j: divide by kw, not by kh.",
        stride_is_kernel: "you step by the size of the kernel; windows begin every `stride` "
        "pixels, and may overlap.",
        shares: "you share dy among all pixels of a window, as for a mean. Only the winner acts "
        "on the maximum, so it gets all of it.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("max_pool2d"),
    places=((kernels, "max_pool2d_backward"),),
)
