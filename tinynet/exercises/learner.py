"""A learner's file: read, and run so that whatever goes wrong in it is told in words."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from tinynet.exercises.exercise import Exercise, Function, Wrong

SECONDS = 20  # for one call, or one case of gradcheck
SHOWN = 8  # lines of what the file prints


class _TimeUp(BaseException):
    """Not an Exception: a learner's `except Exception` must not catch it."""


class Learner:
    """The function that a file defines, and how to run it."""

    def __init__(self, path: Path, exercise: Exercise):
        """Runs the file. Wrong if that fails, or if it lacks the function."""
        self.path = path
        self.printed: list[str] = []
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        with self.supervised():
            code = compile(path.read_bytes(), str(path), "exec")
            exec(code, vars(module))
        function = getattr(module, exercise.name, None)
        if not callable(function):
            raise Wrong(
                f"{path.name}: expected a function {exercise.name}{exercise.signature}, got none"
            )
        wanted = [*exercise.signature.parameters]
        try:
            inspect.signature(function).bind(*wanted)
        except TypeError:
            raise Wrong(
                f"{path.name}: expected {exercise.name}{exercise.signature}, got "
                f"{exercise.name}{inspect.signature(function)}"
            ) from None
        self.function: Function = function

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """What runs in here may take SECONDS; what it prints is kept; an exception that comes
        from the learner's code becomes Wrong.
        """
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out), _limit():
                yield
        except (KeyboardInterrupt, Wrong):
            raise
        except BaseException as error:
            place = self._place(error)
            if not place and not isinstance(error, (SyntaxError, ValueError, _TimeUp)):
                raise
            raise Wrong(self._words(error, place)) from None
        finally:
            self.printed += out.getvalue().splitlines()

    def tell_printed(self) -> list[str]:
        """What the function printed since the last call of this, not too much of it."""
        lines, self.printed = self.printed, []
        if not lines:
            return []
        more = f"    ... and {len(lines) - SHOWN:,} lines more"
        told = [f"    {line[:100]}" for line in lines[:SHOWN]]
        return ["Your function printed:", *told, *([more] if len(lines) > SHOWN else [])]

    def _place(self, error: BaseException) -> str:
        """The last line of the file that ran, with its number; empty if none did."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename == str(self.path):
                return f"{self.path.name}, line {frame.lineno}:  {frame.line}"
        return ""

    def _words(self, error: BaseException, place: str) -> str:
        if isinstance(error, SyntaxError):
            line = (error.text or "").strip()
            return f"{self.path.name}, line {error.lineno}:  {line}\nPython says: {error.msg}"
        if isinstance(error, NotImplementedError):
            return f"{place}\nNot written yet: put your code in the place of this line."
        if isinstance(error, _TimeUp):
            where = place or "the file itself"
            return f"{where}\nStill running after {SECONDS} seconds. Does a loop never end?"
        if isinstance(error, SystemExit):
            return f"{place}\nThis ends the program. A function has to return."
        what = str(error).partition("\n")[0]
        return f"{place or self.path.name}\n{type(error).__name__}: {what}"


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    alarms = 0

    def alarm(number: int, frame: FrameType | None) -> None:
        nonlocal alarms
        alarms += 1
        if alarms > 3:  # a bare `except:` in a loop catches even _TimeUp
            sys.__stdout__.write(  # type: ignore[union-attr]
                f"Still running after {SECONDS} seconds. Does a loop never end? It also has an "
                f"`except:` that catches everything; write `except ValueError:` or the like.\n"
            )
            sys.__stdout__.flush()  # type: ignore[union-attr]
            os._exit(1)
        raise _TimeUp

    before: Any = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
