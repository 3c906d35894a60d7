"""A net's graph, found by running it: what ran, on what, and which of it depends on the input.

The net runs twice, in eval mode, on two inputs that differ in all values and in the size of the
batch. What is equal in both runs is a part of the net: a kernel's stride, a position's number. A
size that differs is the batch's. An array that differs, and that no recorded operation has made,
was computed from the input behind our back; a file with it as a constant would be wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.devices import find_device
from tinynet.errors import ModelFileError
from tinynet.nn import Module
from tinynet.recording import no_grad
from tinynet.tensors import Tensor, tensor
from tinynet.tracer import Trace, argument_names


@dataclass(eq=False)
class Wire:
    """A tensor of the graph. kind: "input"; "state", a parameter or buffer under its name;
    "constant"; or "made" by an operation. array: on the host, of what was not made.

    shape: as in the first run, None where the second run had another size; both: of both runs.
    """

    kind: str
    name: str
    dtype: np.dtype
    shape: tuple[int | None, ...]
    array: np.ndarray | None = None
    both: tuple[tuple[int | None, ...], ...] = ()


@dataclass(eq=False)
class Varies:
    """An option that the two runs had in different ways."""

    first: Any
    second: Any


class Arguments(dict):
    """Arguments by name; `read`: those that someone has asked for."""

    def __init__(self, given: dict[str, Any]):
        super().__init__(given)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def values(self) -> Any:
        return [self[name] for name in self]

    def items(self) -> Any:
        return [(name, self[name]) for name in self]


@dataclass(eq=False)
class Step:
    """One operation: a Function, or the name of an operation that has no gradient. arguments: by
    the names of forward; Wires, and options as they were given. path: of the module it ran in.
    """

    function: Any
    arguments: Any
    outputs: list[Wire]
    path: str

    @property
    def name(self) -> str:
        """What ran, and where, for messages."""
        function = self.function
        what = function if isinstance(function, str) else function.__name__
        return f"{what} in {self.path or 'the net'}"


@dataclass
class Graph:
    inputs: list[Wire]
    steps: list[Step]
    outputs: list[Wire]


class Recorder(Trace):
    """Steps in the place of notes, of every operation, whether it goes on the tape or not."""

    whole = True

    def __init__(self, net: Module, inputs: dict[str, Tensor]):
        super().__init__(net)
        self.steps: list[Step] = []
        self._wires: dict[int, Wire] = {}
        self._alive: list[Tensor] = []  # an id is another's as soon as a tensor is gone
        self.inputs = [self._add("input", name, x) for name, x in inputs.items()]

    def look(self, cls: Any, args: Sequence, kwargs: dict) -> dict[str, Any]:
        names = list("abc") if isinstance(cls, str) else argument_names(cls, len(args))
        named = [*zip(names, args, strict=False), *kwargs.items()]
        path = self._modules[-1][0] if self._modules else ""
        return dict(
            function=cls, arguments={name: self._argument(a) for name, a in named}, path=path
        )

    def note(self, seen: dict[str, Any], outputs: tuple[Tensor, ...]) -> Any:
        wires = [self._add("made", "", y) for y in outputs]
        self.steps.append(Step(**seen, outputs=wires))

    def wire(self, x: Tensor) -> Wire:
        """The wire of a tensor; a constant's, if no operation and no net has it."""
        found = self._wires.get(id(x))
        if found is None:
            name = self._names.get(x)
            found = self._add("state" if name else "constant", name or "", x)
            # a constant may be overwritten by a later operation; weights stay, and are large
            found.array = x.data if name and x.device.kind == "cpu" else x.numpy()
        return found

    def _add(self, kind: str, name: str, x: Tensor) -> Wire:
        wire = self._wires[id(x)] = Wire(kind, name, x.dtype, x.shape)
        self._alive.append(x)
        return wire

    def _argument(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            return self.wire(a)
        if isinstance(a, (list, tuple)):
            return tuple(map(self._argument, a))
        if isinstance(a, np.ndarray) or hasattr(a, "__cuda_array_interface__"):
            host = np.array(a.get() if hasattr(a, "get") else a)
            return Wire("constant", "", host.dtype, host.shape, host)
        return a


def record(net: Module, example: Sequence[np.ndarray], call: Callable | None = None) -> Graph:
    """The graph of call(*example), which runs the net or parts of it; or of net(*example).

    ModelFileError where a file of it would be wrong.
    """
    if call is None and type(net).forward is Module.forward:
        raise ModelFileError(
            f"export: expected a net with a forward, got {type(net).__name__}, which has none; "
            f"export a part of it from Python"
        )
    rng = np.random.default_rng(0)
    training = {module: module.training for module in net.modules()}
    device = next((p.device for p in (*net.parameters(), *net.buffers())), find_device("cpu"))
    names = list(inspect.signature(call or net.forward).parameters)[: len(example)]
    if len(names) < len(example):
        raise ModelFileError(
            f"export: expected at most {len(names)} inputs of {type(net).__name__}, got "
            f"{len(example)}"
        )
    runs = []
    net.eval()
    try:
        for arrays in (example, [_another(x, rng) for x in example]):
            given = [tensor(x, device=device) for x in arrays]
            recorder = Recorder(net, dict(zip(names, given, strict=True)))
            with no_grad(), recorder, np.errstate(all="ignore"):  # random values are odd ones
                made = call(*given) if call else net(*given)
            outputs = made if isinstance(made, (list, tuple)) else [made]
            if not all(isinstance(y, Tensor) for y in outputs):
                raise ModelFileError(
                    f"export: expected a net that gives a tensor, or a tuple of them, got "
                    f"{type(made).__name__}"
                )
            runs.append(Graph(recorder.inputs, recorder.steps, [recorder.wire(y) for y in outputs]))
    finally:
        for module, mode in training.items():
            module.training = mode
    return _common(*runs)


def _another(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An input with one example more, and all values others; tokens are among those of x."""
    if x.ndim == 0 or x.size == 0 or (x.dtype.kind != "f" and (x == x.flat[0]).all()):
        raise ModelFileError(
            f"export: expected an example (N, ...) with several values, got {x.dtype} {x.shape}; "
            f"what depends on them is found by changing them"
        )
    shape = (len(x) + 1, *x.shape[1:])
    if x.dtype.kind == "f":
        return rng.normal(size=shape).astype(x.dtype)
    y = rng.choice(x.ravel(), shape)
    y.flat[0] = x[x != x.flat[0]][0]  # another one than in x, whatever chance says
    return y


def _common(first: Graph, second: Graph) -> Graph:
    """The first run, with None for sizes that were others in the second one."""
    if [step.function for step in first.steps] != [step.function for step in second.steps]:
        raise ModelFileError(
            "export: expected the same operations whatever the input, got others for another batch "
            "of other values; a file holds one way alone"
        )
    twins: dict[Wire, Wire] = {}

    def meet(a: Any, b: Any, where: str) -> Any:
        """What two arguments have in common."""
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            met = tuple(meet(x, y, where) for x, y in zip(a, b, strict=True))
            return Varies(a, b) if any(isinstance(part, Varies) for part in met) else met
        if not isinstance(a, Wire) or not isinstance(b, Wire):
            return a if type(a) is type(b) and a == b else Varies(a, b)
        same = (a.kind, a.name, a.dtype, len(a.shape)) == (b.kind, b.name, b.dtype, len(b.shape))
        if twins.setdefault(a, b) is not b and a.kind != "constant":
            same = False
        if same and a.kind == "constant":
            assert a.array is not None and b.array is not None  # it was not made
            same = a.shape == b.shape and np.array_equal(a.array, b.array, a.dtype.kind in "fc")
        if not same:
            raise ModelFileError(
                f"export: {where} takes an array that changes with the input and that no recorded "
                f"operation has made (NumPy did, chance, or .detach()); compute it from "
                f"tensors with tinynet's operations"
            )
        a.both = a.both or (a.shape, b.shape)
        a.shape = tuple(n if n == m else None for n, m in zip(a.shape, b.shape, strict=True))
        return a

    for a, b in zip(first.inputs, second.inputs, strict=True):
        meet(a, b, "the net")
    for one, two in zip(first.steps, second.steps, strict=True):
        where = one.name
        one.arguments = Arguments(
            {name: meet(a, two.arguments.get(name), where) for name, a in one.arguments.items()}
        )
        for a, b in zip(one.outputs, two.outputs, strict=True):
            meet(a, b, where)
    for a, b in zip(first.outputs, second.outputs, strict=True):
        meet(a, b, "the result")
    return first
