"""Runs the tests against changed copies of tinynet, and tells which test noticed each change.

A few working copies (one a job) lie in a temporary folder. For each mutant one source file of a
copy is replaced, and the tests that should notice run in a forked child until the first one fails,
so NumPy, pytest and the other packages are imported only once. A test file is read when its turn
comes: those that noticed other changes of the same source first, then as rooms.py has them; in each
the tests that noticed others, then the quickest. Hypothesis does not shrink what it found.
Results can be kept in a file, one JSON object a line, so that a run that was broken off goes on
where it was. Tests that fail without any change are named, and not asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

# One processor a job; read when NumPy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TINYNET_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

# Imported before forking, so that no child needs the time.
import _hypothesis_pytestplugin  # noqa: E402, F401
import hypothesis.extra.numpy  # noqa: E402
import matplotlib.backends.backend_agg  # noqa: E402, F401
import matplotlib.figure  # noqa: E402, F401
import numpy as np  # noqa: E402, F401
import PIL.ImageOps  # noqa: E402, F401
import pytest  # noqa: E402
import safetensors.numpy  # noqa: E402, F401
import threadpoolctl  # noqa: E402, F401
import tqdm  # noqa: E402, F401
from rooms import tests_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# A change that never ends is noticed too. Processor time, since a run may be paused ...
CPU_SECONDS = 150
# ... and for a change that only waits, the times that we looked after a test, every POLL seconds:
# as many as SECONDS have, and six times the test's own time.
POLL, SECONDS = 0.01, 20

hypothesis.settings.register_profile(
    "mutation",
    deadline=None,
    max_examples=40,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


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
    """A pytest plugin: the order of the tests, the names of those that failed, and the time that
    each took. Only those in `durations` run, if there are any.
    """

    def __init__(
        self, kills: Counter[str], durations: dict[str, float], running: Path | None = None
    ) -> None:
        self.failed: list[str] = []
        self.kills, self.durations, self.running = kills, durations, running
        self.asked = set(durations)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.asked:
            items[:] = [item for item in items if item.nodeid in self.asked]
        items.sort(key=lambda item: (-self.kills[item.nodeid], self.durations.get(item.nodeid, 0)))

    def in_order(self, files: list[str]) -> list[str]:
        """The files whose tests noticed the most come first."""
        counts = Counter[str]()
        for nodeid, count in self.kills.items():
            counts[nodeid.partition("::")[0]] += count
        return sorted(files, key=lambda file: -counts[file])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.running:  # whoever waits for us reads there how long this test has been running
            self.running.write_text(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.append("(import)")


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them, from each file its share to one more or less: shuffled within each file,
    then every so-manieth of the whole row.
    """
    if count >= len(mutants):
        return mutants
    shuffled = list(mutants)
    random.Random(seed).shuffle(shuffled)
    shuffled.sort(key=lambda m: m.file)
    step = len(shuffled) / count
    return [shuffled[int((i + 0.5) * step)] for i in range(count)]


def compiles(source: str) -> bool:
    """Whether a changed file is still Python."""
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _copy(folder: Path) -> None:
    """What the tests need."""
    leave = shutil.ignore_patterns("__pycache__", "runs", "mutation")
    for name in ("tinynet", "tests", "examples", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy2(ROOT / name, folder / name)


def _child(folder: Path, tests: list[str], watch: _Watch, write_bytecode: bool) -> None:
    """Run tests in this forked process and leave the result in the folder; does not return."""
    status = 1
    try:
        os.setsid()
        # As in a terminal: a shell lets what it runs in the background ignore these.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if not write_bytecode:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        sys.dont_write_bytecode = not write_bytecode
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["PYTHONPATH"] = str(folder)  # for the programs that tests start
        # Processes that tests spawn import the main module once more: they need none of ours.
        sys.modules["__main__"] = types.ModuleType("__main__")
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = ["-q", "-W", "ignore", "--tb=line", "-p", "no:cacheprovider"]
        options += ["-p", "_hypothesis_pytestplugin", "--seed=1", "--hypothesis-profile=mutation"]
        options += [] if write_bytecode else ["-x"]
        some = [t for t in tests if not t.endswith(".py")]  # -k and its words
        for file in watch.in_order([f"tests/{t}" for t in tests if t.endswith(".py")]):
            code = pytest.main([*options, *some, file], [watch])
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                watch.failed += [] if watch.failed else ["(import)"]
                if not write_bytecode:
                    break
        (folder / "result.json").write_text(
            json.dumps([watch.failed, watch.durations if write_bytecode else {}])
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


def _result(folder: Path) -> tuple[list[str], dict[str, float]]:
    """The tests that failed, and the time of each."""
    try:
        return tuple(json.loads((folder / "result.json").read_text()))
    except FileNotFoundError:
        return ["(crash)"], {}


def read(path: Path) -> dict[str, dict]:
    """What is kept in a file, by digests of mutants and of test files; the last of several."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["digest"]: record for record in map(json.loads, lines)}


def run(
    mutants: list[Mutant],
    jobs: int,
    report: Callable[[Result], None],
    keep: Path | None = None,
    again: bool = False,
) -> list[Result]:
    """All mutants, `jobs` at a time. RuntimeError if the tests do not run without any change.

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
    for record in known.values():
        kills.get(record["name"].partition(":")[0], Counter())[record.get("killer", "")] += 1

    def finished(result: Result) -> None:
        kills[result.mutant.file][result.killer] += 1
        name, digest = result.mutant.name, result.mutant.digest()
        seconds = round(result.seconds, 2)
        _add(keep, dict(name=name, killer=result.killer, seconds=seconds, digest=digest))
        report(result)

    with tempfile.TemporaryDirectory(prefix="tinynet-mutation-") as temporary:
        first = Path(temporary) / "copy0"
        first.mkdir()
        _copy(first)
        tests = dict.fromkeys(t for m in waiting for t in tests_of(m.file) if t.endswith(".py"))
        durations: dict[str, float] = {}
        for test in tests:
            durations |= _unchanged(first, test, known, keep)
        folders = [first] + [Path(temporary) / f"copy{n}" for n in range(1, jobs)]
        for folder in folders[1:]:
            shutil.copytree(first, folder)
        return done + list(_schedule(waiting, folders, kills, durations, finished))


def _unchanged(folder: Path, test: str, known: dict, keep: Path | None) -> dict[str, float]:
    """The seconds of each test of a file without any change, but not of those that fail. Kept,
    too, as long as the file and the whole package stay as they are.
    """
    digest = hashlib.sha256((folder / "tests" / test).read_bytes())
    for path in sorted((folder / "tinynet").rglob("*.*")):
        if path.suffix in (".py", ".cu", ".cuh"):
            digest.update(path.read_bytes())
    key = digest.hexdigest()[:16]
    if key not in known:
        os.waitpid(_fork(folder, [test], _Watch(Counter(), {}), write_bytecode=True), 0)
        failed, seconds = _result(folder)
        if not set(failed).isdisjoint(("(import)", "(crash)")):
            raise RuntimeError((folder / "log").read_text()[-3000:])
        seconds = {name: round(s, 3) for name, s in seconds.items() if name not in failed}
        known[key] = {"name": test, "seconds": seconds, "failed": failed, "digest": key}
        _add(keep, known[key])
    for name in known[key]["failed"]:
        print(f"fails without any change: {name}", flush=True)
    return known[key]["seconds"]


def _add(keep: Path | None, record: dict) -> None:
    if keep:
        with keep.open("a") as file:
            file.write(json.dumps(record) + "\n")


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
            watch = _Watch(kills[mutant.file], durations, folder / "running")
            pid = _fork(folder, tests_of(mutant.file), watch)
            running[folder] = [mutant, path, original, pid, time.monotonic(), 0, ""]
        time.sleep(POLL)
        for folder, job in list(running.items()):
            mutant, path, original, pid, start, polls, test = job
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                now = (folder / "running").read_text() if (folder / "running").exists() else ""
                job[-2:] = (polls + 1, test) if now == test else (0, now)
                if polls * POLL < SECONDS + 6 * durations.get(test, 0):
                    continue
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            with contextlib.suppress(ProcessLookupError):  # what the tests have left behind
                os.killpg(pid, signal.SIGKILL)
            over = not ended or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
            path.write_text(original)
            failed = ["(timeout)"] if over else _result(folder)[0]
            result = Result(mutant, failed[0] if failed else "", time.monotonic() - start)
            del running[folder]
            finished(result)
            yield result
