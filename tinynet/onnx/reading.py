"""ONNX's operators as operations of tinynet, but for windows (windows.py): (node, *tensors) ->
tensor.
"""

from __future__ import annotations

import math

import tinynet.arithmetic as A
import tinynet.functional as F
from tinynet.onnx.operators import Node, axis_of, need, numbers, reads
from tinynet.tensors import Tensor

WIDEST = 4096  # elements of a border: a file that asks for more is damaged

# ---------------------------------------------------------------- element by element

ONE = dict(
    Relu=F.relu, Tanh=F.tanh, Sigmoid=F.sigmoid, Exp=A.exp, Log=A.log, Sqrt=A.sqrt, Sin=A.sin,
    Cos=A.cos, Erf=A.erf,
)  # fmt: skip
TWO = dict(Add=A.add, Sub=A.sub, Mul=A.mul, Div=A.div)
COMPARED = dict(
    Equal=A.eq, Less=A.lt, LessOrEqual=A.le, Greater=A.gt, GreaterOrEqual=A.ge, And=A.logical_and,
    Or=A.logical_or,
)  # fmt: skip
SEVERAL = dict(Max=A.maximum, Min=A.minimum, Sum=A.add, Mean=A.add)


@reads(*ONE, consumed_inputs=list)
def one(node: Node, x: Tensor) -> Tensor:
    need(x.dtype.kind == "f", "floats", x.dtype)
    return ONE[node.op](x)


@reads(*TWO, axis=int, broadcast=int, consumed_inputs=list)
def two(node: Node, a: Tensor, b: Tensor) -> Tensor:
    need(node.op != "Div" or a.dtype.kind == "f", "floats", a.dtype)
    axis = node.get("axis", None)
    if axis is not None and node.get("broadcast", 0):  # before version 7, b lay along axes of a
        b = b.reshape(*b.shape, *[1] * (a.ndim - axis_of(axis, a.ndim) - b.ndim))
    return TWO[node.op](a, b)


@reads(*COMPARED)
def compared(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return COMPARED[node.op](a, b)


@reads("Not")
def negation(node: Node, x: Tensor) -> Tensor:
    need(x.dtype.kind == "b", "booleans", x.dtype)
    return A.logical_not(x)


@reads(*SEVERAL, consumed_inputs=list)
def several(node: Node, *tensors: Tensor) -> Tensor:
    need(bool(tensors), "at least one input", "none")
    y = tensors[0]
    for x in tensors[1:]:
        y = SEVERAL[node.op](y, x)
    return y / len(tensors) if node.op == "Mean" else y


@reads("Neg")
def negative(node: Node, x: Tensor) -> Tensor:
    return A.neg(x)


@reads("Abs", consumed_inputs=list)
def absolute(node: Node, x: Tensor) -> Tensor:
    return A.abs(x)


@reads("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return A.where(condition, a, b)


@reads("Pow")
def power(node: Node, x: Tensor, p: Tensor) -> Tensor:
    need(x.dtype.kind == "f", "floats", x.dtype)
    return A.pow(x, p.item() if p.size == 1 and p.ndim <= x.ndim else p)


@reads("Clip", min=float, max=float, consumed_inputs=list)
def clip(node: Node, x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    lowest = node.get("min", None) if least is None else least.item()
    highest = node.get("max", None) if most is None else most.item()
    if lowest is None and highest is None:
        return x
    if lowest is not None and highest is not None:
        lowest = min(lowest, highest)  # the standard's min(max(x, lowest), highest)
    return A.clip(x, lowest, highest)


@reads("LeakyRelu", alpha=float, consumed_inputs=list)
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@reads("Elu", alpha=float, consumed_inputs=list)
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@reads("Gelu", approximate=str)
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, node.get("approximate", "none"))


SOFT = dict(Softmax=F.softmax, LogSoftmax=F.log_softmax)


@reads(*SOFT, axis=int)
def softmax(node: Node, x: Tensor) -> Tensor:
    if node.opset >= 13:
        return SOFT[node.op](x, node.axis(-1, x.ndim))
    axis = node.axis(1, x.ndim)  # older versions see a matrix
    rows = x.reshape(math.prod(x.shape[:axis]), -1)
    return SOFT[node.op](rows, 1).reshape(x.shape)


@reads("Cast", to=int, saturate=int, round_mode=str)
def cast(node: Node, x: Tensor) -> Tensor:
    kinds = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
             11: "float64"}  # fmt: skip
    to = node.get("to", 0)
    need(to in kinds, "a type of 1, 2, 3, 5, 6, 7, 9, 11 (floats, whole numbers, booleans)", to)
    return A.astype(x, kinds[to])


@reads("Dropout", ratio=float, seed=int, is_test=int, consumed_inputs=list)
def dropout(
    node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None
) -> Tensor:
    """Drops while the net learns, whatever the file says."""
    p = float(node.get("ratio", 0.5) if ratio is None else ratio.item())
    always = training is not None and bool(training.item()) and p > 0
    need(not always, "dropout that drops in training alone", "training_mode")
    return F.dropout(x, p, node.training)


@reads("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


# ---------------------------------------------------------------- linear maps


@reads("Gemm", alpha=float, beta=float, transA=int, transB=int, broadcast=int)
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.transpose() if node.get("transA", 0) else a
    b = b if node.get("transB", 0) else b.transpose()
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    if alpha == beta == 1 and c is not None and c.shape == (len(b),):
        return F.linear(a, b, c)
    y = F.linear(a, b) if alpha == 1 else F.linear(a, b) * alpha
    return y if c is None else y + (c if beta == 1 else c * beta)


@reads("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return A.matmul(a, b)


# ---------------------------------------------------------------- over axes

OVER = dict(ReduceSum=A.sum, ReduceMean=A.mean, ReduceMax=A.max, ReduceMin=A.min, ReduceProd=A.prod)


@reads(*OVER, axes=list, keepdims=int, noop_with_empty_axes=int)
def reduced(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = node.get("axes", None) if axes is None else numbers(axes)
    if not found and node.get("noop_with_empty_axes", 0):
        return x
    return OVER[node.op](x, tuple(found) if found else None, bool(node.get("keepdims", True)))


@reads("CumSum", exclusive=int, reverse=int)
def cumsum(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    other = node.get("exclusive", 0) or node.get("reverse", 0)
    need(not other, "a running sum from the front", "exclusive or reverse")
    return A.cumsum(x, int(axis.item()))


@reads("SoftmaxCrossEntropyLoss", reduction=str, ignore_index=int)
def softmax_cross_entropy(node: Node, x: Tensor, target: Tensor) -> Tensor:
    """(N, K, d...) and (N, d...): rows of K."""
    need("ignore_index" not in node.attributes, "no ignore_index", node.get("ignore_index", None))
    rows = x.transpose((0, *range(2, x.ndim), 1)).reshape(-1, x.shape[1])
    loss = F.cross_entropy(rows, target.numpy().reshape(-1), node.get("reduction", "mean"))
    return loss if loss.ndim == 0 else loss.reshape(target.shape)


# ---------------------------------------------------------------- shapes and parts


@reads("Flatten", axis=int)
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[: axis + x.ndim if axis < 0 else axis]), -1)


@reads("Reshape", allowzero=int, shape=list, consumed_inputs=list)
def reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    wanted = (node.get("shape", None) if shape is None else numbers(shape)) or []
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


@reads("Squeeze", axes=list)
def squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = node.get("axes", None) if axes is None else numbers(axes)
    gone = (
        [axis_of(i, x.ndim) for i in found]
        if found
        else [i for i, n in enumerate(x.shape) if n == 1]
    )
    need(all(x.shape[i] == 1 for i in gone), "axes of length 1", x.shape)
    return x.reshape([n for i, n in enumerate(x.shape) if i not in gone])


@reads("Unsqueeze", axes=list)
def unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    found = (node.get("axes", None) if axes is None else numbers(axes)) or []
    new, rest = {axis_of(i, x.ndim + len(found)) for i in found}, iter(x.shape)
    need(len(new) == len(found), "different axes", found)
    return x.reshape([1 if i in new else next(rest) for i in range(x.ndim + len(found))])


@reads("Transpose", perm=list)
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.transpose(tuple(node.get("perm", range(x.ndim)[::-1])))


@reads("Concat", axis=int)
def concat(node: Node, *tensors: Tensor) -> Tensor:
    return A.concat(tensors, node.get("axis", 1))


def borders(
    node: Node, x: Tensor, pads: Tensor | None, axes: Tensor | None
) -> dict[int, tuple[int, int]]:
    """axis -> (before, after), of a Pad."""
    widths = node.get("pads", node.get("paddings", [])) if pads is None else numbers(pads)
    places = list(range(x.ndim)) if axes is None else numbers(axes)
    fits = bool(widths) and len(widths) == 2 * len(places)
    need(fits and 0 <= min(widths) <= max(widths) <= WIDEST, "two widths an axis", widths)
    return {
        axis_of(axis, x.ndim): (widths[i], widths[i + len(places)]) for i, axis in enumerate(places)
    }


@reads("Pad", mode=str, pads=list, paddings=list, value=float)
def pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    mode = node.get("mode", "constant")
    need(mode == "constant", "a constant border", mode)
    by_axis = borders(node, x, pads, axes)
    flat = [w for axis in reversed(range(x.ndim)) for w in by_axis.get(axis, (0, 0))]
    return F.pad(x, tuple(flat), node.get("value", 0.0) if value is None else value.item())


@reads("Slice", starts=list, ends=list, axes=list)
def slices(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last, places = (
        numbers(t) if t is not None else node.get(name, None)
        for name, t in (("starts", starts), ("ends", ends), ("axes", axes))
    )
    need(first is not None and last is not None, "starts and ends", "none")
    places = range(len(first)) if places is None else places
    jumps = [1] * len(first) if steps is None else numbers(steps)
    key = [slice(None)] * x.ndim
    for start, end, axis, jump in zip(first, last, places, jumps, strict=True):
        axis = axis_of(axis, x.ndim)
        start = max(start, -x.shape[axis])  # NumPy would find nothing before the first, backwards
        key[axis] = slice(start, end, jump)
    return x[tuple(key)]


@reads("Gather", axis=int)
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    axis = node.axis(0, x.ndim)
    if axis == 0 and x.ndim == 2 and x.dtype.kind == "f" and (indices.numpy() >= 0).all():
        return F.embedding(indices, x)
    return x[(slice(None),) * axis + (indices,)]
