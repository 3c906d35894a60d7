"""The CUDA path, on a stand-in for CuPy (fake_cupy), which runs the kernels' own text on the
CPU; and on a GPU.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import fake_cupy
import on_cpu
import pytest
import real_cupy
from threadpoolctl import threadpool_limits

import tinynet


def few_threads_a_block() -> None:
    """Blocks of three threads, or of a few more that do not divide their number, where a kernel
    does not ask for another shape and its threads do not wait for each other: so no grid is right
    without its rounding up, and no kernel without asking whether it is past the end.
    """
    kernel = importlib.import_module("tinynet.kernels.cuda.launch").Kernel
    launch = kernel.__call__

    def launched(self: Any, threads: Any, *arguments: Any, **more: Any) -> None:
        few = next(n for n in itertools.count(3) if threads[0] % n or not threads[0])
        alone = {"block": (few, 1)} if "__syncthreads" not in self.text else {}
        launch(self, threads, *arguments, **alone | more)

    kernel.__call__ = launched


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each test imports tinynet's CUDA modules anew. Where Python may leave no bytecode in the
    project (PYTHONDONTWRITEBYTECODE) it goes into a folder of this session: without it half of the
    time of these tests is compiling.
    """
    before = sys.dont_write_bytecode, sys.pycache_prefix
    if sys.dont_write_bytecode:
        folder = str(tmp_path_factory.mktemp("bytecode"))
        sys.dont_write_bytecode, sys.pycache_prefix = False, folder
    yield
    sys.dont_write_bytecode, sys.pycache_prefix = before


@pytest.fixture
def machine() -> Iterator[fake_cupy.Machine]:
    """A machine of two GPUs, simulated."""
    if on_cpu.COMPILER is None:
        pytest.skip("g++ is not installed: the kernels cannot be run on the CPU")
    machine = fake_cupy.install(gpus=2)
    uploads = importlib.import_module("tinynet.devices.cuda.uploads")
    uploads.SLOT, uploads.SLOTS, uploads.SMALL = (
        1 << 12,
        4,
        64,
    )  # so that uploads go round the rings
    few_threads_a_block()
    with threadpool_limits(
        1
    ):  # matrices are small here, and threads that wait for one another cost more than they help
        yield machine
        assert not machine.gone_in_use
        lane = sys.modules.get("tinynet.devices.cuda.lane")
        assert lane is None or not lane.active.stack  # whatever was raised on the way
    fake_cupy.uninstall()


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[real_cupy.Counts]:
    """Real CuPy without a driver (real_cupy.py), and what it was asked for."""
    if on_cpu.COMPILER is None or not real_cupy.INSTALLED:
        pytest.skip("CuPy or g++ is not installed")
    with threadpool_limits(1):
        yield real_cupy.install(monkeypatch)
    real_cupy.uninstall()


@pytest.fixture(params=["stand-in", "real CuPy", pytest.param("gpu", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Any:
    """The device cuda:0: of the stand-in, of real CuPy without a driver, and, where there is one, a
    real one.
    """
    if request.param != "gpu":
        request.getfixturevalue({"stand-in": "machine", "real CuPy": "counts"}[request.param])
    return tinynet.device("cuda:0")
