"""Fully connected layers exchange factors: what their gradient is made of, instead of the gradient.

    dw = dy^T x    (O, I) = (O, M) @ (M, I), M the rows of the whole batch

A rank has only its own rows of x and dy. The sum of dw over ranks moves 8 (K-1)/K I O bytes from
each of K ranks (float32, by a ring). Gathering x and dy moves 4 (K-1) M/K (I + O), and each rank
then computes dw of all rows. That is less where M (I + O) < 2 I O: for AlexNet's fc6 up to some
5,600 pictures in a batch, however many ranks there are. It costs arithmetic, M/K rows become M. So
it is for slow links: benchmarks/weird_trick.py draws where it wins over the schemes of the paper.

Sources: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
section 4, whose schemes divide the neurons of these layers; Xie et al., "Distributed machine
learning via sufficient factor broadcasting", 2014, which leaves them whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinynet.devices import Device
from tinynet.functional.affine import Linear
from tinynet.tape import Node
from tinynet.tensors import Tensor


class Factors:
    """The layers of a net that exchange factors, chosen at the first step."""

    def __init__(self) -> None:
        self.weights: set[Tensor] | None = None
        self.nodes: dict[Node, Tensor] = {}  # of this step
        self.under_way: dict[Tensor, list[tuple[Any, Any]]] = {}  # (request, array) of x, dy

    def prepare(self, nodes: Iterable[Node], counts: Sequence[int], rank: int) -> None:
        """Before backward: find these layers among the nodes, and let them not compute their own
        dw. counts: examples of each rank.
        """
        gain = layers_that_gain(nodes, counts[rank], sum(counts))
        if self.weights is None:
            self.weights = set(gain.values())
        self.nodes = {node: weight for node, weight in gain.items() if weight in self.weights}
        for node in self.nodes:
            of_x, _, of_bias, *others = node.needs_input_grad
            node.needs_input_grad = (of_x, False, of_bias, *others)
        self.most, self.count = max(counts), counts[rank]

    def visit(self, node: Node, dy: Any, begin: Callable[[Any, Device], tuple[Any, Any]]) -> None:
        """Begin to gather x and dy of a layer from all ranks. Each sends as many rows as the one
        with the most examples; rows of zeros add nothing to dw.
        """
        x, weight, y = node.saved
        device, (O, I) = node.device, weight.shape
        rows, parts = x.size // I, []
        with device.activate("factors", (x, dy)):
            if y is not None:
                dy = device.kernels.relu_backward(dy, y)
            for array, width in ((x, I), (dy, O)):
                padded = device.xp.zeros((rows // self.count * self.most, width), array.dtype)
                padded[:rows] = array.reshape(rows, width)
                parts.append(begin(padded, device))
        self.under_way[self.nodes[node]] = parts

    def hand_out(self) -> None:
        """Let each weight's gradient be dw of all rows, when they are there."""
        for weight in self.weights or ():
            if weight not in self.under_way:
                raise RuntimeError(
                    "backward: expected each layer that exchanges factors to be used once, as in "
                    "the first step, got another graph; exchange gradients"
                )
            parts, device = self.under_way.pop(weight), weight.device
            for request, _ in parts:
                request.Wait()
            (_, x), (_, dy) = parts
            with device.activate("factors", (x, dy)):
                needs = (False, True, False)
                _, dw, _ = device.kernels.linear_backward(dy, x, weight.data, needs, None)
                weight.grad = Tensor(dw, device)


def layers_that_gain(nodes: Iterable[Node], count: int, total: int) -> dict[Node, Tensor]:
    """The fully connected layers whose factors are fewer bytes than their gradients, and their
    weights, each used once. count: examples of this rank; total: of all.
    """
    nodes = [node for node in nodes if node.inputs]
    uses = Counter(source for node in nodes for source in node.inputs if isinstance(source, Tensor))
    found = {}
    for node in nodes:
        weight = node.inputs[1] if node.function is Linear else None
        if not isinstance(weight, Tensor) or uses[weight] > 1:
            continue
        O, I = weight.shape
        rows, rest = divmod(node.saved[0].size // I, count)  # for each example
        if not rest and total * rows * (I + O) < 2 * I * O:
            found[node] = weight
    return found
