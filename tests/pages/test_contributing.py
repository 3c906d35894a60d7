"""CONTRIBUTING.md's example of a new operation, carried out as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^(New file|At the end of) `([^`]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests, with the example's files."""
    folder = tmp_path_factory.mktemp("contributing") / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "programs", "old", "fashion")
    for name in ("tinynet", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder)
    blocks = BLOCK.findall(TEXT)
    assert len(blocks) == TEXT.count("\n```python\n") + TEXT.count("\n```c\n") == 8
    for how, name, code in blocks:
        path = folder / name
        assert path.exists() == (how == "At the end of"), name
        path.write_text((path.read_text() + "\n\n" if path.exists() else "") + code)
    return folder


def run(copy: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_example_passes_its_checks(copy):
    assert "rms_norm" in run(copy, "tinynet.gradcheck", "rms_norm")
    assert "PASSED tests/core/test_rms_norm.py" in run(
        copy, "pytest", "-q", "-rA", "tests/core/test_rms_norm.py"
    )


@pytest.mark.slow
def test_the_example_passes_what_every_operation_has_to(copy):
    files = ["tests/cuda/test_parity.py", "tests/core/test_gradcheck_table.py"]
    files += ["tests/core/test_wrong_calls_of_all.py"]
    said = run(copy, "pytest", "-q", "-rA", *files, "-k", "rms_norm")
    for test in ("test_the_same_on_both", "test_a_wrong_kernel_is_noticed"):
        assert f"PASSED tests/cuda/test_parity.py::{test}" in said, said[-3000:]
    assert "PASSED tests/core/test_gradcheck_table.py" in said


def test_a_wrong_example_would_fail(copy):
    """A factor in backward."""
    path = copy / "tinynet/kernels/rms_norm.py"
    right = path.read_text()
    path.write_text(right.replace("return r * (dy", "return r * (1.01 * dy"))
    try:
        with pytest.raises(AssertionError, match="wrong"):
            run(copy, "tinynet.gradcheck", "rms_norm")
    finally:
        path.write_text(right)


def test_the_steps_are_commands_of_the_page():
    for command in ("python -m tinynet.gradcheck rms_norm", "pytest tests/core/test_rms_norm.py"):
        assert f"\n{command}\n" in TEXT


def test_the_seed_that_is_printed_is_every_workers(request):
    worker = getattr(request.config, "workerinput", None)
    if worker is None:
        pytest.skip("one process: pytest -n 0")
    assert worker["seed"] == request.config.option.seed
