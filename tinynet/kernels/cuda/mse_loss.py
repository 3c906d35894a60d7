"""The squared error: tinynet/kernels/mse_loss.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last

_cu = Source("mse_loss.cu")


def mse_loss_forward(x: Any, target: Any) -> Any:
    """x, target of one shape -> losses."""
    x, target = batch_last(x), batch_last(target)
    losses = cupy.empty(x.shape, x.dtype)
    launch(_cu.mse_loss_forward, x, target, losses)
    return batch_first(losses)


def mse_loss_backward(
    dlosses: Any, x: Any, target: Any, needs: tuple[bool, bool]
) -> tuple[Any, Any]:
    """dlosses -> (dx, dtarget), None for each one that `needs` does not ask for."""
    x, target = batch_last(x), batch_last(target)
    dx = cupy.empty(x.shape, x.dtype)
    launch(_cu.mse_loss_backward, batch_last(dlosses), x, target, dx)
    dx = batch_first(dx)
    return dx if needs[0] else None, -dx if needs[1] else None
