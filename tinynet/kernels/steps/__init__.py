"""One step of every rule of tinynet.optim, in place: one file a rule, formula first.

Every file here is read, and its functions NAME_step become kernels: a new rule needs no other line.
Arguments: weight, grad, the arrays that the rule keeps beside a parameter, numbers. All but grad
are C-contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pkgutil import iter_modules


def run_steps(step: Callable[..., None], calls: Sequence[tuple]) -> None:
    """step(*call) for all calls; a GPU makes one launch of them."""
    for call in calls:
        step(*call)


__all__ = ["run_steps"]
for _file in iter_modules(__path__):
    _kernels = vars(import_module(f"{__name__}.{_file.name}"))
    _steps = {n: step for n, step in _kernels.items() if n.endswith("_step") and callable(step)}
    globals().update(_steps)
    __all__ += _steps
