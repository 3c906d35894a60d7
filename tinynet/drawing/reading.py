"""A tape -> a Graph. This file alone knows nodes.

It walks the tape as backward does, but nothing is freed and no `.grad` is touched; of each array
it keeps a summary. Gradients are added in backward's order: the numbers are backward's, bit for
bit.
"""

from __future__ import annotations

import linecache
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.drawing.graph import Box, Edge, Graph, Output
from tinynet.drawing.text import listed
from tinynet.nn.module import Parameter
from tinynet.tape import Node, add_up, walk
from tinynet.tensors import Tensor
from tinynet.tracer import SHOWN, Value, argument_names


def nodes_of(loss: Tensor) -> list[Node]:
    """All nodes behind a tensor, the oldest first. RuntimeError if there are none, or no more."""
    if loss.node is None:
        raise RuntimeError(
            "draw: expected the result of operations on tensors with requires_grad=True, got a "
            "tensor without a tape; it is a leaf, or was computed under no_grad"
        )
    found = {loss.node[0]}
    waiting = [loss.node[0]]
    while waiting:
        node = waiting.pop()
        if node.inputs is None:
            raise RuntimeError(
                f"draw: the graph behind {node.function.__name__} was freed by an earlier "
                f"backward; draw before backward, or call backward(retain_graph=True)"
            )
        new = {source[0] for source in node.inputs if type(source) is tuple} - found
        found |= new
        waiting += new
    return sorted(found, key=lambda node: node.number)


def read(
    loss: Tensor, nodes: list[Node], names: Mapping[str, Tensor], net: Any, others: Mapping
) -> Graph:
    """The graph of a tape.

    nodes: `nodes_of(loss)`. names: name -> tensor; they come first. net: its parameters have their
    paths for names. others: variables of the caller, for tensors that have no other name.
    """
    reader = _Reader(nodes, names, net, others)
    for node in nodes:
        reader.add(node)
    root = reader.boxes[loss.node[0]].outputs[loss.node[1]]  # type: ignore[index]
    root.value = root.value or Value.of(loss.data, loss.device)
    edges = reader.follow(loss)
    return Graph(reader.in_order, edges, reader.remarks(loss), root.name)


class _Reader:
    def __init__(self, nodes: list[Node], names: Mapping[str, Tensor], net: Any, others: Mapping):
        self.in_order: list[Box] = []
        self.boxes: dict[Any, Box] = {}  # of a node, a leaf, the id of a Value
        self.edges: dict[tuple[Node, int], Edge] = {}  # by node and number of the argument
        own = () if net is None else net.named_parameters()
        self.first = _by_place((*names.items(), *own))
        # a notebook's own names, as _ and _12, say nothing
        self.last = _by_place(item for item in others.items() if not item[0].startswith("_"))
        self.nodes = nodes
        self.uses = Counter(
            source for node in nodes for source in node.inputs or () if source is not None
        )
        self.owned: set[int] = set()  # memory of parameters
        for source in self.uses:
            if isinstance(source, Parameter):
                self.owned.add(id(_owner(source.data)))
        self.seen: dict[int, int] = {}  # memory kept so far -> bytes of it

    def add(self, node: Any) -> None:
        """The box of a node, its leaves before it, and the edges to it."""
        note = node.note
        box = Box("operation", node.function.__name__, [], str(node.device))
        box.formula = _first_line(node.function)
        for i, (shape, _) in enumerate(node.outputs):
            value = note.outputs[i] if note else None
            name = self._name((node, i), value)
            box.outputs.append(Output(name, shape, str(node.output_device), value))
        edges: list[Edge] = []
        arguments = argument_names(node.function, len(node.inputs or ()))
        for i, source in enumerate(node.inputs or ()):
            seen = note.inputs[i] if note else None
            if isinstance(source, tuple):
                origin, output = self.boxes[source[0]], source[1]
            elif source is not None or seen is not None:
                origin, output = self._leaf(source, seen), 0
            else:
                continue
            edges.append(Edge(origin, output, box, arguments[i]))
            self.edges[node, i] = edges[-1]
        if note:
            box.modules = note.modules
            box.path = note.modules[-1][0] if note.modules else ""
            box.source = f"{Path(note.file).name}:{note.line}"
            box.code = linecache.getline(note.file, note.line).strip()
            box.options = {name: listed(option) for name, option in note.options.items()}
        for array in node.saved:
            self._count(box, array)
        own = any(edge.source.kind == "parameter" for edge in edges)
        before = [source[0] for source in node.inputs if type(source) is tuple]
        if before and not own:
            newest = self.boxes[max(before, key=lambda other: other.number)]
            box.after = newest.after or (newest.path and f"after {newest.path}")
        self.boxes[node] = box
        self.in_order.append(box)

    def _leaf(self, tensor: Tensor | None, seen: Value | None) -> Box:
        key = id(seen) if tensor is None else tensor
        if key not in self.boxes:
            kind = "plain" if tensor is None else "leaf"
            if isinstance(tensor, Parameter):
                kind = "parameter"
            value = seen or Value.of(tensor.data, tensor.device)  # type: ignore[union-attr]
            name = self._name(tensor, value)
            output = Output(name, value.shape, str(value.device), value)
            self.boxes[key] = Box(kind, name or kind, [output], str(value.device))
            self.in_order.append(self.boxes[key])
        return self.boxes[key]

    def _name(self, place: Any, value: Value | None) -> str | None:
        return self.first.get(place) or (value and value.name) or self.last.get(place)

    def _count(self, box: Box, array: Any) -> None:
        """Add the bytes of an array that backward needs, unless they have been counted."""
        if not hasattr(array, "nbytes"):
            return
        owner = id(_owner(array))
        new = max(0, array.nbytes - self.seen.get(owner, 0))
        self.seen[owner] = self.seen.get(owner, 0) + new
        if owner in self.owned:
            box.shared += new
        else:
            box.kept += new

    def follow(self, loss: Tensor) -> list[Edge]:
        """Walk back; give the edges their gradients, and return them in the order of the walk."""
        order: list[Edge] = []
        sums: dict[Any, Any] = {}  # of what is used more than once, while it is being summed
        for node, arrived, leaving in walk(loss):
            box = self.boxes[node]
            for i, output in enumerate(box.outputs):
                # what came from operations in the drawing has been summed up there
                if output.gradient is None and node.outputs[i][1].kind == "f":
                    output.gradient = Value.of(arrived[i], node.output_device)
                sums.pop((node, i), None)
            locals_of = _local(node)
            for i, (source, g) in enumerate(zip(node.inputs or (), leaving, strict=True)):
                edge = self.edges.get((node, i))
                if edge is None:
                    continue
                order.append(edge)
                if g is None:
                    continue
                origin = edge.source.outputs[edge.output]
                edge.gradient = Value.of(g, node.device)
                edge.before = origin.gradient
                edge.after = edge.gradient
                if self.uses[source] > 1:
                    if source in sums:
                        g = add_up([sums[source], g], node.device)
                        edge.after = Value.of(g, node.device)
                    sums[source] = g
                origin.gradient = edge.after
                if i in locals_of:
                    edge.local, edge.is_factor = locals_of[i]
        return order

    def remarks(self, loss: Tensor) -> list[str]:
        lines = []
        if loss.size != 1:
            lines.append("Backward begins with ones: these are the gradients of the tensor's sum.")
        silent = sum(node.note is None for node in self.nodes)
        if silent:
            some = f"{silent:,} of the {len(self.nodes):,} operations were"
            which = "This tape was" if silent == len(self.nodes) else some
            lines.append(
                f"{which} not traced. Run the forward inside `with tinynet.tracing(net):`, and "
                "results have their values, operations their source line, options and module, and "
                "tensors without gradient are drawn as well."
            )
        full = sum(isinstance(leaf, Tensor) and leaf.grad is not None for leaf in self.uses)
        if full:
            lines.append(
                f"{full} of the leaves have a .grad already. backward() adds to it; the gradients "
                f"here begin at zero."
            )
        return lines


def _by_place(named: Iterable[tuple[str, Any]]) -> dict[Any, str]:
    """What a name stands for: a leaf, or (node, number of the output)."""
    places: dict[Any, str] = {}
    for name, tensor in named:
        if isinstance(tensor, Tensor):
            places.setdefault(tensor.node or tensor, str(name))
    return places


def _first_line(function: Any) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _owner(array: Any) -> Any:
    """The array that has the memory in which this one lies: the base of a view is never a view."""
    return array.base if isinstance(array.base, type(array)) else array


def _local(node: Any) -> dict[int, tuple[np.ndarray, bool]]:
    """The local derivatives of a small operation: argument -> (derivative, whether it is a factor).

    Backward sends a unit vector for each element of the result: what comes out is a row of the
    Jacobian, d result[k] / d argument. It is a factor if the gradient that arrives, times it, is
    the gradient that leaves: if the result has one element, or if element k depends on k alone.
    """
    shape, dtype = node.outputs[0]
    sources = [(i, source) for i, source in enumerate(node.inputs) if source is not None]
    shapes = {i: s[0].outputs[s[1]][0] if isinstance(s, tuple) else s.shape for i, s in sources}
    elements = int(np.prod(shape))
    if len(node.outputs) > 1 or not 0 < elements <= SHOWN:
        return {}
    if any(np.prod(of) > SHOWN for of in shapes.values()):
        return {}
    rows: dict[int, list[np.ndarray]] = {i: [] for i in shapes}
    for unit in np.eye(elements, dtype=dtype):
        dy = node.output_device.upload(unit.reshape(shape))
        given = node.function.run_backward(node, [dy])
        for i in rows:
            if given[i] is not None:
                rows[i].append(node.device.download(given[i]).ravel())
    found = {}
    for i, of in shapes.items():
        if len(rows[i]) < elements:
            continue
        jacobian = np.array(rows[i])
        if elements == 1:
            found[i] = jacobian.reshape(of), True
        elif shape == of and not (jacobian - np.diag(np.diag(jacobian))).any():
            found[i] = np.diag(jacobian).reshape(of), True
        elif jacobian.size <= SHOWN:
            found[i] = jacobian, False
    return found
