"""The pages of the course, read by Sybil.

```pycon         a session: `>>>` lines and what they print, which must be so
```py            lines quoted from the file named before, `<!-- from: tinynet/tape.py -->`; `...`
                 stands for lines left out
<!-- check: expression -->       a claim of the prose before it, which must be true at this place
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from doctest import ELLIPSIS
from pathlib import Path

from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.example import SybilFailure
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[2]
LEARN = ROOT / "docs" / "learn"
CHECK = re.compile(r"<!-- check: (.+?) -->", re.S)
QUOTE = re.compile(r"^<!-- from: (\S+) -->\n+```py\n(.*?)^```$", re.M | re.S)
_SESSION = DocTestStringParser(DocTestEvaluator(ELLIPSIS))
_FENCE = CodeBlockParser("pycon", lambda example: None)


def sessions(document: Document) -> Iterator[Region]:
    for fence in _FENCE(document):
        for region in _SESSION(fence.parsed, document.path):
            region.adjust(fence, fence.parsed)
            yield region


def claims(document: Document) -> Iterator[Region]:
    for match in CHECK.finditer(document.text):
        yield Region(*match.span(), " ".join(match[1].split()), _claim)


def quotes(document: Document) -> Iterator[Region]:
    for match in QUOTE.finditer(document.text):
        yield Region(*match.span(), match.groups(), _quoted)


def _claim(example: Example) -> str | None:
    true = eval(example.parsed, example.namespace)
    return None if true else f"not so: {example.parsed}"


def _quoted(example: Example) -> str | None:
    """Each run of quoted lines must stand in the file, in this order; indentation is free."""
    name, text = example.parsed
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    start = 0
    for run in re.split(r"^\s*\.\.\.\n", text, flags=re.M):
        wanted = [line.strip() for line in run.strip().splitlines()]
        places = range(start, len(lines) - len(wanted) + 1)
        found = next((i for i in places if lines[i : i + len(wanted)] == wanted), None)
        if found is None:
            return f"{name} has no such lines (any more):\n{run}"
        start = found + len(wanted)
    return None


SYBIL = Sybil(parsers=[sessions, claims, quotes])


def run(page: Path) -> tuple[int, list[str]]:
    """How many outputs and claims were checked, and what is wrong, with its place."""
    checked, wrong = 0, []
    for example in SYBIL.parse(page).examples():
        try:
            example.evaluate()
        except Exception as error:  # SybilFailure, or whatever a claim raises
            told = error.result if isinstance(error, SybilFailure) else repr(error)
            wrong.append(f"{os.path.relpath(page, ROOT)}:{example.line}: {told}")
        checked += bool(getattr(example.parsed, "want", isinstance(example.parsed, str)))
    return checked, wrong
