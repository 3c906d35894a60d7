"""What tinynet.onnx refuses, each refusal once, by its words: operators in forms that it does not
read, files that hold no net, nets that no file can hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx_forms import COLUMN, INPUTS, ROW, Form, W, file, scalar

import tinynet
import tinynet.arithmetic as A
import tinynet.functional as F
from tinynet import ModelFileError, nn
from tinynet.onnx import writer, writing

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
WORD, WINDOW = np.array([1, 0]), dict(kernel_shape=[2, 2])


def each(op: str, inputs: list, *ways: dict[str, Any]) -> list[Form]:
    """The operator on these inputs with each of these options."""
    return [(op, inputs, way) for way in ways or ({},)]


# words -> the forms that they refuse, on the inputs of onnx_forms.py
FORMS: dict[str, list[Form]] = {
    "expected floats, got int64": [
        *each("Relu", ["t"]), *each("Div", ["t", WORD[0]]), *each("Pow", ["t", WORD[0]]),
    ],
    "expected booleans, got float32": each("Not", ["m"]),
    "at least one input, got none": each("Max", []) + each("Mean", []),
    "a type of 1, 2, 3": each("Cast", ["m"], *({"to": to} for to in (0, 4, 8, 10, 12, 16))),
    "drops in training alone": each("Dropout", ["m", scalar(0.5), np.array(True)]),
    "a running sum": each("CumSum", ["s", WORD[0]], dict(exclusive=1), dict(reverse=1)),
    "no ignore_index, got 0": each("SoftmaxCrossEntropyLoss", ["m", WORD], dict(ignore_index=0)),
    r"axes of length 1, got \(2, 3, 4\)": each("Squeeze", ["s", WORD[:1]]),
    "different axes": each("Unsqueeze", ["m", WORD * 0]) + each("Unsqueeze", ["m", WORD * -4]),
    "a constant border, got reflect": each("Pad", ["m", np.ones(4, int)], dict(mode="reflect")),
    "two widths an axis": [
        ("Pad", ["m", np.array(widths)], {})
        for widths in ([1, 2, 3], [1] * 6, [0, 0, 0, -1], [0, 4097, 0, 0])
    ] + each("Pad", ["m", np.ones(4, int), "", WORD[1:]]),
    "starts and ends, got none": each("Slice", ["s"]) + each("Slice", ["s", WORD]),
    "whole numbers, got": each("Reshape", ["s", ROW]) + each("Reshape", ["s", WORD[None]]),
    "an axis of 3, got": [
        form for axis in (3, -4) for form in (
            *each("Softmax", ["s"], dict(axis=axis)), *each("Squeeze", ["s", np.array([axis])]),
            *each("Gather", ["s", WORD[0]], dict(axis=axis)),
            *each("Slice", ["s", WORD[:1], WORD[:1], np.array([axis]), WORD[:1]]),
            *each("Slice", ["s", WORD[:1], WORD[:1], np.array([axis]), -WORD[:1]]),
            *each("Pad", ["s", WORD, "", np.array([axis])]),
            *each("LayerNormalization", ["s", ROW], dict(axis=axis)),
        )
    ],
    r"pictures \(N, C, H, W\), got": each("MaxPool", ["s"], WINDOW) + each("Conv", ["x5", W]),
    "expected kernel_shape, got none": each("MaxPool", ["p"]) + each("AveragePool", ["p"]),
    "two sides and strides above 0, four pads": each(
        "MaxPool", ["p"], *(WINDOW | way for way in (
            dict(strides=[0, 1]), dict(strides=[1, 1, 1]), dict(kernel_shape=[2, 0]),
            dict(kernel_shape=[2]), dict(pads=[1, 1]), dict(pads=[0, 0, 0, -1]),
            dict(pads=[4097, 0, 0, 0]),
        )),
    ),
    "the weight's kernel": each("Conv", ["p", W], dict(kernel_shape=[2, 3])),
    "no dilation": each("MaxPool", ["p"], WINDOW | dict(dilations=[1, 2])),
    "two dilations": each(
        "Conv", ["p", W], *({"dilations": way} for way in ([1, 0], [1, 1, 1], [4097, 1]))
    ),
    "a known auto_pad, got SAME": each("Conv", ["p", W], dict(auto_pad="SAME")),
    "a weight ": each("Conv", ["p", W[0]]) + each("ConvTranspose", ["p", W[0]]),
    "output_padding, got output_shape": each("ConvTranspose", ["p", W], dict(output_shape=[9, 9])),
    "expected pads, got auto_pad": each("ConvTranspose", ["p", W], dict(auto_pad="SAME_UPPER")),
    "equal pads": each("ConvTranspose", ["p", W], dict(pads=[1, 0, 0, 0]), dict(pads=[0, 0, 0, 1])),
    "an output_padding of two": each("ConvTranspose", ["p", W], dict(output_padding=[1])),
    "windows that see the picture": [
        form for op in ("MaxPool", "AveragePool") for form in each(
            op, ["p"], WINDOW | dict(pads=[2, 0, 0, 0]), WINDOW | dict(pads=[0, 0, 0, 3]),
            WINDOW | dict(pads=[0, 0, 4, 0], strides=[3, 3]),
        )
    ],
    "mode nearest": each(
        "Resize", ["p", "", np.float32([1, 1, 2, 2])], dict(mode="linear"),
        dict(nearest_mode="ceil"), dict(coordinate_transformation_mode="align_corners"),
    ),
    "whole scales of rows and columns": [
        ("Resize", ["p", "", np.float32(scales)], {})
        for scales in ([1, 1, 1.5, 2], [2, 1, 1, 1], [1, 1, 2], [1, 1, 0, 2])
    ] + each("Resize", ["p"]),
    "an odd size": each("LRN", ["p"], dict(size=2), {}),
    "running means": each("BatchNormalization", ["p", *[ROW] * 4], dict(training_mode=1)),
    "a mean for each channel": each("BatchNormalization", ["p", *[ROW] * 4], dict(spatial=0)),
}  # fmt: skip


@pytest.mark.parametrize("words", FORMS)
def test_forms_of_operators(words: str, tmp_path: Any) -> None:
    for form in FORMS[words]:
        onnx.save(file([form], 17, INPUTS), tmp_path / "net.onnx")
        net = tinynet.onnx.load(tmp_path / "net.onnx").eval()
        with pytest.raises(ModelFileError, match=rf"^node 'y0' \({form[0]}\): .*{words}"):
            net(*INPUTS.values())
            pytest.fail(f"{form[0]} {form[2]}")


def weight(model: Any, array: np.ndarray = COLUMN, **fields: Any) -> None:
    proto = numpy_helper.from_array(array, "w")
    for name, value in fields.items():
        setattr(proto, name, value)
    model.graph.initializer.append(proto)


def nodes(*rows: tuple) -> Callable[[Any], None]:
    """More nodes: (operator, inputs, outputs, options)."""
    return lambda m: m.graph.node.extend(
        helper.make_node(op, of.split(), to.split(), **dict(*more)) for op, of, to, *more in rows
    )


def shaped(shape: np.ndarray, **options: Any) -> Callable[[Any], None]:
    """A constant of that shape."""
    return lambda m: (weight(m, shape), nodes(("ConstantOfShape", "w", "c", options))(m))


TWO, OWN = numpy_helper.from_array(np.ones(2), ""), "expected a result with a name of its own"
# words -> what makes of a file with a Relu, of m, one that they refuse
FILES: dict[str, Callable[[Any], Any]] = {
    "dense weights, got sparse": lambda m: m.graph.sparse_initializer.add(),
    "w: expected weights in the file itself": lambda m: weight(m, data_location=1),
    "w: expected a type of float32, .*, got float16": lambda m: weight(m, np.ones(2, np.float16)),
    "w: expected as many values as its shape says": lambda m: weight(m, raw_data=b"1234"),
    "w: expected as many .* got others": lambda m: weight(m, data_type=99),
    r"node 'y0' \(Relu\): expected ONNX's operators, got com.m's": lambda m: setattr(
        m.graph.node[0], "domain", "com.m"
    ),
    "node '' .*: expected a result, got none": lambda m: m.graph.node[0].ClearField("output"),
    r"\(Relu\): expected attributes of numbers, got x": lambda m: (
        m.graph.node[0].attribute.append(helper.make_attribute("x", TWO))
    ),
    "a node that makes the result 'nobody', got none": lambda m: m.graph.output.add(name="nobody"),
    "a graph with a result, got none": lambda m: m.graph.ClearField("output"),
    "input 'q': expected a tensor of a known type": lambda m: m.graph.input.add(name="q"),
    "expected one result to be used, got 'mask'": nodes(
        ("Dropout", "m", "z mask"), ("Not", "mask", "o1")
    ),
    "value, got .'value_string'": nodes(("Constant", "", "c", {"value_string": "a"})),
    r"numbers as its value, got \[\]": nodes(("Constant", "", "c")),
    rf"\(Constant\): {OWN}": nodes(("Constant", "", "m", {"value_int": 1})),
    "'c' .*: expected a shape that is known, and one": nodes(("ConstantOfShape", "m", "c")),
    "'c' .*: expected a shape that is known": nodes(("ConstantOfShape", "", "c")),
    "'c' .*: expected a shape": shaped(COLUMN),  # of floats
    "'c' .*: expected .* and one value": shaped(WORD, value=TWO),
    **{
        rf"at most 268,435,456 elements, got \[{sizes[0]}, {sizes[1]}\]": shaped(np.array(sizes))
        for sizes in ([-1, 2], [-1, -2], [-1, 0], [2**14 + 1, 2**14], [2**32, 2**32])
    },
    f"node 'z' .*: {OWN}": nodes(("Relu", "m", "z"), ("Tanh", "m", "z")),
    f"'m' .*: {OWN}": nodes(("Relu", "m", "m")),
    "inputs made before it, got 'z'": nodes(("Tanh", "z", "q"), ("Relu", "m", "z")),
    r"\(Add\): expected inputs made before it, got 'z'": nodes(("Add", "m z", "z")),  # its own
    r"alpha \(float\), .* transB \(int\), broadcast \(int\), got mode = 1": nodes(
        ("Gemm", "m m", "z", {"mode": 1})
    ),
    "got 2 inputs, not as many": nodes(("Relu", "m m", "z")),
    "got 1 inputs, not as many": nodes(("MatMul", "m", "z")),
    r"attributes axis \(int\), got axis = 1.5": nodes(("Concat", "m m", "z", {"axis": 1.5})),
    "got slope = 1.5": nodes(("Relu", "m", "z", {"slope": 1.5})),
    "an operator that tinynet has, got Celu": nodes(("Celu", "m", "z")),
}  # fmt: skip


@pytest.mark.parametrize("words", FILES)
def test_files(words: str, tmp_path: Any) -> None:
    path, model = tmp_path / "net.onnx", file([("Relu", ["m"], {})], 17, INPUTS)
    path.write_bytes(model.SerializeToString())
    tinynet.onnx.load(path)
    FILES[words](model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=words):
        tinynet.onnx.load(path)


def test_what_is_no_file_of_onnx(tmp_path: Any) -> None:
    with pytest.raises(ModelFileError, match=f"^{tmp_path} cannot be read: "):
        tinynet.onnx.load(tmp_path)
    (tmp_path / "net").write_bytes(b"\xff" * 50)
    with pytest.raises(ModelFileError, match="net: expected an ONNX file, got none, or a damaged"):
        tinynet.onnx.load(tmp_path / "net")


class Square(tinynet.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * x


def one_of_two(x: Any) -> Any:
    """The second run has no value that large."""
    a, b = F.relu(x), F.relu(x + 1)
    return a if float(x.max()) > 3.5 else b


# words -> what a net does with x (N, 4) and its layer
NETS: dict[str, Callable[[Any, nn.Module], Any]] = {
    "Add in the net takes an array that changes with": lambda x, fc: fc(x) + np.abs(x.numpy()),
    "Linear in fc takes an array that changes": lambda x, fc: fc(x.detach()),
    "Div in the net takes an array that changes": lambda x, fc: fc(x) - x.mean(0),
    "the result takes an array that changes": lambda x, fc: tinynet.tensor(np.abs(x.numpy())),
    "the result takes an array that changes with": lambda x, fc: one_of_two(x),
    "the same operations whatever the input": lambda x, fc: (
        fc(x) if float(x.max()) > 3.5 else fc(fc(x))
    ),
    "MSELoss in the net: expected what a net in use": lambda x, fc: F.mse_loss(fc(x), x, "none"),
    "Square in the net: expected what a net in use does": lambda x, fc: Square.apply(x),
    "got argmax": lambda x, fc: x.argmax(1),
    r"Index in the net: key depends on the input \(1 and 2\); a file": lambda x, fc: x[0][len(x)],
    r"Index in the net: key depends on the input \(.*; a file": lambda x, fc: x[: len(x) - 1],
    **{  # a size among others that are fixed
        f"{words} depends on the input": lambda x, fc, way=way: way(x.reshape(-1, 1, 2, 2), len(x))
        for words, way in {
            "Index in the net: key": lambda p, n: p[:, :, :n],
            "Pad in the net: widths": lambda p, n: F.pad(p, (0, n)),
            "AdaptiveAvgPool2d in the net: size": lambda p, n: F.adaptive_avg_pool2d(p, (1, n)),
            "Upsample2d in the net: scale": lambda p, n: F.interpolate(p, (n, 1)),
            "MaxPool2d in the net: .*": lambda p, n: F.max_pool2d(p, 1, (1, n)),
            "Sum in the net: axis": lambda p, n: p.sum((n, 3)),
            "Transpose in the net: axes": lambda p, n: p.transpose(0, n, 3 - n, 3),
        }.items()
    },
    "slices, numbers, None, or one array of whole numbers, got an array of bool": lambda x, fc: x[
        :, np.array([True, False, True, True])
    ],
    "Index in the net: .*, got an array of int64": lambda x, fc: x.reshape(-1, 2, 2)[
        :, np.array([0, 1]), np.array([1, 1])
    ],
    "expected booleans, got int64": lambda x, fc: A.logical_and(x.long(), x.long()),
    **{
        f"LocalResponseNorm in the net: expected an odd size, got {n}": lambda x, fc, n=n: (
            F.local_response_norm(x, n)
        )
        for n in (2, 4)
    },
    "expected its use with running means, got its training": lambda x, fc: F.batch_norm(
        x.reshape(-1, 2, 2), None, None, training=True
    ),
    "MaxPool2d in the net works along the batch": lambda x, fc: F.max_pool2d(
        x.reshape(1, 1, -1, 4), 1
    ),
    "Reshape in the net: .*one size that the batch changes, got several": lambda x, fc: (
        x @ x.transpose()
    ).reshape(1, 1, len(x), len(x)),
    "a net that gives a tensor, or a tuple of them, got dict": lambda x, fc: {"y": fc(x)},
}


class Net(nn.Module):
    def __init__(self, way: Callable[..., Any] = lambda x, fc: fc(x)):
        self.way, self.fc = way, nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return self.way(x, self.fc)


X = np.float32([[1, 2, 3, 4]])


@pytest.mark.parametrize("words", NETS)
def test_nets(words: str, tmp_path: Any) -> None:
    with pytest.raises(ModelFileError, match=f"^export: .*{words}"):
        tinynet.onnx.export(Net(NETS[words]), X, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_few_tokens_are_enough_to_see_what_depends_on_them(tmp_path: Any) -> None:
    """The second run has others, though those drawn at random may be the same."""
    net = Net(lambda x, fc: x.float() + tinynet.tensor(np.float32(x.numpy()[0, :1])))
    for count in (2, 3, 4):
        for tokens in itertools.product((0, 1), repeat=count):
            if len({*tokens}) == 1:
                continue
            with pytest.raises(ModelFileError, match="takes an array that changes with the input"):
                tinynet.onnx.export(net, np.array([tokens]), tmp_path / "net.onnx")


def test_calls_of_export(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    for net, example, words in (
        (nn.Module(), X, "a net with a forward, got Module, which has none"),
        (Net(), (X, X), "at most 1 inputs of Net, got 2"),
        (Net(), np.ones((1, 1)).astype(int), r"with several values, got int64 \(1, 1\)"),
        (Net(), np.ones((2, 3)).astype(int), r"with several values, got int64 \(2, 3\)"),
        (Net(), np.zeros((0, 4), np.float32), r"with several values, got float32 \(0, 4\)"),
        (Net(), np.float32(1), r"an example \(N, ...\) with several values, got float32 \(\)"),
    ):
        with pytest.raises(ModelFileError, match=f"^export: expected .*{words}"):
            tinynet.onnx.export(net, example, path)
    with pytest.raises(ModelFileError, match="expected 1 names of results, got 2"):
        tinynet.onnx.export(Net(), X, path, outputs=["a", "b"])
    monkeypatch.setitem(
        writing.WRITERS,
        writing.LeakyRelu,
        lambda w, step: w.node("Relu", [w.name(step.arguments["x"])]),
    )
    for way in (  # the only step, the first, one between, the last
        lambda x, fc: F.leaky_relu(x, 0.3),
        lambda x, fc: fc(F.leaky_relu(x, 0.3)),
        lambda x, fc: fc(F.leaky_relu(fc(x), 0.3)),
        lambda x, fc: F.leaky_relu(fc(x), 0.3),
    ):
        with pytest.raises(
            ModelFileError, match="LeakyRelu .*: expected options that .*, got argument 1, too"
        ):
            tinynet.onnx.export(Net(way), X, path)
    monkeypatch.setattr(writer, "LARGEST", 90)
    with pytest.raises(ModelFileError, match="at most 90 bytes, which one ONNX file can hold"):
        tinynet.onnx.export(Net(), X, path)
    assert not path.exists()
