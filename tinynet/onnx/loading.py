"""An ONNX file as a Module that one can run, train on and draw."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.devices import find_device
from tinynet.errors import ModelFileError
from tinynet.nn import Buffer, Module, Parameter
from tinynet.onnx.exporting import package
from tinynet.onnx.operators import READERS, Node, need
from tinynet.onnx.work import work  # and so reading.py and windows.py, which fill the table
from tinynet.tensors import Tensor, tensor

LARGEST = 2**28  # elements that one node of a file may make of nothing, or as its result
TYPES = ("float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
WRONG = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError)


class OnnxNet(Module):
    """The net of an ONNX file. Floats with axes are parameters, running means and fixed numbers
    are buffers: `weights`, by their names in the file.

    description: all but the weights' values, as JSON can hold it; what `load` found. metadata: the
    file's, name -> text.
    """

    def __init__(self, description: dict[str, Any], values: dict[str, np.ndarray] | None = None):
        """values left out: zeros, for load_state_dict."""
        self.description = description
        self.metadata: dict[str, str] = {}
        self.nodes = [Node(**node) for node in description["nodes"]]
        self.inputs, self.outputs = list(description["inputs"]), list(description["outputs"])
        self.weights: dict[str, Parameter | Buffer] = {}
        for name, (kind, dtype, shape) in description["weights"].items():
            value = np.zeros(shape, dtype) if values is None else values[name]
            self.weights[name] = Parameter(value) if kind == "parameter" else Buffer(value)
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        self._last = {name: i for name, i in last.items() if name not in self.outputs}

    def forward(self, *inputs: Any) -> Any:
        """The file's results, a tuple if there are several, of its inputs in their order."""
        values = dict(self.run(*inputs))
        found = tuple(values[name] for name in self.outputs)
        return found if len(found) > 1 else found[0]

    def run(
        self, *inputs: Any, keep: Iterable[str] = (), most: float = math.inf
    ) -> dict[str, Tensor]:
        """The results by name; with `keep`, also what nodes in between make.

        most: how much work a file may ask for, in multiplications (work.py). ModelFileError that
        names the node if one asks for more, or cannot work on what it gets.
        """
        if len(inputs) != len(self.inputs):
            raise ModelFileError(
                f"OnnxNet: expected {len(self.inputs)} inputs ({', '.join(self.inputs)}), got "
                f"{len(inputs)}"
            )
        wanted = {*self.outputs, *keep}
        device = next((w.device for w in self.weights.values()), find_device("cpu"))
        values: dict[str, Any] = {"": None, **self.weights}
        for name, x in zip(self.inputs, inputs, strict=True):
            values[name] = x if isinstance(x, Tensor) else tensor(x, device=device)
        for i, node in enumerate(self.nodes):
            node.training = self.training
            given = [values[name] for name in node.inputs]
            try:
                if most < math.inf:
                    most -= work(node, given)
                    need(most >= 0, "a net of a size that can be run here", "a larger one")
                y = READERS[node.op].call(node, *given)
            except WRONG as error:
                raise ModelFileError(f"{said(node)}: {error or type(error).__name__}") from error
            values[node.outputs[0]] = y
            for name in {*node.inputs}:
                if self._last.get(name) == i and name not in wanted:
                    del values[name]
        return {name: values[name] for name in wanted}

    def extra_repr(self) -> str:
        kinds = Counter(node.op for node in self.nodes)
        return ", ".join(f"{count} {op}" for op, count in kinds.most_common())


def load(path: str | os.PathLike) -> OnnxNet:
    """The net of an ONNX file, in training mode as every new Module.

    Nothing of the file is run. ModelFileError if it is damaged or holds what tinynet has not; the
    message names the node.
    """
    onnx = package()
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the package names none of its own
        raise ModelFileError(
            f"{path}: expected an ONNX file, got none, or a damaged one"
        ) from error
    try:
        return _net(onnx, model)
    except WRONG as error:
        raise ModelFileError(f"{path}: {error or type(error).__name__}") from error


def said(node: Node) -> str:
    """A node in a message."""
    return f"node {node.name or node.outputs[0]!r} ({node.op})"


def text(value: str | bytes) -> str:
    """A text of a file; protobuf gives bytes where they are no UTF-8."""
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _net(onnx: Any, model: Any) -> OnnxNet:
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if graph.sparse_initializer:
        raise ModelFileError("expected dense weights, got sparse ones")
    values = {
        text(proto.name): _array(onnx, proto, text(proto.name)) for proto in graph.initializer
    }
    inputs = {text(given.name): _type(onnx, given) for given in graph.input}
    inputs = {name: kind for name, kind in inputs.items() if name not in values}
    outputs = [text(made.name) for made in graph.output]
    nodes: list[Node] = []
    left = LARGEST
    uses = Counter(text(name) for proto in graph.node for name in proto.input)
    for proto in graph.node:
        op, name, domain = map(text, (proto.op_type, proto.name, proto.domain))
        node = Node(op, name, [*map(text, proto.input)], [*map(text, proto.output)], {}, opset)
        if not node.outputs:
            raise ModelFileError(f"node {node.name!r} ({node.op}): expected a result, got none")
        if domain not in ("", "ai.onnx"):
            raise ModelFileError(f"{said(node)}: expected ONNX's operators, got {domain}'s")
        if node.op in ("Constant", "ConstantOfShape"):
            made = _constant(onnx, proto, node, values, left)
            left -= made.size
            if node.outputs[0] in values or node.outputs[0] in inputs:
                raise ModelFileError(f"{said(node)}: expected a result with a name of its own")
            values[node.outputs[0]] = made
        else:
            node.attributes = {text(a.name): _attribute(onnx, a, node) for a in proto.attribute}
            if _reshapes_a_weight(node, values, inputs) and uses[node.inputs[0]] == 1:
                values[node.outputs[0]] = _now(node, values)  # or no one could give it other sizes
            else:
                nodes.append(node)
    needed = {name for node in nodes for name in node.inputs} | set(outputs)
    _check(nodes, {"", *values, *inputs}, needed, outputs)
    means = {n for node in nodes if node.op == "BatchNormalization" for n in node.inputs[3:5]}
    ours = model.producer_name == "tinynet"
    weights = {}
    for name, array in values.items():
        number = array.ndim == 0 or array.dtype.kind != "f" or name in means
        constant = ours and "/constant" in name
        kind = "buffer" if number or constant else "parameter"
        weights[name] = [kind, str(array.dtype), list(array.shape)]
    description = dict(
        inputs=inputs,
        outputs=outputs,
        nodes=[asdict(node) for node in nodes],
        weights={name: row for name, row in weights.items() if name in needed},
    )
    net = OnnxNet(description, values)
    net.metadata = {text(prop.key): text(prop.value) for prop in model.metadata_props}
    return net


def _reshapes_a_weight(node: Node, values: dict[str, np.ndarray], inputs: dict[str, Any]) -> bool:
    own_name = node.outputs[0] not in values and node.outputs[0] not in inputs
    plain = node.op == "Reshape" and len(node.inputs) == 2 and not node.attributes
    return plain and own_name and all(name in values for name in node.inputs)


def _now(node: Node, values: dict[str, np.ndarray]) -> np.ndarray:
    """What a node makes of values that are known."""
    try:
        return READERS[node.op].call(node, *(tensor(values[n]) for n in node.inputs)).numpy()
    except WRONG as error:
        raise ModelFileError(f"{said(node)}: {error or type(error).__name__}") from error


def _check(nodes: list[Node], known: set[str], needed: set[str], outputs: list[str]) -> None:
    """ModelFileError for a node that tinynet has not, or that gets what no one makes."""
    for node in nodes:
        reader = READERS.get(node.op)
        if reader is None:
            raise ModelFileError(
                f"{said(node)}: expected an operator that tinynet has, got {node.op}"
            )
        for name, value in node.attributes.items():
            kind = reader.attributes.get(name)
            if kind is None or not isinstance(value, kind):
                raise ModelFileError(
                    f"{said(node)}: expected attributes {_words(reader.attributes)}, got "
                    f"{name} = {str(value)[:50]}"
                )
        if not reader.takes(len(node.inputs)):
            raise ModelFileError(
                f"{said(node)}: got {len(node.inputs)} inputs, not as many as it takes"
            )
        for name in node.inputs:
            if name not in known:
                raise ModelFileError(f"{said(node)}: expected inputs made before it, got {name!r}")
        for name in node.outputs[1:]:
            if name in needed and name:
                raise ModelFileError(f"{said(node)}: expected one result to be used, got {name!r}")
        if node.outputs[0] in known:
            raise ModelFileError(f"{said(node)}: expected a result with a name of its own")
        known.add(node.outputs[0])
    for name in outputs:
        if name not in known:
            raise ModelFileError(f"expected a node that makes the result {name!r}, got none")
    if not outputs:
        raise ModelFileError("expected a graph with a result, got none")


def _type(onnx: Any, given: Any) -> list[Any]:
    """[dtype, sizes] of an input; None for a size that is open."""
    kind = given.type.tensor_type
    if kind.elem_type not in onnx.TensorProto.DataType.values()[1:]:
        raise ModelFileError(
            f"input {text(given.name)!r}: expected a tensor of a known type, got none"
        )
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return [dtype, [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]]


def _words(attributes: dict[str, type]) -> str:
    return ", ".join(f"{name} ({kind.__name__})" for name, kind in attributes.items()) or "none"


def _attribute(onnx: Any, proto: Any, node: Node) -> Any:
    kinds = onnx.AttributeProto
    if proto.type not in (kinds.INT, kinds.FLOAT, kinds.STRING, kinds.INTS, kinds.FLOATS):
        raise ModelFileError(f"{said(node)}: expected attributes of numbers, got {proto.name}")
    value = onnx.helper.get_attribute_value(proto)
    if proto.type == kinds.STRING:
        return text(value)
    return list(value) if proto.type in (kinds.INTS, kinds.FLOATS) else value


def _constant(
    onnx: Any, proto: Any, node: Node, values: dict[str, np.ndarray], left: int
) -> np.ndarray:
    """What a node without inputs gives; or one whose input, a shape, is known."""
    attributes = {text(a.name): onnx.helper.get_attribute_value(a) for a in proto.attribute}
    given = attributes.pop("value", None)
    if node.op == "Constant" and given is None and len(attributes) == 1:
        ((name, value),) = attributes.items()
        types = dict(value_float=np.float32, value_floats=np.float32, value_int=np.int64,
                     value_ints=np.int64)  # fmt: skip
        if name in types:
            return np.array(value, types[name])
    if attributes or (node.op == "Constant" and given is None):
        raise ModelFileError(f"{said(node)}: expected numbers as its value, got {list(attributes)}")
    array = np.zeros(1, np.float32) if given is None else _array(onnx, given, said(node))
    if node.op == "Constant":
        return array
    shape = values.get(node.inputs[0]) if node.inputs else None
    if shape is None or shape.dtype.kind not in "iu" or array.size != 1:
        raise ModelFileError(f"{said(node)}: expected a shape that is known, and one value")
    sizes = [int(n) for n in shape.reshape(-1)]
    if min(sizes, default=0) < 0 or math.prod(sizes) > left:
        raise ModelFileError(f"{said(node)}: expected at most {LARGEST:,} elements, got {sizes}")
    return np.full(sizes, array.reshape(-1)[0])


def _array(onnx: Any, proto: Any, name: str) -> np.ndarray:
    """The values of a tensor of the file."""
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelFileError(
            f"{name}: expected weights in the file itself, got the name of another file; with the "
            f"package: onnx.save(onnx.load(FILE), ONE_FILE)"
        )
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(proto.data_type)
        if str(dtype) not in TYPES:
            raise ModelFileError(f"{name}: expected a type of {', '.join(TYPES)}, got {dtype}")
        array = onnx.numpy_helper.to_array(proto)
    except ModelFileError:
        raise
    except Exception as error:  # KeyError for an unknown type, others for sizes that do not fit
        raise ModelFileError(
            f"{name}: expected as many values as its shape says, got others"
        ) from error
    return np.array(array)
