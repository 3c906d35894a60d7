"""Runs the tests against changed copies of tinynet, and tells which test noticed each change.

A few working copies (one a job) lie in a temporary folder. For each mutant one source file of a copy is replaced, and the
tests that should notice run in a forked child until the first one fails, so NumPy and pytest are imported only once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis  # noqa: F401  (imported before forking, like the two below)
import numpy as np  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 120  # seconds; a change that never ends is noticed too

KERNELS = "test_cpu_kernels.py"
# For a source file: the tests that should notice a change of it, the quickest first.
TESTS = {
    "kernels/conv2d.py": [KERNELS, "test_winograd.py", "-k", "conv2d or threads or empty or winograd or nan or layout"],
    "kernels/winograd.py": ["test_winograd.py"],
    "kernels/im2col.py": [KERNELS, "test_winograd.py", "-k", "conv2d or im2col or winograd or read_only or layout"],
    "kernels/max_pool2d.py": [KERNELS, "-k", "pool or threads or empty or read_only or layout or denormal"],
    "kernels/avg_pool2d.py": [KERNELS, "-k", "avg or threads or empty or read_only or layout"],
    "kernels/local_response_norm.py": [KERNELS, "-k", "response or threads or empty or nan or layout"],
    "kernels/spatial_response_norm.py": [KERNELS, "-k", "spatial or response or threads or empty or layout"],
    "kernels/relu.py": [KERNELS, "test_nn_optim.py", "-k", "relu or elementwise or threads or layout"],
    "kernels/layout.py": [KERNELS],
    "kernels/linear.py": [KERNELS, "-k", "linear or matmul or threads or empty or layout"],
    "kernels/dropout.py": [KERNELS, "-k", "dropout or threads"],
    "kernels/sgd.py": [KERNELS, "test_nn_optim.py", "-k", "sgd"],
    "kernels/softmax.py": [KERNELS, "-k", "softmax"],
    "kernels/cross_entropy.py": [KERNELS, "-k", "entropy or softmax"],
    "kernels/sigmoid.py": [KERNELS, "-k", "elementwise or sigmoid"],
    "kernels/tanh.py": [KERNELS, "-k", "elementwise"],
    "kernels/pictures.py": [KERNELS, "-k", "pictures"],
    "arithmetic.py": ["test_operations.py", "test_gradcheck.py", "test_tape.py", "test_wrong_calls.py", "test_devices.py"],
    "functional.py": ["test_wrong_calls.py", "test_operations.py", "test_gradcheck.py", "test_nn_optim.py", "test_devices.py"],
    "tensor.py": ["test_tape.py", "test_wrong_calls.py", "test_nn_optim.py", "test_devices.py"],
    "function.py": ["test_tape.py", "test_devices.py", "test_wrong_calls.py"],
    "optim/sgd.py": ["test_nn_optim.py", "test_wrong_calls.py"],
    "optim/lr_scheduler.py": ["test_nn_optim.py"],
    "nn/module.py": ["test_nn_optim.py"],
    "nn/layers.py": ["test_nn_optim.py", "test_wrong_calls.py"],
    "nn/init.py": ["test_nn_optim.py"],
    "random.py": ["test_devices.py", "test_wrong_calls.py"],
    "threads.py": ["test_devices.py"],
    "memory.py": ["test_devices.py"],
    "profiler.py": ["test_devices.py"],
    "device.py": ["test_devices.py"],
}


class Mutant(NamedTuple):
    name: str
    file: str  # below tinynet/
    source: str  # the whole changed file


class Result(NamedTuple):
    mutant: Mutant
    killer: str  # the test that failed, "(timeout)", "(import)", or "" if all passed
    seconds: float


class _FirstFailure:
    """A pytest plugin: the name of the first test that failed."""

    def __init__(self) -> None:
        self.name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.removeprefix("tests/core/")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.name:
            self.name = "(import)"


def _copy(folder: Path) -> None:
    """What the core tests need: the package without data and CUDA, and the tests."""
    leave = shutil.ignore_patterns("data", "cuda", "training", "__pycache__")
    shutil.copytree(ROOT / "tinynet", folder / "tinynet", ignore=leave)
    (folder / "tests").mkdir()
    shutil.copytree(ROOT / "tests/core", folder / "tests/core", ignore=leave)
    shutil.copy2(ROOT / "tests/conftest.py", folder / "tests/conftest.py")
    shutil.copy2(ROOT / "setup.cfg", folder / "setup.cfg")


def _child(folder: Path, tests: list[str], write_bytecode: bool) -> None:
    """Run tests in this forked process and leave the result in the folder; does not return."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        sys.dont_write_bytecode = not write_bytecode
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        first = _FirstFailure()
        paths = [f"tests/core/{t}" if t.endswith(".py") else t for t in tests]
        code = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", "--tb=line", "--seed=1", *paths], [first]
        )
        if code != 0 and not first.name:
            first.name = "(import)"
        (folder / "result.json").write_text(json.dumps(first.name))
        status = 0
    finally:
        os._exit(status)


def _fork(folder: Path, tests: list[str], write_bytecode: bool = False) -> int:
    (folder / "result.json").unlink(missing_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(folder, tests, write_bytecode)
    return pid


def _result(folder: Path) -> str:
    try:
        return json.loads((folder / "result.json").read_text())
    except FileNotFoundError:
        return "(crash)"


def run(mutants: list[Mutant], jobs: int, report: Callable[[Result], None]) -> list[Result]:
    """All mutants, `jobs` at a time. RuntimeError if the tests fail without any change."""
    with tempfile.TemporaryDirectory(prefix="tinynet-mutation-") as temporary:
        first = Path(temporary) / "copy0"
        first.mkdir()
        _copy(first)
        needed = dict.fromkeys(t for m in mutants for t in TESTS[m.file] if t.endswith(".py"))
        os.waitpid(_fork(first, list(needed), write_bytecode=True), 0)
        if _result(first):
            raise RuntimeError(f"the tests fail without any change: {_result(first)}\n{(first / 'log').read_text()[-3000:]}")
        folders = [first] + [Path(temporary) / f"copy{n}" for n in range(1, jobs)]
        for folder in folders[1:]:
            shutil.copytree(first, folder)
        return list(_schedule(mutants, folders, report))


def _schedule(mutants: list[Mutant], folders: list[Path], report: Callable[[Result], None]) -> Iterator[Result]:
    waiting, running = list(mutants)[::-1], {}
    while waiting or running:
        while waiting and len(running) < len(folders):
            mutant = waiting.pop()
            folder = next(f for f in folders if f not in running)
            path = folder / "tinynet" / mutant.file
            original = path.read_text()
            if original == mutant.source:
                raise RuntimeError(f"{mutant.name} changes nothing")
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
                compiled.unlink()
            path.write_text(mutant.source)
            running[folder] = mutant, path, original, _fork(folder, TESTS[mutant.file]), time.monotonic()
        time.sleep(0.02)
        for folder, (mutant, path, original, pid, start) in list(running.items()):
            over = time.monotonic() - start > TIMEOUT
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                if not over:
                    continue
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            path.write_text(original)
            result = Result(mutant, "(timeout)" if over else _result(folder), time.monotonic() - start)
            del running[folder]
            report(result)
            yield result
