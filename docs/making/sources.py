"""Links from pages to files of the repository, and the pages that these links open.

A page links a file as a reader of the repository needs it: `../tinynet/tape.py#L12`. On the site
that is `source/tinynet/tape.py.html#L12`, a page with the file's text and an anchor a line. Every
file of tinynet/ and examples/ has one, and so has every other file that some page links.

`<!-- the text of ../README.md -->`, alone on a page, stands for that text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import CudaLexer, TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROOMS = ("tinynet", "examples")
ENDINGS = (".py", ".cu", ".cuh", ".css", ".js")
SCHEME = "repository:"  # of a link to a file that is no page, until the builder knows where it is
WHOLE = re.compile(r"\s*<!-- the text of (\S+) -->\s*")
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?")


def source_page(path: str) -> str:
    """The name of the page that shows a file, "tinynet/tape.py"."""
    return f"source/{path}"


def _read(app: Sphinx, docname: str, text: list[str]) -> None:
    """Links that leave docs/ get another target, before the page is parsed."""
    page = DOCS / f"{docname}.md"
    origin = page
    if whole := WHOLE.fullmatch(text[0]):
        origin = page.parent / whole[1]
        text[0] = origin.read_text(encoding="utf-8")
        app.env.note_dependency(str(origin))
    shown = _shown_elsewhere()

    def target(link: re.Match[str]) -> str:
        start, path, line = link[1], link[2], link[3] or ""
        file = Path(os.path.normpath(origin.parent / path))
        file = shown.get(file, file)
        if file.is_relative_to(DOCS):
            return f"{start}{os.path.relpath(file, page.parent)}{line}"
        if file.is_file() and file.is_relative_to(ROOT):
            return f"{start}{SCHEME}{file.relative_to(ROOT)}{line}"
        return link[0]  # MyST says that there is no such file

    text[0] = LINK.sub(target, text[0])


def _shown_elsewhere() -> dict[Path, Path]:
    """File -> the page that stands for it."""
    found = {}
    for page in DOCS.glob("*.md"):
        if whole := WHOLE.fullmatch(page.read_text(encoding="utf-8")):
            found[Path(os.path.normpath(page.parent / whole[1]))] = page
    return found


def _resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for link in doctree.findall(nodes.reference):
        uri = link.get("refuri", "")
        if uri.startswith(SCHEME):
            path, _, line = uri.removeprefix(SCHEME).partition("#")
            app.env.linked_files.add(path)  # type: ignore[attr-defined]
            link["refuri"] = app.builder.get_relative_uri(docname, source_page(path))
            link["refuri"] += f"#{line}" if line else ""
            link["internal"] = True


def _pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    rooms = (file for room in ROOMS for file in (ROOT / room).rglob("*"))
    files = {str(file.relative_to(ROOT)) for file in rooms if file.suffix in ENDINGS}
    for path in sorted(files | app.env.linked_files):  # type: ignore[attr-defined]
        body = f"<h1>{path}</h1>{listing(path, (ROOT / path).read_text(encoding='utf-8'))}"
        yield source_page(path), {"title": path, "body": body}, "page.html"


def listing(path: str, text: str) -> str:
    """HTML of a file's text, in which line 12 has the id L12."""
    try:
        lexer = CudaLexer() if path.endswith(".cuh") else get_lexer_for_filename(path)
    except ClassNotFound:
        lexer = TextLexer()
    style = HtmlFormatter(
        linenos="inline", linespans="L", anchorlinenos=True, cssclass="highlight source"
    )
    return re.sub(r'"(#?)L-(\d+)"', r'"\1L\2"', highlight(text, lexer, style))


def _start(app: Sphinx) -> None:
    app.env.linked_files = set()  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _start)
    app.connect("source-read", _read)
    app.connect("doctree-resolved", _resolve)
    app.connect("html-collect-pages", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
