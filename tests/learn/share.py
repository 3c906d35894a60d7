"""How many faults of the catalogue do the exercises' checks notice, and how many the shapes that
cs231n's second assignment checks with?

    python tests/learn/share.py [--list]

Each fault of tests/mutation/faults in a file that an exercise is about is put into tinynet's own
source, in a process of its own. Then tinynet's own function is checked as if a learner had written
it: by the exercise's example, probes and cases. Beside it, for convolution and pooling: forward
against the formula in loops and numerical gradients, at the shapes of cs231n. --list names what
either lets through.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ["TINYNET_NUM_THREADS"] = "1"  # read by the children, which import tinynet
SECONDS = 120  # of the processor, not of the clock: a run may be paused
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "mutation")]
EXERCISES_OF = {
    "tape.py": ["accumulate", "walk"],
    "arithmetic/operands.py": ["unbroadcast"],
    "kernels/cross_entropy.py": ["cross_entropy_backward"],
    "kernels/im2col.py": ["im2col", "col2im", "conv2d_backward"],
    "kernels/conv2d.py": ["conv2d_backward"],
    "kernels/max_pool2d.py": ["max_pool2d_backward"],
    "kernels/local_response_norm.py": ["local_response_norm_backward"],
    "kernels/dropout.py": ["dropout_backward"],
    "kernels/steps/sgd.py": ["sgd_step"],
}
CS231N = ("kernels/im2col.py", "kernels/conv2d.py", "kernels/max_pool2d.py")


class Changed(MetaPathFinder):
    """Imports one file of tinynet from a changed text."""

    def __init__(self, file: str, source: str):
        self.path, self.source = str(ROOT / "tinynet" / file), source
        self.name = "tinynet." + file.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.name:
            return None
        source = self.source

        class Loader(SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                return self.source_to_code(source.encode(), self.path)

        return importlib.util.spec_from_loader(name, Loader(name, self.path))


# ------------------------------------------------------------------ the checks


def exercise_notices(name: str) -> bool:
    from tinynet.exercises import EXERCISES, checker

    exercise, own = EXERCISES[name], functions().get(name)
    probes = [exercise.example(), *exercise.probes(np.random.default_rng(7))] if own else []
    for probe in probes:
        try:
            checker._compare(exercise, checker.outcome(exercise, own, probe), probe)
        except Exception:
            return True
    trials = exercise.trials(own or exercise.solution)
    return any(fails(trial.run) for trial in trials if trial.values <= checker.LARGEST)


def functions() -> dict[str, Callable]:
    """tinynet's own functions, with the exercises' signatures."""
    from tinynet import kernels
    from tinynet.arithmetic.operands import unbroadcast

    def conv2d_backward(dy, x, weight, stride, padding):
        return kernels.conv2d_backward(dy, x, weight, stride, padding, 1, (True, True, True))

    return {
        name: getattr(kernels, name)
        for name in (
            "cross_entropy_backward", "im2col", "col2im", "max_pool2d_backward",
            "local_response_norm_backward", "dropout_backward", "sgd_step",
        )
    } | dict(unbroadcast=unbroadcast, conv2d_backward=conv2d_backward)  # fmt: skip


def cs231n_notices(file: str) -> bool:
    """Assignment 2, ConvolutionalNetworks.ipynb: its shapes, and its thresholds or tighter ones."""
    from tinynet import kernels

    rng = np.random.default_rng(231)
    if file == "kernels/max_pool2d.py":
        rule = (2, 2), (2, 2), (0, 0)
        x = np.linspace(-0.3, 0.4, 96).reshape(2, 3, 4, 4)
        y, _ = kernels.max_pool2d_forward(x, *rule, False)
        if differs(y, pooled(x)):
            return True
        x, dy = rng.normal(size=(3, 2, 8, 8)), rng.normal(size=(3, 2, 4, 4))
        _, winner = kernels.max_pool2d_forward(x, *rule, False)
        dx = kernels.max_pool2d_backward(dy, winner, x.shape, *rule)
        return differs(dx, slopes(lambda: kernels.max_pool2d_forward(x, *rule, False)[0], x, dy))
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w, b = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4), np.linspace(-0.1, 0.2, 3)
    if differs(kernels.conv2d_forward(x, w, b, (2, 2), (1, 1), 1), convolved(x, w, b)):
        return True
    x, w = rng.normal(size=(4, 3, 5, 5)), rng.normal(size=(2, 3, 3, 3))
    b, dy = rng.normal(size=2), rng.normal(size=(4, 2, 5, 5))
    given = kernels.conv2d_backward(dy, x, w, (1, 1), (1, 1), 1, (True, True, True))
    return any(
        differs(g, slopes(lambda: kernels.conv2d_forward(x, w, b, (1, 1), (1, 1), 1), z, dy))
        for g, z in zip(given, (x, w, b), strict=True)
    )


def convolved(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Stride 2, padding 1, kernels 4x4, by the formula."""
    padded, y = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.zeros((len(x), len(w), 2, 2))
    for n, o, i, j in np.ndindex(y.shape):
        y[n, o, i, j] = b[o] + (w[o] * padded[n, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]).sum()
    return y


def pooled(x: np.ndarray) -> np.ndarray:
    """2x2 with stride 2, by the formula."""
    y = np.zeros((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2))
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max()
    return y


def slopes(f: Callable[[], np.ndarray], x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Central differences of <dy, f>, by changing each element of x in place."""
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        before = x[i]
        x[i] = before + 1e-5
        above = f().copy()
        x[i] = before - 1e-5
        gradient[i] = ((above - f()) * dy).sum() / 2e-5
        x[i] = before
    return gradient


def differs(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-6, atol=1e-7)


def fails(run: Callable[[], object]) -> bool:
    try:
        run()
    except Exception:
        return True
    return False


# ------------------------------------------------------------------ the faults


def noticed(file: str, source: str) -> tuple[bool, bool]:
    """Whether (the exercises, cs231n's shapes) notice the changed file; in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # a fault may never end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings of wrong arithmetic
        sys.meta_path.insert(0, Changed(file, source))
        ours = any(fails_or(exercise_notices, name) for name in EXERCISES_OF[file])
        theirs = file in CS231N and fails_or(cs231n_notices, file)
        os.write(writing, bytes([ours, theirs]))
        os._exit(0)
    os.close(writing)
    told = os.read(reading, 2)
    os.close(reading)
    os.waitpid(child, 0)
    if len(told) < 2:  # it crashed, or never ended: whoever runs it notices
        return True, file in CS231N
    return bool(told[0]), bool(told[1])


def fails_or(check: Callable[[str], bool], name: str) -> bool:
    try:
        return check(name)
    except Exception:
        return True


def faults(file: str) -> Iterator[tuple[str, str]]:
    """(name, changed text) of each fault of a file."""
    source = (ROOT / "tinynet" / file).read_text()
    yield "", source  # nothing changed: nobody may notice anything
    for room in ("kernels", "tape"):
        for name, places in importlib.import_module(f"faults.{room}").FAULTS.get(file, {}).items():
            changed = source
            for old, new in zip(places[::2], places[1::2], strict=True):
                if changed.count(old) != 1:
                    print(f"left out, its text is not in the source once: {file}: {name}")
                    break
                changed = changed.replace(old, new)
            else:
                yield name, changed


class Row(NamedTuple):
    file: str
    faults: int
    ours: int
    theirs: int | None  # None: cs231n checks nothing like it
    through: list[str]


def rows(files: Iterable[str]) -> Iterator[Row]:
    for file in files:
        results = {name: noticed(file, source) for name, source in faults(file)}
        if any(results.pop("")):
            raise SystemExit(f"{file}: something is noticed where nothing is changed")
        compared, through = file in CS231N, []
        for name, (by_us, by_them) in results.items():
            who = ["exercises"] * (not by_us) + ["cs231n"] * (compared and not by_them)
            if who:
                through.append(f"let through by {' and '.join(who)}: {name}")
        ours, theirs = (sum(r[i] for r in results.values()) for i in (0, 1))
        yield Row(file, len(results), ours, theirs if compared else None, through)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="name what is let through")
    parser.add_argument("files", nargs="*", metavar="FILE", help=" ".join(EXERCISES_OF))
    arguments = parser.parse_args()
    unknown = set(arguments.files) - EXERCISES_OF.keys()
    if unknown:
        parser.error(f"expected some of {' '.join(EXERCISES_OF)}, got {' '.join(unknown)}")
    print(f"{'file':<34}{'faults':>7}{'exercises':>11}{'cs231n':>8}")
    both = np.zeros(3, int)
    for row in rows(arguments.files or EXERCISES_OF):
        theirs = "-" if row.theirs is None else row.theirs
        print(f"{row.file:<34}{row.faults:>7}{row.ours:>11}{theirs:>8}", flush=True)
        for line in row.through if arguments.list else ():
            print(f"    {line}")
        both += 0 if row.theirs is None else row[1:4]
    print(f"{'convolution and pooling':<34}{both[0]:>7}{both[1]:>11}{both[2]:>8}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
