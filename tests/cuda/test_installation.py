"""No GPU, or not one that can be used: one clear line each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import fake_cupy
import pytest

import tinynet


def refused(name: str = "cuda") -> str:
    with pytest.raises(tinynet.DeviceUnavailableError) as caught:
        tinynet.device(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_such_gpu(machine: fake_cupy.Machine) -> None:
    machine.gpus = 1
    assert refused("cuda:1") == "cuda:1: no such GPU; this machine has cuda:0"
    assert refused("cuda:7") == "cuda:7: no such GPU; this machine has cuda:0"
    machine.gpus = 0
    assert "no CUDA-capable device" in refused("cuda:0")


def test_a_runtime_that_fails(machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> int:
        raise OSError("libcudart.so.13: cannot open shared object file")

    runtime = importlib.import_module("tinynet.devices.cuda").cupy.cuda.runtime
    monkeypatch.setattr(runtime, "runtimeGetVersion", failing)
    assert "cuda:1: CuPy finds no CUDA runtime (libcudart.so.13: cannot open" in refused("cuda:1")


def test_no_driver_and_an_old_driver(machine: fake_cupy.Machine) -> None:
    machine.driver = 0
    assert "no NVIDIA driver" in refused()
    machine.driver = 12040
    message = refused()
    assert (
        "CUDA 12.4" in message
        and "CUDA 13" in message
        and "pip install 'cupy-cuda12x[ctk]'" in message
    )


@pytest.mark.parametrize(
    "runtime, capability, advice",
    [
        (13020, "70", "pip uninstall -y cupy-cuda13x; pip install 'cupy-cuda12x[ctk]'"),
        (12090, "35", "it needs another GPU"),
    ],
)
def test_a_gpu_that_is_too_old_for_this_cuda(
    machine: fake_cupy.Machine, runtime: int, capability: str, advice: str
) -> None:
    machine.runtime, machine.compute_capability = runtime, capability
    machine.broken_library = "nvrtc: error: invalid value for --gpu-architecture (-arch)"
    message = refused()
    assert message.endswith(advice) and f"this one has {int(capability) / 10}" in message


@pytest.mark.parametrize(
    "driver, runtime, capability, works",
    [
        (13000, 13020, "90", True),  # older than the runtime, of the same CUDA
        (13030, 12090, "90", True),
        (12099, 13000, "90", False),
        (13000, 13000, "75", True),  # the oldest GPU of each CUDA
        (13000, 13000, "74", False),
        (12000, 12090, "50", True),
        (12000, 12090, "37", False),
        (13000, 13000, "120", True),
        (11080, 11080, "35", True),  # a CUDA that nothing is known of
    ],
)
def test_which_driver_runtime_and_gpu_go_together(
    machine: fake_cupy.Machine, driver: int, runtime: int, capability: str, works: bool
) -> None:
    machine.driver, machine.runtime, machine.compute_capability = driver, runtime, capability
    if works:
        assert tinynet.device("cuda:1").index == 1  # the last of two
    else:
        refused("cuda:1")


def test_missing_cuda_libraries(machine: fake_cupy.Machine) -> None:
    for reason in (
        'Failure finding "libnvrtc.so.13": No such file',
        "Failed to find CUDA headers.\nSee the manual",
    ):
        machine.broken_library = reason
        message = refused()
        assert reason.splitlines()[0] in message and "pip install 'cupy-cuda13x[ctk]'" in message


@pytest.fixture
def hidden() -> Iterator[None]:
    fake_cupy.hide()
    yield
    fake_cupy.uninstall()


def without_cuda_module(
    monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], importing: Any
) -> None:
    def version(name: str) -> str:
        if name not in wheels:
            raise metadata.PackageNotFoundError(name)
        return wheels[name]

    real = importlib.import_module
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(
        importlib, "import_module", lambda name: importing() if name == "cupy" else real(name)
    )


def test_no_cupy(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing() -> None:
        raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

    without_cuda_module(monkeypatch, {}, importing)
    with pytest.raises(tinynet.DeviceUnavailableError, match="CuPy is not installed"):
        tinynet.set_tf32(True)
    assert "CuPy is not installed" in refused() and "pip install 'cupy-cuda13x[ctk]'" in refused()


def test_cupy_without_what_it_needs(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing() -> None:
        raise ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")

    without_cuda_module(monkeypatch, {"cupy-cuda13x": "14.2.0"}, importing)
    assert refused() == "cuda: CuPy cannot be imported: No module named 'fastrlock'"


def test_two_wheels(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cuda_module(
        monkeypatch, {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"}, lambda: None
    )
    message = refused()
    assert (
        "cupy-cuda12x and cupy-cuda13x are both installed" in message and "pip uninstall" in message
    )


@pytest.mark.parametrize(
    "wheels, error, said",
    [
        (["cupy-cuda11x"], ImportError("libcudart.so.11.0: cannot open\nlong advice"),
         "cupy-cuda11x cannot be imported (libcudart.so.11.0: cannot open): pip"),
        (["cupy"], RuntimeError(), "cuda: cupy cannot be imported (RuntimeError): pip"),
        ([], OSError("half of it"), "cuda: CuPy cannot be imported (half of it): pip"),
    ],
)  # fmt: skip
def test_the_wrong_wheel(
    hidden: None, monkeypatch: pytest.MonkeyPatch, wheels: list, error: Exception, said: str
) -> None:
    def importing() -> None:
        raise error

    without_cuda_module(monkeypatch, dict.fromkeys(wheels, "13.0.0"), importing)
    message = refused()
    assert said in message and "cupy-cuda13x[ctk]" in message
