"""Formulas as MathML, which browsers draw themselves: no script, no font, no network.

Docutils turns LaTeX into it. A formula that it does not know is a warning, so the build fails.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

log = logging.getLogger(__name__)


def mathml(formula: str, block: bool) -> str:
    """LaTeX -> <math>. Raises MathError."""
    if block and r"\begin{align" not in formula and "&" in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    return tex2mathml(re.sub(r"\\dots\b", r"\\ldots", formula), as_block=block)


def _inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_drawn(node, block=False))
    raise nodes.SkipNode


def _block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{_drawn(node, block=True)}</div>')
    raise nodes.SkipNode


def _drawn(node: nodes.Element, block: bool) -> str:
    try:
        return mathml(node.astext(), block)
    except MathError as error:
        log.warning("formula %r: %s", node.astext(), error, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
