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


class NotWritten(Exception):
    """The stub was run as it is."""


class TooSlow(Wrong):
    """It did not end in SECONDS."""


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
            code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
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
        except NotImplementedError as error:
            raise NotWritten(
                f"Not written yet: put your code in the place of\n{self._place(error)}"
            ) from None
        except BaseException as error:
            place = self._place(error)
            if isinstance(error, _TimeUp):
                late = f"Still running after {SECONDS} seconds. Does a loop never end?"
                raise TooSlow(f"{place or self.path.name}\n{late}") from None
            if not place and not isinstance(error, (SyntaxError, ValueError)):
                raise
            raise Wrong(self._words(error, place)) from None
        finally:
            self.printed += out.getvalue().splitlines()

    def tell_printed(self) -> list[str]:
        """What the file printed so far, not too much of it."""
        lines = self.printed
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
        if isinstance(error, SystemExit):
            return f"{place}\nThis ends the program. A function has to return."
        return f"{place or self.path.name}\n{in_words(error)}"


def in_words(error: BaseException) -> str:
    """Its type, and the first line of what it says."""
    first = str(error).partition("\n")[0]
    if isinstance(error, RecursionError):  # Python also says in which call: now this, now that
        first = "maximum recursion depth exceeded"
    return f"{type(error).__name__}: {first}"


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
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS / 20)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
