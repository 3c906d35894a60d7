"""Jobs of several ranks, where mpi4py and an mpiexec are installed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import INSTALLED, arguments, environment

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(4, "program.py", ...): the finished job, in a folder of its own."""
    if not INSTALLED:
        pytest.skip("mpi4py or mpiexec is not installed: pip install mpi4py mpich")

    def start(ranks: int, *program: object, ok: bool = True, **more: str) -> Any:
        done = subprocess.run(
            arguments(ranks, *program), env=environment(**more), cwd=tmp_path, timeout=600,
            capture_output=True, text=True,
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    return start
