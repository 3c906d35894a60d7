"""Which tests run the lines that a change is in, as coverage.py has counted them.

    pytest --seed 1 --cov=tinynet --cov=examples --cov-context=test --cov-report=

leaves in .coverage which lines each test runs; catalogue.py and general.py take it as --reach.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
from rooms import ROOT, path_of


class Reach:
    """sizes: how many lines each test runs. One of few lines is quick, and says much."""

    def __init__(self, path: Path) -> None:
        data = coverage.CoverageData(str(path))
        data.read()
        found: dict[str, dict[int, list[str]]] = {}
        for name in data.measured_files():
            for folder in ("tinynet", "examples"):
                _, here, rest = name.rpartition(f"/{folder}/")
                if here:
                    found[f"{folder}/{rest}"] = data.contexts_by_lineno(name)
        of_file = defaultdict[str, set[str]](set)
        for lines in found.values():
            for contexts in lines.values():
                for context in contexts:
                    test = context.rpartition("|")[0]
                    of_file[test.partition("::")[0]].add(test)
        self.sizes = Counter[str]()
        self._lines: dict[str, dict[int, set[str]]] = {}
        for file, lines in found.items():
            self._lines[file] = {}
            for line, contexts in lines.items():
                tests = set[str]()
                for test, _, phase in (c.rpartition("|") for c in contexts if c):
                    # What a fixture runs, it may run for every test of its file.
                    tests |= {test} if phase == "run" else of_file[test.partition("::")[0]]
                self.sizes.update(tests)
                self._lines[file][line] = tests

    def tests(self, file: str, changed: str) -> set[str]:
        """The tests that run a changed line of a source file; if none does, those that run the
        statement, function or file around it. Empty: no test runs it by itself (programs do), or
        it runs when its file is imported, and any test may read what it made.
        """
        path = path_of(file).as_posix()
        source = (ROOT / path).read_text()
        lines = self._lines.get(path, {})
        found = set[str]()
        tree = ast.parse(source)
        places = [set(place) for place in _places(tree)]  # inner ones come last
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for line in _changed(source, changed):
            if not any(f.body[0].lineno <= line <= f.end_lineno for f in functions):
                return set()
            for place in [{line}, *(place for place in places[::-1] if line in place)]:
                tests = set().union(*(lines.get(n, ()) for n in place))
                if tests:
                    found |= tests
                    break
        return found


def _changed(source: str, changed: str) -> Iterator[int]:
    """The lines, from 1, that are not as they were; of lines put in, those around them."""
    one, other = source.splitlines(), changed.splitlines()
    for what, begin, end, _, _ in difflib.SequenceMatcher(None, one, other, False).get_opcodes():
        if what != "equal":
            yield from range(begin + 1, end + 1) if end > begin else (max(begin, 1), begin + 1)


def _places(tree: ast.Module) -> Iterator[range]:
    """The lines of every statement, those around it first. A heading (if, for, with) is a place of
    its own, but not that of a function: it runs when its file is imported.
    """
    yield range(1, 1 + max((statement.end_lineno for statement in tree.body), default=0))
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            yield range(first, node.end_lineno + 1)
            body = getattr(node, "body", None)
            if body and not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield range(node.lineno, body[0].lineno)
