"""Each Function of tinynet as nodes of ONNX: `WRITERS[Function](writer, step)`, the result's name,
or a list of them.

Only what a net in use does: losses, and dropout in training, have no row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from tinynet.arithmetic.binary import (
    Add,
    Div,
    MatMul,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Power,
    Sub,
    Where,
)
from tinynet.arithmetic.elementwise import Abs, Clip, Cos, Erf, Exp, Log, NormRoot, Sin, Sqrt
from tinynet.arithmetic.operands import axes_of
from tinynet.arithmetic.reductions import Cumsum, Max, Min, Prod, Sum
from tinynet.arithmetic.shapes import Cast, Concat, Copy, Index, Reshape, Transpose
from tinynet.errors import ModelFileError
from tinynet.functional.activation import (
    GELU,
    Elu,
    LeakyRelu,
    LogSoftmax,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from tinynet.functional.affine import Linear
from tinynet.functional.attention import Attention
from tinynet.functional.convolution import Conv2d, Conv2dEach, ConvTranspose2d
from tinynet.functional.normalization import (
    BatchNorm,
    LayerNorm,
    LocalResponseNorm,
    SpatialResponseNorm,
)
from tinynet.functional.pooling import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d, Upsample2d
from tinynet.functional.shape import Pad
from tinynet.kernels.max_pool2d import pool_output_size
from tinynet.onnx.recording import Arguments, Step, Varies, Wire
from tinynet.onnx.writer import Writer, plain, sizes

WRITERS: dict[Any, Callable[[Writer, Step], Any]] = {}
END = 2**63 - 1  # to the end of an axis, whatever its length


def writes(*functions: Any) -> Callable:
    def add(function: Callable) -> Callable:
        WRITERS.update(dict.fromkeys(functions, function))
        return function

    return add


def given(w: Writer, step: Step, *names: str) -> list[str]:
    """The names of these arguments in the file; "" for one that is None."""
    return [w.name(a) if isinstance(a := step.arguments[n], Wire) else "" for n in names]


def first(step: Step) -> Wire:
    """x."""
    return step.arguments[next(iter(step.arguments))]


def options(step: Step) -> list[Any]:
    """All arguments but the first, which is x."""
    return [plain(step, name) for name in list(step.arguments)[1:]]


def with_relu(w: Writer, step: Step, y: str) -> str:
    return w.node("Relu", [y]) if plain(step, "relu") else y


# ---------------------------------------------------------------- element by element

ONE = {
    ReLU: "Relu", Tanh: "Tanh", Sigmoid: "Sigmoid",
    Neg: "Neg", Exp: "Exp", Log: "Log", Sqrt: "Sqrt", NormRoot: "Sqrt", Sin: "Sin",
    Cos: "Cos", Erf: "Erf", Abs: "Abs",
}  # fmt: skip
TWO = {
    Add: "Add", Sub: "Sub", Mul: "Mul", Div: "Div", Power: "Pow", Maximum: "Max",
    Minimum: "Min", MatMul: "MatMul",
}  # fmt: skip
COMPARED = {
    "eq": "Equal", "ne": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or", "logical_not": "Not",
}  # fmt: skip


@writes(*ONE)
def one(w: Writer, step: Step) -> str:
    return w.node(ONE[step.function], [w.name(first(step))])


@writes(*TWO)
def two(w: Writer, step: Step) -> str:
    return w.node(TWO[step.function], alike(w, step.arguments.values(), step.outputs[0].dtype))


def alike(w: Writer, wires: Iterable[Wire], dtype: np.dtype) -> list[str]:
    """Wires in one dtype: ONNX's operators take equal ones alone."""
    return [w.name(x) if x.dtype == dtype else cast(w, w.name(x), dtype) for x in wires]


@writes(*COMPARED)
def compared(w: Writer, step: Step) -> str:
    wires = list(step.arguments.values())
    op, dtype = COMPARED[step.function], np.result_type(*(x.dtype for x in wires))
    if step.function.startswith("logical") and dtype.kind != "b":
        raise ModelFileError(f"export: {step.name}: expected booleans, got {dtype}")
    y = w.node(op, alike(w, wires, dtype))
    return w.node("Not", [y]) if step.function == "ne" else y


def cast(w: Writer, x: str, dtype: np.dtype) -> str:
    return w.node("Cast", [x], to=int(w.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))


@writes(Where)
def where(w: Writer, step: Step) -> str:
    condition, *values = step.arguments.values()
    return w.node("Where", [w.name(condition), *alike(w, values, step.outputs[0].dtype)])


@writes(Pow)
def power(w: Writer, step: Step) -> str:
    dtype = step.outputs[0].dtype
    (x,) = alike(w, [first(step)], dtype)
    return w.node("Pow", [x, w.constant(options(step)[0], dtype)])


@writes(Clip)
def clip(w: Writer, step: Step) -> str:
    dtype = step.outputs[0].dtype
    ends = ["" if np.isinf(limit) else w.constant(limit, dtype) for limit in options(step)]
    return w.node("Clip", [w.name(first(step)), *ends])


@writes(LeakyRelu, Elu)
def with_slope(w: Writer, step: Step) -> str:
    """Both call their one number alpha."""
    return w.node(step.function.__name__, [w.name(first(step))], alpha=float(options(step)[0]))


@writes(GELU)
def gelu(w: Writer, step: Step) -> str:
    return w.node("Gelu", given(w, step, "x"), approximate=plain(step, "approximate"))


@writes(Softmax)
def softmax(w: Writer, step: Step) -> str:
    return w.node("Softmax", given(w, step, "x"), axis=plain(step, "axis"))


@writes(LogSoftmax)
def log_softmax(w: Writer, step: Step) -> str:
    return w.node("LogSoftmax", given(w, step, "x"), axis=plain(step, "axis"))


@writes(Cast)
def cast_to(w: Writer, step: Step) -> str:
    return cast(w, given(w, step, "x")[0], plain(step, "dtype"))


# ---------------------------------------------------------------- linear maps


@writes(Linear)
def linear(w: Writer, step: Step) -> str:
    """Gemm on rows, as its weight lies; MatMul on anything larger, which takes it turned."""
    x, weight, bias = given(w, step, "x", "weight", "bias")
    if len(step.arguments["x"].shape) == 2:
        return with_relu(w, step, w.node("Gemm", [x, weight, bias], transB=1))
    y = w.node("MatMul", [x, w.node("Transpose", [weight], perm=[1, 0])])
    return with_relu(w, step, w.node("Add", [y, bias]) if bias else y)


@writes(Conv2d)
def conv2d(w: Writer, step: Step) -> str:
    (ph, pw), kernel = plain(step, "padding"), sizes(step, step.arguments["weight"], (2, 3))
    y = w.node(
        "Conv", given(w, step, "x", "weight", "bias"), kernel_shape=kernel,
        strides=list(plain(step, "stride")), pads=[ph, pw, ph, pw], group=plain(step, "groups"),
        dilations=list(plain(step, "dilation")),
    )  # fmt: skip
    return with_relu(w, step, y)


@writes(Conv2dEach)
def conv2d_each(w: Writer, step: Step) -> list[str]:
    """A convolution for each weight, named by the weight's module."""
    (_, x), *others = step.arguments.items()
    count, names = len(step.outputs), []
    for (_, weight), (_, bias) in zip(others[:count], others[count : 2 * count], strict=True):
        w.begin(weight.name.rpartition(".")[0] or step.path)
        one = dict(others[2 * count :], x=x, weight=weight, bias=bias, dilation=(1, 1))
        names.append(conv2d(w, replace(step, arguments=Arguments(one))))
    return names


@writes(ConvTranspose2d)
def conv_transpose2d(w: Writer, step: Step) -> str:
    x, kernel = step.arguments["x"], sizes(step, step.arguments["weight"], (2, 3))
    stride, padding, size = (plain(step, name) for name in ("stride", "padding", "size"))
    extra = [
        wanted - ((n - 1) * t - 2 * p + k)
        for wanted, n, t, p, k in zip(
            size, sizes(step, x, (2, 3)), stride, padding, kernel, strict=True
        )
    ]
    return w.node(
        "ConvTranspose", given(w, step, "x", "weight", "bias"), kernel_shape=kernel,
        strides=list(stride), pads=[*padding, *padding], output_padding=extra,
        group=plain(step, "groups"),
    )  # fmt: skip


@writes(Attention)
def attend(w: Writer, step: Step) -> str:
    """softmax(q k^T / sqrt d) v, the heads as an axis of their own: (N, heads, T, d)."""
    q, k, v = given(w, step, "q", "k", "v")
    heads, mask = plain(step, "heads"), step.arguments["mask"]
    width, dtype = step.arguments["q"].shape[2] // heads, step.outputs[0].dtype

    def split(x: str, order: list[int]) -> str:
        x = w.node("Reshape", [x, w.constant([0, 0, heads, -1], np.int64)])
        return w.node("Transpose", [x], perm=order)

    scores = w.node("MatMul", [split(q, [0, 2, 1, 3]), split(k, [0, 2, 3, 1])])
    scores = w.node("Mul", [scores, w.constant(1 / math.sqrt(width), dtype)])
    if isinstance(mask, Wire):
        scores = w.node("Where", [w.name(mask), scores, w.constant(-np.inf, dtype)])
    y = w.node("MatMul", [w.node("Softmax", [scores], axis=-1), split(v, [0, 2, 1, 3])])
    y = w.node("Transpose", [y], perm=[0, 2, 1, 3])
    return w.node("Reshape", [y, w.constant([0, 0, -1], np.int64)])


# ---------------------------------------------------------------- windows


@writes(MaxPool2d)
def max_pool2d(w: Writer, step: Step) -> str:
    kernel, stride, _, _, pads = windows(step)
    return w.node(
        "MaxPool", given(w, step, "x"), kernel_shape=list(kernel), strides=list(stride), pads=pads
    )


def windows(step: Step) -> tuple:
    """kernel, stride, padding, what hangs over the end, pads [top, left, bottom, right].

    What hangs over the edge in ceil mode is written as padding: programs disagree on ceil_mode.
    """
    kernel, stride, padding, ceil_mode = options(step)[:4]
    sides = sizes(step, step.arguments["x"], (2, 3))
    out = pool_output_size(tuple(sides), kernel, stride, padding, ceil_mode)  # type: ignore[arg-type]
    over = [
        max(0, (o - 1) * t + k - n - 2 * p)
        for o, t, k, n, p in zip(out, stride, kernel, sides, padding, strict=True)
    ]
    ends = [p + o for p, o in zip(padding, over, strict=True)]
    return kernel, stride, padding, over, [*padding, *ends]


@writes(AvgPool2d)
def avg_pool2d(w: Writer, step: Step) -> str:
    """Padding that counts is written as zeros around the picture, so that what hangs over the edge,
    which never counts, can be padding.
    """
    x = given(w, step, "x")[0]
    kernel, stride, (ph, pw), over, pads = windows(step)
    if options(step)[4] and (ph or pw):
        zero = w.constant(0, step.outputs[0].dtype)
        x = w.node("Pad", [x, w.constant([0, 0, ph, pw, 0, 0, ph, pw], np.int64), zero])
        pads = [0, 0, *over]
    return w.node("AveragePool", [x], kernel_shape=list(kernel), strides=list(stride), pads=pads)


@writes(AdaptiveAvgPool2d)
def adaptive_avg_pool2d(w: Writer, step: Step) -> str:
    """Equal windows as such a pool; others as a product with the matrices of their means."""
    x, size = given(w, step, "x")[0], plain(step, "size")
    sides = sizes(step, step.arguments["x"], (2, 3))
    if tuple(size) == (1, 1):
        return w.node("GlobalAveragePool", [x])
    if not any(n % m for n, m in zip(sides, size, strict=True)):
        kernel = [n // m for n, m in zip(sides, size, strict=True)]
        return w.node("AveragePool", [x], kernel_shape=kernel, strides=kernel)
    rows, columns = (np.zeros((m, n)) for n, m in zip(sides, size, strict=True))
    for matrix in (rows, columns):
        m, n = matrix.shape
        for i in range(m):
            window = slice(i * n // m, -(-(i + 1) * n // m))
            matrix[i, window] = 1 / (window.stop - window.start)
    dtype = step.outputs[0].dtype
    y = w.node("MatMul", [w.constant(rows, dtype), x])
    return w.node("MatMul", [y, w.constant(columns.T, dtype)])


@writes(Upsample2d)
def upsample2d(w: Writer, step: Step) -> str:
    scales = w.constant([1, 1, *plain(step, "scale")], np.float32)
    return w.node(
        "Resize", [*given(w, step, "x"), "", scales], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip


# ---------------------------------------------------------------- normalisation


@writes(LocalResponseNorm)
def local_response_norm(w: Writer, step: Step) -> str:
    """ONNX divides alpha by size as well, and calls k bias."""
    size, alpha, beta, k = (plain(step, name) for name in ("size", "alpha", "beta", "k"))
    if size % 2 == 0:
        raise ModelFileError(
            f"export: {step.name}: expected an odd size, got "
            f"{size}: ONNX's window of an even one lies a channel further"
        )
    (x,), shape = given(w, step, "x"), step.arguments["x"].shape
    if len(shape) != 4:  # runtimes take pictures alone
        x = w.node("Reshape", [x, w.constant([0, 0, -1, 1], np.int64)])
    y = w.node("LRN", [x], size=size, alpha=float(alpha), beta=float(beta), bias=float(k))
    if len(shape) != 4:
        row = sizes(step, step.arguments["x"], range(1, len(shape)))
        y = w.node("Reshape", [y, w.constant([0, *row], np.int64)])
    return y


@writes(SpatialResponseNorm)
def spatial_response_norm(w: Writer, step: Step) -> str:
    """x / (k + alpha mean(x^2))^beta, the mean over a patch with the zeros around the picture."""
    (x,), size = given(w, step, "x"), plain(step, "size")
    alpha, beta, k = (
        w.constant(plain(step, name), step.outputs[0].dtype) for name in ("alpha", "beta", "k")
    )
    before, after = size // 2, (size - 1) // 2
    mean = w.node(
        "AveragePool", [w.node("Mul", [x, x])], kernel_shape=[size, size], strides=[1, 1],
        pads=[before, before, after, after], count_include_pad=1,
    )  # fmt: skip
    sum_ = w.node("Add", [w.node("Mul", [mean, alpha]), k])
    return w.node("Div", [x, w.node("Pow", [sum_, beta])])


@writes(BatchNorm)
def batch_norm(w: Writer, step: Step) -> str:
    if plain(step, "training"):
        raise ModelFileError(
            f"export: {step.name}: expected its use with running means, "
            f"got its training; leave training=True to Module.train()"
        )
    x = step.arguments["x"]
    inputs = given(w, step, "x", "weight", "bias", "running_mean", "running_var")
    for i, value in ((1, 1), (2, 0)):
        inputs[i] = inputs[i] or w.constant(np.full(x.shape[1], value, x.dtype))
    return with_relu(w, step, w.node("BatchNormalization", inputs, epsilon=plain(step, "eps")))


@writes(LayerNorm)
def layer_norm(w: Writer, step: Step) -> str:
    x, axes = step.arguments["x"], options(step)[2]
    inputs = given(w, step, "x", "weight", "bias")
    row = sizes(step, x, range(-axes, 0))
    inputs[1] = inputs[1] or w.constant(np.ones(row, x.dtype))
    return w.node("LayerNormalization", inputs, axis=-axes, epsilon=plain(step, "eps"))


# ---------------------------------------------------------------- over axes


@writes(Sum, Max, Min, Prod)
def reduced(w: Writer, step: Step) -> str:
    (x,) = alike(w, [first(step)], step.outputs[0].dtype)  # NumPy counts booleans as int64
    axes = w.constant(axes_of(plain(step, "axis"), len(first(step).shape)), np.int64)
    keepdims = int(plain(step, "keepdims"))
    return w.node(f"Reduce{step.function.__name__}", [x, axes], keepdims=keepdims)


@writes(Cumsum)
def cumsum(w: Writer, step: Step) -> str:
    return w.node("CumSum", [*given(w, step, "x"), w.constant(plain(step, "axis"), np.int64)])


# ---------------------------------------------------------------- shapes and parts


@writes(Reshape)
def reshape(w: Writer, step: Step) -> str:
    """A size that the batch changes is 0, "as it was", or -1, "what is left"."""
    x, y = step.arguments["x"], step.outputs[0].shape
    pairs = [*zip(x.both, step.outputs[0].both, strict=True)]  # shapes before and after, by run
    changes = [i for i, n in enumerate(y) if n is None]
    as_it_was = [i for i in changes if all(a[i : i + 1] == b[i : i + 1] for a, b in pairs)]
    left = [i for i in changes if i not in as_it_was]
    if len(left) > 1:
        raise ModelFileError(
            f"export: {step.name}: expected one size that the batch "
            f"changes, got several: {step.arguments['shape']}"
        )
    wanted = [0 if i in as_it_was else -1 if i in left else n for i, n in enumerate(y)]
    return w.node("Reshape", [*given(w, step, "x"), w.constant(wanted, np.int64)])


@writes(Transpose)
def transpose(w: Writer, step: Step) -> str:
    (x,), axes = given(w, step, "x"), list(plain(step, "axes"))
    return w.node("Transpose", [x], perm=axes) if axes else x


@writes(Copy)
def copy(w: Writer, step: Step) -> str:
    """A file knows no devices: nothing."""
    return given(w, step, "x")[0]


@writes(Concat)
def concat(w: Writer, step: Step) -> str:
    wires = [a for name, a in step.arguments.items() if name != "axis"]
    return w.node("Concat", alike(w, wires, step.outputs[0].dtype), axis=plain(step, "axis"))


@writes(Pad)
def pad(w: Writer, step: Step) -> str:
    widths, dtype = plain(step, "widths"), step.outputs[0].dtype
    pads = [before for before, _ in widths] + [after for _, after in widths]
    inputs = [*given(w, step, "x"), w.constant(pads, np.int64)]
    return w.node("Pad", [*inputs, w.constant(plain(step, "value"), dtype)])


@writes(Index)
def index(w: Writer, step: Step) -> str:
    """Slices, then numbers and new axes; or one array, of whole numbers, that looks up one axis."""
    wire, key = step.arguments["x"], step.arguments["key"]
    x, parts = w.name(wire), list(key) if isinstance(key, tuple) else [key]
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis in [part for part in parts if not isinstance(part, Wire)]:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(wire.shape) - taken)
    slices: list[tuple[int, int, int, int]] = []
    numbers: list[tuple[int, Any]] = []
    new: list[int] = []
    axis = place = 0
    for part in parts:
        if part is None:
            new.append(place)
            place += 1
            continue
        if isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            numbers.append((axis, w.constant(int(part), np.int64)))
        elif isinstance(part, Wire) and part.dtype.kind in "iu" and not numbers:
            numbers.append((axis, w.name(part)))
            place += len(part.shape)
        elif isinstance(part, slice):
            if part != slice(None):
                slices.append(slice_of(part, axis, wire.shape[axis]))
            place += 1
        else:
            refuse_key(step, part)
        axis += 1
    if any(isinstance(part, Wire) for part in parts) and len(numbers) + len(new) > 1:
        refuse_key(step, key)
    if slices:
        columns = [w.constant(column, np.int64) for column in zip(*slices, strict=True)]
        x = w.node("Slice", [x, *columns])
    for axis, number in reversed(numbers):
        x = w.node("Gather", [x, number], axis=axis)
    return w.node("Unsqueeze", [x, w.constant(new, np.int64)]) if new else x


def slice_of(part: slice, axis: int, size: int | None) -> tuple[int, int, int, int]:
    """start, stop, axis and step of a Slice. size: of the axis, None if it is open."""
    step = 1 if part.step is None else part.step
    begin, end = (0, END) if step > 0 else (END, -END)
    start = begin if part.start is None else part.start
    stop = end if part.stop is None else part.stop
    if step < 0 and size is not None and start < -size:
        return 0, 0, axis, step  # nothing; ONNX would take the first element
    return start, stop, axis, step


def refuse_key(step: Step, key: Any) -> None:
    if isinstance(key, Varies):
        plain(step, "key")
    got = f"an array of {key.dtype}" if isinstance(key, Wire) else type(key).__name__
    raise ModelFileError(
        f"export: {step.name}: expected slices, numbers, None, or one array of whole numbers, "
        f"got {got} in {key if isinstance(key, slice) else 'x[]'}"
    )
