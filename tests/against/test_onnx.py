"""The operator tests that the package `onnx` carries, run through an adapter from ONNX's operators
to tinynet's.

Every test either applies and must pass, or is refused by the adapter with a reason; the counts are
printed.
"""

from __future__ import annotations

import collections
import glob
import os
import warnings

import numpy as np
import pytest

import tinynet
import tinynet.functional as F

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402

pytestmark = pytest.mark.slow
OPERATORS = {}


class NotApplicable(Exception):
    """The test asks for what tinynet does not have; the text is the reason."""


def operator(*names):
    def add(function):
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return add


def need(condition, reason):
    if not condition:
        raise NotApplicable(reason)


def host(x):
    """An input that is a list of numbers (axes, a shape), or None."""
    return None if x is None else x.numpy()


def pads_of(x, a, kernel):
    """((before, after) of rows, of columns), strides."""
    need(x.ndim == 4, "pictures of one or three dimensions")
    need(all(d == 1 for d in a.get("dilations", ())), "dilation")
    strides, given = a.get("strides", [1, 1]), a.get("pads", [0, 0, 0, 0])
    how = a.get("auto_pad", "NOTSET")
    if how in ("NOTSET", "VALID"):
        return [(given[0], given[2]), (given[1], given[3])] if how == "NOTSET" else [
            (0, 0)
        ] * 2, strides
    widths = []
    for n, k, s in zip(x.shape[2:], kernel, strides, strict=True):
        total = max(0, (-(-n // s) - 1) * s + k - n)
        widths.append(
            (total // 2, total - total // 2)
            if how == "SAME_UPPER"
            else (total - total // 2, total // 2)
        )
    return widths, strides


@operator("Conv")
def conv(a, opset, x, w, b=None):
    widths, strides = pads_of(x, a, w.shape[2:])
    if all(before == after for before, after in widths):
        return F.conv2d(
            x, w, b, tuple(strides), tuple(before for before, _ in widths), a.get("group", 1)
        )
    x = F.pad(x, (*widths[1], *widths[0]))
    return F.conv2d(x, w, b, tuple(strides), 0, a.get("group", 1))


@operator("MaxPool")
def max_pool(a, opset, x):
    need(not a.get("storage_order"), "winners' positions as a second output")
    kernel = a["kernel_shape"]
    widths, strides = pads_of(x, a, kernel)
    need(x.dtype.kind == "f", f"dtype {x.dtype}")
    ceil = bool(a.get("ceil_mode"))
    if any(
        before != after or 2 * before > k for (before, after), k in zip(widths, kernel, strict=True)
    ):
        need(not ceil, "padding of different widths together with ceil mode")
        x, widths = F.pad(x, (*widths[1], *widths[0]), float("-inf")), [(0, 0)] * 2
    return F.max_pool2d(
        x, tuple(kernel), tuple(strides), tuple(before for before, _ in widths), ceil
    )


@operator("AveragePool")
def average_pool(a, opset, x):
    kernel = a["kernel_shape"]
    widths, strides = pads_of(x, a, kernel)
    include, ceil = bool(a.get("count_include_pad")), bool(a.get("ceil_mode"))
    if any(
        before != after or 2 * before > k for (before, after), k in zip(widths, kernel, strict=True)
    ):
        need(include and not ceil, "padding of different widths that does not count")
        x, widths = F.pad(x, (*widths[1], *widths[0])), [(0, 0)] * 2
    return F.avg_pool2d(
        x, tuple(kernel), tuple(strides), tuple(before for before, _ in widths), ceil, include
    )


@operator("GlobalAveragePool")
def global_average_pool(a, opset, x):
    return x.mean(tuple(range(2, x.ndim)), keepdims=True)


@operator("GlobalMaxPool")
def global_max_pool(a, opset, x):
    return x.max(tuple(range(2, x.ndim)), keepdims=True)


@operator("LRN")
def lrn(a, opset, x):
    return F.local_response_norm(
        x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0)
    )


for name, function in dict(
    Relu=F.relu, Tanh=F.tanh, Sigmoid=F.sigmoid, Exp=F.exp, Log=F.log
).items():

    def unary(a, opset, x, function=function):
        need(x.dtype in (np.float32, np.float64), f"dtype {x.dtype}")
        return function(x)

    OPERATORS[name] = unary


def soft(function, a, opset, x):
    if opset >= 13:
        return function(x, a.get("axis", -1))
    axis = a.get("axis", 1) % x.ndim  # old versions see a matrix
    rows = int(np.prod(x.shape[:axis]))
    return function(x.reshape(rows, -1), 1).reshape(x.shape)


@operator("Softmax")
def softmax(a, opset, x):
    return soft(F.softmax, a, opset, x)


@operator("LogSoftmax")
def log_softmax(a, opset, x):
    return soft(F.log_softmax, a, opset, x)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(a, opset, x, target, weights=None):
    need(weights is None, "class weights")
    need("ignore_index" not in a, "ignored classes")
    axes = (0, *range(2, x.ndim), 1)
    rows = x.transpose(axes).reshape(-1, x.shape[1])  # (N, K, d...) -> (N, d..., K) -> (N d..., K)
    loss = F.cross_entropy(rows, target.numpy().reshape(-1), a.get("reduction", "mean"))
    loss = loss if loss.ndim == 0 else loss.reshape(target.shape)
    return loss, F.log_softmax(x, 1)


@operator("Gemm")
def gemm(a, opset, A, B, C=None):
    A, B = A.transpose() if a.get("transA") else A, B if a.get("transB") else B.transpose()
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    y = F.linear(A, B) if alpha == 1 else F.linear(A, B) * alpha
    return y if C is None else y + C * beta


@operator("MatMul")
def matmul(a, opset, A, B):
    return A @ B


@operator("Dropout")
def dropout(a, opset, x, ratio=None, training=None):
    training = training is not None and bool(training.item())
    p = ratio.item() if ratio is not None else a.get("ratio", 0.5)
    need(not training or p == 0, "NumPy's own random mask")
    return F.dropout(x, p, training), tinynet.tensor(np.ones(x.shape, bool))


@operator("Flatten")
def flatten(a, opset, x):
    axis = a.get("axis", 1)
    return x.reshape(int(np.prod(x.shape[: axis if axis >= 0 else axis + x.ndim])), -1)


@operator("Concat")
def concat(a, opset, *tensors):
    return F.concat(tensors, a.get("axis", 1))


@operator("Pad")
def pad(a, opset, x, pads=None, value=None, axes=None):
    need(a.get("mode", "constant") == "constant", "padding by reflection, edge or wrapping")
    need(x.dtype.kind == "f", f"dtype {x.dtype}")
    pads = a.get("pads", a.get("paddings")) if pads is None else host(pads).tolist()
    axes = range(x.ndim) if axes is None else host(axes).tolist()
    need(min(pads) >= 0, "negative padding")
    widths = {axis % x.ndim: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    flat = [w for axis in reversed(range(x.ndim)) for w in widths.get(axis, (0, 0))]
    return F.pad(x, tuple(flat), a.get("value", 0.0) if value is None else value.item())


def align(a, b, attributes):  # before version 7, b lay along named axes of a
    axis = attributes.get("axis")
    if attributes.get("broadcast") and axis is not None:
        b = b.reshape(*b.shape, *[1] * (a.ndim - (axis % a.ndim) - b.ndim))
    return a, b


for name, function in dict(
    Add=lambda a, b: a + b, Sub=lambda a, b: a - b, Mul=lambda a, b: a * b, Div=lambda a, b: a / b
).items():

    def binary(a, opset, x, y, function=function, name=name):
        need(name != "Div" or x.dtype.kind == "f", "division of integers")
        x, y = align(x, y, a)
        return function(x, y)

    OPERATORS[name] = binary


@operator("Max")
def maximum(a, opset, *tensors):
    y = tensors[0]
    for x in tensors[1:]:
        y = F.maximum(y, x)
    return y


@operator("Sum")
def several(a, opset, *tensors):
    y = tensors[0]
    for x in tensors[1:]:
        y = y + x
    return y


OPERATORS["Mean"] = lambda a, opset, *tensors: several(a, opset, *tensors) / len(tensors)


@operator("Neg")
def negative(a, opset, x):
    return -x


@operator("Sqrt")
def square_root(a, opset, x):
    return x**0.5


@operator("Pow")
def power(a, opset, x, p):
    need(p.size == 1, "a tensor of exponents")
    need(x.dtype.kind == "f", "powers of integers")
    return x ** p.item()


for name in ("sum", "mean", "max"):

    def reduction(a, opset, x, axes=None, name=name):
        axes = a.get("axes") if axes is None else host(axes).tolist()
        if not axes and a.get("noop_with_empty_axes"):
            return x
        need(
            name != "max" or all(x.shape[i] for i in (axes or range(x.ndim))),
            "the maximum of nothing",
        )
        return getattr(x, name)(tuple(axes) if axes else None, bool(a.get("keepdims", 1)))

    OPERATORS["Reduce" + name.capitalize()] = reduction


@operator("Reshape")
def reshape(a, opset, x, shape=None):
    shape = a.get("shape") if shape is None else host(shape).tolist()
    if not a.get("allowzero"):
        shape = [x.shape[i] if n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


@operator("Squeeze")
def squeeze(a, opset, x, axes=None):
    axes = a.get("axes") if axes is None else host(axes).tolist()
    gone = [i % x.ndim for i in axes] if axes else [i for i, n in enumerate(x.shape) if n == 1]
    return x.reshape([n for i, n in enumerate(x.shape) if i not in gone])


@operator("Unsqueeze")
def unsqueeze(a, opset, x, axes=None):
    axes = a.get("axes") if axes is None else host(axes).tolist()
    ndim = x.ndim + len(axes)
    new, rest = {i % ndim for i in axes}, iter(x.shape)
    return x.reshape([1 if i in new else next(rest) for i in range(ndim)])


@operator("Transpose")
def transpose(a, opset, x):
    return x.transpose(*a.get("perm", ()))


@operator("Slice")
def slices(a, opset, x, starts=None, ends=None, axes=None, steps=None):
    starts = a.get("starts") if starts is None else host(starts).tolist()
    ends = a.get("ends") if ends is None else host(ends).tolist()
    axes = a.get("axes", range(len(starts))) if axes is None else host(axes).tolist()
    steps = [1] * len(starts) if steps is None else host(steps).tolist()
    key = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        key[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(key)]


@operator("Gather")
def gather(a, opset, x, indices):
    return x[(slice(None),) * (a.get("axis", 0) % x.ndim) + (indices,)]


@operator("Identity")
def identity(a, opset, x):
    return x


@operator("Constant")
def constant(a, opset):
    need("value" in a, "constants that are no arrays")
    return tinynet.tensor(numpy_helper.to_array(a["value"]))


def tensor(array, grad=False):
    need(isinstance(array, np.ndarray), "sequences and optional values")
    need(
        array.dtype.kind in "biuf" and array.dtype.itemsize > 1 or array.dtype in (np.uint8, bool),
        f"dtype {array.dtype}",
    )
    need(array.dtype not in (np.float16,) and array.dtype.isbuiltin, f"dtype {array.dtype}")
    return tinynet.tensor(array, requires_grad=grad and array.dtype.kind == "f")


def run(model, inputs):
    """The outputs of a graph on some arrays, and the float inputs as leaves."""
    nodes = model.graph.node
    for node in nodes:
        need(
            node.domain in ("", "ai.onnx") and node.op_type in OPERATORS,
            f"no operation {node.op_type}",
        )
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    values = {"": None}
    for given in model.graph.initializer:
        values[given.name] = tensor(numpy_helper.to_array(given), grad=True)
    names = [i.name for i in model.graph.input if i.name not in values]
    values.update(
        (name, tensor(array, grad=True)) for name, array in zip(names, inputs, strict=False)
    )
    for node in nodes:
        attributes = {}
        for a in node.attribute:
            value = onnx.helper.get_attribute_value(a)
            attributes[a.name] = value.decode() if isinstance(value, bytes) else value
        outputs = [name for name in node.output if name]
        need(
            node.op_type != "MaxPool" or len(outputs) == 1, "winners' positions as a second output"
        )
        found = OPERATORS[node.op_type](attributes, opset, *(values[name] for name in node.input))
        found = found if isinstance(found, tuple) else (found,)
        values.update(zip(outputs, found, strict=False))
    return [values[o.name] for o in model.graph.output]


def cases():
    """(name, model, [(inputs, outputs)], rtol, atol) of all operator tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in load_model_tests(kind="node"):
            yield case.name, case.model, case.data_sets, case.rtol, case.atol
        for kind in ("pytorch-operator", "pytorch-converted", "simple"):
            for case in load_model_tests(kind=kind):
                model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
                sets = [
                    read_set(folder, model)
                    for folder in glob.glob(os.path.join(case.model_dir, "test_data_set_*"))
                ]
                yield case.name, model, sets, case.rtol, case.atol


def read_set(folder, model):
    def read(kind, count):
        arrays = []
        for i in range(count):
            with open(os.path.join(folder, f"{kind}_{i}.pb"), "rb") as file:
                proto = onnx.TensorProto()
                try:
                    proto.ParseFromString(file.read())
                    arrays.append(numpy_helper.to_array(proto))
                except Exception:  # a sequence, say
                    arrays.append(None)
        return arrays

    given = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in given]
    return read("input", len(inputs)), read("output", len(model.graph.output))


def test_operator_tests_of_onnx(counts):
    passed, refused, failed = [], collections.Counter(), {}
    for name, model, sets, rtol, atol in cases():
        try:
            for inputs, outputs in sets:
                if isinstance(inputs, dict):
                    inputs = list(inputs.values())
                found = run(model, inputs)
                for y, expected in zip(found, outputs, strict=True):
                    np.testing.assert_allclose(y.numpy(), expected, rtol=rtol, atol=max(atol, 1e-6))
                    assert y.shape == np.shape(expected), (y.shape, np.shape(expected))
            passed.append(name)
        except NotApplicable as reason:
            refused[str(reason)] += 1
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    counts["onnx: operator tests that apply"] = len(passed) + len(failed)
    counts["onnx: of these pass"] = len(passed)
    counts["onnx: do not apply"] = sum(refused.values())
    missing = {r: n for r, n in refused.items() if r.startswith("no operation")}
    counts[f"onnx:   no operation of that name ({len(missing)} names)"] = sum(missing.values())
    for reason, number in refused.most_common():
        if reason not in missing:
            counts[f"onnx:   {reason}"] = number
    assert not failed, "\n".join(f"{name}: {error[:300]}" for name, error in failed.items())
    assert len(passed) >= 300
    for name in (
        "test_Conv2d_groups",
        "test_Conv2d_depthwise_with_multiplier",
        "test_MaxPool2d",
        "test_lrn",
    ):
        assert name in passed
