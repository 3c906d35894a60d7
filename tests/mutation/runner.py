"""Runs the tests against changed copies of the project, and tells which test noticed each change.

A few working copies (one a job) lie in a temporary folder. For each mutant one source file of a
copy is replaced, and the tests that should notice run in a forked child until the first one fails,
so NumPy, pytest and the other packages are imported only once. A test file is read when its turn
comes: first the one that noticed this very change in an earlier source, then those that noticed
others of the same source, then as rooms.py has them; in each the tests that noticed others, then
the quickest. Where it is known which tests run the changed lines (reach.py), no others are asked.
Hypothesis does not shrink what it found.
Results can be kept in a file, one JSON object a line, so that a run that was broken off goes on
where it was. noticed.jsonl.gz is such a file, of earlier runs: it only says which tests come first.
A test that notices something for the first time, in earlier runs too, is run without any change as
well; if it fails then, too, it is named, and not asked again.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import json
import os
import random
import re
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
from reach import Reach  # noqa: E402
from rooms import path_of, tests_of  # noqa: E402

with contextlib.suppress(ImportError):  # tests beside it are skipped without it
    import torch  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
EARLIER = Path(__file__).parent / "noticed.jsonl.gz"
# A change that never ends is noticed too. Processor time of a test, since a run may be paused ...
CPU_SECONDS = 150
# ... and for a change that only waits, the times that we looked after a test, every POLL seconds:
# as many as SECONDS have, and six times the test's own time.
POLL, SECONDS = 0.01, 30
# A line that more tests run than these is everybody's: those that rooms.py names are asked.
MANY = 200

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
    file: str  # as rooms.py has it
    source: str  # the whole changed file

    def digest(self) -> str:
        return hashlib.sha256(f"{self.file}\n{self.source}".encode()).hexdigest()[:16]


def title(name: str) -> str:
    """A mutant's name without the number of its line, which moves."""
    return re.sub(r"^([^:]*):\d+:", r"\1:", name)


class Result(NamedTuple):
    mutant: Mutant
    killer: str  # the test that failed, "(timeout)", "(import)", or "" if all passed
    seconds: float


class _Watch:
    """A pytest plugin: the order of the tests, the names of those that failed, and the seconds that
    each took. kills, durations: what is known of tests by now. unsound: those not to be asked.
    only: if there are any, no others.
    """

    def __init__(
        self,
        running: Path,
        kills: Counter[str],
        durations: dict[str, float],
        unsound: set[str],
        only: set[str] = frozenset(),
    ) -> None:
        self.running, self.kills, self.durations, self.unsound = running, kills, durations, unsound
        self.only = only
        self.failed: list[str] = []
        self.took: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.unsound]
        if self.only:
            items[:] = [item for item in items if item.nodeid in self.only]
        items.sort(key=lambda item: (-self.kills[item.nodeid], self.durations.get(item.nodeid, 0)))

    def in_order(self, files: list[str]) -> list[str]:
        """The files whose tests noticed the most come first."""
        counts = Counter[str]()
        for nodeid, count in self.kills.items():
            counts[nodeid.partition("::")[0]] += count
        return sorted(files, key=lambda file: -counts[file])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running.write_text(nodeid)  # whoever waits for us reads there which one it is
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, resource.RLIM_INFINITY))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] += report.duration
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


def _child(folder: Path, tests: list[str], watch: _Watch, unchanged: bool) -> None:
    """Run tests in this forked process and leave the result in the folder; does not return."""
    status = 1
    try:
        # A group, to be killed as one; not a session, whose share of the processor would be new.
        os.setpgrp()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # As in a terminal: a shell lets what it runs in the background ignore these.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        sys.dont_write_bytecode = not unchanged
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        os.environ["PYTHONPATH"] = str(folder)  # for the programs that tests start
        # Processes that tests spawn import the main module once more: they need none of ours.
        sys.modules["__main__"] = types.ModuleType("__main__")
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = ["-q", "-x", "-W", "ignore", "--tb=line", "-p", "no:cacheprovider"]
        options += ["-o", "addopts="]  # the usual ones ask for processes; this is one
        options += ["-p", "_hypothesis_pytestplugin", "--seed=1", "--hypothesis-profile=mutation"]
        files = [t for t in tests if ".py" in t]
        options += [t for t in tests if t not in files]  # -k and its words
        for file in watch.in_order([f"tests/{file}" for file in files]):
            code = pytest.main([*options, file], [watch])
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                watch.failed += [] if watch.failed else ["(import)"]
                break
        (folder / "result.json").write_text(json.dumps([watch.failed, watch.took]))
        status = 0
    finally:
        os._exit(status)


def _fork(folder: Path, tests: list[str], watch: _Watch, unchanged: bool = False) -> int:
    (folder / "result.json").unlink(missing_ok=True)
    (folder / "running").write_text("")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _child(folder, tests, watch, unchanged)
    return pid


def _result(folder: Path) -> tuple[list[str], dict[str, float]]:
    """The tests that failed, and the seconds of each that ran."""
    try:
        return tuple(json.loads((folder / "result.json").read_text()))
    except FileNotFoundError:
        return ["(crash)"], {}


def read(path: Path) -> dict[str, dict]:
    """The results kept in a file, by the digest of the mutant; the last of several."""
    if not path.exists():
        return {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return {record["digest"]: record for record in map(json.loads, file)}


def run(
    mutants: list[Mutant],
    jobs: int,
    report: Callable[[Result], None],
    keep: Path | None = None,
    again: bool = False,
    reach: Reach | None = None,
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
    before: dict[str, str] = {}
    for record in (read(EARLIER) | known).values():
        kills.get(record["name"].partition(":")[0], Counter())[record["killer"]] += 1
        before[title(record["name"])] = record["killer"]
    sound = set(before.values())

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
        choices = {m: _choice(m, reach, before.get(title(m.name), "")) for m in waiting}
        tests = dict.fromkeys(t for c in choices.values() for t in c.tests if t.endswith(".py"))
        gc.freeze()  # a child's collections would walk over all that we hold: 0.5 s of its 0.7
        # Imports everything, and so leaves bytecode behind.
        failed, _ = _unchanged(first, [*tests, "--collect-only"])
        if failed:
            raise RuntimeError((first / "log").read_text()[-3000:])
        folders = [first] + [Path(temporary) / f"copy{n}" for n in range(1, jobs)]
        for folder in folders[1:]:
            shutil.copytree(first, folder)
        return done + list(_schedule(choices, folders, kills, sound, finished))


class _Choice(NamedTuple):
    """The tests for a mutant: arguments for pytest, tests that it is kept to if there are any, and
    the one to come first, or ""."""

    tests: list[str]
    only: set[str]
    first: str


def _choice(mutant: Mutant, reach: Reach | None, first: str) -> _Choice:
    named = tests_of(mutant.file)
    only = (
        reach.tests(mutant.file, mutant.source) if reach and mutant.file.endswith(".py") else set()
    )
    if not only:
        return _Choice(named, set(), first)
    if len(only) <= MANY:
        files = sorted({test.partition("::")[0] for test in only})
        files.sort(key=lambda file: min(reach.sizes[t] for t in only if t.startswith(f"{file}::")))
        named = [file.removeprefix("tests/") for file in files]
    return _Choice(named, only | {first}, first)


def _unchanged(folder: Path, tests: list[str]) -> tuple[list[str], dict[str, float]]:
    """What the tests give without any change."""
    watch = _Watch(folder / "running", Counter(), {}, set())
    os.waitpid(_fork(folder, tests, watch, unchanged=True), 0)
    return _result(folder)


def _schedule(
    choices: dict[Mutant, _Choice],
    folders: list[Path],
    kills: dict[str, Counter[str]],
    sound: set[str],
    finished: Callable[[Result], None],
) -> Iterator[Result]:
    """sound: tests that pass without any change, as far as known."""
    waiting, running = list(choices)[::-1], {}
    durations: dict[str, float] = {}
    unsound: set[str] = set()
    while waiting or running:
        while waiting and len(running) < len(folders):
            mutant = waiting.pop()
            folder = next(f for f in folders if f not in running)
            path = folder / path_of(mutant.file)
            original = path.read_text()
            if original == mutant.source:
                raise RuntimeError(f"{mutant.name} changes nothing")
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
                compiled.unlink()
            path.write_text(mutant.source)
            tests, only, best = choices[mutant]
            order = kills[mutant.file] + Counter({best: kills[mutant.file].total() + 1})
            watch = _Watch(folder / "running", order, durations, unsound, only)
            pid = _fork(folder, tests, watch)
            running[folder] = [mutant, path, original, pid, time.monotonic(), 0, ""]
        time.sleep(POLL)
        for folder, job in list(running.items()):
            mutant, path, original, pid, start, polls, test = job
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                now = (folder / "running").read_text()
                job[-2:] = (polls + 1, test) if now == test else (0, now)
                if polls * POLL < SECONDS + 6 * durations.get(test, 0):
                    continue
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            with contextlib.suppress(ProcessLookupError):  # what the tests have left behind
                os.killpg(pid, signal.SIGKILL)
            endless = ended and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU
            over = not ended or endless
            path.write_text(original)
            failed, took = (["(timeout)"], {}) if over else _result(folder)
            durations |= took
            del running[folder]
            doubted = (folder / "running").read_text() if over else "".join(failed[:1])
            if "::" in doubted and doubted not in sound:
                wrong, took = _unchanged(folder, [doubted.removeprefix("tests/")])
                durations |= took
                (unsound if wrong else sound).add(doubted)
                if wrong:
                    print(f"fails without any change: {doubted}", flush=True)
                if wrong or (not ended and polls * POLL < SECONDS + 6 * durations.get(doubted, 0)):
                    waiting.append(mutant)
                    continue
            result = Result(mutant, "".join(failed[:1]), time.monotonic() - start)
            finished(result)
            yield result
