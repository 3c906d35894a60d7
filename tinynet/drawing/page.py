"""A Graph -> HTML that steps backward through it, one operation at a time.

Everything is in the HTML: the picture, a section of text for each step, the style, the script
(steps.js). The script only shows and hides. Without it, all is as after the last step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from tinynet.drawing import text
from tinynet.drawing.graph import Box, Edge, Graph, counted
from tinynet.drawing.lines import summary
from tinynet.drawing.style import COLOURS, page_style, script
from tinynet.drawing.svg import svg

CONTROLS = (
    ("first", "\u21e4", "before the first step"),
    ("back", "\u2190", "one step back (left arrow key)"),
    ("on", "\u2192", "one step on (right arrow key)"),
    ("last", "\u21e5", "after the last step"),
)
MOST = 24  # arguments whose gradients are listed
WHOLE = """.tinynet-drawing { height: 100vh !important; max-height: none; border: 0 }
body { margin: 0 }"""


def page(graph: Graph, title: str) -> str:
    """A whole page, which takes the arrow keys and #step=k."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><meta name="color-scheme" content="light dark">\n'
        f"{fragment(graph, whole=True)}<style>{WHOLE}</style></html>\n"
    )


def fragment(graph: Graph, whole: bool = False) -> str:
    """The drawing for a page or a notebook: a <figure>. whole: it is all of its page."""
    last = len(graph.steps)
    sections = [_start(graph), *(_section(box, graph, box.step == last) for box in graph.steps)]
    buttons = "".join(
        f'<button type="button" class="{name}" title="{words}" aria-label="{words}">{sign}</button>'
        for name, sign, words in CONTROLS
    )
    keys = "".join(
        f'<span class="key"><i style="background: var(--d{i % COLOURS})"></i>{escape(name)}</span>'
        for i, name in enumerate(graph.devices)
    )
    return (
        # data-lm-...: JupyterLab leaves the keys to what has the focus
        f'<figure class="tinynet-drawing" tabindex="0" data-lm-suppress-shortcuts="true" '
        f'data-steps="{last}"{" data-page" * whole}>'
        f"<style>{page_style()}</style>\n"
        f'<header><p class="controls" hidden>{buttons}'
        f'<input type="range" min="0" aria-label="step of backward"><span class="count"></span></p>'
        f'{keys}<span class="faint">{escape(summary(graph))}</span></header>\n'
        f'<div class="scroll">{svg(graph, alone=False)}</div>\n'
        f'<aside aria-live="polite">{"".join(sections)}</aside>\n'
        f"<script>\n{script()}</script></figure>\n"
    )


def _start(graph: Graph) -> str:
    """Step 0."""
    lines = [
        "<h3>Forward is done</h3>",
        f"<p>The gradient of {escape(graph.name or 'the result')} with respect to itself is 1. "
        "Press \u2192 or the right arrow key: backward visits the newest operation first.</p>",
        *(f"<p>{_with_code(remark)}</p>" for remark in graph.remarks),
        f'<p class="faint">Beside an arrow: {_code("value", "the value")} that ran down it, and '
        f"{_code('grad', 'the gradient')} that runs up it. \u2016x\u2016 is the norm of x, "
        "the root of its sum of squares.</p>",
    ]
    return f'<section class="hidden" data-from="0" data-to="1">{"".join(lines)}</section>\n'


def _section(box: Box, graph: Graph, last: bool) -> str:
    hidden = ' class="hidden"' * (not last)
    lines = "".join(f"<p>{line}</p>" for line in _lines(box, graph))
    place = ", ".join(filter(None, (box.path, box.after)))
    title = f"{box.title} {place}".strip()
    return (
        f'<section{hidden} data-from="{box.step}" data-to="{box.step + 1}">'
        f"<h3>{escape(title)}</h3>{lines}</section>\n"
    )


def _lines(box: Box, graph: Graph) -> Iterator[str]:
    """What is told of a step."""
    if box.source:
        yield f'<span class="faint">{escape(box.source)}</span> {_code("", box.code)}'
    if box.formula:
        yield "<br>".join(_code("", part) for part in re.split(r"\s{2,}", box.formula))
    where = f"copies from {box.device} to {box.outputs[0].device}" if box.is_copy else box.device
    yield f'<span class="faint">on</span> {escape(where)}'
    if box.options:
        options = (f"{name}={value}" for name, value in box.options.items())
        yield f'<span class="faint">options</span> {_code("", ", ".join(options))}'
    if box.parts:
        yield f'<span class="faint">holds</span> {escape(counted(box.parts))}'
    for output in box.outputs:
        name = escape(output.name or "result")
        if output.value:
            yield f"{name} {_code('value', text.full(output.value))}"
        else:
            yield f"{name} has shape {_code('value', text.shape(output.shape))}"
        if output.gradient:
            yield f"arrives: {_code('grad', text.full(output.gradient))}"
    edges = graph.into.get(box, [])
    for edge in edges[:MOST]:
        yield from _given(edge, box)
    if len(edges) > MOST:
        yield f"and to {len(edges) - MOST:,} more"
    yield from _memory(box)


def _given(edge: Edge, box: Box) -> Iterator[str]:
    """What backward gives for one argument."""
    source = edge.source
    name = source.outputs[edge.output].name or (source.title if source.runs else edge.argument)
    if edge.gradient is None:
        value = source.outputs[edge.output].value
        if not source.runs and value:
            yield f"{escape(name)} {_code('value', text.full(value))} needs no gradient"
        return
    left = ""
    if edge.local is not None and edge.is_factor:
        arrived = box.outputs[0].gradient
        left = f"{text.full(arrived)} \u00d7 {text.array(edge.local)} = " if arrived else ""
    elif edge.local is not None:
        yield f"J of {escape(name)}, a row for each element of the result: " + _code(
            "", text.array(edge.local)
        )
        left = "dy J = "
    yield f"to <b>{escape(name)}</b>: {_code('', left)}{_code('grad', text.full(edge.gradient))}"
    if edge.before and edge.after:
        total = text.full(edge.after)
        if text.is_known(edge.after):
            total = f"{text.full(edge.before)} + {text.full(edge.gradient)} = {total}"
        yield (
            f'<span class="plus">+= {_code("grad", total)}</span> the gradients of {escape(name)} '
            "meet, and are added"
        )


def _memory(box: Box) -> Iterator[str]:
    kept = [text.size(box.kept)] if box.kept else []
    if box.shared:
        kept.append(f"{text.size(box.shared)} of parameters, which are there anyway")
    yield '<span class="faint">kept for backward:</span> ' + (
        " and ".join(kept) or "nothing that was not kept already"
    )


def _with_code(words: str) -> str:
    """What stands between backticks, as code."""
    return re.sub("`(.*?)`", r"<code>\1</code>", escape(words))


def _code(kind: str, words: str) -> str:
    colour = f' class="{kind}"' if kind else ""
    return words and f"<code{colour}>{escape(words)}</code>"
