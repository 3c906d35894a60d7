"""What chapters ask for: widgets and still pictures in the page, and a notebook of each chapter.

`<!-- widget: NAME -->` becomes the widget; a picture right after it is for those who read the file,
and is left out. Our other pictures become part of the page, so that they follow its theme: an <img>
would follow the system's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from making.notebooks import ORDINAL, is_chapter, notebook
from making.widgets import REQUEST, WIDGETS
from sphinx.application import Sphinx
from sphinx.util import logging

from tinynet.drawing.style import themed

CHECK = re.compile(r" ?<!-- check: .*?-->", re.S)
OURS = re.compile(r'<svg [^>]*class="(tinynet-picture|tape)"')
log = logging.getLogger(__name__)


def _source(app: Sphinx, docname: str, text: list[str]) -> None:
    """Without the checks: a space before one would stand between a number and its full stop."""
    text[0] = CHECK.sub("", ORDINAL.sub(r"\1\\", text[0]))


def _read(app: Sphinx, doctree: nodes.document) -> None:
    for node in [*doctree.findall(nodes.comment), *doctree.findall(nodes.raw)]:
        if asked := REQUEST.fullmatch((node.rawsource or node.astext()).strip()):
            after = node.next_node(descend=False, siblings=True)
            if after and isinstance(after, nodes.paragraph) and _is_picture(after):
                after.parent.remove(after)
            node.replace_self(_widget(asked[1], node))
    for image in [*doctree.findall(nodes.image)]:
        file = Path(app.srcdir, image["uri"])
        if file.suffix == ".svg" and (ours := OURS.search(text := file.read_text("utf-8"))):
            style = themed(f".{ours[1]}")  # as a file it follows the system alone
            image.replace_self(
                _html(f'<div class="tinynet-figure">{text}<style>{style}</style></div>')
            )
    docname = app.env.docname
    if is_chapter(Path(app.env.doc2path(docname))):
        name = f"{Path(docname).name}.ipynb"
        link = f'<p><a href="{name}" download>This chapter as a notebook</a></p>'
        next(doctree.findall(nodes.section)).append(_html(link))


def _is_picture(paragraph: nodes.paragraph) -> bool:
    return len(paragraph) == 1 and isinstance(paragraph[0], nodes.image)


def _widget(name: str, node: nodes.Node) -> nodes.Node:
    if name not in WIDGETS:
        log.warning("widget: expected one of %s, got %r", sorted(WIDGETS), name, location=node)
        return nodes.comment()
    return _html(WIDGETS[name]().html())


def _html(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


def _write(app: Sphinx, error: Exception | None) -> None:
    for docname in app.env.found_docs:
        page = Path(app.env.doc2path(docname))
        if error is None and is_chapter(page):
            made = json.dumps(notebook(page), indent=1)
            Path(app.outdir, f"{docname}.ipynb").write_text(made, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _source)
    app.connect("doctree-read", _read)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
