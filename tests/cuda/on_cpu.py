"""Runs the text of a `.cu` file on the CPU: compiled by g++ behind shim.hpp, called by ctypes on
NumPy arrays.

TINYNET_SHIM_FLAGS adds flags, such as -fsanitize=address,undefined. TINYNET_SHIM_PLANT="this=>that"
plants a mistake.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SHIM = Path(__file__).parent / "shim.hpp"
DECLARATION = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
CACHE = Path(tempfile.gettempdir()) / f"tinynet-shim-{os.getuid() if hasattr(os, 'getuid') else 0}"
COMPILER = shutil.which("g++")
INT_MOST = 2**31 - 1  # the largest that an int of a kernel holds; a test may say less
MIXED = ["-Wdouble-promotion", "-Wfloat-conversion"]  # is anything a float where REAL is double?
MARGIN = 1 << 12  # bytes before and behind each array that belong to none
LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p


def declared(code: str) -> dict[str, list[str]]:
    """The C types of the parameters of every kernel in a source; a pointer ends in *."""
    kernels = {}
    for name, parameters in DECLARATION.findall(code):
        kinds = [
            re.sub(r"\bconst\b|__restrict__", "", p).rsplit(None, 1)[0]
            for p in parameters.split(",")
        ]
        kernels[name] = [" ".join(kind.split()).replace(" *", "*") for kind in kinds]
    return kernels


def run(
    code: str, name: str, options: tuple[str, ...], grid: tuple, block: tuple, args: list[Any]
) -> None:
    """Launch one kernel. Arrays are NumPy's, numbers NumPy scalars. RuntimeError if threads miss a
    barrier; OverflowError if an int does not hold what is computed in it; IndexError if a thread
    writes beside an array.
    """
    library = _library(code, options)
    function = getattr(library, f"run_{name}")
    ctypes.c_int.in_dll(library, "int_most").value = INT_MOST
    sanitized = "sanitize" in os.environ.get("TINYNET_SHIM_FLAGS", "")
    constant = ["const" in p for p in dict(DECLARATION.findall(code))[name].split(",")]
    written = {a.ctypes.data for a, c in zip(args, constant, strict=True) if is_plain(a) and not c}
    copies = _copies(args, written, margin=0 if sanitized else MARGIN)
    values = [
        np.array(copies[a.ctypes.data].place, np.uintp)
        if is_plain(a)
        else np.array(a)  # numbers, and structs by value
        for a in args
    ]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    size = ctypes.c_uint * 3
    failed = function(
        size(*grid), size(*block), ctypes.c_ulonglong(random.getrandbits(63)), pointers
    )
    untouched = [copy.back() for copy in copies.values()]
    if failed == 2:
        raise OverflowError(f"{name}: an int holds at most {INT_MOST}")
    if failed:
        raise RuntimeError(f"{name}: some threads wait at a __syncthreads that others never reach")
    if not all(untouched):
        raise IndexError(f"{name}: writes beside an array")


class _Copy:
    """An array's bytes in memory of their own, between two margins. Those of what is only read are
    0xFF: NaN, or -1, for who reads there; of what is written a number, to which NaN or anything may
    be added. Without margins it has exactly its size, so that the address sanitizer sees the first
    byte past its end.
    """

    def __init__(self, array: np.ndarray, margin: int, byte: int):
        self.array, self.margin, self.byte = array, margin, byte
        self.start = LIBC.malloc(ctypes.c_size_t(array.nbytes + 2 * margin))
        self.place = self.start + margin
        ctypes.memset(self.start, byte, margin)
        ctypes.memmove(self.place, array.ctypes.data, array.nbytes)
        ctypes.memset(self.place + array.nbytes, byte, margin)

    def back(self) -> bool:
        """The bytes go back, and the memory is freed. Are the margins as they were?"""
        ctypes.memmove(self.array.ctypes.data, self.place, self.array.nbytes)
        ends = self.start, self.place + self.array.nbytes
        margins = b"".join(ctypes.string_at(end, self.margin) for end in ends)
        LIBC.free(ctypes.c_void_p(self.start))
        return margins == bytes([self.byte]) * len(margins)


def _copies(args: list[Any], written: set[int], margin: int) -> dict[int, _Copy]:
    """A copy of each array, by its address; of those at one address the longest."""
    arrays = sorted((a for a in args if is_plain(a)), key=lambda a: a.nbytes)
    return {
        address: _Copy(a, margin, 0x3F if address in written else 0xFF)
        for address, a in {a.ctypes.data: a for a in arrays}.items()
    }


def is_plain(argument: Any) -> bool:
    """Whether it is an array, and no struct by value."""
    return isinstance(argument, np.ndarray) and argument.dtype.names is None


@functools.cache
def _library(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    extra = os.environ.get("TINYNET_SHIM_FLAGS", "").split()
    options = tuple(option.replace("unsigned int", "unsigned") for option in options)
    this, _, that = os.environ.get("TINYNET_SHIM_PLANT", "").partition("=>")
    code = code.replace(this, that) if this else code
    together = "true" if "__syncthreads" in code else "false"  # do threads wait for one another
    runners = "\n".join(
        f'extern "C" int run_{name}(const unsigned* g, const unsigned* b, unsigned long long seed, '
        f"void** a)\n{{ return launch({name}, g, b, {together}, seed, a); }}"
        for name in declared(code)
    )
    # `c ? 0 : i` has two types for C++ if i is of the shim's own
    checked = (
        f'#define int Int\n#line 1 "kernel.cu"\n{code.replace("? 0 :", "? Int(0) :")}\n#undef int'
    )
    text = f"{SHIM.read_text()}\n{checked}\n{runners}\n"
    quiet = ["-Wno-unused-function", "-Wno-unused-variable", "-Wno-clobbered"]  # of the shim
    flags = [
        "-O1",
        "-g",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        *quiet,
        *(MIXED if "-DREAL=double" in options else []),
        "-Werror",
        *options,
        *extra,
    ]
    library = CACHE / (hashlib.sha256((text + repr(flags)).encode()).hexdigest()[:24] + ".so")
    if not library.exists():
        CACHE.mkdir(exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        source = partial.with_suffix(f".{os.getpid()}.cpp")
        source.write_text(text)
        done = subprocess.run(
            [COMPILER, "-shared", "-fPIC", *flags, "-o", partial, source],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the kernel does not compile as C++:\n{done.stderr}")
        source.unlink()
        partial.rename(library)  # at once, so that another process never loads half of it
    return ctypes.CDLL(str(library))
