"""From a statement to finished runs: each is one command, and leaves one line in runs.jsonl."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
from statements import FULL, SMALL, Arm, Comparison, Statement

from tinynet.errors import DataError, TinynetError

ALEXNET = Path(__file__).resolve().parents[1] / "alexnet.py"
LAST = "step-*.safetensors"  # the checkpoint at the end of a run, where --keep is 1
Line = dict[str, Any]


class RunError(TinynetError, RuntimeError):
    """A run that ended with an error; the message names what it left."""


@dataclass(frozen=True)
class Job:
    """One run: its name, the options of alexnet.py without --data and --out, and the pictures."""

    name: str
    options: tuple[str, ...]
    data: str
    averaged: tuple[Job, ...] = ()
    start: Job | None = None

    @property
    def folder(self) -> str:
        """By what is in the command, so that statements share what is the same."""
        before = [job.folder for job in (*self.averaged, *([self.start] if self.start else []))]
        key = json.dumps([self.options, self.data, before])
        return f"runs/paper/{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def command(self) -> str:
        """As one types it, with the pictures by their name: what the run is known by."""
        nets = [f"{job.folder}/{LAST}" for job in self.averaged]  # the shell finds the file
        words = [shlex.join(self.arguments({}, nets=[])), *nets]
        return " ".join(filter(None, ["python examples/alexnet.py", *words]))

    def views_command(self) -> str:
        """What tests its last checkpoint through ten views."""
        return f"python examples/alexnet.py --eval {self.folder}/{LAST} --out {self.folder}/views"

    @property
    def seed(self) -> int:
        """Of a run that trains."""
        return int(self.options[self.options.index("--seed") + 1])

    def arguments(self, places: Mapping[str, str], nets: Sequence[str] | None = None) -> list[str]:
        """Of alexnet.py, with the pictures at `places`. Nets are tested on what they were tested on
        in training: the folders of their runs know it.
        """
        if self.averaged:
            found = [str(last_of(job.folder)) for job in self.averaged] if nets is None else nets
            return ["--out", self.folder, "--eval", *found]
        data = [] if self.data == "embedded" else ["--data", places.get(self.data, self.data)]
        start = ["--start-from", self.start.folder] if self.start else []
        return [*self.options, *start, *data, "--out", self.folder]


@dataclass
class Book:
    """runs.jsonl: a line for each finished run. It is read once, and grows by whole lines."""

    path: Path

    def __post_init__(self) -> None:
        self.lines: dict[str, Line] = {}
        for number, text in enumerate(self._texts(), 1):
            try:
                line = json.loads(text)
                self.lines[line["command"]] = line
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{self.path}, line {number}: expected a run as JSON with its command, got "
                    "something else; delete this line"
                ) from None

    def add(self, line: Line) -> None:
        """The line is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines[line["command"]] = line

    def _texts(self) -> list[str]:
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []


@dataclass(frozen=True)
class Plan:
    """What a statement asks for at a scale: `more` are options for every run, given by hand."""

    statement: Statement
    scale: str
    seeds: int
    more: tuple[str, ...] = ()

    @property
    def arms(self) -> Mapping[str, Arm]:
        return (self.scale == "full" and self.statement.full_arms) or self.statement.arms

    @property
    def comparisons(self) -> list[Comparison]:
        """Those whose arms this scale has."""
        there = {*self.arms, ""}
        return [c for c in self.statement.comparisons if {c.arm, c.against} <= there]

    def job(self, arm: str, seed: int, lines: Mapping[str, Line]) -> Job:
        """The run of an arm with a seed. Of an arm with several rates: with the best of its trials,
        as far as they are in `lines`.
        """
        row = self.arms[arm]
        if row.average:
            nets = tuple(
                self.job(name, number, lines)
                for name, count in row.average.items()
                for number in range(count)
            )
            return Job("average", (), self._data(row), nets)
        rate = ("--lr", f"{self.best_rate(arm, lines):g}") if row.rates else ()
        start = self.job(row.start, seed, lines) if row.start else None
        options = self._options(row, *rate, "--seed", str(seed))
        return Job(self._name(row, seed), options, self._data(row), start=start)

    def trials(self, arm: str) -> list[Job]:
        """The runs that choose an arm's rate; none if there is nothing to choose."""
        row = self.arms[arm]
        epochs = ("--epochs", str(self.statement.trial))
        return [
            Job(
                f"{self._name(row, 0)}-trial",
                self._options(row, *epochs, "--lr", f"{rate:g}", "--seed", "0"),
                self._data(row),
            )
            for rate in row.rates
        ]

    def best_rate(self, arm: str, lines: Mapping[str, Line]) -> float:
        """By the training loss of the trials' last epoch; a loss that is no number is the worst."""
        losses = []
        for job in self.trials(arm):
            loss = lines.get(job.command(), {}).get("training_loss", [float("inf")])[-1]
            losses.append(loss if loss == loss else float("inf"))
        return self.arms[arm].rates[losses.index(min(losses))]

    def jobs(self, lines: Mapping[str, Line]) -> Iterator[tuple[str, int, Job]]:
        """(arm, seed, run) in the order in which they are to be done, seed by seed: trials first,
        averages when their nets are there. Lines must have come in when the next one is asked for.
        """
        names = dict.fromkeys(name for row in self.comparisons for name in (row.arm, row.against))
        arms = [name for name in names if name]  # others come with those that need them
        for arm in arms:
            for job in self.trials(arm):
                yield arm, 0, job
        done = set()
        for seed in range(self.seeds):
            for arm in arms:
                job = self.job(arm, seed, lines)
                for each in (*([job.start] if job.start else []), *job.averaged, job):
                    if each.command() not in done:
                        done.add(each.command())
                        yield arm, seed, each

    def _options(self, row: Arm, *own: str) -> tuple[str, ...]:
        """Each option once: what is said by hand counts most, then `own`, then the arm's."""
        of_scale = (*SMALL, *self.statement.small) if self.scale == "small" else FULL
        variant = ("--variant", row.variant) if row.variant else ()
        return settled((*of_scale, *variant, *row.options, *own, *self.more))

    def _data(self, row: Arm) -> str:
        if self.scale == "full":
            return "MORE-SHARDS" if row.data else "SHARDS"
        return row.data or self.statement.data

    def _name(self, row: Arm, seed: int) -> str:
        return f"{self.scale}-{row.variant or 'whole'}-{seed}"


def settled(options: Sequence[str]) -> tuple[str, ...]:
    """Pairs of options and values, each option once: the last value counts."""
    if len(options) % 2 or not all(name.startswith("--") for name in options[::2]):
        raise ValueError(f"expected options with a value each, got {shlex.join(options)}")
    found = dict(zip(options[::2], options[1::2], strict=True))
    return tuple(word for pair in found.items() for word in pair)


def last_of(folder: str) -> Path:
    """The checkpoint at the end of a run, not its best: choosing by the test would flatter. If it
    is no longer there, the folder, and alexnet.py says so.
    """
    return max(Path(folder).glob(LAST), default=Path(folder))


def perform(job: Job, places: Mapping[str, str], device: str | None, views: bool) -> Line:
    """Do a run, or go on with it where it was stopped; its line. Raises RunError."""
    folder = Path(job.folder)
    where = ["--device", device] if device else []
    begun = not job.averaged and (folder / "config.json").exists() and last_of(job.folder).is_file()
    if begun:
        alexnet(["--resume", "--out", job.folder, *where], folder)
    else:
        alexnet([*job.arguments(places), *where], folder)
    found: Line
    if job.averaged:
        found = dict(figures.of_evaluation(folder))
    else:
        found = {"seed": job.seed} | figures.of_training(folder)
        if views:
            last = str(last_of(job.folder))
            alexnet(["--eval", last, "--out", str(folder / "views"), *where], folder)
            found |= figures.of_evaluation(folder / "views")
            found["views_command"] = job.views_command()
    line = {"command": job.command(), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    return line | found


def alexnet(arguments: Sequence[str], folder: Path) -> None:
    """Run alexnet.py; what it says goes to a file beside its folder, its bar to a terminal."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    with open(log, "a", encoding="utf-8") as out:
        bar = None if sys.stderr.isatty() else out
        child = subprocess.Popen([sys.executable, str(ALEXNET), *arguments], stdout=out, stderr=bar)
        try:
            status = child.wait()
        except BaseException:  # it saves, and the next command goes on with it
            child.terminate()
            child.wait()
            raise
    if status:
        last = (log.read_text(encoding="utf-8").strip() or "nothing was said").splitlines()[-1]
        raise RunError(f"{shlex.join(arguments)} ended with status {status}: {last}; see {log}")


def commit() -> str:
    """The commit of the code that runs, with a + if files were changed since; "" outside of git."""
    where = ["git", "-C", str(ALEXNET.parent)]
    head = subprocess.run(
        [*where, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True
    )
    code = ["diff", "--quiet", "HEAD", "--", "../tinynet", "*.py"]
    changed = subprocess.run([*where, *code], capture_output=True)
    return head.stdout.strip() + ("+" if changed.returncode == 1 else "")
