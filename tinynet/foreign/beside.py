"""A Function of tinynet inside torch, to compare the two side by side. Needs the package torch.

square = torch_function(Square)
y = square(x)                  # x, y of torch; y.backward() runs Square.backward
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.devices import find_device
from tinynet.function import Function, by_position
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
            f"torch_function needs the package torch ({error}): pip install torch"
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

    class Once(torch.autograd.Function):
        """A gradient; an error for who wants its derivative by what it was computed from."""

        @staticmethod
        def forward(ctx: Any, gradient: Any, *others: Any) -> Any:
            return gradient.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            raise RuntimeError(
                f"{function.__name__}: expected a first derivative, got a backward through its "
                f"backward; tinynet has no second ones"
            )

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, options: dict[str, Any], *args: Any) -> Any:
            ctx.save_for_backward(*(x for x in args if isinstance(x, torch.Tensor)))
            needs = ctx.needs_input_grad[1:]
            made = function.apply(*map(ours, args, needs), **options)
            several = made if isinstance(made, tuple) else (made,)
            ctx.node = next((y.node[0] for y in several if y.node), None)  # integers have none
            given = tuple(torch.from_numpy(np.array(y.data)) for y in several)
            return given if isinstance(made, tuple) else given[0]

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            given = function.run_backward(ctx.node, [g.detach().numpy() for g in grads])
            found = [None if g is None else torch.from_numpy(np.array(g)) for g in given]
            if torch.is_grad_enabled():  # by create_graph: torch would take them for constants
                others = *grads, *ctx.saved_tensors
                found = [None if g is None else Once.apply(g, *others) for g in found]
            return None, *found

    def call(*args: Any, **options: Any) -> Any:
        by_position(function.__name__, args, options, torch.Tensor)
        return Wrapped.apply(options, *args)

    call.__name__ = function.__name__
    return call
