"""The CUDA sources: they compile for every GPU, the sanitizers find nothing, CuPy has our calls."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fake_cupy
import on_cpu
import pytest

import tinynet

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "tinynet" / "kernels" / "cuda").rglob("*.cu"))
PTXAS = re.compile(
    r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)
ARCHITECTURES = ["70", "75", "80", "90", "100", "120"]
MEANINGS = {  # of the types that a source leaves open
    "REAL": ["float", "double"],
    "AT_ONCE": ["1", "4"],
    "INDEX": ["unsigned char", "unsigned short", "unsigned int"],
    "SIZE": ["5"],
    "SEGMENT": ["32"],
    "RUN": ["16"],
    "POWER": ["1", "2"],
}


def bindings(text: str) -> list[dict[str, str]]:
    names = [name for name in MEANINGS if re.search(rf"\b{name}\b", text)]
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product(*(MEANINGS[n] for n in names))
    ]


@functools.cache
def compiler() -> Callable[[str, str, dict[str, str]], str] | None:
    """Compile a source for an architecture: by NVRTC, which CuPy uses as well, or by nvcc; None if
    there is neither. Returns what ptxas says of each kernel.
    """
    try:
        from cuda.core import Program, ProgramOptions

        def nvrtc(text: str, arch: str, macros: dict[str, str]) -> str:
            options = ProgramOptions(
                arch=f"sm_{arch}",
                std="c++17",
                define_macro=list(macros.items()) or None,
                ptxas_options=["-v"],
            )
            said = io.StringIO()
            assert Program(text, "c++", options).compile("cubin", logs=said).code
            return said.getvalue()

        nvrtc("", "90", {})
        return nvrtc
    except Exception:  # not installed, or without its libraries
        if shutil.which("nvcc") is None:
            return None

    def nvcc(text: str, arch: str, macros: dict[str, str]) -> str:
        defines = [f"-D{name}={value}" for name, value in macros.items()]
        command = [
            "nvcc",
            "-std=c++17",
            f"-arch=sm_{arch}",
            "-cubin",
            "-Xptxas=-v",
            "-o",
            os.devnull,
            *defines,
            "-x",
            "cu",
            "-",
        ]
        done = subprocess.run(command, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return nvcc


@functools.cache
def generated() -> str:
    """The kernels that tinynet/kernels/cuda/elementwise.py writes itself."""
    fake_cupy.install()
    try:
        return importlib.import_module("tinynet.kernels.cuda.elementwise").rows_as_cuda()
    finally:
        fake_cupy.uninstall()


@functools.cache
def knows(arch: str) -> bool:
    """Whether the compiler makes code for that GPU: CUDA 13 has left Volta (sm_70) behind."""
    try:
        compiler()('extern "C" __global__ void nothing() {}', arch, {})
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    "arch",
    [a if a == "90" else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES],
)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_compiles_for_every_gpu(source: Path, arch: str) -> None:
    if compiler() is None:
        pytest.skip(
            "neither NVRTC (pip install cuda-core cuda-bindings nvidia-cuda-nvrtc) nor nvcc is here"
        )
    if not knows(arch):
        pytest.skip(f"this compiler knows no sm_{arch}: .ci/volta runs this with NVRTC 12")
    text = source.read_text() + (generated() if source.name == "elementwise.cu" else "")
    every = bindings(text)
    # double and the rest: on the oldest and the newest
    for macros in every if arch in ("70", "75", "120") else every[:1]:
        used = PTXAS.findall(compiler()(text, arch, macros))
        assert len(used) == text.count("__global__")
        for name, stack, stores, loads, registers in used:
            assert stores == loads == "0", f"{name}: registers spill to memory"
            # sin and cos keep digits of 2/pi in memory, for the angles beyond 100,000
            assert stack == "0" or name.startswith(("sin_", "cos_")), f"{name}: {stack} bytes"
            # A multiprocessor has 65,536: so two blocks of 256 threads at least live on it at once.
            assert int(registers) * 256 <= 32 << 10, f"{name}: {registers} registers a thread"


def test_a_mistake_does_not_compile() -> None:
    if compiler() is None:
        pytest.skip("neither NVRTC nor nvcc is here")
    assert all(knows(arch) for arch in ARCHITECTURES[1:])
    with pytest.raises(Exception, match="undefined|undeclared|identifier"):
        compiler()('extern "C" __global__ void f(float* x) { x[0] = y; }', "90", {})


def test_no_atomics_and_no_bare_int_offsets() -> None:
    """The same bits every run; and no offset into a whole array is computed in 32 bits."""
    for source in SOURCES:
        text = re.sub(r"//.*", "", source.read_text())
        assert "atomic" not in text, source.name
        assert not re.search(r"\bint \w+ = blockIdx\.x \* blockDim\.x", text), source.name


def test_every_source_is_launched_from_beside_it() -> None:
    launchers = "".join(path.read_text() for path in SOURCES[0].parent.glob("*.py"))
    for source in SOURCES:
        # steps/__init__.py reads all files beside it
        assert source.parent.name == "steps" or f'Source("{source.name}"' in launchers


# Flags of the compiler, libraries that Python must load first, what else each wants.
SANITIZERS = {
    "memory": (
        "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer",
        ("libasan.so", "libubsan.so"),
        {"ASAN_OPTIONS": "detect_leaks=0"},
    ),
    "threads": (
        "-fsanitize=thread",
        ("libtsan.so",),
        {
            "TSAN_OPTIONS": "halt_on_error=1 ignore_noninstrumented_modules=1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    ),
}
THREADED = ["test_kernels.py", "test_norm_and_losses.py", "test_steps.py"]
# without those of many blocks, each of which takes minutes then, and without what calls a kernel
# again with other options: its threads meet at the same places
THREADED_CASES = (
    "stand-in and not float64 and not beyond_65535 and not than_a_grid and not along_z"
    " and not longer_than and not square_sum and not float32-300 and not float32-4096"
    " and not asked_for"
)
FIXED_ADDRESSES = 0x0040000  # ADDR_NO_RANDOMIZE: the thread sanitizer's memory has fixed places


def sanitized(kind: str, *tests: str, plant: str = "") -> subprocess.CompletedProcess:
    """Run tests of this folder, with the kernels checked for what `kind` says: every read, write
    and overflow, or races.
    """
    if on_cpu.COMPILER is None or sys.platform != "linux":
        pytest.skip("g++ on Linux is needed")
    flags, names, more = SANITIZERS[kind]
    libraries = [
        subprocess.run(
            [on_cpu.COMPILER, f"-print-file-name={name}"], capture_output=True, text=True
        ).stdout.strip()
        for name in names
    ]
    if not all(os.path.isabs(library) for library in libraries):
        pytest.skip("g++ is here without its sanitizers' libraries")
    environment = os.environ | more | {
        "TINYNET_SHIM_FLAGS": flags,
        "TINYNET_SHIM_PLANT": plant,
        "LD_PRELOAD": ":".join(os.path.realpath(library) for library in libraries),
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-qsx", "-n", "0", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, env=environment, cwd=ROOT / "tests" / "cuda", capture_output=True, text=True,
        preexec_fn=lambda: on_cpu.LIBC.personality(FIXED_ADDRESSES),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, tests",
    [
        ("memory", ["test_kernels.py"]),
        ("threads", [*THREADED, "-k", THREADED_CASES]),
    ],
    ids=["memory", "threads"],
)
def test_the_sanitizers_find_nothing(kind: str, tests: list[str]) -> None:
    done = sanitized(kind, *tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, test, plant, said",
    [
        # an element too far
        ("memory", "test_im2col_and_col2im", "if (p >= P || r >= rows)=>if (p > P || r >= rows)",
         "AddressSanitizer"),
        # a barrier is missing: a thread adds up what another has not yet written
        ("threads", "test_bias_and_relu", "    __syncthreads();\n    if (t == 0)=>    if (t == 0)",
         "ThreadSanitizer: data race"),
        # every place of a run, not its first alone, writes the run's sum
        ("threads", "test_the_gradient_of_indexing", "(k > 0 && rows[k - 1] == rows[k])=>false",
         "ThreadSanitizer: data race"),
    ],
    ids=["an element too far", "no barrier", "two threads, one place"],
)  # fmt: skip
def test_the_sanitizers_see_a_planted_mistake(kind: str, test: str, plant: str, said: str) -> None:
    """Without this, the test above could pass for a wrong reason."""
    done = sanitized(kind, "test_kernels.py", "-k", f"stand-in and {test}", plant=plant)
    assert done.returncode != 0 and said in done.stdout + done.stderr


@pytest.mark.parametrize(
    "right, wrong, said",
    [
        (
            "if (i >= count) return;",
            "if (i > count) return;",
            "relu_forward: writes beside an array",
        ),
        ("y[i] = x[i] < 0 ? 0 : x[i];", "const float v = x[i]; y[i] = v;", "does not compile"),
    ],
    ids=["an element too far", "a float"],
)
def test_the_shim_sees_a_planted_mistake(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, said: str
) -> None:
    """Without this, the tests of kernels could pass for a wrong reason."""
    monkeypatch.setenv("TINYNET_SHIM_PLANT", f"{right}=>{wrong}")
    on_cpu._library.cache_clear()
    try:
        with pytest.raises((IndexError, RuntimeError), match=said):
            tinynet.relu(tinynet.zeros(12, dtype="float64", device="cuda"))
    finally:
        on_cpu._library.cache_clear()


# What tinynet and its stand-in use of CuPy: name -> the parameters it is called with (() where a
# signature is not public).
USED = {
    "RawKernel": (), "arange": (), "argsort": (), "ascontiguousarray": (),
    "lib.stride_tricks.as_strided": ("shape", "strides"),
    "asnumpy": (), "asarray": (), "broadcast_to": (),
    "concatenate": ("axis",), "empty": (), "exp": (), "full": (), "isfinite": (), "log": (),
    "matmul": (), "maximum": (), "may_share_memory": (), "moveaxis": (), "ndarray": (), "ones": (),
    "split": ("axis",), "tanh": (), "where": (), "zeros": (), "zeros_like": (),
    "ndarray.astype": (), "ndarray.copy": (), "ndarray.fill": (), "ndarray.get": (),
    "ndarray.set": (), "ndarray.max": (), "ndarray.mean": (), "ndarray.reshape": (),
    "ndarray.sum": (), "ndarray.swapaxes": (), "ndarray.transpose": (), "ndarray.view": (),
    "take_along_axis": ("axis",), "cuda.Device": (), "cuda.Event": (),
    "cuda.Device.compute_capability": (),
    "cuda.Stream.wait_event": ("event",), "cuda.Stream.synchronize": (),
    "cuda.Event.record": ("stream",), "cuda.Event.synchronize": (), "cuda.Event.done": (),
    "cuda.MemoryPool.malloc": (), "cuda.MemoryPool.used_bytes": (),
    "cuda.MemoryPool.total_bytes": (), "cuda.MemoryPointer.copy_from_device_async": (),
    "cuda.MemoryPointer.device_id": (), "cuda.MemoryPointer.ptr": (),
    "cuda.memory.OutOfMemoryError": (), "cuda.set_allocator": (), "cuda.get_elapsed_time": (),
    "cuda.runtime.CUDARuntimeError": (), "cuda.runtime.deviceCanAccessPeer": (),
    "cuda.runtime.driverGetVersion": (), "cuda.runtime.getDevice": (),
    "cuda.runtime.getDeviceCount": (), "cuda.runtime.getDeviceProperties": (),
    "cuda.runtime.memGetInfo": (), "cuda.runtime.runtimeGetVersion": (), "RawKernel.compile": (),
    "tile": (), "sqrt": (), "cuda.MemoryPool.free_all_blocks": (),
}  # fmt: skip
BLAS = {  # of cupy_backends.cuda.libs.cublas, which can be imported only where cuBLAS is
    "create": 0, "setMathMode": 2, "sgemm": 14, "dgemm": 14,
    "sgemmStridedBatched": 18, "dgemmStridedBatched": 18,
}  # fmt: skip


def test_cupy_has_what_we_use() -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed (it need not have a GPU for this)")
    script = f"""
import cupy, cupyx, inspect
for name, parameters in {USED!r}.items():
    thing = cupy
    for part in name.split("."):
        thing = getattr(thing, part)
    if parameters:
        assert set(parameters) <= set(inspect.signature(thing).parameters), name
cupyx.empty_pinned
try:
    from cupy_backends.cuda.libs import cublas
except ImportError as error:
    print("cuBLAS is not here:", error)
else:
    for name, count in {BLAS!r}.items():
        assert callable(getattr(cublas, name)), name
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_list_of_what_we_use_is_whole(machine: fake_cupy.Machine, tmp_path: Path) -> None:
    """What the program calls on the stand-in is in the list above."""
    importlib.import_module("test_training").run(tmp_path, "cuda:0,cuda:1", "--colour", 0.1)
    names = {name for name in machine.used_names if not inspect.isbuiltin(name)}
    ufunc_methods = {
        name.rsplit(".", 1)[0] if name.endswith(".__call__") else name for name in names
    }
    assert ufunc_methods <= set(USED), ufunc_methods - set(USED)
