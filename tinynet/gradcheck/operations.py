"""Cases for every operation of tinynet: what `python -m tinynet.gradcheck` and the test suite run.

Inputs are chosen so that nothing cancels and no term is too small to be seen: alpha = 1 in the
response norms, windows that overlap, hang over the edge and exceed the channels, sizes that do not
tile, values kept apart where a maximum is taken (at equal values there is no derivative), memory in
other orders than C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet import arithmetic
from tinynet.arithmetic import concat
from tinynet.function import Function
from tinynet.tensor import tensor

Case = tuple[Callable[..., Any], list]
OPERATIONS: dict[
    str, tuple[tuple[type[Function], ...], Callable[[np.random.Generator], Iterator[Case]]]
] = {}


def operation(name: str, *functions: type[Function]) -> Callable:
    """Adds a generator of cases to the table, under a name and with the Functions that it checks."""

    def add(cases: Callable[[np.random.Generator], Iterator[Case]]) -> Callable:
        OPERATIONS[name] = functions, cases
        return cases

    return add


def apart(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random values of both signs, no two closer than 0.05, none closer to 0 than 0.02."""
    n = int(np.prod(shape))
    return (rng.permutation(n) - n // 2 + rng.uniform(0.3, 0.7)).reshape(shape) / 15


def off_kinks(
    rng: np.random.Generator, function: Callable[..., Any], *shapes: tuple[int, ...]
) -> list[np.ndarray]:
    """Random arguments for which no value of the function is near 0, where a ReLU after it has its
    kink.
    """
    while True:
        arguments = [layouts(rng, rng.normal(size=shape)) for shape in shapes]
        if np.abs(function(*map(tensor, arguments)).numpy()).min() > 0.01:
            return arguments


def away_from_zero(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)


def layouts(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """The same values in memory of a random order: some axes swapped, some backwards."""
    axes = rng.permutation(x.ndim)
    back = tuple(slice(None, None, rng.choice([-1, 1])) for _ in x.shape)
    swapped = np.array(x.transpose(axes)[tuple(back[a] for a in axes)], order="C")
    return swapped.transpose(np.argsort(axes))[back]


# Arithmetic


@operation("add", arithmetic.Add)
def _add(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a + b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a + b, [rng.normal(size=(3, 1, 2)), rng.normal(size=(4, 1))]
    yield lambda a: a + 2.5, [rng.normal(size=3)]
    yield lambda a: 2 + a + a, [np.broadcast_to(rng.normal(size=3), (2, 3))]


@operation("sub", arithmetic.Sub)
def _sub(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a - b, [rng.normal(size=(3, 4)), rng.normal(size=4)]
    yield lambda a, b: a - b, [rng.normal(size=(1, 4)), rng.normal(size=(3, 1))]
    yield lambda a: 1 - a, [rng.normal(size=())]


@operation("mul", arithmetic.Mul)
def _mul(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a * b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a * b, [rng.normal(size=(2, 3, 1)), rng.normal(size=(1, 4))]
    yield lambda a: a * a * 3, [rng.normal(size=(2, 3))]


@operation("div", arithmetic.Div)
def _div(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a / b, [rng.normal(size=(3, 4)), away_from_zero(rng, 3, 4)]
    yield lambda a, b: a / b, [rng.normal(size=(2, 1, 4)), away_from_zero(rng, 3, 1)]
    yield lambda a: 2 / a, [away_from_zero(rng, 5)]


@operation("neg", arithmetic.Neg)
def _neg(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: -x, [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("pow", arithmetic.Pow)
def _pow(rng: np.random.Generator) -> Iterator[Case]:
    for p in (3, 2, 0.5, -1.5, 1, 0):
        yield lambda x, p=p: x**p, [rng.uniform(0.5, 2, (3, 4))]
    yield lambda x: x**3, [away_from_zero(rng, 3, 4)]


@operation("exp", arithmetic.Exp)
def _exp(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.exp(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("log", arithmetic.Log)
def _log(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.log(), [layouts(rng, rng.uniform(0.3, 3, (2, 3, 4)))]


@operation("maximum", arithmetic.Maximum)
def _maximum(rng: np.random.Generator) -> Iterator[Case]:
    a, b = apart(rng, 2, 3, 4)
    yield F.maximum, [a, b]
    yield F.maximum, [apart(rng, 3, 1), apart(rng, 4) + 1 / 30]
    yield lambda x: F.maximum(x, 0), [apart(rng, 3, 4)]


@operation("matmul", arithmetic.MatMul)
def _matmul(rng: np.random.Generator) -> Iterator[Case]:
    for a, b in [
        ((3, 4), (4, 2)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 2)),
        ((3, 4), (2, 4, 2)),
        ((5, 1, 3, 4), (2, 4, 2)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
    ]:
        yield (
            lambda a, b: a @ b,
            [layouts(rng, rng.normal(size=a)), layouts(rng, rng.normal(size=b))],
        )


@operation("sum", arithmetic.Sum)
def _sum(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [
        (None, False),
        (None, True),
        (1, False),
        (-1, True),
        ((0, 2), False),
        ((2, 0), True),
    ]:
        yield lambda x, a=axis, k=keepdims: x.sum(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("mean", arithmetic.Sum, arithmetic.Div)
def _mean(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), ((0, 2), False)]:
        yield lambda x, a=axis, k=keepdims: x.mean(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("max", arithmetic.Max)
def _max(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), ((0, 2), False), ((1, 2), True)]:
        yield lambda x, a=axis, k=keepdims: x.max(a, k), [layouts(rng, apart(rng, 2, 3, 4))]


@operation("reshape", arithmetic.Reshape)
def _reshape(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.reshape(4, -1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.flatten(1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.flatten(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("transpose", arithmetic.Transpose)
def _transpose(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.transpose(), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.transpose(2, 0, 1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.transpose(0, -1, 1), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("index", arithmetic.Index)
def _index(rng: np.random.Generator) -> Iterator[Case]:
    for key in [
        1,
        -1,
        slice(1, None),
        (slice(None), 2),
        (..., slice(None, None, -2)),
        None,
        [0, 1, 1, 0],
        (np.array([[0, 1], [1, 1]]), 2),
        np.array([[True, False, True], [False, True, True]]),
        (slice(None), [2, 2, 0], slice(1, 3)),
    ]:
        yield lambda x, key=key: x[key], [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("concat", arithmetic.Concat)
def _concat(rng: np.random.Generator) -> Iterator[Case]:
    parts = [rng.normal(size=(2, n, 3)) for n in (1, 4, 2)]
    yield lambda a, b, c: concat([a, b, c], 1), [layouts(rng, part) for part in parts]
    yield lambda a, b, c: concat([c.transpose(), a.transpose(), b.transpose()], -2), parts
    yield lambda a: concat([a, a * 2]), [rng.normal(size=3)]


@operation("to", arithmetic.Copy)
def _to(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: (x * 2).to("cpu:1") * 3, [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: x.to("cpu:1").to(x.device) * x, [layouts(rng, rng.normal(size=(2, 3)))]


@operation("pad", F.Pad)
def _pad(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: F.pad(x, (1, 2)), [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: F.pad(x, (0, 1, 2, 0), 1.5), [layouts(rng, rng.normal(size=(2, 1, 3, 4)))]


# Layers


@operation("conv2d", F.Conv2d)
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


POOLS = [
    dict(kernel_size=2),
    dict(kernel_size=3, stride=2),  # overlapping
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, stride=2, ceil_mode=True),
    dict(kernel_size=(2, 4), stride=(3, 1), padding=(1, 2), ceil_mode=True),
]


@operation("max_pool2d", F.MaxPool2d)
def _max_pool2d(rng: np.random.Generator) -> Iterator[Case]:
    for options in POOLS:
        yield lambda x, o=options: F.max_pool2d(x, **o), [layouts(rng, apart(rng, 2, 2, 6, 8))]
    yield lambda x: F.max_pool2d(x, 6, 2), [apart(rng, 1, 2, 9, 8)]


@operation("avg_pool2d", F.AvgPool2d)
def _avg_pool2d(rng: np.random.Generator) -> Iterator[Case]:
    for options in POOLS:
        for count_include_pad in (True, False):
            options = dict(options, count_include_pad=count_include_pad)
            yield (
                lambda x, o=options: F.avg_pool2d(x, **o),
                [layouts(rng, rng.normal(size=(2, 2, 6, 8)))],
            )


@operation("local_response_norm", F.LocalResponseNorm)
def _local_response_norm(rng: np.random.Generator) -> Iterator[Case]:
    for C, size, beta in [
        (7, 5, 0.75),
        (7, 4, 0.75),
        (6, 3, 0.6),
        (5, 1, 0.75),
        (3, 5, 0.75),
        (3, 8, 1.3),
        (1, 2, 0.5),
    ]:
        yield (
            lambda x, n=size, b=beta: F.local_response_norm(x, n, alpha=1.0, beta=b, k=1.0),
            [layouts(rng, rng.normal(size=(2, C, 3, 2)))],
        )
    yield (
        lambda x: F.local_response_norm(x, 3, 2.0, 0.75, 2.0),
        [layouts(rng, rng.normal(size=(3, 5)))],
    )


@operation("spatial_response_norm", F.SpatialResponseNorm)
def _spatial_response_norm(rng: np.random.Generator) -> Iterator[Case]:
    for size, beta in [(3, 0.75), (4, 0.75), (2, 0.6), (9, 0.75), (1, 0.75)]:
        yield (
            lambda x, n=size, b=beta: F.spatial_response_norm(x, n, alpha=3.0, beta=b, k=1.0),
            [layouts(rng, rng.normal(size=(2, 2, 5, 4)))],
        )


@operation("relu", F.ReLU)
def _relu(rng: np.random.Generator) -> Iterator[Case]:
    yield F.relu, [layouts(rng, apart(rng, 2, 3, 4))]
    yield lambda x: F.relu(x + 0, inplace=True), [layouts(rng, apart(rng, 2, 3, 4, 2))]


@operation("tanh", F.Tanh)
def _tanh(rng: np.random.Generator) -> Iterator[Case]:
    yield F.tanh, [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("sigmoid", F.Sigmoid)
def _sigmoid(rng: np.random.Generator) -> Iterator[Case]:
    yield F.sigmoid, [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("dropout", F.Dropout)
def _dropout(rng: np.random.Generator) -> Iterator[Case]:
    for p in (0.5, 0.2, 1.0):
        yield lambda x, p=p: F.dropout(x, p), [layouts(rng, rng.normal(size=(3, 2, 4, 2)))]


@operation("linear", F.Linear)
def _linear(rng: np.random.Generator) -> Iterator[Case]:
    x, w = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    yield F.linear, [layouts(rng, x), layouts(rng, w), rng.normal(size=5)]
    yield F.linear, [layouts(rng, x), layouts(rng, w)]
    yield partial(F.linear, relu=True), off_kinks(rng, F.linear, (3, 4), (5, 4), (5,))


@operation("softmax", F.Softmax)
def _softmax(rng: np.random.Generator) -> Iterator[Case]:
    for dim in (-1, 0, 1):
        yield lambda x, d=dim: F.softmax(x, d), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("log_softmax", F.LogSoftmax)
def _log_softmax(rng: np.random.Generator) -> Iterator[Case]:
    for dim in (-1, 0, 1):
        yield lambda x, d=dim: F.log_softmax(x, d), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@operation("cross_entropy", F.CrossEntropy)
def _cross_entropy(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in ("mean", "sum", "none"):
        target = rng.integers(0, 5, 4)
        yield (
            lambda x, t=target, r=reduction: F.cross_entropy(x, t, r),
            [layouts(rng, rng.normal(size=(4, 5)))],
        )


@operation("(a small network)")
def _network(rng: np.random.Generator) -> Iterator[Case]:
    def network(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any) -> Any:
        x = F.local_response_norm(F.relu(F.conv2d(x, w1, b1, padding=1)), 3, alpha=1.0)
        x = F.relu(F.conv2d(F.max_pool2d(x, 3, 2), w2, b2, groups=2))
        return F.cross_entropy(F.dropout(F.linear(x.flatten(1), w3), 0.5), [0, 2])

    shapes = [(2, 2, 7, 7), (4, 2, 3, 3), (4,), (4, 2, 2, 2), (4,), (3, 16)]
    yield network, [rng.normal(size=shape) for shape in shapes]
