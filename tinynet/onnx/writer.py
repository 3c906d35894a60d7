"""The file's side of an export: nodes and constants with names that a person recognises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinynet.errors import ModelFileError
from tinynet.onnx.recording import Graph, Step, Varies, Wire

OPSET = 20  # the first with Gelu; runtimes since 2023 know it
IR = 9  # the version of the file's own form that came with it
SMALL = 1024  # bytes of a constant that is written once for all who need it
LARGEST = 2**31 - 2**20  # bytes of one file: protobuf's limit, less the graph itself


class Writer:
    """Collects nodes; `node` and `constant` give the names of what they make.

    A node is called by its module's path and its operator: "a.conv1/Conv". Two nodes that do the
    same on the same are one: the copies for AlexNet's two devices vanish so, and what is computed
    once on each.
    """

    def __init__(self, onnx: Any, taken: Iterable[str]):
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self._taken = dict.fromkeys(taken, 1)  # of inputs, weights and results
        self._known: dict[Any, str] = {}  # what a node does -> the name of its result
        self._names: dict[Wire, str] = {}
        self._path = ""

    def begin(self, path: str) -> None:
        """What comes next ran in the module of this path."""
        self._path = path

    def name(self, wire: Wire) -> str:
        """The name of a wire in the file; a weight or constant is written when first asked for."""
        if wire not in self._names:
            if wire.kind == "constant":
                return self.constant(wire.array)
            if wire.kind == "state":
                self.weights[wire.name] = np.asarray(wire.array)
            self._names[wire] = wire.name
        return self._names[wire]

    def made(self, wire: Wire, name: str) -> None:
        """From now on `wire` is called so."""
        self._names[wire] = name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """The name of a constant: with a /, which no weight of a module has."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= SMALL else None
        if key is None or key not in self._known:
            self._known[key] = self._free(f"{self._path}/constant")
            self.weights[self._known[key]] = array
        return self._known[key]

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """The name of a node's result."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        doing = op, *inputs, repr(sorted(attributes.items()))
        if doing not in self._known:
            name = self._free(f"{self._path}/{op}".lstrip("/"))
            self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], name, **attributes))
            self._known[doing] = name
        return self._known[doing]

    def _free(self, name: str) -> str:
        """The name, with a number if it is taken."""
        number = self._taken[name] = self._taken.get(name, 0) + 1
        return name if number == 1 else self._free(f"{name}_{number}")


def parts_of(
    onnx: Any, writer: Writer, graph: Graph, names: list[str], metadata: dict[str, str], title: str
) -> list[Any]:
    """The whole file: what leads to the results, called `names`, and nothing else. Bytes and
    arrays, to be written one after another.

    The package builds all but the weights; in its hands their bytes are copied four times, 3 s and
    1 GB for AlexNet. So the graph, which is field 7 of the model, is closed here, with each weight
    as its field 5.
    """
    helper, types = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype
    writer.begin("")
    results = [writer.name(wire) for wire in graph.outputs]
    for inner, name in zip(results, names, strict=True):
        made = [node for node in writer.nodes if inner in node.output]
        used = any(inner in node.input for node in writer.nodes)
        if made and not used and results.count(inner) == 1:  # its maker calls it by the name
            made[0].output[0] = name
        else:
            writer.nodes.append(helper.make_node("Identity", [inner], [name], name))
    needed, kept = set(names), []
    for node in reversed(writer.nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)

    def info(wire: Wire, name: str) -> Any:
        shape = ["N" if n is None and i == 0 else n for i, n in enumerate(wire.shape)]
        return helper.make_tensor_value_info(name, types(wire.dtype), shape)

    body = helper.make_graph(
        kept[::-1],
        title,
        [info(wire, wire.name) for wire in graph.inputs],
        [info(wire, name) for wire, name in zip(graph.outputs, names, strict=True)],
    )
    weights: list[Any] = []
    for name, array in writer.weights.items():
        if name in needed:
            tensor = onnx.TensorProto(name=name, dims=array.shape, data_type=types(array.dtype))
            head = tensor.SerializeToString() + prefix(9, array.nbytes)  # field 9: its bytes
            data = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
            weights += [prefix(5, len(head) + array.nbytes) + head, data.reshape(-1).view(np.uint8)]
    size = body.ByteSize() + sum(len(part) for part in weights)
    if size > LARGEST:
        raise ModelFileError(
            f"export: expected at most {LARGEST:,} bytes, which one ONNX file can hold, got "
            f"{size:,}; write safetensors"
        )
    empty = onnx.GraphProto()
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(empty, opset_imports=opsets, ir_version=IR, producer_name="tinynet")
    model.ClearField("graph")
    helper.set_model_props(model, metadata)
    return [model.SerializeToString() + prefix(7, size) + body.SerializeToString(), *weights]


def prefix(field: int, length: int) -> bytes:
    """What stands before a field of so many bytes: its number, how it is written, the length.

    Numbers are written in groups of seven bits, the lowest first; the eighth bit says that another
    group follows.
    """
    groups = [field << 3 | 2]
    while length >= 128:
        groups.append(length % 128 | 128)
        length //= 128
    return bytes([*groups, length])


def plain(step: Step, name: str) -> Any:
    """An option of a step. ModelFileError if it depends on the input."""
    value = step.arguments[name]
    if isinstance(value, Varies):
        raise ModelFileError(
            f"export: {step.name}: {name} depends on the "
            f"input ({value.first} and {value.second}); a file holds one value alone"
        )
    return value


def sizes(step: Step, wire: Wire, axes: Any) -> list[int]:
    """Sizes of a wire along axes, which must not be the batch's."""
    found = [wire.shape[axis] for axis in axes]
    if None in found:
        raise ModelFileError(
            f"export: {step.name} works along the batch, whose size a file leaves open"
        )
    return [int(n) for n in found if n is not None]
