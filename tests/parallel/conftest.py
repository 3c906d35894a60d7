"""Jobs of several ranks, where mpi4py and an mpiexec are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NEAR = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=NEAR)
INSTALLED = importlib.util.find_spec("mpi4py") is not None and MPIEXEC is not None

Run = Callable[..., subprocess.CompletedProcess]


def arguments(ranks: int, *program: object) -> list[str]:
    """The command line of a job; without mpiexec for one rank."""
    start = [str(MPIEXEC), "-n", str(ranks)] if ranks > 1 else []
    return [*start, sys.executable, *map(str, program)]


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "examples"), *filter(None, sys.path)]
    known = {"PYTHONPATH": os.pathsep.join(paths), "TINYNET_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return os.environ | known | more


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(4, "program.py", ...): the finished job, in a folder of its own."""
    if not INSTALLED:
        pytest.skip("mpi4py or mpiexec is not installed: pip install 'tinynet[mpi]'")

    def start(ranks: int, *program: object, ok: bool = True, **more: str) -> Any:
        done = subprocess.run(
            arguments(ranks, *program), env=environment(**more), cwd=tmp_path, timeout=120,
            capture_output=True, text=True,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    return start
