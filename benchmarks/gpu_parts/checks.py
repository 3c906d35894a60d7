"""Is it right: the tests and the gradient suite on the GPU, whole steps beside the CPU's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
from gpu_parts.step import Ours, pair
from measure import ROOT

TOOLS = ("memcheck", "racecheck")  # of compute-sanitizer
# CuPy's warning that it switched peer access on behind our back is an error; setup.cfg's own -q
# would hide the count.
PYTEST = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "gpu", "-p", "no:cacheprovider"]
STRICT = ["-W", "error::cupy._util.PerformanceWarning"]


def run_tests() -> dict[str, Any]:
    """All tests marked gpu."""
    return _counted([*PYTEST, *STRICT, "tests"])


def sanitizer(tool: str) -> dict[str, Any]:
    """The kernels' tests in float32 under a tool of compute-sanitizer, which comes with CUDA."""
    program = shutil.which("compute-sanitizer")
    if program is None:
        return dict(ok=None, result="not run: compute-sanitizer is not installed")
    tests = ["-k", "not float64", "tests/cuda/test_kernels.py"]
    return _counted([program, "--tool", tool, "--error-exitcode", "9", *PYTEST, *tests])


def gradients() -> dict[str, Any]:
    """Every operation's gradient by the GPU's kernels, in float64."""
    command = [sys.executable, "-m", "tinynet.gradcheck", "--device", "cuda:0"]
    status, lines = _shown(command)
    total = next((line for line in reversed(lines) if line.startswith("all ")), "no table")
    return dict(ok=status == 0, result=" ".join(total.split()))


def _counted(command: list[str]) -> dict[str, Any]:
    """What a run of pytest says: at least one test passed, and none failed."""
    status, lines = _shown(command)
    counts = [line.strip("= ") for line in lines if re.search(r"\d+ (passed|failed|skipped)", line)]
    result = counts[-1] if counts else "no tests ran"
    return dict(ok=status == 0 and bool(re.search(r"\d+ passed", result)), result=result)


def _shown(command: list[str]) -> tuple[int, list[str]]:
    """Exit status and lines of a program, which are printed as they come: a limit loses none."""
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    for line in child.stdout:
        print(line, end="", flush=True)
        lines.append(line.rstrip())
    return child.wait(), lines


def after_steps(
    count: int, names: str, preset: str, batch: int, dropout: bool
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The loss of the last of some steps, the weights after it, and the last steps."""
    net = Ours(pair(names), batch, preset, dropout)
    for _ in range(count):
        loss = net.step()
    named = dict(net.model.named_parameters())
    return (
        loss.item(),
        net.model.state_dict(),
        {name: net.optimizer.last_step(p).numpy() for name, p in named.items()},
    )


def cpu_parity(preset: str, batch: int) -> dict[str, Any]:
    """One whole step here and on the CPU: the loss, and how far a layer's step differs, as a share
    of its length.

    The steps are compared, which are the gradients times the rate, and not the weights: a step of
    1e-6 added to a bias of 1 is rounded by 6 %. A pixel whose ReLU or pooling goes the other way
    for a rounding moves conv1's step by 1 or 2 %.
    """
    (loss, _, found), (expected_loss, _, expected) = (
        after_steps(1, names, preset, batch, dropout=False) for names in ("cuda:0", "cpu")
    )
    apart = {
        name: float(
            np.linalg.norm(found[name] - expected[name])
            / max(np.linalg.norm(expected[name]), 1e-30)
        )
        for name in expected
    }
    worst = max(apart, key=apart.__getitem__)
    ok = abs(loss - expected_loss) < 1e-4 * abs(expected_loss) and apart[worst] < 0.05
    return dict(ok=ok, loss=loss, cpu_loss=expected_loss, worst=worst, apart=apart[worst])


def same_bits(first: str, second: str, preset: str, batch: int) -> dict[str, Any]:
    """Two steps with dropout on both: every bit of every weight."""
    (loss_a, a, _), (loss_b, b, _) = (
        after_steps(2, names, preset, batch, dropout=True) for names in (first, second)
    )
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    return dict(ok=loss_a == loss_b and not different, different=different)
