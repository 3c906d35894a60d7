"""Cases of convolution."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.arithmetic import concat
from tinynet.gradcheck.cases.inputs import layouts, off_kinks
from tinynet.gradcheck.cases.table import Case, cases
from tinynet.tensors import tensor


@cases("conv2d")
def _conv2d(rng: np.random.Generator) -> Iterator[Case]:
    for C, O, size, kernel, stride, padding, groups in [
        (1, 1, (4, 4), (3, 3), 1, 0, 1),
        (2, 3, (5, 6), (3, 2), 1, 1, 1),  # sides differ
        (4, 6, (5, 4), (3, 3), 1, 1, 2),  # groups
        (3, 6, (4, 4), (2, 2), 1, 0, 3),  # groups = channels
        (2, 2, (9, 8), (3, 3), 2, 1, 1),  # does not tile
        (2, 2, (7, 7), (2, 2), 3, 0, 1),  # stride over kernel
        (1, 2, (8, 9), (5, 4), (3, 2), (2, 0), 1),  # everything in pairs
        (2, 3, (3, 3), (1, 1), 2, 2, 1),  # padding over kernel
    ]:
        x, w = rng.normal(size=(2, C, *size)), rng.normal(size=(O, C // groups, *kernel))
        yield (
            lambda x, w, b, s=stride, p=padding, g=groups: F.conv2d(x, w, b, s, p, g),
            [layouts(rng, x), layouts(rng, w), rng.normal(size=O)],
        )
    yield F.conv2d, [rng.normal(size=(2, 3, 4, 4)), rng.normal(size=(2, 3, 2, 2))]  # no bias
    yield partial(F.conv2d, relu=True), off_kinks(rng, F.conv2d, (2, 3, 4, 4), (2, 3, 2, 2), (2,))
    for kernel, stride, padding, dilation in [
        ((3, 2), 1, 2, 2),
        ((2, 3), (2, 3), (0, 3), (3, 2)),  # they share no divisor
        ((3, 2), (4, 2), 1, (2, 4)),  # they do
        ((1, 2), 2, 0, (5, 6)),  # pixels that no window sees
    ]:
        x, w = rng.normal(size=(2, 2, 7, 8)), rng.normal(size=(4, 1, *kernel))
        options: dict[str, Any] = dict(stride=stride, padding=padding, dilation=dilation, groups=2)
        yield partial(F.conv2d, **options), [layouts(rng, x), layouts(rng, w), rng.normal(size=4)]
    of_all = partial(F.conv2d, stride=(1, 2), padding=(0, 1), dilation=2, groups=2)
    shapes = (2, 2, 6, 5), (2, 1, 3, 2), (2,)
    yield partial(of_all, relu=True), off_kinks(rng, of_all, *shapes)
    yield from _winograd(rng)


@cases("conv2d_each")
def _conv2d_each(rng: np.random.Generator) -> Iterator[Case]:
    """By two weights with biases, by three of which one has a bias, by one."""

    def two(x: Any, v: Any, w: Any, b: Any, c: Any, **options: Any) -> Any:
        return F.conv2d_each(x, [v, w], [b, c], **options)

    for size, kernel, stride, padding, groups in [
        ((4, 5), (3, 3), 1, 1, 1),
        ((9, 8), (3, 2), 2, (1, 0), 1),  # does not tile
        ((6, 5), (2, 1), (1, 3), 0, 2),
    ]:
        x = rng.normal(size=(2, 2, *size))
        v, w = (rng.normal(size=(O, 2 // groups, *kernel)) for O in (4, 2))
        options: dict[str, Any] = dict(stride=stride, padding=padding, groups=groups)
        arguments = [layouts(rng, x), layouts(rng, v), layouts(rng, w), rng.normal(size=4)]
        yield partial(two, **options), [*arguments, rng.normal(size=2)]
    shapes = (2, 2, 4, 3), (2, 1, 2, 2), (4, 1, 2, 2), (2,), (4,)
    of_all = partial(two, stride=2, padding=1, groups=2)
    joined = off_kinks(rng, lambda *given: concat(of_all(*given), 1), *shapes)
    yield partial(of_all, relu=True), joined
    x, u, v, w = (rng.normal(size=(n, 1, 2, 3)) for n in (2, 1, 2, 3))
    yield (
        lambda x, u, v, w, b: F.conv2d_each(x, [u, v, w], [None, b, None], padding=1),
        [x, u, v, w, rng.normal(size=2)],
    )
    yield lambda x, w: F.conv2d_each(x, [w]), [x, w]


@cases("conv_transpose2d")
def _conv_transpose2d(rng: np.random.Generator) -> Iterator[Case]:
    shapes: list[tuple[tuple[int, int], dict[str, Any]]] = [
        ((3, 2), {}),
        ((3, 3), dict(padding=1)),
        ((4, 3), dict(stride=2, padding=1)),
        ((2, 3), dict(stride=(2, 3), padding=(0, 1), output_padding=(1, 2))),
        ((3, 3), dict(stride=2, padding=1, output_padding=1, groups=2)),
    ]
    for kernel, options in shapes:
        x, w = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 3, *kernel))
        b = rng.normal(size=3 * options.get("groups", 1))
        yield partial(F.conv_transpose2d, **options), [layouts(rng, x), layouts(rng, w), b]
        yield partial(F.conv_transpose2d, **options), [x, w]


def _winograd(rng: np.random.Generator) -> Iterator[Case]:
    """Many channels and tiles, where a convolution goes another way. No value is near ReLU's kink:
    half of the channels are far above 0, half far below.
    """
    x, w = rng.normal(size=(20, 48, 6, 7)), rng.normal(size=(96, 48, 3, 3)) / 20
    bias = np.where(np.arange(96) % 2, 9.0, -9.0)
    yield (
        lambda x, w: F.conv2d(x, w, tensor(bias, x.dtype, x.device), 1, 1, relu=True),
        [layouts(rng, x), layouts(rng, w)],
    )
