"""Kills a tiny run at random moments, resumes it, and compares the end with an undisturbed run's.

    python tests/training/kill.py FOLDER KILLS SEED

Half of the kills come at a random time, half at a random step of writing a checkpoint (before or
after one of the calls that make a file durable). Each attempt is a forked child that is ended by
SIGKILL. Runs that reach their end between kills are compared and followed by a new one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from helpers import make_trainer

from tinynet import saving
from tinynet.training import checkpoint as files
from tinynet.training.metrics import METRICS, read_metrics


def train(folder: Path) -> None:
    """Starts the run in `folder`, or goes on with it."""
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = make_trainer(folder, epochs=3, checkpoint_batches=2, keep=2)
        if files.all_in(folder):
            trainer.resume()
        trainer.fit()


def result(folder: Path) -> tuple[dict, list]:
    """What must be equal: all arrays of the last checkpoint and of the best, and the metrics."""
    _, last, _ = files.newest_whole(folder)
    best = files.load(folder / files.BEST)
    arrays = {f"last {k}": v for k, v in (last.model | last.optimizer).items()}
    arrays |= {f"best {k}": v for k, v in best.model.items()}
    lines = read_metrics(folder)
    for line in lines:
        line.pop("images_per_second", None)
        line.pop("seconds", None)
    return arrays, lines


def die_while_saving(rng: np.random.Generator) -> None:
    """Arms this process: SIGKILL around one of the next calls that write a checkpoint."""
    left = int(rng.integers(1, 40))
    names = ("fsync", "replace", "link", "unlink")

    def armed(real, before):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0 and before:
                os.kill(os.getpid(), signal.SIGKILL)
            value = real(*args, **kwargs)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        return call

    for name in names:
        setattr(os, name, armed(getattr(os, name), bool(rng.integers(2))))
    saving.save_file = armed(saving.save_file, bool(rng.integers(2)))


def attempt(folder: Path, rng: np.random.Generator, duration: float) -> bool:
    """One child, killed at a random moment; True if it came to its end before that."""
    at_random_time = bool(rng.integers(2))
    delay = float(rng.uniform(0, duration))
    pid = os.fork()
    if pid == 0:
        if not at_random_time:
            die_while_saving(rng)
        train(folder)
        os._exit(0)
    if at_random_time:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"an attempt failed with status {os.WEXITSTATUS(status)}")
    return os.WIFEXITED(status)


def run(folder: Path, kills: int, seed: int) -> dict:
    """Kills `kills` times; raises AssertionError where an end differs. Returns what was done."""
    rng = np.random.default_rng(seed)
    pid = os.fork()  # so that this process has no threads yet when it forks again
    if pid == 0:
        train(folder / "undisturbed")
        os._exit(0)
    began = time.perf_counter()
    os.waitpid(pid, 0)
    duration = time.perf_counter() - began
    arrays, lines = result(folder / "undisturbed")
    killed = finished = number = torn = 0
    while killed < kills or finished == 0:
        target = folder / f"run{number}"
        done = attempt(target, rng, duration) if killed < kills else attempt_to_the_end(target)
        killed += not done
        torn += len(list(target.glob("*" + files.PART)))
        if done:
            finished += 1
            number += 1
            other, other_lines = result(target)
            assert arrays.keys() == other.keys()
            for name, array in arrays.items():
                assert array.tobytes() == other[name].tobytes(), name
            assert lines == other_lines, f"{target / METRICS} differs"
            left = {path.name for path in target.iterdir()} ^ {
                path.name for path in (folder / "undisturbed").iterdir()
            }
            left = {
                name for name in left if not name.startswith("step-")
            }  # killed before an old one could be deleted
            assert not left, f"files differ from an undisturbed run's: {left}"
            shutil.rmtree(target)
    return {"kills": killed, "runs compared": finished, "half-written files found": torn}


def attempt_to_the_end(folder: Path) -> bool:
    """One child that nobody kills."""
    pid = os.fork()
    if pid == 0:
        train(folder)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return True


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
