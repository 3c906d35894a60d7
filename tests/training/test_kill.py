"""SIGKILL at any moment, inside checkpoint writes too: the end has the bits of a quiet run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)], indirect=True)
def test_killed_and_resumed_ends_with_the_same_bits(count, rng, tmp_path):
    program = Path(__file__).parent / "kill.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path, str(count), str(rng.integers(2**31))],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60 + 30 * count,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] >= count
    assert found["runs compared"] >= 1
