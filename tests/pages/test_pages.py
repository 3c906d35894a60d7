"""Every code block of README and docs is run and shows what the page says; every command names a
program and options that are there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
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


# What `--help` of each says, from one process: most of its second is the import of tinynet.
HELP = """
import contextlib, io, json, os, runpy, sys
from pathlib import Path
import tinynet.program

for program in json.loads(sys.argv[1]):
    sys.argv, said, ended = [program[-1], "--help"], io.TextIOWrapper(io.BytesIO()), None
    path, modules = list(sys.path), set(sys.modules)
    try:
        with contextlib.redirect_stdout(said):
            if program[0] == "-m":
                runpy.run_module(program[1], run_name="__main__", alter_sys=True)
            else:
                sys.path[0] = str(Path(program[0]).parent)
                runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        ended = end.code
    said.seek(0)
    print(json.dumps([program, ended, said.read()]))
    sys.path[:] = path
    for name in set(sys.modules) - modules:  # another program's may have the same name
        if not name.startswith(("tinynet", "torch")):  # torch cannot be imported twice
            del sys.modules[name]
"""


def helps(programs: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    run = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(sorted(programs))],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert all(ended in (0, None) for _, ended, _ in found), (found, run.stderr)
    return {tuple(program): said for program, _, said in found}


def test_commands_name_programs_and_options_that_are_there():
    """They are not run: most take minutes, or a folder of the reader's."""
    asked: dict[tuple[str, ...], list] = {}  # program: (page, option)
    for page, words in commands():
        program = tuple(words[1:3] if words[1] == "-m" else words[1:2])
        if program[:2] in (("-m", "venv"), ("-m", "pytest")):
            continue
        if program[0] != "-m":
            assert (ROOT / program[0]).is_file(), (page, words)
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        asked.setdefault(program, []).extend((page, option) for option in options)
    assert len(asked) > 10 and sum(map(len, asked.values())) > 40
    said = helps({program for program, options in asked.items() if options})
    for program, options in asked.items():
        for page, option in options:
            assert re.search(rf"{option}\b", said[program]), (page, program, option)
