"""The steps of tinynet/kernels/steps on a GPU: one `.cu` file a rule, one thread an element.

Every `.cu` file here is read, and its kernels become functions whose arguments are the declared
ones, without the last: the number of elements. One launch a parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch
from tinynet.kernels.cuda.launch import Kernel, Source


def _launcher(kernel: Kernel) -> Callable[..., None]:
    def step(weight: Any, grad: Any, *others: Any) -> None:
        launch(kernel, weight, cupy.ascontiguousarray(grad), *others)

    names = [label for _, _, label in kernel.parameters[:-1]]
    kind = inspect.Parameter.POSITIONAL_ONLY
    parameters = [inspect.Parameter(name, kind) for name in names]
    step.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    step.__name__ = kernel.name
    return step


__all__ = []
for _file in sorted(Path(__file__).parent.glob("*.cu")):
    _kernels = vars(Source(f"steps/{_file.name}"))
    _steps = {name: _launcher(k) for name, k in _kernels.items() if isinstance(k, Kernel)}
    globals().update(_steps)
    __all__ += _steps
