"""Softmax, log-softmax and cross-entropy: tinynet/kernels/softmax.py and cross_entropy.py on a GPU."""

from __future__ import annotations

from math import prod
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Kernel, Source, batch_first, batch_last

_cu = Source("softmax.cu")
BLOCK = (32, 8)  # columns, lanes. Never tuned: a step has one of these


def softmax_forward(x: Any, axis: int) -> Any:
    """Any shape; sums to 1 along `axis`."""
    return _along(_cu.softmax_forward, axis, False, x)


def log_softmax_forward(x: Any, axis: int) -> Any:
    """Any shape."""
    return _along(_cu.softmax_forward, axis, True, x)


def softmax_backward(dy: Any, y: Any, axis: int) -> Any:
    """dy, y of one shape -> dx."""
    return _along(_cu.softmax_backward, axis, False, dy, y)


def log_softmax_backward(dy: Any, y: Any, axis: int) -> Any:
    """dy, y of one shape -> dx."""
    return _along(_cu.softmax_backward, axis, True, dy, y)


def _along(kernel: Kernel, axis: int, log_form: bool, *arrays: Any) -> Any:
    ndim = arrays[0].ndim
    arrays = [batch_last(a) for a in arrays]
    axis = (axis % ndim - 1) % ndim if ndim > 1 else 0  # where batch_last put it
    shape = arrays[0].shape
    outer, K, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    out = cupy.empty(shape, arrays[0].dtype)
    kernel((outer * inner, 1), *arrays, out, outer * inner, K, inner, log_form, block=BLOCK)
    return batch_first(out)


def cross_entropy_forward(logits: Any, target: Any) -> tuple[Any, Any]:
    """Logits (N, K), target (N,) of classes 0 ... K-1 -> losses (N,), probabilities (N, K)."""
    N, K = logits.shape
    x = batch_last(logits)
    losses, probabilities = cupy.empty(N, x.dtype), cupy.empty((K, N), x.dtype)
    target = cupy.ascontiguousarray(target)
    _cu.cross_entropy_forward((N, 1), x, target, losses, probabilities, N, K, block=BLOCK)
    return losses, batch_first(probabilities)


def cross_entropy_backward(dlosses: Any, probabilities: Any, target: Any) -> Any:
    """dlosses (N,) -> dlogits (N, K)."""
    N, K = probabilities.shape
    dx = cupy.empty((K, N), probabilities.dtype)
    dlosses, target = cupy.ascontiguousarray(dlosses), cupy.ascontiguousarray(target)
    _cu.cross_entropy_backward((N, K), dlosses, batch_last(probabilities), target, dx, N)
    return batch_first(dx)
