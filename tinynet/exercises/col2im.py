"""Chapter 6: the adjoint of im2col."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks
from tinynet.kernels.im2col import output_size


def col2im(col, x_shape, kernel, stride, padding):
    """dx[n, c, h, w] = sum of col[(c, i, j), (oh, ow, n)]
                        over all (i, j, oh, ow) with oh*sh + i - ph = h and ow*sw + j - pw = w

    im2col copies a pixel into each window that covers it. Its adjoint goes the same ways back.
    col (C*kh*kw, OH*OW*N): row (c*kh + i)*kw + j, column (oh*OW + ow)*N + n. x_shape (N, C, H, W),
    kernel (kh, kw), stride (sh, sw), padding (ph, pw) -> dx (N, C, H, W).
    """
    (N, C, H, W), (kh, kw), (sh, sw), (ph, pw) = x_shape, kernel, stride, padding
    OH, OW = (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1
    windows = col.reshape(C, kh, kw, OH, OW, N).transpose(
        5, 0, 3, 4, 1, 2
    )  # (N, C, OH, OW, kh, kw)
    padded = np.zeros((N, C, H + 2 * ph, W + 2 * pw), col.dtype)
    for oh, ow in np.ndindex(OH, OW):
        padded[:, :, oh * sh : oh * sh + kh, ow * sw : ow * sw + kw] += windows[:, :, oh, ow]
    return padded[:, :, ph : ph + H, pw : pw + W]


def overwrites(col, x_shape, kernel, stride, padding):
    (N, C, H, W), (kh, kw), (sh, sw), (ph, pw) = x_shape, kernel, stride, padding
    OH, OW = output_size((H, W), kernel, stride, padding)
    windows = col.reshape(C, kh, kw, OH, OW, N).transpose(5, 0, 3, 4, 1, 2)
    padded = np.zeros((N, C, H + 2 * ph, W + 2 * pw), col.dtype)
    for oh, ow in np.ndindex(OH, OW):
        padded[:, :, oh * sh : oh * sh + kh, ow * sw : ow * sw + kw] = windows[:, :, oh, ow]
    return padded[:, :, ph : ph + H, pw : pw + W]


def cut(col, x_shape, kernel, stride, padding, top, left):
    """The gradient of the padded picture, a part of it that begins at (top, left)."""
    (N, C, H, W), (ph, pw) = x_shape, padding
    padded = col2im(col, (N, C, H + 2 * ph, W + 2 * pw), kernel, stride, (0, 0))
    return padded[:, :, top : top + H, left : left + W]


def not_cut(col, x_shape, kernel, stride, padding):
    (N, C, H, W), (ph, pw) = x_shape, padding
    return col2im(col, (N, C, H + 2 * ph, W + 2 * pw), kernel, stride, (0, 0))


def cut_at_the_corner(col, x_shape, kernel, stride, padding):
    return cut(col, x_shape, kernel, stride, padding, 0, 0)


def sides_exchanged(col, x_shape, kernel, stride, padding):
    return cut(col, x_shape, kernel, stride, padding, padding[1], padding[0])


def averages(col, x_shape, kernel, stride, padding):
    count = col2im(np.ones_like(col), x_shape, kernel, stride, padding)
    return col2im(col, x_shape, kernel, stride, padding) / np.maximum(count, 1)


def turned(col, x_shape, kernel, stride, padding):
    C, (kh, kw) = x_shape[1], kernel
    col = col.reshape(C, kh, kw, -1)[:, ::-1, ::-1].reshape(col.shape)
    return col2im(col, x_shape, kernel, stride, padding)


def pictures_first(col, x_shape, kernel, stride, padding):
    OH, OW = output_size(x_shape[2:], kernel, stride, padding)
    col = np.moveaxis(col.reshape(len(col), x_shape[0], OH, OW), 1, -1).reshape(col.shape)
    return col2im(col, x_shape, kernel, stride, padding)


def example():
    return np.arange(1.0, 17).reshape(4, 4), (1, 1, 3, 3), (2, 2), (1, 1), (0, 0)


def probes(rng):
    for shape, kernel, stride, padding in [
        ((2, 3, 5, 6), (3, 2), (2, 1), (1, 0)),
        ((3, 2, 6, 5), (2, 3), (1, 2), (0, 2)),
        ((2, 2, 7, 8), (3, 3), (2, 2), (1, 1)),
    ]:
        OH, OW = output_size(shape[2:], kernel, stride, padding)
        rows = shape[1] * kernel[0] * kernel[1]
        yield rng.normal(size=(rows, OH * OW * shape[0])), shape, kernel, stride, padding


def in_convolution(function):
    """conv2d_backward with the learner's dx = col2im(w^T @ dy)."""
    ours = kernels.conv2d_backward

    def conv2d_backward(dy, x, weight, stride, padding, groups, needs, y=None):
        dx, dw, db = ours(dy, x, weight, stride, padding, groups, needs, y)
        if dx is not None:
            dy = dy if y is None else dy * (y > 0)
            dx = np.concatenate(
                [
                    function(
                        w.reshape(len(w), -1).T @ np.moveaxis(d, 0, -1).reshape(len(w), -1),
                        (len(x), w.shape[1], *x.shape[2:]), w.shape[2:], stride, padding,
                    )
                    for d, w in zip(
                        np.split(dy, groups, axis=1), np.split(weight, groups), strict=True
                    )
                ],
                axis=1,
            )  # fmt: skip
        return dx, dw, db

    return conv2d_backward


EXERCISE = Exercise(
    solution=col2im,
    chapter=6,
    question="What brings the columns back to the picture?",
    hint="Take im2col, and exchange the two sides of its assignment: windows are added (+=) to a "
    "padded picture of zeros. In the end cut the padding off.",
    ours="tinynet.kernels.conv2d_backward",
    results=("dx",),
    mistakes={
        overwrites: "you keep only the last gradient where windows overlap: use +=.",
        not_cut: "the padding is still there: cut off ph rows above and below, pw columns left "
        "and right.",
        cut_at_the_corner: "you cut the padding off at the end alone. The picture begins at "
        "(ph, pw): take padded[:, :, ph : ph + H, pw : pw + W].",
        sides_exchanged: "the padding of rows and columns is exchanged: ph is above and below.",
        averages: "you divide by the number of windows that cover a pixel. Gradients add up.",
        turned: "you turn the window round: row (c, 0, 0) is its top left pixel.",
        pictures_first: "you read the columns as (n, oh, ow). They are (oh, ow, n).",
    },
    example=example,
    probes=probes,
    trials=gradchecks("conv2d"),
    places=((kernels, "conv2d_backward"),),
    adapt=in_convolution,
)
