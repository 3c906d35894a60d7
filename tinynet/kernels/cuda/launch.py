"""From a `.cu` file to functions that check what they are given.

    pool = Source("pool.cu")
    pool.max_pool2d_forward((OH * OW * N, C), x, y, winner, N, H, W, ...)

The first argument is (threads along x, rows): a row of blocks for each. A grid ends at 65,535 rows
along y, so more go on along z, and the last of those may be one too many: kernels ask.

A raw CUDA launch checks nothing: a Python float goes over as a double where a float is declared, an
array of the wrong type or of another GPU is read as it lies. So the declaration in the `.cu` file
itself is read here, and every argument is held to it: arrays must be C-contiguous, of the declared
type and on the current GPU; numbers become the declared type.

The `.cu` files write REAL, INDEX or ELEMENT for types that vary; each is bound by the arrays of the
call, and each binding is compiled once, by CuPy, at its first launch.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinynet.devices.cuda import cupy, current_lane
from tinynet.errors import DeviceMismatchError

THREADS = (
    256  # a block, the usual number; kernels that need another shape of block say so. Never tuned
)
LIMIT = 2**31 - 1024  # threads along x: kernels count them in an int
C_TYPES = {
    "bool": np.bool_, "unsigned char": np.uint8, "unsigned short": np.uint16,
    "unsigned int": np.uint32, "int": np.int32, "long long": np.int64,
    "unsigned long long": np.uint64, "float": np.float32, "double": np.float64,
    "float2": np.complex64, "double2": np.complex128,
}  # fmt: skip
VARIED = {"REAL": "f", "INDEX": "u", "ELEMENT": "fc"}  # type in a .cu file -> kinds of dtypes
ROWS = 65535  # of blocks along y or z
C_NAMES = {np.dtype(dtype): name for name, dtype in C_TYPES.items()}
DECLARATION = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
PARAMETER = re.compile(r"^(?:const )?([\w ]+?)(\*?)(?: __restrict__)? (\w+)$")  # kind, star, name


class Source:
    """The kernels of one `.cu` file, and of more text after it, as attributes."""

    def __init__(self, file: str, more: str = ""):
        self.text = (Path(__file__).parent / file).read_text() + more
        for name, parameters in DECLARATION.findall(self.text):
            setattr(self, name, Kernel(name, self.text, parameters))

    def __getattr__(self, name: str) -> Kernel:
        raise AttributeError(f"no kernel {name!r} in this source")


class Checked(NamedTuple):
    """What the arguments of a call make of a kernel."""

    types: tuple[tuple[str, str], ...]  # what REAL, ELEMENT and INDEX stand for
    casts: list[Any]  # for each argument, the type that a number becomes; None for an array


class Kernel:
    """One `__global__` function: called with its grid, its arguments, and constants that are
    compiled in.
    """

    def __init__(self, name: str, text: str, parameters: str):
        self.name, self.text = name, text
        self.parameters = [
            (kind, bool(star), label)
            for kind, star, label in (
                PARAMETER.findall(p.strip())[0] for p in parameters.split(",")
            )
        ]
        self._checked: dict[tuple, Checked] = {}  # by the kinds of the arguments

    def __call__(
        self,
        threads: tuple[int, int],
        *arguments: Any,
        block: tuple[int, int] = (THREADS, 1),
        **constants: int,
    ) -> None:
        x, rows = threads
        if x == 0 or rows == 0:
            return
        if x > LIMIT or rows > LIMIT:
            raise ValueError(
                f"{self.name}: {x} x {rows} threads are more than a GPU's grid holds ({LIMIT} each)"
            )
        types, casts = self.check(arguments)
        function = compiled(self.text, self.name, (*types, *constants.items()))
        values = [a if cast is None else cast(a) for a, cast in zip(arguments, casts, strict=True)]
        z = -(-rows // ROWS)
        function((-(-x // block[0]), -(-rows // z), z), block, tuple(values))

    def check(self, arguments: tuple) -> Checked:
        """Hold every argument to its declaration: once for each kind of arguments (types, GPUs, how
        they lie), since a step launches the same hundred kernels as the step before.
        """
        gpu, array = current_lane().gpu.id, cupy.ndarray
        kinds = [
            (a.dtype, a.data.device_id, a.flags.c_contiguous) if isinstance(a, array) else type(a)
            for a in arguments
        ]
        key = (gpu, *kinds)
        checked = self._checked.get(key)
        if checked is None:
            checked = self._checked[key] = self._check(arguments, gpu)
        return checked

    def _check(self, arguments: tuple, gpu: int) -> Checked:
        if len(arguments) != len(self.parameters):
            raise TypeError(
                f"{self.name}: expected {len(self.parameters)} arguments, got {len(arguments)}"
            )
        types: dict[str, Any] = {}
        for argument, (kind, star, label) in zip(arguments, self.parameters, strict=True):
            if not star:
                if isinstance(argument, cupy.ndarray) or getattr(argument, "ndim", 0) > 0:
                    raise TypeError(f"{self.name}: {label} is a number, got an array")
                continue
            if not isinstance(argument, cupy.ndarray):
                raise TypeError(
                    f"{self.name}: {label} is a CuPy array, got {type(argument).__name__}"
                )
            check_device(self.name, label, argument.data.device_id, gpu)
            if not argument.flags.c_contiguous:
                raise ValueError(f"{self.name}: {label} must be C-contiguous")
            expected, c_type = kind, C_NAMES.get(argument.dtype)
            if kind in types:
                expected = types[kind]
            elif c_type is not None and argument.dtype.kind in VARIED.get(kind, ""):
                expected = types[kind] = c_type
            if c_type != expected:
                expected = {"REAL": "float or double"}.get(expected, expected)
                raise TypeError(f"{self.name}: {label} is {expected}, got {argument.dtype}")
        casts = [
            None if star else C_TYPES[types.get(kind, kind)] for kind, star, _ in self.parameters
        ]
        return Checked(tuple(types.items()), casts)


def check_device(operation: str, label: str, where: int, gpu: int) -> None:
    """Raise unless an array that lies on GPU `where` lies on `gpu`: neither launches nor cuBLAS
    would notice.
    """
    if where != gpu:
        raise DeviceMismatchError(
            f"{operation}: {label} lives on cuda:{where}, but cuda:{gpu} is the current GPU"
        )


@functools.cache
def compiled(text: str, name: str, macros: tuple[tuple[str, Any], ...]) -> Callable:
    options = ("-std=c++17", *(f"-D{macro}={value}" for macro, value in macros))
    return cupy.RawKernel(text, name, options)


# --- layout: as in tinynet/kernels/layout.py ------------------------------------------------------


def batch_last(x: Any) -> Any:
    """(N, ...) -> C-contiguous (..., N): a view where memory lies so already, else a copy."""
    return dense(x if x.ndim < 2 else x.transpose(*range(1, x.ndim), 0))


def dense(x: Any) -> Any:
    """x itself if it is C-contiguous, else a copy that is."""
    return x if x.flags.c_contiguous else cupy.ascontiguousarray(x)


def batch_first(x: Any) -> Any:
    """(..., N) -> (N, ...), a view: the inverse of `batch_last`."""
    return x if x.ndim < 2 else x.transpose(-1, *range(x.ndim - 1))
