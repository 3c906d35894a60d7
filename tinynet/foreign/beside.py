"""A Function of tinynet inside torch, to compare the two side by side. Needs the package torch.

square = torch_function(Square)
y = square(x)                  # x, y of torch; y.backward() runs Square.backward
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.devices import find_device
from tinynet.function import Function
from tinynet.tensors import Tensor


def torch_function(function: type[Function]) -> Callable[..., Any]:
    """A function of torch's tensors that runs `function`, forward and backward.

    Takes what function.apply takes, with torch's tensors (on the CPU) in the place of tinynet's;
    gives torch's tensors. A backward through the backward is not possible, here as in tinynet.
    TypeError for a tensor on a GPU, and for what is no Function. ImportError without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f'torch_function needs the package torch ({error}): pip install "tinynet[torch]"'
        ) from None

    if not isinstance(function, type) or not issubclass(function, Function):
        raise TypeError(f"torch_function: expected a class of Function, got {function!r}")
    cpu = find_device("cpu")

    def ours(x: Any, needs: bool) -> Any:
        """A copy: forward may overwrite its inputs."""
        if not isinstance(x, torch.Tensor):
            return x
        if x.device.type != "cpu":
            raise TypeError(f"torch_function: expected tensors on the CPU, got one on {x.device}")
        return Tensor(np.array(x.detach().numpy()), cpu, needs)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, options: dict[str, Any], *args: Any) -> Any:
            needs = ctx.needs_input_grad[1:]
            made = function.apply(*map(ours, args, needs), **options)
            several = made if isinstance(made, tuple) else (made,)
            ctx.node = several[0].node[0] if several[0].node else None
            given = tuple(torch.from_numpy(np.array(y.data)) for y in several)
            ctx.mark_non_differentiable(
                *(y for y in given if not y.is_floating_point() and not y.is_complex())
            )
            return given if isinstance(made, tuple) else given[0]

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, *grads: Any) -> Any:
            found = function.run_backward(ctx.node, [g.numpy() for g in grads])
            return None, *(None if g is None else torch.from_numpy(np.array(g)) for g in found)

    def call(*args: Any, **options: Any) -> Any:
        return Wrapped.apply(options, *args)

    call.__name__ = function.__name__
    return call
