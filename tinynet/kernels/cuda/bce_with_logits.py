"""Binary cross-entropy of a logit: tinynet/kernels/bce_with_logits.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last

_cu = Source("bce_with_logits.cu")


def bce_with_logits_forward(x: Any, target: Any) -> Any:
    """x, target of one shape -> losses."""
    x, target = batch_last(x), batch_last(target)
    losses = cupy.empty(x.shape, x.dtype)
    launch(_cu.bce_with_logits_forward, x, target, losses)
    return batch_first(losses)


def bce_with_logits_backward(
    dlosses: Any, x: Any, target: Any, needs: tuple[bool, bool]
) -> tuple[Any, Any]:
    """dlosses -> (dx, dtarget), None for each one that `needs` does not ask for."""
    dlosses, x, dx, dt = batch_last(dlosses), batch_last(x), None, None
    if needs[0]:
        dx = cupy.empty(x.shape, x.dtype)
        launch(_cu.bce_with_logits_backward, dlosses, x, batch_last(target), dx)
        dx = batch_first(dx)
    if needs[1]:
        dt = cupy.empty(x.shape, x.dtype)
        launch(_cu.bce_with_logits_target, dlosses, x, dt)
        dt = batch_first(dt)
    return dx, dt
