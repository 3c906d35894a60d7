"""Runs the text of a `.cu` file on the CPU: compiled by g++ behind shim.hpp, called by ctypes on NumPy arrays.

TINYNET_SHIM_FLAGS adds flags, such as -fsanitize=address,undefined.
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


def declared(code: str) -> dict[str, list[str]]:
    """The C types of the parameters of every kernel in a source; a pointer ends in *."""
    kernels = {}
    for name, parameters in DECLARATION.findall(code):
        kinds = [re.sub(r"\bconst\b|__restrict__", "", p).rsplit(None, 1)[0] for p in parameters.split(",")]
        kernels[name] = [" ".join(kind.split()).replace(" *", "*") for kind in kinds]
    return kernels


def run(code: str, name: str, options: tuple[str, ...], grid: tuple, block: tuple, args: list[Any]) -> None:
    """Launch one kernel. Arrays are NumPy's, numbers NumPy scalars. RuntimeError if threads miss a barrier."""
    function = getattr(_library(code, options), f"run_{name}")
    values = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else np.array(a) for a in args]
    pointers = (ctypes.c_void_p * len(values))(
        *(ctypes.addressof(v) if isinstance(v, ctypes.c_void_p) else v.ctypes.data for v in values)
    )
    size = ctypes.c_uint * 2
    if function(size(*grid[:2]), size(*block[:2]), ctypes.c_ulonglong(random.getrandbits(63)), pointers):
        raise RuntimeError(f"{name}: some threads wait at a __syncthreads that others never reach")


@functools.cache
def _library(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    extra = os.environ.get("TINYNET_SHIM_FLAGS", "").split()
    runners = "\n".join(
        f'extern "C" int run_{name}(const unsigned* g, const unsigned* b, unsigned long long seed, void** a)\n'
        f'{{ return launch({name}, g, b, {"true" if "__syncthreads" in code else "false"}, seed, a); }}'
        for name in declared(code)
    )
    text = f'{SHIM.read_text()}\n#line 1 "kernel.cu"\n{code}\n{runners}\n'
    flags = ["-O1", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-variable", "-Werror", *options, *extra]
    library = CACHE / (hashlib.sha256((text + repr(flags)).encode()).hexdigest()[:24] + ".so")
    if not library.exists():
        CACHE.mkdir(exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        source = partial.with_suffix(f".{os.getpid()}.cpp")
        source.write_text(text)
        done = subprocess.run(
            [COMPILER, "-shared", "-fPIC", *flags, "-o", partial, source], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"the kernel does not compile as C++:\n{done.stderr}")
        source.unlink()
        partial.rename(library)  # at once, so that another process never loads half of it
    return ctypes.CDLL(str(library))
