"""Chapter 6: the three gradients of a convolution."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks


def conv2d_backward(dy, x, weight, stride, padding):
    """y[n, o, oh, ow] = b[o] + sum over c, i, j of
                                w[o, c, i, j] * x[n, c, oh*sh + i - ph, ow*sw + j - pw]

    where x is 0 outside the picture. Each product w * x sends dy times the one to the other.
    dy (N, O, OH, OW), x (N, C, H, W), weight w (O, C, kh, kw), stride (sh, sw), padding (ph, pw)
    -> dx (N, C, H, W), dw (O, C, kh, kw), db (O,).
    """
    (_, _, H, W), (_, _, kh, kw) = x.shape, weight.shape
    (sh, sw), (ph, pw) = stride, padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dpadded, dw = np.zeros_like(padded), np.zeros_like(weight)
    for oh, ow in np.ndindex(dy.shape[2:]):
        rows, columns = slice(oh * sh, oh * sh + kh), slice(ow * sw, ow * sw + kw)
        d = dy[:, :, oh, ow]  # (N, O)
        dw += np.tensordot(d, padded[:, :, rows, columns], (0, 0))  # sum over n
        dpadded[:, :, rows, columns] += np.tensordot(d, weight, 1)  # sum over o
    return dpadded[:, :, ph : ph + H, pw : pw + W], dw, dy.sum(axis=(0, 2, 3))


def overwrites(dy, x, weight, stride, padding):
    _, dw, db = conv2d_backward(dy, x, weight, stride, padding)
    (_, _, H, W), (_, _, kh, kw) = x.shape, weight.shape
    (sh, sw), (ph, pw) = stride, padding
    dpadded = np.zeros((*x.shape[:2], H + 2 * ph, W + 2 * pw), x.dtype)
    for oh, ow in np.ndindex(dy.shape[2:]):
        rows, columns = slice(oh * sh, oh * sh + kh), slice(ow * sw, ow * sw + kw)
        dpadded[:, :, rows, columns] = np.tensordot(dy[:, :, oh, ow], weight, 1)
    return dpadded[:, :, ph : ph + H, pw : pw + W], dw, db


def not_turned(dy, x, weight, stride, padding):
    _, dw, db = conv2d_backward(dy, x, weight, stride, padding)
    return conv2d_backward(dy, x, weight[:, :, ::-1, ::-1], stride, padding)[0], dw, db


def turned_by_columns(dy, x, weight, stride, padding):
    _, dw, db = conv2d_backward(dy, x, weight, stride, padding)
    return conv2d_backward(dy, x, weight[:, :, ::-1], stride, padding)[0], dw, db


def channels_exchanged(dy, x, weight, stride, padding):
    _, dw, db = conv2d_backward(dy, x, weight, stride, padding)
    return conv2d_backward(dy, x, weight.swapaxes(0, 1), stride, padding)[0], dw, db


def dw_turned(dy, x, weight, stride, padding):
    dx, dw, db = conv2d_backward(dy, x, weight, stride, padding)
    return dx, dw[:, :, ::-1, ::-1], db


def dw_of_the_last_window(dy, x, weight, stride, padding):
    last = np.zeros_like(dy)
    last[:, :, -1, -1] = dy[:, :, -1, -1]
    dx, _, db = conv2d_backward(dy, x, weight, stride, padding)
    return dx, conv2d_backward(last, x, weight, stride, padding)[1], db


def cut(dy, x, weight, stride, padding, top, left):
    """dx cut out of the padded gradient at (top, left)."""
    (ph, pw), (H, W) = padding, x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    dx, dw, db = conv2d_backward(dy, padded, weight, stride, (0, 0))
    return dx[:, :, top : top + H, left : left + W], dw, db


def cut_at_the_corner(dy, x, weight, stride, padding):
    return cut(dy, x, weight, stride, padding, 0, 0)


def sides_exchanged(dy, x, weight, stride, padding):
    return cut(dy, x, weight, stride, padding, padding[1], padding[0])


def not_cut(dy, x, weight, stride, padding):
    (ph, pw) = padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    return conv2d_backward(dy, padded, weight, stride, (0, 0))


def misplaced(dy, x, weight, stride, top, left):
    """All three gradients, as if the padding were this."""
    (OH, OW), (H, W) = dy.shape[2:], x.shape[2:]
    bottom, right = OH * stride[0] + weight.shape[2], OW * stride[1] + weight.shape[3]
    wide = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    dx, dw, db = conv2d_backward(dy, wide, weight, stride, (0, 0))
    return dx[:, :, top : top + H, left : left + W], dw, db


def padding_of_forward(dy, x, weight, stride, padding):
    """dx as a convolution of dy, zeros between its values, with the turned kernel."""
    (N, O, OH, OW), (sh, sw), (ph, pw) = dy.shape, stride, padding
    spread = np.zeros((N, O, OH * sh - sh + 1, OW * sw - sw + 1), dy.dtype)
    spread[:, :, ::sh, ::sw] = dy
    spread = np.pad(spread, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = np.lib.stride_tricks.sliding_window_view(spread, weight.shape[2:], axis=(2, 3))
    dx = np.einsum("nohwij,ocij->nchw", windows, weight[:, :, ::-1, ::-1])
    return dx, *conv2d_backward(dy, x, weight, stride, padding)[1:]


def windows_exchanged(dy, x, weight, stride, padding):
    return misplaced(dy, x, weight, stride, padding[1], padding[0])


def without_padding(dy, x, weight, stride, padding):
    return misplaced(dy, x, weight, stride, 0, 0)


def padding_twice(dy, x, weight, stride, padding):
    return misplaced(dy, x, weight, stride, 2 * padding[0], 2 * padding[1])


def first_of_each_pair(dy, x, weight, stride, padding):
    return misplaced(dy, x, weight, stride[:1] * 2, padding[0], padding[0])


def without_stride(dy, x, weight, stride, padding):
    return conv2d_backward(dy, x, weight, (1, 1), padding)


def db_is_a_mean(dy, x, weight, stride, padding):
    dx, dw, _ = conv2d_backward(dy, x, weight, stride, padding)
    return dx, dw, dy.mean(axis=(0, 2, 3))


def example():
    x = np.array([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]])
    w, dy = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 0], [2, 1]])
    return dy[None, None], x[None, None], w[None, None], (1, 1), (0, 0)


def probes(rng):
    for (N, C, O), size, (kh, kw), (sh, sw), (ph, pw) in [
        ((2, 3, 3), (3, 4), (3, 3), (1, 1), (1, 1)),
        ((2, 3, 2), (5, 6), (3, 2), (2, 1), (1, 0)),
        ((2, 2, 3), (6, 5), (2, 3), (1, 2), (1, 2)),
        ((1, 2, 2), (9, 8), (3, 3), (2, 2), (0, 1)),
        ((1, 2, 3), (4, 5), (2, 1), (1, 1), (0, 1)),  # a window may lie in the padding alone
    ]:
        OH, OW = (size[0] + 2 * ph - kh) // sh + 1, (size[1] + 2 * pw - kw) // sw + 1
        dy, x = rng.normal(size=(N, O, OH, OW)), rng.normal(size=(N, C, *size))
        yield dy, x, rng.normal(size=(O, C, kh, kw)), (sh, sw), (ph, pw)


def in_place(function):
    """The kernel, which takes groups, a ReLU that follows, and which gradients are needed."""

    def backward(dy, x, weight, stride, padding, groups, needs, y=None):
        dy = dy if y is None else dy * (y > 0)
        split = np.split(dy, groups, axis=1), np.split(x, groups, axis=1), np.split(weight, groups)
        parts = [function(*part, stride, padding) for part in zip(*split, strict=True)]
        dx, dw, db = zip(*parts, strict=True)
        whole = np.concatenate(dx, axis=1), np.concatenate(dw), np.concatenate(db)
        return tuple(g if need else None for g, need in zip(whole, needs, strict=True))

    return backward


EXERCISE = Exercise(
    solution=conv2d_backward,
    chapter=6,
    question="Why is the kernel turned in dx, and not in dw?",
    hint="Pad x. Loop over the outputs (oh, ow): the window that output saw gets dy times the "
    "kernel (+=), and dw gets dy times the window (+=). No kernel is turned in this form.",
    ours="tinynet.kernels.conv2d_backward",
    results=("dx", "dw", "db"),
    mistakes={
        overwrites: "in dx you keep only the last gradient where windows overlap: use +=.",
        not_turned: "dx as a convolution of dy needs the kernel turned by 180 degrees, "
        "w[:, :, ::-1, ::-1]. The shapes are right either way.",
        turned_by_columns: "you turn the kernel along one axis. Turn rows and columns.",
        channels_exchanged: "in dx the sum goes over the output channels o, and c stays. Input and "
        "output channels of w are exchanged; with O = C all shapes still fit.",
        padding_of_forward: "as a convolution of dy, dx needs the padding kh-1-ph, kw-1-pw, not "
        "forward's. They are equal where ph = (kh-1)/2, so many checks see nothing.",
        dw_turned: "dw is turned by 180 degrees. w[i, j] meets the same pixels in backward as in "
        "forward: no turn.",
        dw_of_the_last_window: "dw has the last window alone: a kernel is used at all positions, "
        "so its gradient is a sum over them (+=).",
        cut_at_the_corner: "dx begins at the padding: cut out "
        "dpadded[:, :, ph : ph + H, pw : pw + W].",
        sides_exchanged: "the padding of rows and columns is exchanged: ph is above and below.",
        windows_exchanged: "the windows begin at the wrong pixels, in dx and in dw: ph belongs to "
        "the rows, pw to the columns.",
        without_padding: "the padding is missing: window (oh, ow) begins at row oh*sh - ph.",
        padding_twice: "the padding is there twice: window (oh, ow) begins at row oh*sh - ph.",
        first_of_each_pair: "you use padding[0] and stride[0] for the columns too. padding is "
        "(ph, pw) and stride is (sh, sw).",
        not_cut: "dx still has the padding: cut it off.",
        without_stride: "the stride is missing: window (oh, ow) begins at (oh*sh, ow*sw).",
        db_is_a_mean: "db is the mean of dy. b is added at each position of each picture, so its "
        "gradient is the sum.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("conv2d"),
    places=((kernels, "conv2d_backward"),),
    adapt=in_place,
)
