"""tinynet.draw: a tape as a picture, and as a page that steps backward along it.

with tinynet.tracing(net):
    loss = F.cross_entropy(net(x), labels)
tinynet.draw(loss).save("tape.html")

reading.py makes a Graph, plain data, of the tape; folding.py makes large graphs small; lines.py
says what stands in the boxes, layout.py where they lie; svg.py and page.py write.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

from tinynet.drawing.folding import FOLDED, fold
from tinynet.drawing.graph import Graph
from tinynet.drawing.lines import summary
from tinynet.drawing.page import fragment, page
from tinynet.drawing.reading import nodes_of, read
from tinynet.drawing.svg import svg
from tinynet.nn.module import Module
from tinynet.tensors import Tensor

MOST = 3000  # boxes of a picture

__all__ = ["Drawing", "draw"]


class Drawing:
    """The drawing of a tape. In a notebook it shows by itself."""

    def __init__(self, graph: Graph, title: str):
        self.graph, self.title = graph, title

    def save(self, path: str | Path) -> Path:
        """Write "x.svg", the picture after backward, or "x.html", the page that steps; returns the
        path. ValueError for another ending.
        """
        path = Path(path)
        if path.suffix == ".svg":
            content = svg(self.graph) + "\n"
        elif path.suffix == ".html":
            content = page(self.graph, self.title)
        else:
            raise ValueError(f"draw: expected a path that ends in .svg or .html, got {str(path)!r}")
        path.write_text(content, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return fragment(self.graph)

    def __repr__(self) -> str:
        return f"Drawing({summary(self.graph)}; .save('tape.html') writes it)"


def draw(
    loss: Tensor,
    net: Module | None = None,
    names: Mapping[str, Tensor] | None = None,
    group: str | int = "auto",
) -> Drawing:
    """The tape behind a tensor, drawn: every value and every gradient, step by step.

    net: gives its parameters their names, if the forward was not traced with it. names: more names,
    name -> tensor; else the variables of the function that calls. group: "auto" folds a tape of
    more than 300 boxes, by module, then by repetition; "none" folds nothing; a number is a depth:
    1 makes one box of each module that is called first, 2 of each that those call.

    The tape remains, no `.grad` changes, and `loss.backward()` gives the same bits afterwards. A
    tape of a forward that ran inside `tinynet.tracing` shows more. For a tensor with several
    elements, the gradients are those of their sum. Raises RuntimeError if there is no tape, or if
    it was freed by backward; ValueError if there are more than 3,000 boxes.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"draw: expected a Tensor, got {type(loss).__name__}")
    if group not in ("auto", "none") and not (type(group) is int and group > 0):
        raise ValueError(f'draw: expected group to be "auto", "none" or 1, 2, ..., got {group!r}')
    if net is not None and not isinstance(net, Module):
        raise TypeError(f"draw: expected net to be a Module, got {type(net).__name__}")
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(
            f"draw: expected names to be a dict, name -> tensor, got {type(names).__name__}"
        )
    nodes = nodes_of(loss)
    if group == "none":
        _refuse(len(nodes), group)
    frame = inspect.currentframe()
    others = frame.f_back.f_locals if frame and frame.f_back else {}
    graph = fold(read(loss, nodes, names or {}, net, others), group)
    _refuse(len(graph.shown), group)
    return Drawing(graph, f"the tape of {graph.name}" if graph.name else "a tape")


def _refuse(boxes: int, group: str | int) -> None:
    if boxes > MOST:
        less = f' or group="auto", which folds what has more than {FOLDED} boxes,' * (
            group != "auto"
        )
        raise ValueError(
            f"draw: expected at most {MOST:,} boxes, got {boxes:,}; draw a part: give a "
            f"tensor from the middle instead of the loss (all before it is drawn),{less} or begin "
            f"the tape later, with .detach()"
        )
