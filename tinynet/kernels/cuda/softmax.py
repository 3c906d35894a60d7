"""Softmax, log-softmax and cross-entropy: softmax.py and cross_entropy.py of tinynet/kernels/ on a
GPU.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch
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


def softmax_of_rows(x: Any) -> Any:
    """Softmax along the last axis of a C-contiguous x."""
    return _launch(_cu.softmax_forward, False, x.size // x.shape[-1], x.shape[-1], 1, x)


def softmax_of_rows_backward(dy: Any, y: Any) -> Any:
    """The gradient of `softmax_of_rows`; dy and y are C-contiguous."""
    return _launch(_cu.softmax_backward, False, y.size // y.shape[-1], y.shape[-1], 1, dy, y)


def _along(kernel: Kernel, axis: int, log_form: bool, *arrays: Any) -> Any:
    ndim = arrays[0].ndim
    arrays = tuple(batch_last(a) for a in arrays)
    axis = (axis - 1) % ndim  # where batch_last put it
    shape = arrays[0].shape
    K, inner = shape[axis], prod(shape[axis + 1 :])
    return batch_first(_launch(kernel, log_form, prod(shape[:axis]) * inner, K, inner, *arrays))


def _launch(kernel: Kernel, log_form: bool, columns: int, K: int, inner: int, *arrays: Any) -> Any:
    out = cupy.empty(arrays[0].shape, arrays[0].dtype)
    if out.size:
        kernel((columns, 1), *arrays, out, columns, K, inner, log_form, block=BLOCK)
    return out


def cross_entropy_forward(
    logits: Any, target: Any, label_smoothing: float = 0.0
) -> tuple[Any, Any]:
    """Logits (..., K), target (...) of classes 0 ... K-1 -> losses (...), probabilities
    (..., K).
    """
    K = logits.shape[-1]
    x, inner = class_rows(logits)
    losses = cupy.empty(logits.shape[:-1], x.dtype)
    probabilities = cupy.empty(x.shape, x.dtype)
    target, N = class_numbers(target), losses.size
    _cu.cross_entropy_forward(
        (N, 1), x, target, losses, probabilities, N, K, inner, label_smoothing, block=BLOCK
    )
    return losses, batch_first(probabilities) if inner > 1 else probabilities


def cross_entropy_backward(
    dlosses: Any, probabilities: Any, target: Any, label_smoothing: float = 0.0
) -> Any:
    """dlosses (...) -> dlogits (..., K)."""
    K = probabilities.shape[-1]
    probabilities, inner = class_rows(probabilities)
    dx = cupy.empty(probabilities.shape, probabilities.dtype)
    dlosses, target = cupy.ascontiguousarray(dlosses), class_numbers(target)
    launch(
        _cu.cross_entropy_backward, dx, dlosses, probabilities, target, K, inner, label_smoothing
    )
    return batch_first(dx) if inner > 1 else dx


def class_rows(x: Any) -> tuple[Any, int]:
    """x (..., K) as it lies in memory, C-contiguous, and the elements from class to class: N for an
    (N, K) that lies as (K, N), else 1.
    """
    if x.ndim == 2 and not x.flags.c_contiguous:
        return batch_last(x), len(x)
    return cupy.ascontiguousarray(x), 1


def class_numbers(target: Any) -> Any:
    """Classes of any integer type as the kernels want them."""
    return cupy.ascontiguousarray(target.astype(np.int64, copy=False))
