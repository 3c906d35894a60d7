"""What a drawing shows, as plain data: nothing of the tape is in it, and nothing of a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tinynet.tracer import Value


@dataclass
class Output:
    """A result of an operation, or a leaf: what is known of it, and the sum of its gradients.

    value: None on a tape that was not traced. gradient: None where none arrives.
    """

    name: str | None
    shape: tuple[int, ...]
    device: str
    value: Value | None = None
    gradient: Value | None = None


@dataclass(eq=False)
class Box:
    """One box of the drawing.

    kind: "operation"; "fold", several of them in one; "leaf"; "parameter", a leaf that a net owns;
    "plain", a tensor that needs no gradient. device: where the operation runs; its outputs may lie
    elsewhere, then it is a copy. modules: (path, class) of those it runs in, the outermost first;
    path: of the innermost one; after: "after" and the module whose parameters were the last on the
    way here, if it has none itself. kept: bytes that it alone keeps for backward; shared: bytes of
    parameters that it keeps. parts: the operations of a fold.
    """

    kind: str
    title: str
    outputs: list[Output]
    device: str
    modules: tuple[tuple[str, str], ...] = ()
    path: str = ""
    after: str = ""
    formula: str = ""
    source: str = ""
    code: str = ""
    options: dict[str, str] = field(default_factory=dict)
    kept: int = 0
    shared: int = 0
    parts: list[Box] = field(default_factory=list)
    step: int = 0

    @property
    def is_copy(self) -> bool:
        return self.kind == "operation" and self.outputs[0].device != self.device

    @property
    def runs(self) -> bool:
        """Whether backward visits it."""
        return self.kind in ("operation", "fold")


@dataclass(eq=False)
class Edge:
    """Output `output` of box `source` is an argument of box `target`.

    gradient: what the target's backward gives for it, None if nothing. before, after: the sum at
    the source when this arrives and once it has been added; before is None for what comes first.
    local: the derivative of the target's result with respect to this argument, if both are small:
    of the argument's shape if arrived times local is the gradient, else the Jacobian matrix, a row
    for each element of the result.
    """

    source: Box
    output: int
    target: Box
    argument: str
    gradient: Value | None = None
    before: Value | None = None
    after: Value | None = None
    local: np.ndarray | None = None
    is_factor: bool = False


@dataclass
class Graph:
    """boxes: each after those it takes from. edges: in the order in which gradients leave along
    them. remarks: lines for the reader. name: of the tensor that is drawn.
    """

    boxes: list[Box]
    edges: list[Edge]
    remarks: list[str]
    name: str | None = None

    def __post_init__(self) -> None:
        for step, box in enumerate(self.steps, 1):
            box.step = step

    @cached_property
    def steps(self) -> list[Box]:
        """The boxes that backward visits, in its order: the newest first."""
        return [box for box in reversed(self.boxes) if box.runs]

    @cached_property
    def into(self) -> dict[Box, list[Edge]]:
        return _by_box((edge.target, edge) for edge in self.edges)

    @cached_property
    def out_of(self) -> dict[Box, list[Edge]]:
        return _by_box((edge.source, edge) for edge in self.edges)

    @cached_property
    def place(self) -> dict[Box, int]:
        """The number of each box."""
        return {box: i for i, box in enumerate(self.boxes)}

    @cached_property
    def inside(self) -> set[Box]:
        """Boxes that are drawn as a line of the operation that uses them: its own parameters and
        buffers, and constants without a name.
        """
        found = set()
        for box, edges in self.out_of.items():
            user, name = edges[0].target, box.outputs[0].name
            its_own = box.kind == "plain" and (not name or name.startswith(f"{user.path}."))
            if box.kind == "parameter" or its_own:
                found.update([box] if all(edge.target is user for edge in edges) else [])
        return found

    @cached_property
    def shown(self) -> list[Box]:
        """The boxes that are drawn as boxes."""
        return [box for box in self.boxes if box not in self.inside]

    @cached_property
    def devices(self) -> list[str]:
        """Names of the devices, sorted."""
        return sorted({output.device for box in self.boxes for output in box.outputs})

    @property
    def kept(self) -> int:
        """Bytes kept for backward, without parameters."""
        return sum(box.kept for box in self.boxes)

    @property
    def shared(self) -> int:
        """Bytes of the parameters among what is kept."""
        return sum(box.shared for box in self.boxes)


def _by_box(pairs: Iterable[tuple[Box, Edge]]) -> dict[Box, list[Edge]]:
    found: dict[Box, list[Edge]] = {}
    for box, edge in pairs:
        found.setdefault(box, []).append(edge)
    return found


def counted(boxes: Iterable[Box]) -> str:
    """The titles of boxes with their numbers: "Conv2d, 3 ReLU"."""
    counts = Counter(box.title for box in boxes)
    return ", ".join(f"{n} {title}" if n > 1 else title for title, n in counts.items())
