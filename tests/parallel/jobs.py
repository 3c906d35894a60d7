"""How jobs of several ranks are started."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEAR = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
MPIEXEC = shutil.which("mpiexec", path=NEAR)
INSTALLED = importlib.util.find_spec("mpi4py") is not None and MPIEXEC is not None


def arguments(ranks: int, *program: object) -> list[str]:
    """The command line of a job; without mpiexec for one rank."""
    start = [str(MPIEXEC), "-n", str(ranks)] if ranks > 1 else []
    return [*start, sys.executable, *map(str, program)]


def environment(**more: str) -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "examples"), *filter(None, sys.path)]
    known = {"PYTHONPATH": os.pathsep.join(paths), "TINYNET_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return os.environ | known | more
