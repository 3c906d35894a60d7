"""The reference, made of the docstrings and of the table of operations.

    .. operations::                 every row of the table: name, forward, backward
    .. names:: tinynet.optim        everything public that a module holds

Docstrings are plain text as a reader of the code wants it, with `code` between backticks and
indented formulas. Here they become reStructuredText; what that would take for markup is escaped.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from making import sources
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import tinynet
from tinynet.operations import OPERATIONS, Operation

SPECIAL = re.compile(r"([\\*|_<>])")


def restructured(lines: list[str]) -> Iterator[str]:
    """A docstring's lines as reStructuredText: paragraphs, lists, and indented blocks as code."""
    literal = item = False
    for line in lines:
        indented = line.startswith("  ")
        continued = indented and item
        item = line.startswith("- ") or (continued and not literal)
        if indented and not literal and not continued:
            yield from ("", "::", "")
            literal = True
        elif line and not indented and literal:
            yield ""
            literal = False
        yield f"    {line}" if literal else _escaped(line)
    yield ""


def _escaped(line: str) -> str:
    parts = re.split(r"`([^`]+)`", line)  # every second one is code
    return "".join(
        f"``{part}``" if i % 2 else SPECIAL.sub(r"\\\1", part).replace("`", r"\`")
        for i, part in enumerate(parts)
    )


def public(module: Any) -> list[str]:
    """The names of a module's functions and classes, in the order of its source where it has no
    __all__.
    """
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return [n for n in names if inspect.isroutine(value := getattr(module, n)) or _is_class(value)]


def _is_class(value: Any) -> bool:
    return isinstance(value, type)


class Names(SphinxDirective):
    """Everything public of a module, less what stands elsewhere on the page."""

    required_arguments = 1
    option_spec = {"without": str.split}

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        lines: list[str] = []
        for name in public(module):
            if name not in self.options.get("without", ""):
                kind = "class" if _is_class(getattr(module, name)) else "function"
                lines += [f".. auto{kind}:: {module.__name__}.{name}"]
                lines += ["   :members:"] * (kind == "class") + [""]
        return self.parse_text_to_nodes("\n".join(lines))


class Operations(SphinxDirective):
    """The table of operations."""

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "   :class: operations", ""]
        for cells in (("operation", "forward", "backward"), *map(_row, OPERATIONS.values())):
            lines += [f"   {'-' if i else '* -'} {cell}" for i, cell in enumerate(cells)]
            lines[-len(cells) + 1 :] = ["  " + line for line in lines[-len(cells) + 1 :]]
        return self.parse_text_to_nodes("\n".join(lines))


def _row(row: Operation) -> tuple[str, str, str]:
    forward, _, backward = re.sub(r"\s{2,}", "\n", row.formula).partition("\n")
    none = "" if row.functions else "none: its result has no gradient"
    return f":py:obj:`{row.name} <{place(row)}>`", _code(forward), _code(backward) or none


def place(row: Operation) -> str:
    """The name under which a user finds an operation."""
    if row.name in tinynet.functional.__all__:
        return f"tinynet.functional.{row.name}"
    if row.name in tinynet.__all__:
        return f"tinynet.{row.name}"
    return f"tinynet.Tensor.{row.name}" if hasattr(tinynet.Tensor, row.name) else "tinynet.Tensor"


def _code(formula: str) -> str:
    return f"``{formula}``" if formula else ""


def _docstring(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = restructured(lines)


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where the source of an object is; sources.py makes a link of it."""
    value = importlib.import_module(info["module"])
    try:
        for name in info["fullname"].split("."):
            value = getattr(value, name)
        value = inspect.unwrap(value.fget if isinstance(value, property) else value)
        file = inspect.getsourcefile(value)
        line = inspect.getsourcelines(value)[1]
    except (AttributeError, TypeError, OSError):  # a value that has no source of its own
        return None
    path = Path(file or "")
    if not path.is_relative_to(sources.ROOT):
        return None
    return f"{sources.SCHEME}{path.relative_to(sources.ROOT)}#L{line}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("names", Names)
    app.add_directive("operations", Operations)
    app.connect("autodoc-process-docstring", _docstring)
    app.setup_extension("sphinx.ext.linkcode")
    app.config.linkcode_resolve = linkcode_resolve
    return {"parallel_read_safe": False, "parallel_write_safe": False}
