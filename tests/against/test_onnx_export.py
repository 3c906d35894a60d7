"""Nets as ONNX files, run by onnxruntime: every operation, every net, what cannot be right."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import ModelFileError, nn
from tinynet.gradcheck.cases import CASES
from tinynet.program import published

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "history")]
import alexnet  # noqa: E402
import gpt  # noqa: E402
import resnet  # noqa: E402

CPU = tinynet.device("cpu")
# Losses are for training; a mask drawn at random as well. einsum and the like are made of others.
NOT_IN_USE = {"cross_entropy", "nll_loss", "mse_loss", "bce_with_logits", "dropout"}


class Called(nn.Module):
    """fn of the first of several: arrays (N, ...) whose row 0 counts, so that no size varies."""

    def __init__(self, fn):
        self.fn = fn

    def forward(self, a, b=None, c=None, d=None, e=None, f=None):
        return self.fn(*(x[0] for x in (a, b, c, d, e, f) if x is not None))


def run(path, *inputs):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    named = zip(session.get_inputs(), inputs, strict=True)
    return session.run(None, {i.name: np.ascontiguousarray(x) for i, x in named})


def compare(path, net, *inputs, share=2e-5, back=True):
    """The file's results are the net's, but for a share of the largest. back: those of the file as
    tinynet reads it, too.
    """
    with tinynet.no_grad():
        ours = net.eval()(*(tinynet.tensor(x) for x in inputs))
        again = tinynet.onnx.load(path).eval()(*inputs) if back else None
    several = list(ours) if isinstance(ours, (list, tuple)) else [ours]
    found = run(path, *inputs)
    if back:
        several *= 2
        found += [y.numpy() for y in (again if isinstance(again, tuple) else [again])]
    for y, theirs in zip(several, found, strict=True):
        y = y.numpy()
        assert y.shape == theirs.shape and y.dtype == theirs.dtype
        y, theirs = (each.astype(np.float64) for each in (y, theirs))
        assert np.abs(y - theirs).max(initial=0) <= share * np.abs(y).max(initial=0)


# What a file cannot say, by operation: how many of its cases, and the words that refuse them.
REFUSED = {
    "batch_norm": "its use with running means, got its training",
    "local_response_norm": "expected an odd size",
    "index": "expected slices, numbers, None, or one array",
    "logical_and": "expected booleans",
    "logical_or": "expected booleans",
    "(a small network)": "got Dropout",
    **{name: f"got {name}" for name in ("all", "any", "argmax", "argmin", "floor_divide")},
    "max_along": "got argmax",
    "min_along": "got argmin",
    "remainder": "got remainder",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES.keys() - NOT_IN_USE))
def test_every_operation(name, rng, tmp_path):
    path, written, refused = tmp_path / "net.onnx", 0, 0
    for fn, inputs in CASES[name].make(rng):
        arrays = [np.asarray(x.numpy() if isinstance(x, tinynet.Tensor) else x) for x in inputs]
        arrays = [x.astype(np.float32) if x.dtype == np.float64 else x for x in arrays]
        net = Called(fn)
        for p in (*net.parameters(), *net.buffers()):
            p.data = p.data.astype(np.float32)
        given = [np.stack([x, x]) for x in arrays]
        with tinynet.no_grad():
            y = net(*map(tinynet.tensor, given))
        names = [f"y{i}" for i in range(len(y) if isinstance(y, tuple) else 1)]
        try:
            tinynet.onnx.export(net, tuple(given), path, outputs=names)
        except ModelFileError as error:
            assert REFUSED[name] in str(error)
            refused += 1
            continue
        compare(path, net, *given)
        written += 1
    only_refused = ("got", "(a small")
    assert bool(refused) == (name in REFUSED)
    assert written or REFUSED[name].startswith(only_refused)


def pictures(rng, *shape):
    """Random ones, and odd ones: all zeros, a single bright pixel, values without bound."""
    yield rng.normal(0, 60, shape).astype(np.float32)
    odd = np.zeros(shape, np.float32)
    yield odd.copy()
    odd[..., -1, -1] = 1e4
    yield odd


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "cfg145"])
def test_alexnet_of_full_size(preset, rng, tmp_path):
    net, path = alexnet.AlexNet(1000, preset, ("cpu:0", "cpu:1")), tmp_path / "net.onnx"
    example = rng.normal(size=(1, 3, 224, 224)).astype(np.float32)
    start = time.process_time()  # others may use the machine, too
    tinynet.onnx.export(net, example, path, outputs=["logits"])
    assert time.process_time() - start < 5
    assert path.stat().st_size <= 246e6
    onnx.checker.check_model(str(path), full_check=True)
    for x in (*pictures(rng, 1, 3, 224, 224), rng.normal(size=(3, 3, 224, 224)).astype(np.float32)):
        compare(path, net, x, back=False)
        with tinynet.direct_convolution():
            compare(path, net, x, share=1e-5, back=False)


@pytest.mark.parametrize("devices", [("cpu:0", "cpu:1"), ("cpu", "cpu")])
def test_mini_and_its_names(devices, rng, tmp_path):
    """Both towers in one graph without the copies; what each did twice, once; names by layer. On
    one device conv1 of both is one operation.
    """
    net, path = alexnet.AlexNet(10, "mini", devices, 1), tmp_path / "net.onnx"
    tinynet.onnx.export(
        net, rng.normal(size=(2, 1, 28, 28)).astype(np.float32), path, outputs=["logits"]
    )
    graph = onnx.load(path).graph
    names = [node.name for node in graph.node]
    of_a = ["a.conv1/Conv", "a.conv1/Relu", "a.after.conv1.layers.0/LRN",
            "a.after.conv1.layers.1/MaxPool"]  # fmt: skip
    of_b = [name.replace("a.", "b.", 1) for name in of_a]
    together = [*of_a[:2], *of_b[:2], *of_a[2:], *of_b[2:]]
    expected = together if devices[0] == devices[1] else [*of_a, *of_b]
    assert names[: len(expected)] == expected
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == 10 and kinds.count("Gemm") == 5 and kinds.count("Concat") == 4
    assert {t.name for t in graph.initializer} >= {n for n, _ in net.named_parameters()}
    assert [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [
        "N", 1, 28, 28
    ]  # fmt: skip
    for x in pictures(rng, 5, 1, 28, 28):
        compare(path, net, x, share=1e-5)


def test_resnet20(rng, tmp_path):
    net, path = resnet.ResNet(10, 3, 3, True, CPU), tmp_path / "net.onnx"
    with tinynet.no_grad():
        net(tinynet.tensor(rng.normal(2, 3, (8, 3, 32, 32)).astype(np.float32)))  # moves its means
    tinynet.onnx.export(net, rng.normal(size=(1, 3, 32, 32)).astype(np.float32), path)
    assert net.training
    for x in pictures(rng, 3, 3, 32, 32):
        compare(path, net, x, share=1e-5)


def test_gpt(rng, tmp_path):
    net, path = gpt.GPT(65, 16, 32, 4, 2, CPU), tmp_path / "net.onnx"
    tinynet.onnx.export(net, rng.integers(0, 65, (1, 16)), path, outputs=["logits"])
    weights = [t.name for t in onnx.load(path).graph.initializer]
    assert weights.count("tokens.weight") == 1  # read at the start, and compared with at the end
    for tokens in (rng.integers(0, 65, (4, 16)), np.zeros((1, 16), np.int64)):
        compare(path, net, tokens, share=1e-5)


def changed(model, rng):
    """A model with a few of its parts changed: names, attributes, shapes, order."""
    model = onnx.ModelProto.FromString(model)
    graph = model.graph
    for _ in range(rng.integers(1, 4)):
        node = graph.node[rng.integers(len(graph.node))]
        other = graph.node[rng.integers(len(graph.node))]
        weight = graph.initializer[rng.integers(len(graph.initializer))]
        odd = int(rng.choice([-(2**40), -1, 0, 1, 3, 2**20, 2**31, 2**62]))
        way = rng.integers(8)
        if way == 0 and node.input:
            node.input[int(rng.integers(len(node.input)))] = str(
                rng.choice([*other.input, *other.output, "nothing", ""])
            )
        elif way == 1 and node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            if attribute.ints:
                attribute.ints[int(rng.integers(len(attribute.ints)))] = odd
            attribute.i, attribute.f = odd, float(rng.choice([np.nan, -1, 1e30]))
        elif way == 2:
            node.op_type = str(rng.choice([other.op_type, "If", "Loop", "PyOp", "Reshape"]))
        elif way == 3 and weight.dims:
            weight.dims[int(rng.integers(len(weight.dims)))] = abs(odd)
        elif way == 4:
            weight.data_type = int(rng.integers(0, 25))
        elif way == 5:
            weight.raw_data = weight.raw_data[: int(rng.integers(len(weight.raw_data) + 1))]
        elif way == 6:
            del graph.node[int(rng.integers(len(graph.node)))]
        else:
            node.output[0] = str(rng.choice([other.output[0], "", "y"]))
    return model.SerializeToString()


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_files_end_in_one_line(count, rng, tmp_path):
    """Many files, half with changed bytes, half with changed parts: a net or one line. What loads
    is run as well. Nothing takes more memory than some tens of MB.
    """
    path, side = tmp_path / "net.onnx", 8
    net = resnet.ResNet(3, 1, 1, True, CPU)
    tinynet.onnx.export(net, rng.normal(size=(1, 1, side, side)).astype(np.float32), path)
    good = path.read_bytes()
    refused = ran = 0
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_now() + 2**29, limit[1]))
    try:
        for i in range(count):
            data = changed(good, rng) if i % 2 else bytearray(good)
            if not i % 2:
                for _ in range(rng.integers(1, 4)):
                    at = int(rng.integers(len(data)))
                    data[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
            path.write_bytes(data)
            try:
                with tinynet.no_grad(), np.errstate(all="ignore"):
                    tinynet.onnx.load(path).eval()(np.zeros((1, 1, side, side), np.float32))
                ran += 1
            except ModelFileError as error:
                assert "\n" not in str(error)[:-1], str(error)
                refused += 1
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert refused > count // 4 and ran >= count // 200


def pictures_net(*nodes, **weights):
    """A file of such nodes, from "x", pictures of 8 x 8, to "y"."""
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "net", [info("x", 1, ["N", 3, 8, 8])], [info("y", 1, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def node(op, *inputs, out="y", **options):
    return onnx.helper.make_node(op, inputs, [out], **options)


COLUMN, ROW = np.zeros((200_000, 1), np.float32), np.zeros((1, 200_000), np.float32)
BOMBS = {
    "product": pictures_net(node("MatMul", "a", "b"), a=COLUMN, b=ROW),
    "border": pictures_net(
        node("Pad", "x", "p"), p=np.array([0, 0, 4096, 4096, 0, 4096, 4096, 4096])
    ),
    "doubled": pictures_net(
        *(node("Concat", *[f"c{i}" if i else "x"] * 2, out=f"c{i + 1}", axis=3) for i in range(30)),
        node("Identity", "c30"),
    ),
    "conv": pictures_net(
        node("Conv", "x", "w", pads=[4096] * 4), w=np.zeros((900, 3, 1, 1), np.float32)
    ),
    "window": pictures_net(node("MaxPool", "x", kernel_shape=[4097, 4097], pads=[4096] * 4)),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "doubled" else ()) for name in BOMBS],
)
def test_small_files_that_ask_for_years_or_terabytes_are_refused(name, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(BOMBS[name], path)
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_now() + 2**32, limit[1]))
    try:
        with pytest.raises(ModelFileError, match=r"node '\w+' \(\w+\): .* got a larger one"):
            published.read(str(path), "torchvision")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def test_texts_of_a_file_are_texts(tmp_path):
    """protobuf gives bytes where a text is no UTF-8; a message is one line."""
    path = tmp_path / "net.onnx"
    onnx.save(pictures_net(node("Relu", "x", name="one#two", out="y")), path)
    path.write_bytes(path.read_bytes().replace(b"one#two", b"one\x82two"))
    assert tinynet.onnx.load(path).nodes[0].name == "one\ufffdtwo"
    onnx.save(pictures_net(node("Re\nlu", "x")), path)
    with pytest.raises(ModelFileError, match=r"node 'y' \(Re\\nlu\): expected an operator"):
        tinynet.onnx.load(path)


def memory_now():
    """Bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
