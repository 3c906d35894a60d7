"""Small operations with a backward of one's choice, right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinynet
from tinynet import nn

X = np.array([[0.7, -1.3, 0.9], [-0.6, 1.1, 1.4], [0.8, -0.9, -1.2], [1.5, 0.5, -0.7]])
W = np.array([[0.3, -1.1, 0.8], [1.2, 0.4, -0.5], [-0.9, 0.6, 0.2]])
BIAS = np.array([0.4, -0.8, 1.3])
CUBE = np.stack([X, X[::-1]])
TIES = np.array([1.0, 2.0, 2.0, 0.5])
STEEP = np.array([1.0, 1e-3])


def operation(forward: Callable, backward: Callable) -> Callable:
    """An operation of forward(*arrays) and backward(ctx, saved arrays, *dy)."""

    class Operation(tinynet.Function):
        kept: dict = {}  # what no Function should have

        @staticmethod
        def forward(ctx: Any, *arrays: Any) -> Any:
            ctx.save_for_backward(*arrays)
            ctx.own = 2 * arrays[0]
            ctx.kept = Operation.kept
            Operation.kept["x"] = arrays[0].copy()
            Operation.kept.setdefault("stack", []).append(arrays[0].copy())
            return forward(*arrays)

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            return backward(ctx, *ctx.saved_tensors, *dy)

    return lambda *tensors: Operation.apply(*tensors)


def square(backward: Callable) -> Callable:
    """x * x; backward(ctx, x, dy), where 2 * x * dy is right."""
    return operation(lambda x: x * x, backward)


def real(forward: Callable) -> Callable:
    """The same function, which takes no complex numbers."""

    def only_real(*arrays: Any) -> Any:
        if any(x.dtype.kind == "c" for x in arrays):
            raise TypeError
        return forward(*arrays)

    return only_real


class Wrong(NamedTuple):
    name: str
    words: str  # of the error
    fn: Callable
    inputs: list


def in_place_if(flag: Callable) -> Callable:
    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        if not flag(dy):
            return 2 * x * dy
        dy *= 2 * x
        return dy

    return square(backward)


def innermost(a: np.ndarray) -> bool:
    return a.flags.f_contiguous and not a.flags.c_contiguous


def as_if_dense(which: str) -> Callable:
    """Wrong for rows of memory with others between them."""

    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        a = {"x": x, "dy": dy}[which]
        apart = a.strides[1] == a.itemsize and a.strides[0] > a.itemsize * a.shape[1]
        return 2 * x * dy * (1 + apart)

    return backward


def batched_matmul(ctx: Any, x: Any, w: Any, dy: Any) -> Any:
    dw = x.reshape(-1, x.shape[-1], order="A").T @ dy.reshape(-1, dy.shape[-1], order="A")
    return dy @ w.T, dw


def round_and_round(x: Any, i: Any) -> Any:
    """Changes i at every call, and the result never."""
    i += len(x)
    return x[i % len(x)]


def lost_write(ctx: Any, x: Any, dy: Any) -> Any:
    dx = np.zeros_like(x)
    dx.reshape(-1)[:] = (2 * x * dy).reshape(-1)  # a copy, where x is not C-contiguous
    return dx


def empty_ctx(ctx: Any, x: Any, dy: Any) -> Any:
    dx = ctx.own * dy
    ctx.own = 0 * ctx.own
    return dx


def raise_if_used(ctx: Any, x: Any, dy: Any) -> Any:
    if ctx.own is None:
        raise ValueError("used up")
    dx, ctx.own = ctx.own * dy, None
    return dx


def raise_if_not_last(ctx: Any, x: Any, dy: Any) -> Any:
    if not np.array_equal(x, ctx.kept["x"]):
        raise ValueError("not the last call")
    return 2 * x * dy


def first_again(ctx: Any, x: Any, dy: Any) -> Any:
    if not isinstance(ctx.own, tuple):
        ctx.own = (2 * x * dy,)
    return ctx.own[0]


def overwrite_own(ctx: Any, x: Any, dy: Any) -> Any:
    ctx.own *= dy
    return ctx.own


def cache(ctx: Any, x: Any, dy: Any) -> Any:
    return ctx.kept.setdefault((x.shape, x.dtype), 2 * x) * dy


def cache_single(ctx: Any, x: Any, dy: Any) -> Any:
    if dy.dtype == np.float32:
        ctx.kept["single"] = 2 * x
    return ctx.kept.get("single", 2 * x) * dy


def scaled(factor: float, forward: Callable = lambda x: x * x) -> Callable:
    return operation(forward, lambda ctx, x, dy: factor * 2 * x * dy)


def mean(factor: float, forward: Callable = np.mean) -> Callable:
    return operation(forward, lambda ctx, x, dy: np.full(x.shape, factor * dy / x.size, x.dtype))


def two_outputs(backward: Callable) -> Callable:
    return operation(lambda x: (2 * x, 3 * x), backward)


def linear(backward: Callable) -> Callable:
    return operation(lambda x, w, b: x @ w + b, backward)


def linear_right(x: Any, w: Any, dy: Any) -> list:
    return [dy @ w.T, x.T @ dy, dy.sum(0)]


def wrong_for(*needs: bool) -> Callable:
    def backward(ctx: Any, x: Any, w: Any, b: Any, dy: Any) -> Any:
        factor = 2 if ctx.needs_input_grad == needs else 1
        return [factor * g for g in linear_right(x, w, dy)]

    return linear(backward)


class Frozen(nn.Module):
    """x * w + b, whose bias is wrong where x requires no gradient: a first layer."""

    def __init__(self) -> None:
        self.w, self.b = (nn.Parameter(np.array([v, v, v], np.float32)) for v in (2, 3))

    def forward(self, x: Any) -> Any:
        def backward(ctx: Any, x: Any, w: Any, b: Any, dy: Any) -> Any:
            factor = 1 if ctx.needs_input_grad[0] else 3
            return dy * w, (dy * x).sum(0), factor * dy.sum(0)

        return operation(lambda x, w, b: x * w + b, backward)(x, self.w, self.b)


def scale_and_abs(scale: float, factor: float) -> Callable:
    return operation(
        lambda x: np.stack([scale * x[0], np.abs(x[1])]),
        lambda ctx, x, dy: np.stack([scale * dy[0], factor * np.sign(x[1].real) * dy[1]]),
    )


def grad_by_hand(x: Any, w: Any) -> Any:
    """x * w, which gives w a gradient even where it wants none."""
    if not w.requires_grad:
        w.grad = tinynet.tensor(np.ones(w.shape))
    return x * w


def at_zero(value: float) -> Callable:
    return operation(
        lambda x: np.maximum(x, 0),
        lambda ctx, x, dy: dy * np.where(x == 0, x.dtype.type(value), x > 0),
    )


BIG = np.linspace(-1, 1, 90_000).reshape(300, 300)
