"""What an exercise is: a function to write, wrong ways to write it, and what checks it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinynet.gradcheck import gradcheck
from tinynet.gradcheck.cases import CASES

Function = Callable[..., Any]


class Trial(NamedTuple):
    """run: AssertionError if something is wrong. values: how many go through a learner's loops."""

    run: Callable[[], object]
    values: int = 0


class Wrong(Exception):
    """What is wrong with a learner's function, in words."""


def _itself(function: Function) -> Function:
    return function


def _called(function: Function, *arguments: Any) -> Any:
    return function(*arguments)


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One function to write.

    solution: the function as it has to be. Its name, signature and docstring make the stub.
    mistakes: wrong versions of it, each with the hint for a learner whose version does the same.
    example: its arguments in whole numbers. probes: arguments for which the mistakes differ.
    trials: what must be right with a function, while it stands, as `adapt` makes it, at `places`.
    call: how a function is called, and what counts as its results, if not what it returns.
    """

    solution: Function
    chapter: int
    question: str
    hint: str
    ours: str  # where tinynet has it
    results: tuple[str, ...]
    mistakes: dict[Function, str]
    example: Callable[[], tuple]
    probes: Callable[[np.random.Generator], Iterator[tuple]]
    trials: Callable[[Function], list[Trial]]
    places: tuple[tuple[Any, str], ...] = ()
    adapt: Callable[[Function], Any] = _itself
    call: Function = _called
    imports: str = "import numpy as np"

    @property
    def name(self) -> str:
        return self.solution.__name__

    @property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.solution)

    def text(self, solved: bool) -> str:
        """A file for the learner: the whole solution, or all but its body."""
        source = textwrap.dedent(inspect.getsource(self.solution))
        lines = source.splitlines()
        if not solved:
            docstring = ast.parse(source).body[0].body[0]  # type: ignore[attr-defined]
            lines = [*lines[: docstring.end_lineno], "    raise NotImplementedError  # your code"]
        title = f"# Chapter {self.chapter}. {self.question}\n"
        title += f"# To check it: python -m tinynet.exercises {self.name}\n"
        return title + self.imports + "\n\n\n" + "\n".join(lines) + "\n"

    @contextmanager
    def in_place(self, function: Function) -> Iterator[None]:
        """The learner's function where tinynet has its own; in the end tinynet's own again."""
        with ExitStack() as stack:
            for owner, name in self.places:
                stack.callback(setattr, owner, name, vars(owner)[name])
                setattr(owner, name, self.adapt(function))
            yield


def gradchecks(*operations: str) -> Callable[[Function], list[Trial]]:
    """Trials: gradcheck of all cases of these operations (tinynet/gradcheck/cases)."""

    def trials(function: Function) -> list[Trial]:
        rng = np.random.default_rng(0)
        cases = [case for name in operations for case in CASES[name].make(rng)]
        return [Trial(partial(gradcheck, fn, xs), sum(x.size for x in xs)) for fn, xs in cases]

    return trials
