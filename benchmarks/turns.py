"""One side of a comparison in a process of its own, which makes a turn of steps whenever it is
asked to.

    with Worker(Side("tinynet", "train", 128)) as worker:
        worker.turn()["seconds"]

Run as a program, this file is that process: lines of JSON on stdout, a turn for each line on stdin.
"""

from __future__ import annotations

import importlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# tinynet and examples, installed or not
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))

from measure import seconds
from sides import history
from sides.small import NETS, OPERATIONS, random_pictures

MODULES = {
    "tinynet": "ours",
    "PyTorch": "pytorch",
    "JAX": "with_jax",
    "ONNX Runtime": "with_onnxruntime",
    "GEMM alone": "gemm",
}  # in benchmarks/sides
OPTIONAL = ("torch", "jax", "onnxruntime", "onnx")
TURN = 1.0  # seconds that a turn of short steps lasts
# seconds before a turn: the other side's threads wait busily for a moment before they sleep
QUIET = 0.3
TOLERANCE = 1e-9  # of logits and gradients, in float64


class Side(NamedTuple):
    program: str
    task: str  # "train" or "forward"; "operation" for a single one
    batch: int
    preset: str = "paper"  # or a net or operation of sides.small, or a net of sides.history
    lrn: bool = True

    @property
    def module(self) -> Any:
        kind = (
            "_history" if history.file_of(self.preset) in history.NAMES else "_small" * self.small
        )
        return importlib.import_module(f"sides.{MODULES[self.program]}{kind}")

    @property
    def small(self) -> bool:
        return self.preset in NETS or self.preset in OPERATIONS

    def __str__(self) -> str:
        return f"{self.program} at {self.batch}"


class Worker:
    """The process. `first` is what it says when it is ready: "about", or "missing" if the program
    is not installed.
    """

    def __init__(self, side: Side, job: str = "work"):
        self.side = side
        command = [sys.executable, __file__, job, json.dumps(side)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first = self._answer()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.stdin.close()  # its loop ends
        self.process.wait()
        self.process.stdout.close()

    def turn(self) -> dict[str, float]:
        """seconds: of a step. processor: those that all cores worked. peak_mb: the most memory the
        process ever held, in 10^6 bytes.
        """
        print("turn", file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(
            f"{self.side}: its process ended with status {self.process.wait()}; see above"
        )


def work(side: Side) -> None:
    """Build the net, make one step to warm up, and then a turn for each line of stdin."""
    try:
        module = side.module
    except ModuleNotFoundError as error:
        if error.name not in OPTIONAL:
            raise
        return say(missing=f"{error.name} is not installed")
    step = module.make_step(side.preset, side.lrn, side.task, side.batch)
    step()
    say(about=module.about())
    for _ in sys.stdin:
        say(**turn(step), peak_mb=peak_mb())


def compare(side: Side) -> None:
    """Say where this side's logits and gradients of two pictures are furthest from ours: norm of
    difference / norm.

    In float64 where the side can: in float32, rounding now and then moves a maximum and its
    gradient to another pixel, 0.5 % of a norm.
    """
    import numpy as np
    from numpy.linalg import norm
    from sides import random_batch

    module = side.module
    pictures, labels = (random_pictures if side.small else random_batch)(side.preset, 2)
    pictures = pictures.astype(getattr(module, "DTYPE", np.float64))
    expected, found = (
        m.Net(side.preset, side.lrn).gradients(pictures.copy(), labels)
        for m in (side._replace(program="tinynet").module, module)
    )
    errors = {
        name: float(norm(value - expected[name]) / norm(expected[name]))
        for name, value in found.items()
    }
    worst = max(errors, key=lambda name: np.nan_to_num(errors[name], nan=np.inf))
    say(worst=worst, error=errors[worst], tolerance=getattr(module, "TOLERANCE", TOLERANCE))


def turn(step: Callable[[], object]) -> dict[str, float]:
    """Seconds of a step, and those of all cores: of one, or the median of as many as last a second
    (of the cores: the mean); of those, one goes before to warm up.
    """
    time.sleep(QUIET)
    start = time.process_time()
    first = seconds(step)
    if first > TURN:
        return dict(seconds=first, processor=time.process_time() - start)
    start, taken = time.process_time(), [seconds(step) for _ in range(math.ceil(TURN / first))]
    processor = (time.process_time() - start) / len(taken)
    return dict(seconds=statistics.median(taken), processor=processor)


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    {"work": work, "compare": compare}[sys.argv[1]](Side(*json.loads(sys.argv[2])))
