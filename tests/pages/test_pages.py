"""Every code block of README and docs is run and shows what the page says; every command names a
program and options that are there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
PROGRAM = re.compile(r"(?:^|[`\s])(python (?:-m )?[\w./-]+[^`\n#]*)")  # fenced, indented or inline

# A piece of a block -> what this block prints, or the error that it raises.
PRINTS = {
    "with tinynet.profile() as profile:": "CrossEntropy",
    "print(tinynet.gradcheck(Square.apply, [x]))": "tensor([ 2., -6.], dtype=float64)\nTrue\n",
    "return 3 * x * dy  # wrong": "GradcheckError",
}
SLOW = "trainer.fit()"


def blocks() -> dict[str, tuple[str, str]]:
    """{"page number": (block, fence)}: the block and the text of the fence after it, if it
    is plain."""
    found = {}
    for page in PAGES:
        fences = FENCE.findall(page.read_text())
        places = [i for i, (language, _) in enumerate(fences) if language == "python"]
        for number, i in enumerate(places):
            after = fences[i + 1] if i + 1 < len(fences) else ("", "")
            found[f"{page.stem} {number}"] = fences[i][1], "" if after[0] else after[1]
    return found


CODE = {  # test_contributing.py has the others
    name: code for name, (code, _) in blocks().items() if "CONTRIBUTING" not in name
}


def test_blocks_are_found():
    for piece in (*PRINTS, SLOW):
        assert sum(piece in code for code in CODE.values()) == 1, piece


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if SLOW in CODE[n] else n for n in CODE],
)
def test_a_block_runs(name, tmp_path):
    code, shown = blocks()[name]
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    part = next((said for piece, said in PRINTS.items() if piece in code), "")
    wrong = part.endswith("Error")
    assert (run.returncode != 0) == wrong, run.stderr
    said = run.stderr[run.stderr.rfind("\ntinynet.errors.") + 1 :] if wrong else run.stdout
    assert part in said, said
    if wrong:  # the page shows these lines
        assert said.removeprefix("tinynet.errors.").strip() == shown.strip()


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of all commands of Python on the pages."""
    found = []
    for page in PAGES:
        for command in PROGRAM.findall(page.read_text()):
            found.append((page.name, shlex.split(command.split("&&")[0].replace("...", ""))))
    return found


@cache
def help_of(program: tuple[str, ...]) -> str:
    run = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_commands_name_programs_and_options_that_are_there():
    """They are not run: most take minutes, or a folder of the reader's."""
    seen = commands()
    assert len(seen) > 20
    for page, words in seen:
        program = tuple(words[1:3] if words[1] == "-m" else words[1:2])
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        if program[:2] in (("-m", "venv"), ("-m", "pytest")):
            continue
        if program[0] != "-m":
            assert (ROOT / program[0]).is_file(), (page, words)
        for option in options:
            assert re.search(rf"{option}\b", help_of(program)), (page, words, option)
