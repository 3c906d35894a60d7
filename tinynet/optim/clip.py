"""A limit on the length of all gradients together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinynet.tensors import Tensor, tensor


def clip_grad_norm(parameters: Tensor | Iterable[Tensor], max_norm: float) -> Tensor:
    """n = sqrt(sum of the squares of all gradients); where n > max_norm, each g <- g max_norm / n.

    The gradients are changed in place; parameters without one do not count, and the others may live
    on several devices. Returns n, as it was before: a tensor () of float64, on the first gradient's
    device (0 on the CPU if there is none). Nothing waits for a GPU here; `.item()` does. If n is
    NaN or infinite, all gradients stay as they are: who looks for the fault finds it in them.

    Raises ValueError unless max_norm is a number above 0. Source: Pascanu et al. 2013, "On the
    difficulty of training recurrent neural networks", section 3.2.
    """
    real = isinstance(max_norm, (int, float, np.integer, np.floating))
    if not real or isinstance(max_norm, bool) or not 0 < max_norm < float("inf"):
        raise ValueError(
            f"clip_grad_norm: expected max_norm to be a number above 0, got {max_norm!r}"
        )
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return tensor(np.zeros(()))
    first, total = grads[0].device, 0.0
    for device in dict.fromkeys(grad.device for grad in grads):
        here = [grad.data for grad in grads if grad.device == device]
        with device.activate("clip_grad_norm"):
            squares = device.xp.asarray(sum(device.kernels.square_sum(g) for g in here))
        with first.activate("clip_grad_norm"):
            total = total + first.copy_from(squares, device)
    with first.activate("clip_grad_norm"):
        norm = first.xp.asarray(first.xp.sqrt(total))
        # exactly 1 where the norm is within the limit, so that no bit of a gradient changes
        factor = max_norm / first.xp.maximum(norm, max_norm)
        factor = first.xp.where(first.xp.isfinite(norm), factor, 1.0)
    for device in dict.fromkeys(grad.device for grad in grads):
        with device.activate("clip_grad_norm"):
            by = device.copy_from(factor, first)
            for grad in grads:
                if grad.device == device:
                    grad.data *= by.astype(grad.dtype)
    return Tensor(norm, first)
