"""Chapter 6: a convolution as one matrix product."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks
from tinynet.kernels.im2col import output_size


def im2col(x, kernel, stride, padding):
    """col[(c, i, j), (oh, ow, n)] = x[n, c, oh*sh + i - ph, ow*sw + j - pw]

    where x is 0 outside the picture. Row (c, i, j) has the number (c*kh + i)*kw + j; a column is
    one window of one picture, with the number (oh*OW + ow)*N + n.
    x (N, C, H, W), kernel (kh, kw), stride (sh, sw), padding (ph, pw)
    -> col (C*kh*kw, OH*OW*N), where OH = (H + 2 ph - kh) // sh + 1, and OW alike.
    """
    (N, C, H, W), (kh, kw), (sh, sw), (ph, pw) = x.shape, kernel, stride, padding
    OH, OW = (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    col = np.zeros((C, kh, kw, OH, OW, N), x.dtype)
    for oh, ow in np.ndindex(OH, OW):
        window = padded[:, :, oh * sh : oh * sh + kh, ow * sw : ow * sw + kw]  # (N, C, kh, kw)
        col[:, :, :, oh, ow] = window.transpose(1, 2, 3, 0)
    return col.reshape(C * kh * kw, OH * OW * N)


def split(col, x, kernel, stride, padding):
    """The columns with all their axes: (C, kh, kw, OH, OW, N)."""
    out = output_size(x.shape[2:], kernel, stride, padding)
    return col.reshape(x.shape[1], *kernel, *out, len(x))


def reordered(x, kernel, stride, padding, *axes):
    col = im2col(x, kernel, stride, padding)
    return split(col, x, kernel, stride, padding).transpose(axes).reshape(col.shape)


def pictures_first(x, kernel, stride, padding):
    return reordered(x, kernel, stride, padding, 0, 1, 2, 5, 3, 4)


def channels_last(x, kernel, stride, padding):
    return reordered(x, kernel, stride, padding, 1, 2, 0, 3, 4, 5)


def turned(x, kernel, stride, padding):
    col = split(im2col(x, kernel, stride, padding), x, kernel, stride, padding)
    return col[:, ::-1, ::-1].reshape(len(col) * kernel[0] * kernel[1], -1)


def windows_as_rows(x, kernel, stride, padding):
    return im2col(x, kernel, stride, padding).T


def without_padding(x, kernel, stride, padding):
    return im2col(x, kernel, stride, (0, 0))


def without_stride(x, kernel, stride, padding):
    return im2col(x, kernel, (1, 1), padding)


def sides_exchanged(x, kernel, stride, padding):
    return im2col(x, kernel, stride, padding[::-1])


def first_of_each_pair(x, kernel, stride, padding):
    return im2col(x, kernel, stride[:1] * 2, padding[:1] * 2)


def kernel_exchanged(x, kernel, stride, padding):
    return im2col(x, kernel[::-1], stride, padding)


def example():
    return np.arange(1.0, 10).reshape(1, 1, 3, 3), (2, 2), (1, 1), (0, 0)


def probes(rng):
    for shape, kernel, stride, padding in [
        ((2, 3, 5, 6), (3, 2), (2, 1), (1, 0)),
        ((3, 2, 6, 5), (2, 3), (1, 2), (0, 2)),
        ((2, 2, 4, 4), (3, 3), (2, 2), (1, 1)),
    ]:
        yield rng.normal(size=shape), kernel, stride, padding


def in_convolution(function):
    """conv2d_forward by the learner's columns: y = w @ col + b."""

    def conv2d_forward(x, weight, bias, stride, padding, groups, relu=False):
        kernel = weight.shape[2:]
        out = output_size(x.shape[2:], kernel, stride, padding)
        parts = zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True)
        products = [w.reshape(len(w), -1) @ function(a, kernel, stride, padding) for a, w in parts]
        y = np.concatenate(products).reshape(len(weight), *out, len(x)).transpose(3, 0, 1, 2)
        y = y if bias is None else y + bias[:, None, None]
        return y * (y.real > 0) if relu else y

    return conv2d_forward


EXERCISE = Exercise(
    solution=im2col,
    chapter=6,
    question="How does a convolution become one matrix product?",
    hint="Pad x by np.pad. Make col with six axes, (C, kh, kw, OH, OW, N). Loop over oh and ow, "
    "and copy one window of all pictures. reshape in the end.",
    ours="tinynet.kernels.conv2d_forward",
    results=("col",),
    mistakes={
        pictures_first: "your columns go through picture 0 first, then picture 1. Here n is the "
        "innermost: column (oh*OW + ow)*N + n.",
        channels_last: "your rows have the channel innermost; row (c, i, j) has the number "
        "(c*kh + i)*kw + j.",
        turned: "you turn the window round. Convolution in deep learning does not: row (c, 0, 0) "
        "is the window's top left pixel.",
        windows_as_rows: "a window is a column of col; you made it a row.",
        without_padding: "the padding is missing.",
        without_stride: "the stride is missing: window (oh, ow) begins at (oh*sh, ow*sw).",
        sides_exchanged: "the padding of rows and columns is exchanged: ph goes above and below, "
        "pw to the left and right.",
        first_of_each_pair: "you use padding[0] and stride[0] for the columns too. padding is "
        "(ph, pw) and stride is (sh, sw).",
        kernel_exchanged: "kh and kw are exchanged: kh counts rows.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("conv2d"),
    places=((kernels, "conv2d_forward"),),
    adapt=in_convolution,
)
