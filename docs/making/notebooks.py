"""A chapter as a notebook: the same words, and a cell for each piece of a session.

The outputs are those of the chapter, which the tests of the course prove. A test runs each notebook
in a kernel of its own and compares again.
"""

from __future__ import annotations

import ast
import base64
import os
import re
from collections.abc import Iterator
from doctest import DocTestParser
from pathlib import Path
from typing import Any

from making.widgets import REQUEST, WIDGETS

SESSION = re.compile(r"^```pycon\n(.*?)^```\n", re.S | re.M)
COMMENT = re.compile(r" ?<!--.*?-->", re.S)
ORDINAL = re.compile(r"^(\d+) ?<!--((?!-->).)*-->(?=[.)])", re.S | re.M)
BESIDE = re.compile(REQUEST.pattern + r"\n+(?=!\[)")  # a picture follows, which says the same
IMAGE = re.compile(r"!\[([^]]*)\]\(([^)\s]+\.svg)\)")
LINK = re.compile(r"(?<!!)\[([^]]*)\]\((?!https?:)[^)\s]*\)")


def is_chapter(page: Path) -> bool:
    return page.parent.name == "learn" and bool(re.match(r"(\d\d-.*|capstone)\.md$", page.name))


def without_comments(text: str) -> str:
    """The Markdown that a reader sees. A number that begins a line, and lost the comment between it
    and its full stop, must not become the first of a list.
    """
    return COMMENT.sub("", ORDINAL.sub(r"\1\\", text))


def notebook(page: Path) -> dict[str, Any]:
    """The chapter in Jupyter's format, version 4.5."""
    cells = list(_cells(page))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": python}, "cells": cells}


def _cells(page: Path) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(SESSION.split(page.read_text(encoding="utf-8"))):
        if number % 2:
            yield from _session(part)
        elif part.strip():
            yield _words(part, page)


def _session(text: str) -> Iterator[dict[str, Any]]:
    """A cell ends where something is printed."""
    source = ""
    for example in DocTestParser().get_examples(text):
        if example.want:
            yield _code(source + _shown(example.source), example.want)
            source = ""
        else:
            source += example.source
    if source:
        yield _code(source, "")


def _shown(source: str) -> str:
    """A session shows a value inside `with` as well; a cell does only if it is told to."""
    last = ast.parse(source).body[-1]
    if not isinstance(last, ast.With):
        return source
    inner = last.body[-1]
    words = ast.get_source_segment(source, inner) or ""
    if not isinstance(inner, ast.Expr) or words.startswith("print("):
        return source
    before, _, after = source.rpartition(words)
    return f"{before}display({words}){after}"


def _code(source: str, want: str) -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cell["source"] = source.rstrip("\n")
    if want:
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": want}]
    if want.startswith("Traceback"):
        cell["metadata"] = {"tags": ["raises-exception"]}  # a run goes on after it
    return cell


def _words(text: str, page: Path) -> dict[str, Any]:
    """A cell of Markdown, with its pictures in it. Links lead to pages that are not beside a
    notebook: their words stay.
    """
    pictures: dict[str, str] = {}

    def attached(name: str, words: str, svg: str) -> str:
        pictures[name] = svg
        return f"![{words}](attachment:{name})"

    def widget(asked: re.Match[str]) -> str:
        return attached(f"{asked[1]}.svg", f"{asked[1]}, the last step", WIDGETS[asked[1]]().svg())

    def image(found: re.Match[str]) -> str:
        file = Path(os.path.normpath(page.parent / found[2]))
        return attached(file.name, found[1], file.read_text(encoding="utf-8"))

    text = IMAGE.sub(image, BESIDE.sub("", text))
    text = REQUEST.sub(widget, text)
    text = LINK.sub(r"\1", without_comments(text))
    cell: dict[str, Any] = {"cell_type": "markdown", "metadata": {}, "source": text.strip()}
    if pictures:
        cell["attachments"] = {
            name: {"image/svg+xml": base64.b64encode(svg.encode()).decode()}
            for name, svg in pictures.items()
        }
    return cell
