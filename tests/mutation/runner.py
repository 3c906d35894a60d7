"""Runs the tests against changed copies of tinynet, and tells which test noticed each change.

A few working copies (one a job) lie in a temporary folder. For each mutant one source file of a
copy is replaced, and the tests that should notice run in a forked child until the first one fails,
so NumPy and pytest are imported only once. The tests that noticed other changes of the same file
come first, then the quickest ones, and hypothesis does not shrink what it found. Results can be
kept in a file, one JSON object a line, so that a run that was broken off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# One processor a job; read when NumPy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TINYNET_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

import _hypothesis_pytestplugin  # noqa: E402, F401  (imported before forking, like the three below)
import hypothesis  # noqa: E402
import numpy as np  # noqa: E402, F401
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# A change that never ends is noticed too. Processor time, since a run may be paused; and for a
# change that only waits ...
CPU_SECONDS = 150
# ... the times that we looked after it, every POLL seconds.
POLL, POLLS = 0.01, 30_000

hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    max_examples=40,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)

KERNELS = "test_cpu_kernels.py"
NORMS_AND_LOSSES = "test_batch_norm_and_losses.py"
OPERATIONS = [
    "test_wrong_calls.py",
    "test_wrong_calls_of_all.py",
    "test_operations.py",
    "test_gradcheck.py",
    "test_nn_optim.py",
]
# For a source file: the tests that should notice a change of it, the quickest first.
TESTS = {
    "kernels/conv2d.py": [
        KERNELS,
        "test_winograd.py",
        "-k",
        "conv2d or threads or empty or winograd or nan or layout",
    ],
    "kernels/winograd.py": ["test_winograd.py"],
    "kernels/im2col.py": [
        KERNELS,
        "test_winograd.py",
        "-k",
        "conv2d or im2col or winograd or read_only or layout",
    ],
    "kernels/max_pool2d.py": [
        KERNELS,
        "-k",
        "pool or threads or empty or read_only or layout or denormal",
    ],
    "kernels/avg_pool2d.py": [KERNELS, "-k", "avg or threads or empty or read_only or layout"],
    "kernels/local_response_norm.py": [
        KERNELS,
        "-k",
        "response or threads or empty or nan or layout",
    ],
    "kernels/spatial_response_norm.py": [
        KERNELS,
        "-k",
        "spatial or response or threads or empty or layout",
    ],
    "kernels/relu.py": [
        KERNELS,
        "test_nn_optim.py",
        "-k",
        "relu or elementwise or threads or layout",
    ],
    "kernels/layout.py": [KERNELS],
    "kernels/linear.py": [
        KERNELS,
        NORMS_AND_LOSSES,
        "-k",
        "linear or matmul or threads or empty or layout",
    ],
    "kernels/dropout.py": [KERNELS, "-k", "dropout or threads or elementwise"],
    "kernels/steps/sgd.py": [KERNELS, "test_optim.py", "-k", "sgd or rules"],
    "kernels/steps/adam.py": ["test_optim.py"],
    "kernels/steps/rmsprop.py": ["test_optim.py"],
    "kernels/clip.py": ["test_optim.py", "-k", "clip or norm"],
    "kernels/batch_norm.py": [NORMS_AND_LOSSES, KERNELS, "-k", "batch_norm or nan or empty"],
    "kernels/adaptive_avg_pool2d.py": [NORMS_AND_LOSSES, "-k", "adaptive"],
    "kernels/gelu.py": [KERNELS, "-k", "gelu or elementwise"],
    "kernels/nll_loss.py": [NORMS_AND_LOSSES, "test_gradcheck.py", "test_operations.py"],
    "kernels/mse_loss.py": [NORMS_AND_LOSSES, "test_gradcheck.py", "test_operations.py"],
    "kernels/bce_with_logits.py": [NORMS_AND_LOSSES, "test_gradcheck.py", "test_operations.py"],
    "kernels/softmax.py": [KERNELS, "-k", "softmax"],
    "kernels/cross_entropy.py": [KERNELS, NORMS_AND_LOSSES, "-k", "entropy or softmax"],
    "kernels/sigmoid.py": [KERNELS, "-k", "elementwise or sigmoid"],
    "kernels/tanh.py": [KERNELS, "-k", "elementwise"],
    "kernels/pictures.py": [KERNELS, "-k", "pictures"],
    "arithmetic.py": [
        "test_operations.py",
        "test_gradcheck.py",
        "test_tape.py",
        "test_wrong_calls.py",
        "test_devices.py",
    ],
    "functional/checks.py": OPERATIONS,
    "functional/activation.py": OPERATIONS,
    "functional/affine.py": [*OPERATIONS, NORMS_AND_LOSSES],
    "functional/convolution.py": OPERATIONS,
    "functional/losses.py": [*OPERATIONS, NORMS_AND_LOSSES],
    "functional/normalization.py": [*OPERATIONS, NORMS_AND_LOSSES],
    "functional/pooling.py": [*OPERATIONS, NORMS_AND_LOSSES],
    "functional/regularization.py": [*OPERATIONS, "test_devices.py"],
    "functional/shape.py": OPERATIONS,
    "tensor.py": [
        "test_tape.py",
        "test_walk.py",
        "test_wrong_calls.py",
        "test_modules.py",
        "test_devices.py",
    ],
    "function.py": [
        "test_tape.py",
        "test_walk.py",
        "test_tracing.py",
        "test_devices.py",
        "test_wrong_calls.py",
        "test_wrong_calls_of_all.py",
    ],
    "optim/sgd.py": ["test_optim.py", "test_wrong_calls.py"],
    "optim/adaptive.py": ["test_optim.py"],
    "optim/optimizer.py": ["test_optim.py", "test_wrong_calls.py"],
    "optim/clip.py": ["test_optim.py"],
    "optim/lr_scheduler.py": ["test_lr_scheduler.py"],
    "nn/module.py": ["test_modules.py", "test_nn_optim.py"],
    "nn/layers.py": ["test_nn_optim.py", NORMS_AND_LOSSES, "test_wrong_calls.py"],
    "nn/init.py": ["test_nn_optim.py"],
    "random.py": ["test_devices.py", "test_wrong_calls.py"],
    "tracer.py": ["test_tracing.py"],
    "profiler.py": ["test_devices.py"],
    "devices/base.py": ["test_devices.py"],
    "devices/cpu.py": ["test_devices.py"],
    "devices/memory.py": ["test_devices.py"],
    "devices/scratch.py": ["test_devices.py", KERNELS],
    "devices/threads.py": ["test_devices.py"],
}


class Mutant(NamedTuple):
    name: str
    file: str  # below tinynet/
    source: str  # the whole changed file

    def digest(self) -> str:
        return hashlib.sha256(f"{self.file}\n{self.source}".encode()).hexdigest()[:16]


class Result(NamedTuple):
    mutant: Mutant
    killer: str  # the test that failed, "(timeout)", "(import)", or "" if all passed
    seconds: float


class _Watch:
    """A pytest plugin: the order of the tests, the name of the first that failed, and the time that
    each took.
    """

    def __init__(self, kills: Counter[str], durations: dict[str, float]) -> None:
        self.killer, self.kills, self.durations = "", kills, durations

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: (-self.kills[item.nodeid], self.durations.get(item.nodeid, 0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0) + report.duration
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.killer:
            self.killer = "(import)"


def _copy(folder: Path) -> None:
    """What the core tests need: the package without data and training, and the tests."""
    leave = shutil.ignore_patterns("data", "training", "program", "__pycache__")
    shutil.copytree(ROOT / "tinynet", folder / "tinynet", ignore=leave)
    (folder / "tests").mkdir()
    shutil.copytree(ROOT / "tests/core", folder / "tests/core", ignore=leave)
    shutil.copy2(ROOT / "tests/conftest.py", folder / "tests/conftest.py")
    shutil.copy2(ROOT / "setup.cfg", folder / "setup.cfg")


def _child(folder: Path, tests: list[str], watch: _Watch, write_bytecode: bool) -> None:
    """Run tests in this forked process and leave the result in the folder; does not return."""
    status = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        sys.dont_write_bytecode = not write_bytecode
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["PYTHONPATH"] = str(folder)  # for the programs that tests start
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "_hypothesis_pytestplugin",
            "-W",
            "ignore",
            "--tb=line",
        ]
        paths = [f"tests/core/{t}" if t.endswith(".py") else t for t in tests]
        code = pytest.main([*options, "--seed=1", "--hypothesis-profile=mutation", *paths], [watch])
        if code != 0 and not watch.killer:
            watch.killer = "(import)"
        (folder / "result.json").write_text(
            json.dumps([watch.killer, watch.durations if write_bytecode else {}])
        )
        status = 0
    finally:
        os._exit(status)


def _fork(folder: Path, tests: list[str], watch: _Watch, write_bytecode: bool = False) -> int:
    (folder / "result.json").unlink(missing_ok=True)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(folder, tests, watch, write_bytecode)
    return pid


def _result(folder: Path) -> tuple[str, dict[str, float]]:
    try:
        return tuple(json.loads((folder / "result.json").read_text()))
    except FileNotFoundError:
        return "(crash)", {}


def read(path: Path) -> dict[str, dict]:
    """The results kept in a file, by the digest of the mutant; the last of several."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["digest"]: record for record in map(json.loads, lines)}


def run(
    mutants: list[Mutant],
    jobs: int,
    report: Callable[[Result], None],
    keep: Path | None = None,
    again: bool = False,
) -> list[Result]:
    """All mutants, `jobs` at a time. RuntimeError if the tests fail without any change.

    Mutants whose result stands in the file `keep` are not run once more, except survivors if
    `again`. New results are added.
    """
    known = read(keep) if keep else {}
    done, waiting = [], []
    for mutant in mutants:
        record = known.get(mutant.digest())
        if record and (record["killer"] or not again):
            done.append(Result(mutant, record["killer"], record["seconds"]))
        else:
            waiting.append(mutant)
    for result in done:
        report(result)
    if not waiting:
        return done
    kills: dict[str, Counter[str]] = {m.file: Counter() for m in waiting}
    for result in done:
        if result.mutant.file in kills:
            kills[result.mutant.file][result.killer] += 1

    def finished(result: Result) -> None:
        kills[result.mutant.file][result.killer] += 1
        if keep:
            m = result.mutant
            record = {
                "name": m.name,
                "killer": result.killer,
                "seconds": round(result.seconds, 2),
                "digest": m.digest(),
            }
            with keep.open("a") as file:
                file.write(json.dumps(record) + "\n")
        report(result)

    with tempfile.TemporaryDirectory(prefix="tinynet-mutation-") as temporary:
        first = Path(temporary) / "copy0"
        first.mkdir()
        _copy(first)
        needed = dict.fromkeys(t for m in waiting for t in TESTS[m.file] if t.endswith(".py"))
        os.waitpid(_fork(first, list(needed), _Watch(Counter(), {}), write_bytecode=True), 0)
        killer, durations = _result(first)
        if killer:
            raise RuntimeError(
                f"the tests fail without any change: {killer}\n"
                f"{(first / 'log').read_text()[-3000:]}"
            )
        folders = [first] + [Path(temporary) / f"copy{n}" for n in range(1, jobs)]
        for folder in folders[1:]:
            shutil.copytree(first, folder)
        return done + list(_schedule(waiting, folders, kills, durations, finished))


def _schedule(
    mutants: list[Mutant],
    folders: list[Path],
    kills: dict[str, Counter[str]],
    durations: dict[str, float],
    finished: Callable[[Result], None],
) -> Iterator[Result]:
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
            pid = _fork(folder, TESTS[mutant.file], _Watch(kills[mutant.file], durations))
            running[folder] = [mutant, path, original, pid, time.monotonic(), 0]
        time.sleep(POLL)
        for folder, job in list(running.items()):
            mutant, path, original, pid, start, polls = job
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                job[-1] += 1
                if polls < POLLS:
                    continue
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            over = not ended or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
            path.write_text(original)
            result = Result(
                mutant, "(timeout)" if over else _result(folder)[0], time.monotonic() - start
            )
            del running[folder]
            finished(result)
            yield result
