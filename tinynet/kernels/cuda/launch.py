"""From a `.cu` file to functions that check what they are given.

    pool = Source("pool.cu")
    pool.max_pool2d_forward((OH * OW * N, C), x, y, winner, N, H, W, ...)

The first argument is (threads along x, rows): a row of blocks for each. A grid ends at 65,535 rows
along y, so more go on along z, and the last of those may be one too many: kernels ask.

A raw CUDA launch checks nothing: a Python float goes over as a double where a float is declared, an
array of the wrong type or of another GPU is read as it lies. So the declaration in the `.cu` file
itself is read here, and every argument is held to it: arrays must be C-contiguous, of the declared
type and on the current GPU; numbers become the declared type.

The `.cu` files write REAL or INDEX for types that vary; each is bound by the arrays of the
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
}  # fmt: skip
VARIED = {"REAL": "f", "INDEX": "u"}  # type in a .cu file -> kinds of dtypes
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
    """What the kinds of a call's arguments make of a kernel."""

    types: tuple[tuple[str, str], ...]  # what REAL and INDEX stand for
    casts: list[Any]  # for each argument, the type that a number becomes; None for an array


class Launch(NamedTuple):
    """All of a launch but its arrays, and the numbers that may differ from step to step."""

    function: Callable[..., None]
    grid: tuple[int, int, int]
    values: list[Any]  # the arguments; those in `given` are still missing
    given: list[tuple[int, Any]]  # (place, the type that a number becomes or None for an array)


class Kernel:
    """One `__global__` function: called with its grid, its arguments, and constants that are
    compiled in.

    A step launches the same hundred kernels as the step before. So arguments are checked, and
    whole numbers brought to the declared type, once for each kind of call (2 us a launch instead
    of 6). A number that differs in every step comes as a float or as NumPy's, or it would make a
    new kind each time.
    """

    def __init__(self, name: str, text: str, parameters: str):
        self.name, self.text = name, text
        self.parameters = [
            (kind, bool(star), label)
            for kind, star, label in (
                PARAMETER.findall(p.strip())[0] for p in parameters.split(",")
            )
        ]
        self._launch = functools.lru_cache(1 << 12)(self._prepared)
        self._check = functools.lru_cache(1 << 12)(self._checked)

    def __call__(
        self,
        threads: tuple[int, int],
        *arguments: Any,
        block: tuple[int, int] = (THREADS, 1),
        **constants: int,
    ) -> None:
        if 0 in threads:
            return
        gpu = current_lane().gpu.id
        launch = self._launch(gpu, threads, block, _kinds(arguments), **constants)
        function, grid, values, given = launch
        values = values.copy()
        for i, cast in given:
            values[i] = arguments[i] if cast is None else cast(arguments[i])
        function(grid, block, tuple(values))

    def check(self, arguments: tuple) -> Checked:
        """Hold every argument to its declaration."""
        return self._check(current_lane().gpu.id, _kinds(arguments))

    def _prepared(
        self, gpu: int, threads: tuple[int, int], block: tuple[int, int], kinds: tuple,
        **constants: int,
    ) -> Launch:  # fmt: skip
        x, rows = threads
        if x > LIMIT or rows > LIMIT:
            raise ValueError(
                f"{self.name}: {x} x {rows} threads are more than a GPU's grid holds ({LIMIT} each)"
            )
        types, casts = self._check(gpu, kinds)
        function = compiled(self.text, self.name, (*types, *constants.items()))
        z = -(-rows // ROWS)
        whole = [type(kind) is int for kind in kinds]
        values = [cast(n) if known else None
                  for n, cast, known in zip(kinds, casts, whole, strict=True)]  # fmt: skip
        given = [(i, cast) for i, cast in enumerate(casts) if not whole[i]]
        return Launch(function, (-(-x // block[0]), -(-rows // z), z), values, given)

    def _checked(self, gpu: int, kinds: tuple) -> Checked:
        if len(kinds) != len(self.parameters):
            raise TypeError(
                f"{self.name}: expected {len(self.parameters)} arguments, got {len(kinds)}"
            )
        types: dict[str, Any] = {}
        for found, (kind, star, label) in zip(kinds, self.parameters, strict=True):
            is_array = type(found) is tuple
            its_type = found if isinstance(found, type) else type(found)
            if not star:
                if is_array or issubclass(its_type, np.ndarray):
                    raise TypeError(f"{self.name}: {label} is a number, got an array")
                continue
            if not is_array:
                raise TypeError(f"{self.name}: {label} is a CuPy array, got {its_type.__name__}")
            dtype, where, contiguous = found
            check_device(self.name, label, where, gpu)
            if not contiguous:
                raise ValueError(f"{self.name}: {label} must be C-contiguous")
            expected, c_type = kind, C_NAMES.get(dtype)
            if kind in types:
                expected = types[kind]
            elif c_type is not None and dtype.kind in VARIED.get(kind, ""):
                expected = types[kind] = c_type
            if c_type != expected:
                expected = {"REAL": "float or double"}.get(expected, expected)
                raise TypeError(f"{self.name}: {label} is {expected}, got {dtype}")
        casts = [
            None if star else C_TYPES[types.get(kind, kind)] for kind, star, _ in self.parameters
        ]
        return Checked(tuple(types.items()), casts)


def _kinds(arguments: tuple) -> tuple:
    """What a launch depends on: of an array (type, GPU, whether it is C-contiguous), whole numbers
    themselves, of anything else its type.
    """
    array = cupy.ndarray
    return tuple([
        (a.dtype, a.data.device_id, a.flags.c_contiguous) if type(a) is array
        else a if type(a) is int else type(a)
        for a in arguments
    ])  # fmt: skip


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


_LAST = [(*range(1, n), 0)[:n] for n in range(65)]  # the axes of batch_last, by their number
_FIRST = [(n - 1, *range(n - 1))[:n] for n in range(65)]


def batch_last(x: Any) -> Any:
    """(N, ...) -> C-contiguous (..., N): a view where memory lies so already, else a copy."""
    return dense(x.transpose(_LAST[x.ndim]))


def dense(x: Any) -> Any:
    """x itself if it is C-contiguous, else a copy that is."""
    return x if x.flags.c_contiguous else cupy.ascontiguousarray(x)


def batch_first(x: Any) -> Any:
    """(..., N) -> (N, ...), a view: the inverse of `batch_last`."""
    return x.transpose(_FIRST[x.ndim])


def some(x: Any, rows: slice) -> Any:
    """x[rows]; x itself where these are all its rows: most often, and a view costs 2.5 us."""
    return x if rows == slice(0, len(x)) else x[rows]


def at_once(N: int, *arrays: Any) -> int:
    """How many neighbouring pictures a thread takes of arrays (..., N): 16 bytes, or one picture
    where N or an address does not divide. Kernels call it AT_ONCE.

    The same bytes with a quarter of the instructions, and finding its place costs a thread more of
    them than the work there.
    """
    few = 16 // arrays[0].itemsize
    return few if N % few == 0 and all(a.data.ptr % 16 == 0 for a in arrays) else 1
