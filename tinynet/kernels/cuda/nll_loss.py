"""The negative log-likelihood: tinynet/kernels/nll_loss.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch
from tinynet.kernels.cuda.launch import Source, batch_first
from tinynet.kernels.cuda.softmax import class_numbers, class_rows

_cu = Source("nll_loss.cu")


def nll_loss_forward(x: Any, target: Any) -> Any:
    """x (..., K), target (...) of classes 0 ... K-1 -> losses (...)."""
    rows, inner = class_rows(x)
    target = class_numbers(target)
    losses = cupy.empty(x.shape[:-1], x.dtype)
    _cu.nll_loss_forward((losses.size, 1), rows, target, losses, losses.size, x.shape[-1], inner)
    return losses


def nll_loss_backward(dlosses: Any, x: Any, target: Any) -> Any:
    """dlosses (...) -> dx (..., K), in the memory layout of x. The values of x do not count."""
    rows, inner = class_rows(x)
    dx = cupy.empty(rows.shape, x.dtype)
    dlosses, target = cupy.ascontiguousarray(dlosses), class_numbers(target)
    launch(_cu.nll_loss_backward, dx, dlosses, target, x.shape[-1], inner)
    return batch_first(dx) if inner > 1 else dx
