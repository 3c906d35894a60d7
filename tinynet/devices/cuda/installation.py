"""CuPy, or one clear line that says why there is none, or no GPU that it can use."""

from __future__ import annotations

from importlib import import_module, metadata
from types import ModuleType

from tinynet.errors import DeviceUnavailableError

OLDEST = {12: 50, 13: 75}  # CUDA -> ten times the least compute capability it compiles for
WHEELS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")
# The wheels themselves: `tinynet` in the package index is another project.
INSTALL = (
    "pip install 'cupy-cuda13x[ctk]' (driver 580 or newer) or 'cupy-cuda12x[ctk]' "
    "(driver 525 or newer)"
)


def _reason(error: Exception) -> str:
    """The first line of what it says, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _import_cupy() -> ModuleType:
    wheels = [name for name in WHEELS if _installed(name)]
    if len(wheels) > 1:
        raise DeviceUnavailableError(
            f"cuda: {' and '.join(wheels)} are both installed and overwrite each other's files: "
            f"pip uninstall -y {' '.join(wheels)}, then {INSTALL}"
        )
    try:
        return import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceUnavailableError(f"cuda: CuPy cannot be imported: {error}") from error
        raise DeviceUnavailableError(f"cuda: CuPy is not installed: {INSTALL}") from None
    except Exception as error:  # a broken installation may raise anything
        raise DeviceUnavailableError(
            f"cuda: {wheels[0] if wheels else 'CuPy'} cannot be imported ({_reason(error)}): "
            f"{INSTALL}"
        ) from error


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


cupy = _import_cupy()


def check_gpu(name: str, index: int) -> None:
    """Raise one clear line unless GPU `index` works with this CuPy, driver and libraries."""
    runtime = cupy.cuda.runtime
    try:
        driver, built = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except Exception as error:
        raise DeviceUnavailableError(
            f"{name}: CuPy finds no CUDA runtime ({error}): {INSTALL}"
        ) from error
    if driver == 0:
        raise DeviceUnavailableError(f"{name}: no NVIDIA driver is running on this machine")
    if driver // 1000 < built // 1000:
        raise DeviceUnavailableError(
            f"{name}: the driver knows CUDA {driver // 1000}.{driver % 1000 // 10}, but this CuPy "
            f"is built for CUDA {built // 1000}: update the driver, or install the CuPy that fits "
            f"it (pip uninstall cupy-cuda{built // 1000}x; pip install "
            f"'cupy-cuda{driver // 1000}x[ctk]')"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceUnavailableError(f"{name}: no GPU can be used: {error}") from error
    if index >= count:
        have = ", ".join(f"cuda:{i}" for i in range(count)) or "none"
        raise DeviceUnavailableError(f"{name}: no such GPU; this machine has {have}")
    capability, cuda = int(cupy.cuda.Device(index).compute_capability), built // 1000
    if capability < OLDEST.get(cuda, 0):
        fits = [str(older) for older, least in OLDEST.items() if least <= capability]
        advice = (
            f"pip uninstall -y cupy-cuda{cuda}x; pip install 'cupy-cuda{fits[-1]}x[ctk]'"
            if fits
            else "it needs another GPU"
        )
        raise DeviceUnavailableError(
            f"{name}: CUDA {cuda}, for which this CuPy is built, knows GPUs of compute capability "
            f"{OLDEST[cuda] / 10} and newer, this one has {capability / 10}: {advice}"
        )
    try:  # what the kernels will need: the compiler, CUDA's headers, a GPU that takes code, cuBLAS
        with cupy.cuda.Device(index):
            cupy.RawKernel('extern "C" __global__ void nothing(int) {}', "nothing").compile()
        cupy.cuda.cublas.CUBLAS_OP_N  # noqa: B018  loading the library is the test
    except Exception as error:
        raise DeviceUnavailableError(
            f"{name}: CuPy, built for CUDA {built // 1000}, cannot compile a kernel or load cuBLAS "
            f"here ({_reason(error)}): pip install 'cupy-cuda{built // 1000}x[ctk]'"
        ) from error
