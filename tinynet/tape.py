"""The tape: what operations leave behind, and the walk back along it that sends gradients.

Every operation (a Function, see function.py) on tensors that require a gradient adds a Node. A node
knows what backward needs, and the nodes its inputs came from. `walk` visits the nodes from the
newest to the oldest: a node is always younger than those it was made from, so when its turn comes
all of its gradient has arrived. `backward` (tensors.py) is such a walk that keeps the gradients of
the leaves.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
from collections.abc import Iterator
from typing import Any

from tinynet.devices import Device
from tinynet.kernels.order import add, along_memory

clock = itertools.count()  # numbers the nodes


class Node:
    """One operation on the tape. Function makes them, as Contexts: nodes that also hold what
    forward left for backward.

    inputs: for each argument (its Node, which output), the Tensor if it is a leaf, or None; no list
    when freed. outputs: for each its (shape, dtype). output_device: Copy alone sets another.
    number: by age. note: what tracing recorded. are_tensors: of each argument.
    """

    __slots__ = (
        "are_tensors", "device", "function", "inputs", "needs_input_grad", "note", "number",
        "output_device", "outputs",
    )  # fmt: skip
    are_tensors: list[bool]
    number: int
    outputs: list[tuple[tuple[int, ...], Any]]
    saved: tuple[Any, ...]

    def __init__(self, function: Any, device: Device, needs_input_grad: tuple[bool, ...]):
        self.function, self.needs_input_grad = function, needs_input_grad
        self.device = self.output_device = device
        self.inputs: Any = None
        self.note: Any = None

    def free(self) -> None:
        """Drop everything that backward needs."""
        self.inputs = None


def walk(y: Any, grad: Any = None, retain_graph: bool = True) -> Iterator[tuple[Node, list, list]]:
    """Visit the tape behind tensor y, newest node first: yields (node, arrived, leaving).

    arrived: the gradient of each output of the node, zeros where none came; leaving: of each
    argument, None where there is none. They are plain arrays, shared with others: do not change
    them. `.grad` is left alone.
    grad: the gradient of y, an array of its shape; ones if left out. A node is freed when the walk
    goes on from it, unless retain_graph. No recursion: a chain may have any length.
    RuntimeError if y requires no gradient, if a node is freed already, or if an array that backward
    needs has been changed.
    """
    if not y.requires_grad:
        raise RuntimeError(
            "backward(): this tensor requires no gradient; none of the tensors it was computed "
            "from has requires_grad=True, or it was computed under no_grad, or from a gradient: "
            "there are no second derivatives, since backward works on plain arrays"
        )
    if y.node is None:
        return
    if grad is None:
        with y.device.activate("backward"):
            grad = y.device.xp.ones(y.shape, y.dtype)
    root, output = y.node
    # For each node to be visited and each of its outputs, the gradients in the order they came.
    # They are added at the visit, not before: a sum makes its device wait for the copies that are
    # under way to it, and so the next copy from it. Two towers would swap one after the other.
    pending: dict[Node, list] = {root: [None] * len(root.outputs)}
    pending[root][output] = [grad]
    del grad
    queue = [(-root.number, root)]
    while queue:
        node = heapq.heappop(queue)[1]
        if node.inputs is None:
            raise RuntimeError(
                f"backward(): the graph behind {node.function.__name__} was freed by an earlier "
                f"backward; call that one with retain_graph=True, or compute forward again"
            )
        arrived = pending.pop(node)
        for i, parts in enumerate(arrived):
            arrived[i] = add_up(parts, node.output_device) if parts else _zeros(node, i)
        leaving = node.function.run_backward(node, arrived)
        _hand_on(node, leaving, pending, queue)
        yield node, arrived, leaving
        if not retain_graph:
            node.free()
        del arrived, leaving  # the last references: this memory can be used again at once


def _hand_on(node: Node, leaving: list, pending: dict[Node, list], queue: list) -> None:
    """Lay the gradients that leave a node down at the nodes they go to."""
    for source, g in zip(node.inputs, leaving, strict=True):
        if g is None or type(source) is not tuple:
            continue
        source, output = source
        waiting = pending.get(source)
        if waiting is None:
            waiting = pending[source] = [None] * len(source.outputs)
            heapq.heappush(queue, (-source.number, source))
        if waiting[output] is None:
            waiting[output] = [g]
            continue
        waiting[output].append(g)
        if source.output_device is not source.device:
            # Into a copy: added at once, so that the copy waits for none that goes the other way.
            waiting[output] = [add_up(waiting[output], source.output_device)]


def _zeros(node: Node, output: int) -> Any:
    with node.output_device.activate("backward"):
        return node.output_device.xp.zeros(*node.outputs[output])


def add_up(parts: list, device: Device) -> Any:
    """The sum, in the order of the list: a new array. A single part is itself, no copy."""
    if len(parts) == 1:
        return parts[0]
    return functools.reduce(functools.partial(add, device), parts)


def gather(leaves: dict, node: Node, arrived: list, leaving: list) -> None:
    """Add what a visit brought to the leaves to `leaves`: leaf -> an array that is its own."""
    for leaf, g in zip(node.inputs, leaving, strict=True):
        if g is None or type(leaf) is tuple:
            continue
        before = leaves.get(leaf)
        if before is not None:
            leaves[leaf] = add(leaf.device, before, g)
        elif not _shares_memory(node, g, arrived):
            leaves[leaf] = g
        else:
            with leaf.device.activate("backward"):
                leaves[leaf] = along_memory(leaf.device, operator.methodcaller("copy"), g)


def _shares_memory(node: Node, g: Any, arrived: list) -> bool:
    """Whether g, which leaves, lies in the memory of a gradient that arrived. It lies in no other:
    backward gives no array that is kept, and what it gives twice is what arrived.
    """
    if g.base is None:  # no view: it is one of them, or lies in none
        return any(g is other for other in arrived)
    xp = node.device.xp  # those of a copy arrive on another device
    return any(isinstance(o, xp.ndarray) and bool(xp.may_share_memory(g, o)) for o in arrived)
