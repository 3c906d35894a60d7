"""Every kernel of the net as one tower calls it, with its operations and the bytes that must move:
what kernels.py times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from sides import CONFIGS, DROPOUT, LRN, MOMENTUM, NORMALISED, POOLED, WEIGHT_DECAY, weight_shapes

from tinynet import kernels
from tinynet.kernels.layout import batch_first

# Operations an element of x, with a window of 5: square 1, window 4, scale 2, power 3, division 1;
# backward the first ten again and two divisions, two products, a window, and three more to put it
# together.
LRN_FORWARD, LRN_BACKWARD = 11, 21
SGD_OPERATIONS = 6
PICTURES_OPERATIONS = 2
FORWARD, BACKWARD = "forward", "backward"


class Case(NamedTuple):
    kernel: str
    phase: str
    run: Callable[[], Any]
    flops: float
    bytes: float


def random(*shape: int) -> np.ndarray:
    """(N, ...), batch innermost in memory."""
    values = np.resize(
        np.random.default_rng(0).standard_normal(1 << 20, np.float32), (*shape[1:], shape[0])
    )
    return batch_first(values)


def total_bytes(*arrays: np.ndarray | None) -> int:
    return sum(a.nbytes for a in arrays if a is not None)


def all_cases(preset: str, batch: int) -> Iterator[Case]:
    """The kernels of one tower, in the order of the net. Arrays live only while their case is
    measured.
    """
    c, shapes = CONFIGS[preset], weight_shapes(preset)
    yield pictures_case(batch, c.size, c.channels)
    size = c.size + c.extra
    for i in range(1, 6):
        O, C, kernel, _ = shapes[f"conv{i}"]
        stride, padding = c.conv1 if i == 1 else (1, kernel // 2)
        yield from conv_cases(
            f"conv{i}", random(batch, C, size, size), (O // 2, C, kernel, kernel), stride, padding
        )
        x = random(batch, O // 2, c.outputs[i - 1], c.outputs[i - 1])
        if i in NORMALISED:
            yield from lrn_cases(f"lrn{i}", x)
        if i in POOLED:
            yield from pool_cases(f"pool{i}", x)
        size = c.outputs[min(i, 4)]  # what the next convolution sees
    for name in ("fc6", "fc7"):
        O, I = shapes[name]
        yield from linear_cases(name, random(batch, I), random(I, O // 2).T, relu=True)
        yield from dropout_cases(f"dropout{name[2]}", random(batch, O // 2))
    O, I = shapes["fc8"]
    yield from linear_cases("fc8", random(batch, I), random(I, O).T, relu=False)
    yield from loss_cases(random(batch, O))
    yield sgd_case(shapes["fc6"][0] // 2, shapes["fc6"][1])


def pictures_case(N: int, size: int, channels: int) -> Case:
    whole = size * 8 // 7  # 256 for crops of 224
    pictures = np.resize(np.arange(256, dtype=np.uint8), (N, whole, whole, channels))
    mean = np.full((whole, whole, channels), 120, np.float32)
    corner, flip, colour = (
        np.zeros(N, np.int32),
        np.arange(N) % 2 == 0,
        np.ones((N, channels), np.float32),
    )
    elements = N * size * size * channels
    arguments = pictures, mean, corner, corner, flip, colour, (size, size), 1.0
    return Case(
        "pictures", FORWARD, lambda: kernels.pictures_forward(*arguments),
        PICTURES_OPERATIONS * elements, elements * (1 + 4) + mean.nbytes,
    )  # fmt: skip


def conv_cases(
    name: str, x: np.ndarray, w_shape: tuple[int, ...], stride: int, padding: int
) -> Iterator[Case]:
    w = np.ascontiguousarray(random(*w_shape))
    geometry = dict(stride=(stride, stride), padding=(padding, padding), groups=1)
    b = w[:, 0, 0, 0].copy()
    y = kernels.conv2d_forward(x, w, b, **geometry, relu=True)
    flops = 2 * w.size * y[:, 0].size  # 2 O K P
    yield Case(
        name,
        FORWARD,
        lambda: kernels.conv2d_forward(x, w, b, **geometry, relu=True),
        flops,
        total_bytes(x, w, y),
    )
    needs = (name != "conv1", True, True)  # the picture needs no gradient
    yield Case(
        name, BACKWARD, lambda: kernels.conv2d_backward(y, x, w, **geometry, needs=needs, y=y),
        (1 + needs[0]) * flops, total_bytes(y, y, x, w) + (x.nbytes + w.nbytes if needs[0] else 0),
    )  # fmt: skip


def lrn_cases(name: str, x: np.ndarray) -> Iterator[Case]:
    yield Case(
        name,
        FORWARD,
        lambda: kernels.local_response_norm_forward(x, **LRN),
        LRN_FORWARD * x.size,
        2 * x.nbytes,
    )
    dy = x.copy(order="K")
    yield Case(
        name,
        BACKWARD,
        lambda: kernels.local_response_norm_backward(dy, x, **LRN),
        LRN_BACKWARD * x.size,
        3 * x.nbytes,
    )


def pool_cases(name: str, x: np.ndarray) -> Iterator[Case]:
    windows = (3, 3), (2, 2), (0, 0)
    y, winner = kernels.max_pool2d_forward(x, *windows, ceil_mode=True)
    moved = total_bytes(x, y, winner)
    yield Case(
        name,
        FORWARD,
        lambda: kernels.max_pool2d_forward(x, *windows, ceil_mode=True),
        9 * y.size,
        moved,
    )
    yield Case(
        name,
        BACKWARD,
        lambda: kernels.max_pool2d_backward(y, winner, x.shape, *windows),
        9 * y.size,
        moved,
    )


def linear_cases(name: str, x: np.ndarray, w: np.ndarray, relu: bool) -> Iterator[Case]:
    w = np.ascontiguousarray(w)
    b = w[:, 0].copy()
    dy = kernels.linear_forward(x, w, b, relu)
    y = dy if relu else None
    flops = 2 * w.size * len(x)
    yield Case(
        name, FORWARD, lambda: kernels.linear_forward(x, w, b, relu), flops, total_bytes(x, w, dy)
    )
    yield Case(
        name, BACKWARD, lambda: kernels.linear_backward(dy, x, w, (True, True, True), y),
        2 * flops, total_bytes(dy, y, x, x, w, w),
    )  # fmt: skip


def dropout_cases(name: str, x: np.ndarray) -> Iterator[Case]:
    _, mask = kernels.dropout_forward(x, DROPOUT, 0, 0)
    moved = total_bytes(x, x, mask)
    yield Case(name, FORWARD, lambda: kernels.dropout_forward(x, DROPOUT, 0, 0), x.size, moved)
    yield Case(name, BACKWARD, lambda: kernels.dropout_backward(x, mask, DROPOUT), x.size, moved)


def loss_cases(logits: np.ndarray) -> Iterator[Case]:
    N, K = logits.shape
    target = np.arange(N) % K
    losses, p = kernels.cross_entropy_forward(logits, target)
    yield Case(
        "loss",
        FORWARD,
        lambda: kernels.cross_entropy_forward(logits, target),
        5 * p.size,
        2 * p.nbytes,
    )
    yield Case(
        "loss",
        BACKWARD,
        lambda: kernels.cross_entropy_backward(losses, p, target),
        p.size,
        2 * p.nbytes,
    )


def sgd_case(O: int, I: int) -> Case:
    """fc6's weights: more than half of all."""
    w, g, v = (np.ascontiguousarray(random(O, I)) for _ in range(3))
    update = [1e-3, MOMENTUM, WEIGHT_DECAY]
    return Case(
        "sgd (fc6)",
        FORWARD,
        lambda: kernels.sgd_step(w, g, v, *update),
        SGD_OPERATIONS * w.size,
        5 * w.nbytes,
    )
