"""The operator tests that the package `onnx` carries, through tinynet.onnx.load.

Every test either applies and must pass, or is refused, by one line that says what is expected; the
counts are printed.
"""

from __future__ import annotations

import collections
import glob
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import ModelFileError

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402

from tinynet.onnx.operators import READERS  # noqa: E402
from tinynet.program import published  # noqa: E402

DTYPES = [*map(np.dtype, "float32 float64 uint8 int32 int64 bool".split())]
# Why tests are refused. A mistake of ours must not hide among them.
KNOWN = """
expected ONNX's operators
expected a constant border
expected a running sum from the front
expected a tensor of a known type
expected a shape that is known
expected a type of 1
expected a weight (C
expected a weight (O
expected an operator that tinynet has
expected attributes mode (str)
expected attributes of numbers
expected dropout that drops in training alone
expected floats
expected mode nearest
expected no dilation
expected no ignore_index
expected output_padding
expected pads
expected pictures (N
expected the use of running means
expected tinynet's types
expected whole scales of rows and columns
got 3 inputs
got 4 inputs
max: expected at least one element along axis (1
max_pool2d: expected one dtype
min: expected at least one element along axis (1
""".strip().split("\n")
pytestmark = pytest.mark.slow


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


def array(x):
    """One of a test's values; what is no array stays."""
    if isinstance(x, onnx.TensorProto) and x.data_type in (1, 11):
        return numpy_helper.to_array(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def test_operator_tests_of_onnx(counts, tmp_path):
    passed, refused, failed = [], collections.Counter(), {}
    used = set()
    for name, model, sets, rtol, atol in cases():
        path = tmp_path / "net.onnx"
        later = {output for node in model.graph.node for output in list(node.output)[1:]}
        kept = [i for i, made in enumerate(model.graph.output) if made.name not in later]
        results = [model.graph.output[i] for i in kept]
        del model.graph.output[:]
        model.graph.output.extend(results)  # winners' positions, masks, means: tinynet has none
        path.write_bytes(model.SerializeToString())
        try:
            net = tinynet.onnx.load(path).eval()
            for inputs, outputs in sets:
                inputs = list(inputs.values()) if isinstance(inputs, dict) else inputs
                inputs, outputs = ([array(x) for x in several] for several in (inputs, outputs))
                if not all(isinstance(x, np.ndarray) and x.dtype in DTYPES for x in inputs):
                    raise ModelFileError("(Input): expected tinynet's types, got others")
                found = net(*inputs)
                found = found if isinstance(found, tuple) else (found,)
                for y, expected in zip(found, [outputs[i] for i in kept], strict=True):
                    np.testing.assert_allclose(y.numpy(), expected, rtol=rtol, atol=max(atol, 1e-6))
                    assert y.shape == np.shape(expected), (y.shape, np.shape(expected))
            passed.append(name)
            used |= {node.op for node in net.nodes}
        except ModelFileError as reason:
            refused[re.sub(r".*?(?:\(\w+\)|'): ([^,]*).*", r"\1", str(reason)).strip()] += 1
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    counts["onnx: operator tests that apply"] = len(passed) + len(failed)
    counts["onnx: of these pass"] = len(passed)
    counts["onnx: do not apply"] = sum(refused.values())
    assert not failed, "\n".join(f"{name}: {error[:300]}" for name, error in failed.items())
    assert len(passed) >= 450
    assert not sorted(READERS.keys() - used)  # each operator has a test that it passes
    assert refused.keys() == set(KNOWN)


def light(name, rng):
    """A model of the package, its constants replaced by random weights of fitting size."""
    folder = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")
    model = onnx.load(os.path.join(folder, f"light_{name}.onnx"))
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    users = {n: (node, i) for node in graph.node for i, n in enumerate(node.input)}
    for node in [node for node in graph.node if node.op_type == "ConstantOfShape"]:
        made = node.output[0]
        shape = shapes[node.input[0]]
        user, place = users[made]
        array = rng.standard_normal(shape, np.float32) * np.float32(0.1)
        if user.op_type in ("Conv", "Gemm") and place == 1:
            array *= 10 * np.sqrt(2 / np.prod(shape[1:]))
        if user.op_type == "BatchNormalization" and place in (1, 4):
            array = 1 + np.abs(array)
        graph.initializer.append(numpy_helper.from_array(array, made))
        graph.node.remove(node)
    return model


LIGHT = """bvlc_alexnet densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19
zfnet512"""


@pytest.mark.parametrize("name", LIGHT.split())
def test_light_models_node_by_node(name, rng, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    model = light(name, rng)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    net = tinynet.onnx.load(path).eval()
    names = [node.outputs[0] for node in net.nodes]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=each) for each in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnx.save(model, path)
    session = ort.InferenceSession(path, options)
    x = rng.normal(size=(1, 3, 224, 224)).astype(np.float32)
    with tinynet.no_grad():
        found = net.run(x, keep=names, most=published.TRIAL / 2)  # --import takes such nets
    for each, theirs in zip(names, session.run(names, {net.inputs[0]: x}), strict=True):
        ours = found[each].numpy()
        assert ours.shape == theirs.shape, each
        assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max(), each
    net.train()
    loss = net(x).sum()  # and it can be trained: every weight gets a gradient
    loss.backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", ["inception_v1", "squeezenet"])
def test_other_classes(name, rng, tmp_path):
    """The last layer's weight may go through a Reshape, or be a Conv's."""
    path = tmp_path / "net.onnx"
    onnx.save(light(name, rng), path)
    imported = published.read(str(path), "torchvision")
    assert imported.about["classes"] == 1000
    about = imported.about | {"net": imported.net, "classes": list("abcdefg")}
    net = published.build(about, (tinynet.device("cpu"),))
    assert len(published.start_from(net, imported)) == 2
    assert net(np.zeros((2, 3, 224, 224), np.float32)).shape == (2, 7)


def test_the_page_counts_the_operators():
    page = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text()
    folded = {"Constant", "ConstantOfShape"}
    assert f"writes, {len(READERS.keys() | folded)} in all" in page
