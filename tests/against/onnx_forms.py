"""ONNX's operators in the forms that tinynet reads and never writes: options left out, axes from
the end, older versions; and a file that holds some of them side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
helper = onnx.helper

RNG = np.random.default_rng(11)
P, S, M = (RNG.normal(size=n).astype(np.float32) for n in ((2, 4, 7, 6), (2, 3, 4), (3, 4)))
X5 = RNG.normal(size=(2, 3, 2, 4, 3)).astype(np.float32)
ROW, COLUMN, FIVE, W = (
    RNG.normal(size=n).astype(np.float32) for n in ((4,), (3, 1), (4, 5), (6, 4, 3, 2))
)
POSITIVE = np.abs(ROW) + np.float32(0.3)
INPUTS = dict(p=P, s=S, m=M, x5=X5, t=np.array([[2, -1, 0], [1, 1, -3]]), o=M > 0)
Form = tuple[str, list, dict[str, Any]]  # operator, inputs (names or arrays), attributes


def scalar(x: float, dtype: Any = np.float32) -> np.ndarray:
    return np.array(x, dtype)


def same_everywhere() -> Iterator[Form]:
    """What means the same in all versions from 7 on."""
    for name in ("Relu", "Tanh", "Sigmoid", "Exp", "Sin", "Cos", "Erf", "Neg", "Abs", "Identity"):
        yield name, ["s"], {}
    yield "LeakyRelu", ["s"], {}
    yield "LeakyRelu", ["s"], dict(alpha=0.3)
    yield "Elu", ["s"], {}
    yield "Elu", ["s"], dict(alpha=0.4)
    yield "Not", ["o"], {}
    yield "And", ["o", np.array([True, False, True, True])], {}
    yield "Or", ["o", np.array([[True], [False], [False]])], {}
    yield "Where", ["o", "m", ROW], {}
    yield "Pow", ["m", scalar(2)], {}
    yield "Pow", ["m", np.float32([[2, 3, 1, 0]])], {}
    yield "Pow", [POSITIVE, "m"], {}
    for op in ("Add", "Sub", "Mul", "Div"):
        yield op, ["s", POSITIVE], {}
        yield op, [COLUMN, "s"], {}
    for op in ("Less", "Greater"):
        yield op, ["m", ROW], {}
    for a, b in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        left, right = (x.T if turn else x for x, turn in ((M, a), (FIVE, b)))
        for alpha, beta in [(1.0, 1.0), (0.5, 1.0), (1.0, 0.3)]:
            options = dict(transA=a, transB=b, alpha=alpha, beta=beta)
            for size in ((5,), (1, 5), (3, 5), (3, 1)):
                yield "Gemm", [left, right, RNG.normal(size=size).astype(np.float32)], options
    yield "MatMul", ["s", M.T], {}
    yield "MatMul", ["m", ROW], {}
    yield "Concat", ["s", "s"], dict(axis=1)
    yield "Transpose", ["s"], {}
    yield "Transpose", ["s"], dict(perm=[1, 0, 2])
    for axis in (0, 1, 2, 3):
        yield "Flatten", ["s"], dict(axis=axis)
    yield "Flatten", ["p"], {}
    yield "Gather", ["m", np.array([2, 0, 2])], {}
    yield "Gather", ["s", np.array([[0, 1], [2, 2]])], dict(axis=1)
    yield "Gather", ["s", scalar(1, np.int64)], dict(axis=2)
    yield "GlobalAveragePool", ["p"], {}
    yield "GlobalAveragePool", ["s"], {}
    yield "GlobalAveragePool", ["x5"], {}
    yield "GlobalMaxPool", ["p"], {}
    yield "GlobalMaxPool", ["x5"], {}
    yield "LRN", ["p"], dict(size=3)
    yield "LRN", ["p"], dict(size=3, alpha=2.0, beta=0.6, bias=1.5)
    yield "BatchNormalization", ["p", ROW, -ROW, ROW + 1, POSITIVE], {}
    yield "BatchNormalization", ["p", ROW, -ROW, ROW + 1, POSITIVE], dict(epsilon=0.3)
    yield "Reshape", ["s", np.array([0, -1, 2])], {}
    for kind in (1, 6, 7, 9, 11):
        yield "Cast", ["m"], dict(to=kind)
    yield from windows()


def several() -> Iterator[Form]:
    """Any number of inputs, stretched."""
    for op in ("Max", "Min", "Sum", "Mean"):
        for several in (["m"], ["m", ROW], [COLUMN, "m", ROW], ["m", "s", ROW, COLUMN]):
            yield op, several, {}


def windows() -> Iterator[Form]:
    """Convolutions and pools, their borders in every way."""
    ways: list[dict[str, Any]] = [
        {}, dict(pads=[1, 0, 2, 1]), dict(pads=[2, 1, 2, 1], strides=[2, 1]),
        dict(auto_pad="VALID", strides=[2, 3]), dict(auto_pad="SAME_UPPER", strides=[2, 1]),
        dict(auto_pad="SAME_LOWER", strides=[2, 1]), dict(auto_pad="SAME_UPPER", strides=[3, 2]),
    ]  # fmt: skip
    for way in ways:
        yield "Conv", ["p", W], way
        yield "Conv", ["p", W[:, :2], RNG.normal(size=6).astype(np.float32)], way | dict(group=2)
        yield "MaxPool", ["p"], way | dict(kernel_shape=[3, 2])
        yield "AveragePool", ["p"], way | dict(kernel_shape=[3, 2])
        yield "AveragePool", ["p"], way | dict(kernel_shape=[3, 2], count_include_pad=1)
    holes = dict(dilations=[2, 1], kernel_shape=[3, 2])
    yield "Conv", ["p", W], holes | dict(pads=[1, 0, 2, 1], strides=[1, 2])
    turned = RNG.normal(size=(4, 3, 3, 2)).astype(np.float32)
    yield "ConvTranspose", ["p", turned], dict(strides=[2, 3], output_padding=[1, 2])
    yield "ConvTranspose", ["p", turned, ROW[:3]], dict(pads=[1, 1, 1, 1], strides=[2, 2])
    yield "ConvTranspose", ["p", turned, np.tile(ROW[:3], 2)], dict(group=2)


def from_10() -> Iterator[Form]:
    """Pools that hang over the end, slices by inputs."""
    for pads in ([0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1]):
        options = dict(kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=1)
        yield "MaxPool", ["p"], options
    for begin, end, axes, steps in [
        ([1], [100], None, None), ([-2], [-1], [2], None), ([1, 0], [3, 2], [2, 0], [1, 1]),
        ([-1], [-100], [1], [-1]), ([-100], [-100], [1], [-1]), ([3, 2], [0, -2], [2, 1], [-2, -1]),
        ([0, 1], [2, 3], [-1, 1], None),
    ]:  # fmt: skip
        inputs: list[Any] = ["s", np.array(begin), np.array(end)]
        inputs += [""] if axes is None else [np.array(axes)]
        yield "Slice", [*inputs, *([] if steps is None else [np.array(steps)])], {}


def from_13() -> Iterator[Form]:
    """Each pixel as a block."""
    blocks = [P[:, :, :1], "", np.float32([1, 1, 2, 3])]
    yield (
        "Resize",
        blocks,
        dict(mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    )
    yield "Resize", blocks, dict(mode="nearest")
    yield "Resize", blocks, dict(mode="nearest", nearest_mode="round_prefer_ceil")


def of_7() -> Iterator[Form]:
    """Options that were attributes, later inputs; a softmax that sees a matrix."""
    for op in ("Softmax", "LogSoftmax"):
        yield op, ["s"], {}
        for axis in (0, 1, 2):
            yield op, ["s"], dict(axis=axis)
    yield "Clip", ["s"], {}
    yield "Clip", ["s"], dict(min=-0.3)
    yield "Clip", ["s"], dict(max=0.4)
    yield "Clip", ["s"], dict(min=-0.3, max=0.4)
    yield "Pad", ["s"], dict(pads=[0, 1, 2, 1, 0, 0])
    yield "Pad", ["s"], dict(pads=[1, 0, 2, 0, 3, 0], value=1.5, mode="constant")
    yield "Slice", ["s"], dict(starts=[1], ends=[3])
    yield "Slice", ["s"], dict(starts=[-2, 0], ends=[100, -1], axes=[2, 1])
    yield "Squeeze", [S[:1, :, :1]], dict(axes=[0, 2])
    yield "Squeeze", [S[:1, :, :1]], dict(axes=[2])
    yield "Unsqueeze", ["m"], dict(axes=[0, 3])
    yield "Unsqueeze", ["m"], dict(axes=[3, 1])
    yield "Dropout", ["s"], dict(ratio=0.7)
    yield "Dropout", ["s"], {}
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
        for options in ({}, dict(axes=[1]), dict(axes=[0, 2], keepdims=0), dict(keepdims=0)):
            yield op, ["s"], options
    yield "Equal", ["t", np.array([1, -1, 0])], {}


def of_18() -> Iterator[Form]:
    """Options as inputs, axes from the end."""
    for op in ("Softmax", "LogSoftmax"):
        yield op, ["s"], {}
        for axis in (0, 1, 2, -2):
            yield op, ["s"], dict(axis=axis)
    yield "Clip", ["s"], {}
    yield "Clip", ["s", scalar(-0.3)], {}
    yield "Clip", ["s", "", scalar(0.4)], {}
    yield "Clip", ["s", scalar(0.5), scalar(-0.2)], {}
    yield "Clip", ["s", scalar(0.3), scalar(0.3)], {}
    yield "Clip", ["s", scalar(-0.3), scalar(0.4)], {}
    yield "Pad", ["s", np.array([0, 1, 2, 1, 0, 0])], {}
    yield "Pad", ["s", np.array([1, 0, 2, 3]), scalar(1.5), np.array([2, 0])], {}
    yield "Pad", ["s", np.array([1, 2]), "", np.array([-2])], {}
    yield "Squeeze", [S[:1, :, :1]], {}
    yield "Squeeze", [S[:1, :, :1], np.array([-1])], {}
    yield "Squeeze", [S[:1, :, :1], np.array([0, -1])], {}
    yield "Unsqueeze", ["m", np.array([-1, 0])], {}
    yield "Unsqueeze", ["m", np.array([-2])], {}
    for axis in (-1, -2, -3):
        yield "Flatten", ["s"], dict(axis=axis)
    yield "Concat", ["s", "s"], dict(axis=-1)
    yield "Gather", ["m", np.array([2, -1, 0])], {}
    yield "Gather", ["s", np.array([-1, 1])], dict(axis=-2)
    yield "Gather", ["t", np.array([-1, 1])], dict(axis=1)
    yield "Gather", ["t", np.array([1, 0])], {}
    yield "CumSum", ["s", scalar(1, np.int64)], {}
    yield "CumSum", ["s", scalar(-1, np.int64)], {}
    yield "Gemm", ["m", M], dict(transB=1)
    yield "Gemm", ["m", M], dict(transA=1, alpha=0.5)
    yield "LessOrEqual", ["m", ROW], {}
    yield "GreaterOrEqual", ["m", ROW], {}
    yield "Equal", ["m", M.round(1)], {}
    yield "Dropout", ["s", scalar(0.7)], {}
    yield "Dropout", ["s", scalar(0.7), np.array(False)], {}
    yield "Dropout", ["s", scalar(0), np.array(True)], {}
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"):
        yield op, ["s"], {}
        yield op, ["s"], dict(noop_with_empty_axes=1)
        yield op, ["s", np.array([], np.int64)], dict(keepdims=0)
        yield op, ["s", np.array([], np.int64)], dict(noop_with_empty_axes=1)
        yield op, ["s", np.array([-1])], {}
        yield op, ["s", np.array([0, -1])], dict(keepdims=0, noop_with_empty_axes=1)
    for axis, row in ((-1, (4,)), (2, (4,)), (-2, (3, 4)), (1, (3, 4))):
        w = RNG.normal(size=row).astype(np.float32)
        yield "LayerNormalization", ["s", w], dict(axis=axis)
        yield "LayerNormalization", ["s", w, -w], dict(axis=axis, epsilon=0.3)
    yield "LayerNormalization", ["s", ROW, ROW], {}
    yield "LayerNormalization", ["s", ROW[None], ROW[None, None]], {}
    classes = np.array([[3, 1], [0, 2]])
    for how in ("mean", "sum", "none"):
        yield "SoftmaxCrossEntropyLoss", [P[:, :, :2, 0], classes], dict(reduction=how)
    yield "SoftmaxCrossEntropyLoss", ["m", np.array([3, 1, 0])], {}
    yield "Reshape", [np.zeros((0, 3), np.float32), np.array([3, 0])], dict(allowzero=1)


def of_20() -> Iterator[Form]:
    yield "Gelu", ["s"], {}
    yield "Gelu", ["s"], dict(approximate="tanh")


def file(forms: list[Form], opset: int, inputs: dict[str, np.ndarray], **options: Any) -> Any:
    """A model of these nodes side by side, with a result y0, y1, ... each."""
    nodes, weights = [], {}
    for number, (op, given, attributes) in enumerate(forms):
        names = []
        for place, x in enumerate(given):
            names.append(x if isinstance(x, str) else f"w{number}.{place}")
            if not isinstance(x, str):
                weights[names[-1]] = np.array(x, order="C")
        nodes.append(helper.make_node(op, names, [f"y{number}"], **attributes))
    kind = helper.np_dtype_to_tensor_dtype
    graph = helper.make_graph(
        nodes, "forms",
        [helper.make_tensor_value_info(n, kind(x.dtype), x.shape) for n, x in inputs.items()],
        [onnx.ValueInfoProto(name=f"y{number}") for number in range(len(forms))],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **options)
    model.ir_version = 8
    return model


VERSIONS = {
    7: [*of_7(), *same_everywhere()],
    10: [*from_10()],
    13: [*from_13()],
    12: [*same_everywhere(), *several()],
    18: [*of_18(), *several(), *same_everywhere(), *from_10(), *from_13()],
    20: [*of_20(), *windows()],
}
