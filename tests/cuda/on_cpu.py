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
    barrier; OverflowError if an int does not hold what is computed in it.
    """
    library = _library(code, options)
    function = getattr(library, f"run_{name}")
    ctypes.c_int.in_dll(library, "int_most").value = INT_MOST
    places = _exact_copies(args) if "sanitize" in os.environ.get("TINYNET_SHIM_FLAGS", "") else {}
    values = [
        np.array(places.get(a.ctypes.data, a.ctypes.data), np.uintp)
        if isinstance(a, np.ndarray) and a.dtype.names is None
        else np.array(a)  # numbers, and structs by value
        for a in args
    ]
    pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    size = ctypes.c_uint * 3
    failed = function(
        size(*grid), size(*block), ctypes.c_ulonglong(random.getrandbits(63)), pointers
    )
    for array in args:
        if isinstance(array, np.ndarray) and array.ctypes.data in places:
            ctypes.memmove(array.ctypes.data, places[array.ctypes.data], array.nbytes)
    for place in places.values():
        LIBC.free(ctypes.c_void_p(place))
    if failed == 2:
        raise OverflowError(f"{name}: an int holds at most {INT_MOST}")
    if failed:
        raise RuntimeError(f"{name}: some threads wait at a __syncthreads that others never reach")


def _exact_copies(args: list[Any]) -> dict[int, int]:
    """Each array copied to memory of exactly its size, so that the address sanitizer sees the first
    byte past its end.
    """
    places: dict[int, int] = {}
    for array in args:
        plain = isinstance(array, np.ndarray) and array.dtype.names is None
        if plain and array.ctypes.data not in places:
            places[array.ctypes.data] = LIBC.malloc(ctypes.c_size_t(array.nbytes))
            ctypes.memmove(places[array.ctypes.data], array.ctypes.data, array.nbytes)
    return places


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
