"""mypy finds nothing: in tinynet/, in the examples (strictly), in the code blocks of the pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def mypy(cache: Path, *arguments: str | Path) -> str:
    """What it says; its settings are in pyproject.toml."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def test_tinynet(cache):
    assert "Success" in (said := mypy(cache, "tinynet")), said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_strictly(cache, path):
    assert "Success" in (said := mypy(cache, "--strict", path)), said


def test_the_code_blocks_of_the_pages(cache, tmp_path):
    files = []
    for page in PAGES:
        for number, block in enumerate(BLOCK.findall(page.read_text())):
            files.append(tmp_path / f"{page.stem.lower()}_{number}.py")
            files[-1].write_text(block)
    assert len(files) >= 3
    for file in files:
        assert "Success" in (said := mypy(cache, "--check-untyped-defs", file)), said


def test_a_mistake_is_found(cache, tmp_path):
    """Of a method's name, of an argument's, and of what a tensor's operator gives."""
    file = tmp_path / "mistakes.py"
    file.write_text(
        "import tinynet\n"
        "x = tinynet.zeros(2, 3)\n"
        "x.summ()\n"
        "x.sum(dims=1)\n"
        "a: int = x + 1\n"
        "values, indices = x.max(dim=1)\n"
        "values.item()\n"
    )
    said = mypy(cache, file)
    assert re.findall(r"py:(\d+): error", said) == ["3", "4", "5"], said
