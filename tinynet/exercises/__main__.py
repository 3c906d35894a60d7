"""python -m tinynet.exercises NAME: writes NAME.py into this folder for you to fill in; once it is
there, checks it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import textwrap
from pathlib import Path

from tinynet.exercises import EXERCISES
from tinynet.exercises.checker import Say, check
from tinynet.exercises.exercise import Exercise, Wrong
from tinynet.exercises.learner import Learner, NotWritten

COMMAND = "python -m tinynet.exercises"


def main(argv: list[str] | None = None) -> int:
    """0 if what was checked is right, 1 if not, 2 for an exercise there is not."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="which exercise (see --list)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show all exercises")
    what.add_argument("--all", action="store_true", help="check all files of this folder")
    what.add_argument("--hint", action="store_true", help="show a hint for NAME")
    what.add_argument("--solution", action="store_true", help="show the solution of NAME")
    arguments = parser.parse_args(argv)
    name = (arguments.name or "").removesuffix(".py")
    if name and name not in EXERCISES:
        near = difflib.get_close_matches(name, EXERCISES, 1)
        meant = f"; did you mean {near[0]}?" if near else f"; {COMMAND} --list shows all"
        parser.error(f"expected the name of an exercise, got {name}{meant}")
    if name and (arguments.list or arguments.all):
        parser.error(f"expected no NAME with --list or --all, got {name}")
    if not name and (arguments.hint or arguments.solution):
        parser.error("expected the NAME of an exercise with --hint or --solution, got none")
    try:
        if arguments.all:
            return _check_all()
        if not name:
            return _show_list()
        if arguments.hint:
            print(textwrap.fill(EXERCISES[name].hint, 96))
            print(f"tinynet has it in {EXERCISES[name].ours}")
            return 0
        if arguments.solution:
            print(EXERCISES[name].text(solved=True), end="")
            return 0
        return _write_or_check(EXERCISES[name])
    except BrokenPipeError:  # `... | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130


def _file(exercise: Exercise) -> Path:
    return Path.cwd() / f"{exercise.name}.py"


def _show_list() -> int:
    print("chapter  exercise                      question")
    for exercise in EXERCISES.values():
        begun = "*" if _file(exercise).exists() else " "
        print(f"{exercise.chapter:>7} {begun}{exercise.name:<29} {exercise.question}")
    star = "* its file is in this folder. " * any(map(Path.exists, map(_file, EXERCISES.values())))
    print(f"\n{star}To begin one, or to check it: {COMMAND} NAME")
    return 0


def _write_or_check(exercise: Exercise) -> int:
    path = _file(exercise)
    if path.exists():
        print(f"{path.name}: {exercise.question}")
        return 0 if _is_right(exercise, path, print) else 1
    with open(path, "x", encoding="utf-8") as file:
        file.write(exercise.text(solved=False))
    print(f"Wrote {path.name}. {exercise.question}\n")
    print(f"Put your code in the place of `raise NotImplementedError`. Then, in this folder:\n"
          f"    {COMMAND} {exercise.name}              checks it\n"
          f"    {COMMAND} --hint {exercise.name}       gives a hint")  # fmt: skip
    return 0


def _check_all() -> int:
    """A line an exercise; what is wrong is told by its own command."""
    right, found = 0, 0
    for exercise in EXERCISES.values():
        path, verdict = _file(exercise), "not begun"
        if path.exists():
            found += 1
            is_right = _is_right(exercise, path, lambda line: None)
            right += is_right
            verdict = "right" if is_right else f"WRONG: see {COMMAND} {exercise.name}"
        print(f"{exercise.chapter:>3}  {exercise.name:<29} {verdict}", flush=True)
    print(f"{right} right, {found - right} wrong, {len(EXERCISES) - found} not begun")
    return 0 if right == found > 0 else 1


def _is_right(exercise: Exercise, path: Path, say: Say) -> bool:
    try:
        right = check(exercise, Learner(path, exercise), say)
    except NotWritten as stub:
        say(str(stub))
        return False
    except Wrong as wrong:
        say(f"WRONG: {wrong}")
        return False
    if right:
        say("Done.")
    return right


if __name__ == "__main__":
    sys.exit(main())
