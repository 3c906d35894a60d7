"""docs/history.md: what it says of the files themselves."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples" / "history").glob("*.py"))


def test_lines_of_each_file():
    told = (ROOT / "docs" / "history.md").read_text().partition("Lines of each file: ")[2]
    found = re.findall(r"`(\w+\.py)` (\d+)", told.partition("\n\n")[0])
    counted = {path.name: len(path.read_text().splitlines()) for path in FILES}
    assert {name: int(lines) for name, lines in found} == counted
    assert max(counted.values()) <= 150
