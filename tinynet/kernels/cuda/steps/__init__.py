"""The steps of tinynet/kernels/steps on a GPU: one `.cu` file a rule.

Every `.cu` file here is read, and its kernels become functions whose arguments are the fields of
the kernel's struct, without the last: the number of elements. `run_steps` makes one launch of many
calls.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import C_TYPES, THREADS, Kernel, compiled

STRUCT = re.compile(r"struct (\w+) \{([^}]*)\};")
FIELD = re.compile(r"((?:const )?REAL\*?|long long) ([\w, ]+);")
STEP = re.compile(r'extern "C" __global__ void (\w+)\(const All<(\w+)> parts\)')
BYTES = 4000  # of the parts of one launch, as in the .cu files
BLOCKS = 1024  # of a parameter at most; threads go on to further elements. A guess


class Step:
    """One rule's kernel: checks what it is given like any other, and launches all calls at once."""

    def __init__(self, name: str, text: str, fields: str):
        self.name, self.text = name, text
        lines = [(kind, labels.split(", ")) for kind, labels in FIELD.findall(fields)]
        declared = (f"{kind} {label}" for kind, labels in lines for label in labels)
        self.kernel = Kernel(name, text, ", ".join(declared))

    def __call__(self, calls: Sequence[tuple]) -> None:
        by_type: dict[Any, list[tuple]] = {}
        for weight, grad, *others in calls:
            call = weight, cupy.ascontiguousarray(grad), *others, weight.size
            by_type.setdefault(weight.dtype, []).append(call)
        for dtype, alike in by_type.items():
            layout = _layout(tuple(self.kernel.parameters), dtype)
            most = BYTES // layout.itemsize
            for first in range(0, len(alike), most):
                self._launch(alike[first : first + most], np.zeros(most, layout))

    def _launch(self, calls: list[tuple], parts: np.ndarray) -> None:
        array = cupy.ndarray
        for call in calls:
            types = self.kernel.check(call).types
        parts[: len(calls)] = [
            tuple([a.data.ptr if isinstance(a, array) else a for a in call]) for call in calls
        ]
        blocks = min(BLOCKS, -(-max(call[-1] for call in calls) // THREADS))
        if blocks:
            by_value = parts.view([("parts", parts.dtype, parts.shape)])  # one value, for CuPy
            function = compiled(self.text, self.name, types)
            function((blocks, len(calls), 1), (THREADS, 1), (by_value,))


@functools.cache
def _layout(fields: tuple[tuple[str, bool, str], ...], dtype: Any) -> np.dtype:
    """The struct of these fields as a compiler lays it out; REAL is dtype."""
    types = [
        (name, np.uintp if star else dtype if kind == "REAL" else C_TYPES[kind])
        for kind, star, name in fields
    ]
    return np.dtype(types, align=True)


def run_steps(step: Callable[..., None], calls: Sequence[tuple]) -> None:
    """step(*call) for all calls, in one launch; all arrays lie on one GPU."""
    step.all(calls)  # type: ignore[attr-defined]


def _function(step: Step) -> Callable[..., None]:
    def function(*arguments: Any) -> None:
        step([arguments])

    names = [label for _, _, label in step.kernel.parameters[:-1]]
    kind = inspect.Parameter.POSITIONAL_ONLY
    parameters = [inspect.Parameter(name, kind) for name in names]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__name__, function.all = step.name, step  # type: ignore[attr-defined]
    return function


__all__ = ["run_steps"]
for _file in sorted(Path(__file__).parent.glob("*.cu")):
    _text = _file.read_text()
    _structs = dict(STRUCT.findall(_text))
    for _name, _struct in STEP.findall(_text):
        globals()[_name] = _function(Step(_name, _text, _structs[_struct]))
        __all__.append(_name)
