"""What a drawing says of a tape, against what backward does; and that it leaves no trace."""

from __future__ import annotations

import inspect
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.tracer import Value

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alexnet import AlexNet  # noqa: E402


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def box(graph, title):
    return next(box for box in graph.boxes if box.title == title)


def named(graph, name):
    """The output that has this name."""
    return next(o for box in graph.boxes for o in box.outputs if o.name == name)


def same(value, array):
    """Whether a summary is that of an array, bit for bit."""
    other = Value.of(array, tinynet.device("cpu"))
    return (
        value.shape == other.shape
        and value.values.tobytes() == other.values.tobytes()
        and (value.norm, value.least, value.largest) == (other.norm, other.least, other.largest)
    )


def mini(devices=("cpu", "cpu:1"), **options):
    tinynet.manual_seed(3)
    net = AlexNet(10, "mini", devices, **options)
    pictures = np.random.default_rng(3).normal(size=(2, 3, 28, 28)).astype(np.float32)
    tinynet.manual_seed(4)
    return net, tinynet.tensor(pictures)


def test_q_plus_x_q():
    x, y = leaf(-2.0), leaf(5.0)
    with tinynet.tracing():
        q = x * y
        loss = q + x * q
    graph = tinynet.draw(loss).graph
    assert [b.title for b in graph.boxes] == ["x", "y", "Mul", "Mul", "Add"]
    assert [b.title for b in graph.steps] == ["Add", "Mul", "Mul"]
    assert [b.step for b in graph.boxes] == [0, 0, 3, 2, 1]
    told = [
        (e.source.outputs[0].name, e.target.step, e.gradient.values[0], e.local, e.is_factor)
        for e in graph.edges
    ]
    # L = q + x q, q = x y: dL/dq = 1 + x, dL/dx = q + y dL/dq, dL/dy = x dL/dq
    assert told == [
        ("q", 1, 1, 1, True),
        (None, 1, 1, 1, True),
        ("x", 2, -10, -10, True),
        ("q", 2, -2, -2, True),
        ("x", 3, -5, 5, True),
        ("y", 3, 2, -2, True),
    ]
    meetings = [(e.before.values[0], e.after.values[0]) for e in graph.edges if e.before]
    assert meetings == [(1, -1), (-10, -15)]
    assert [named(graph, n).gradient.values[0] for n in ("loss", "q", "x", "y")] == [1, -1, -15, 2]
    assert [named(graph, n).value.values[0] for n in ("loss", "q", "x", "y")] == [10, -10, -2, 5]
    mul = graph.steps[2]
    assert mul.formula.startswith("y = a b") and mul.code == "q = x * y"
    lines, start = inspect.getsourcelines(test_q_plus_x_q)
    line = start + next(i for i, text in enumerate(lines) if "q = x * y" in text)
    assert mul.source == f"test_reading.py:{line}"


@pytest.mark.parametrize("traced", [True, False])
def test_the_gradients_are_backwards_bit_for_bit_and_nothing_is_touched(traced):
    """A net with shared arrays, sums of gradients, in-place ReLU, dropout and copies."""

    def forward():
        net, pictures = mini(image_size=None)
        if traced:
            with tinynet.tracing(net):
                return net, F.cross_entropy(net(pictures), [3, 7])
        return net, F.cross_entropy(net(pictures), [3, 7])

    expected_net, expected = forward()
    expected.backward()
    net, loss = forward()
    net.fc8.bias.grad = tinynet.tensor(np.ones(10, np.float32))
    graph = tinynet.draw(loss, net).graph
    assert all(p.grad is None for name, p in net.named_parameters() if name != "fc8.bias")
    assert net.fc8.bias.grad.numpy().tolist() == [1] * 10
    net.fc8.bias.grad = None
    tinynet.draw(loss)
    loss.backward()
    for (name, p), (_, q) in zip(
        net.named_parameters(), expected_net.named_parameters(), strict=True
    ):
        assert p.grad.numpy().tobytes() == q.grad.numpy().tobytes(), name
        assert same(named(graph, name).gradient, q.grad.numpy()), name
    with pytest.raises(RuntimeError, match="was freed by an earlier backward; draw before"):
        tinynet.draw(loss)


def test_sums_of_three_and_of_an_operations_result(rng):
    x = leaf(rng.normal(size=3))
    w = leaf(rng.normal(size=(40, 3)))
    h = w @ x
    loss = (h * h).sum() + (h * 3.0).sum() + (w * w).sum() + w.sum()
    graph = tinynet.draw(loss).graph
    loss.backward()
    into_h = [e for e in graph.edges if e.source is box(graph, "MatMul")]
    assert [e.before is None for e in into_h] == [True, False, False]
    total = 2 * (w.numpy() @ x.numpy()) + 3
    # 3, then twice h: in the order of backward
    assert into_h[0].after.norm == pytest.approx(3 * np.sqrt(40))
    assert into_h[1].before is into_h[0].after and into_h[2].before is into_h[1].after
    assert into_h[2].after.norm == pytest.approx(np.linalg.norm(total))
    assert same(named(graph, "w").gradient, w.grad.numpy())
    assert same(named(graph, "x").gradient, x.grad.numpy())


def test_local_derivatives(rng):
    z = leaf(rng.normal(size=(1, 3)))
    graph = tinynet.draw(F.cross_entropy(z, [1])).graph
    edge = next(e for e in graph.edges if e.source.title == "z")
    p = np.exp(z.numpy()) / np.exp(z.numpy()).sum()
    assert edge.is_factor
    np.testing.assert_allclose(edge.local, p - [[0, 1, 0]], rtol=1e-6)

    a = leaf([-1.0, 2.0, 3.0])
    edge = tinynet.draw(F.relu(a)).graph.edges[0]
    assert edge.is_factor and edge.local.tolist() == [0, 1, 1]

    x, m = leaf(rng.normal(size=3)), leaf(rng.normal(size=(2, 3)))
    edges = {e.source.title: e for e in tinynet.draw(m @ x).graph.edges}
    assert not edges["x"].is_factor and np.array_equal(edges["x"].local, m.numpy())
    assert not edges["m"].is_factor and edges["m"].local.shape == (2, 6)
    np.testing.assert_allclose(edges["x"].gradient.values, np.ones(2) @ edges["x"].local)

    s = leaf(rng.normal(size=3))
    square = tinynet.draw(F.softmax(s, 0)).graph.edges[0]  # 3 x 3, and not diagonal
    assert not square.is_factor and square.local.shape == (3, 3)
    for big in (leaf(np.ones(17)) * 2.0, leaf(np.ones(17)).sum()):
        assert tinynet.draw(big).graph.edges[0].local is None
    spread = leaf(2.0)
    edge = tinynet.draw(spread + np.zeros(3)).graph.edges[0]
    assert not edge.is_factor and edge.local.tolist() == [[1], [1], [1]]


def test_what_is_a_factor_has_the_shape_of_both(rng):
    """The gradient that arrives, times it, is the one that leaves: element by element."""
    row, square, line = (leaf(rng.normal(size=shape)) for shape in ((1, 3), (2, 2), (3,)))
    for x, y in (
        (square, square.reshape(4)),
        (row, row.transpose()),
        (row, row[0]),
        (line, line + np.ones((1, 3))),
    ):
        (edge,) = [e for e in tinynet.draw(y).graph.edges if e.source.title != "plain"]
        assert not edge.is_factor and np.array_equal(edge.local, np.eye(x.size))
    for picked in ([0, 0, 1], [1, 2, 2], [0, 2, 1]):  # below the diagonal, above it, both
        edge = tinynet.draw(line[picked]).graph.edges[0]
        assert not edge.is_factor and np.array_equal(edge.local, np.eye(3)[picked])
    for x, y in ((line, line[[0, 1, 2]]), (square, square * square), (row, row.sum())):
        edge = tinynet.draw(y).graph.edges[0]
        assert edge.is_factor and edge.local.shape == x.shape


def test_bytes_are_counted_once_and_parameters_apart():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(5), nn.LocalResponseNorm(5))
    x = tinynet.tensor(np.ones((2, 3, 9, 9), np.float32))
    loss = net(x).sum()
    graph = tinynet.draw(loss, net).graph
    conv, first, second = [b for b in graph.boxes if b.title in ("Conv2d", "LocalResponseNorm")]
    assert conv.shared == net.layers[0].weight.numpy().nbytes
    assert not first.shared and not second.shared
    arrays = {}
    for node in (loss.node[0],):
        waiting = [node]
        while waiting:
            node = waiting.pop()
            arrays |= {
                a.__array_interface__["data"][0]: a.nbytes for a in node.saved if a is not None
            }
            waiting += [source[0] for source in node.inputs if isinstance(source, tuple)]
    assert graph.kept + graph.shared == sum(arrays.values())
    a = leaf(np.ones(100))
    b = a[10:60]
    graph = tinynet.draw((a * a + (b * b).sum()).sum()).graph
    assert graph.kept == 800  # b lies in the memory of a


def test_names_come_from_what_is_given_then_the_net_the_trace_and_the_caller():
    net = nn.Linear(2, 1)
    x, other = leaf([[1.0, 2.0]]), leaf([[3.0]])
    y = net(x) * other
    graph = tinynet.draw(y, net, names={"left": x, "b": net.bias, "none": None}).graph
    assert {b.title for b in graph.boxes} == {"left", "weight", "b", "Linear", "Mul", "other"}
    assert named(graph, "y").gradient.values == [1]
    graph = tinynet.draw(y).graph
    assert {b.title for b in graph.boxes if not b.runs} == {"x", "parameter", "other"}

    def inner(scaled):
        with tinynet.tracing(net):
            kept = net(scaled)
            return kept * 2.0

    _7 = result = inner(x)
    assert named(tinynet.draw(result, names={"given": x}).graph, "given")  # the trace says scaled
    graph = tinynet.draw(_7).graph
    assert named(graph, "scaled") and named(graph, "kept") and named(graph, "weight")
    assert named(graph, "result")  # the trace has no name for it


def test_a_tape_that_was_not_traced_says_what_tracing_adds():
    x, mask = leaf([[1.0, 2.0]]), tinynet.tensor([[0.0, 1.0]])
    graph = tinynet.draw((x * mask).sum()).graph
    assert "tinynet.tracing(net)" in graph.remarks[0] and len(graph.remarks) == 1
    mul, total = graph.boxes[1:]
    assert mul.outputs[0].value is None and mul.outputs[0].shape == (1, 2)
    assert mul.outputs[0].gradient.values.tolist() == [1, 1] and not mul.source
    assert graph.boxes[0].outputs[0].value.values.tolist() == [1, 2]
    assert total.outputs[0].value.values.tolist() == [2]  # of what is drawn, it is known
    with tinynet.tracing():
        loss = (x * mask).sum()
        half = tinynet.draw(loss + (x * 3.0).sum())
    assert half.graph.remarks == []
    half = tinynet.draw(loss * 2.0).graph
    assert half.remarks[0].startswith("1 of the 3 operations were not traced. Run the forward")
    graph = tinynet.draw(loss).graph
    assert graph.remarks == [] and box(graph, "mask").kind == "plain"
    assert next(e for e in graph.edges if e.source.title == "mask").gradient is None


def test_remarks_on_a_tensor_of_several_elements_and_on_old_gradients():
    x = leaf([1.0, 2.0])
    (x * 3.0).sum().backward()
    with tinynet.tracing():
        y = x * x
    graph = tinynet.draw(y).graph
    assert [r.split(".")[0] for r in graph.remarks] == [
        "Backward begins with ones: these are the gradients of the tensor's sum",
        "1 of the leaves have a ",
    ]
    assert named(graph, "x").gradient.values.tolist() == [2, 4]
    assert x.grad.numpy().tolist() == [3, 3]


def test_several_results_and_one_that_is_not_used():
    class Two(tinynet.Function):
        """a = 2 x, b = 3 x"""

        @staticmethod
        def forward(ctx, x):
            return 2 * x, 3 * x

        @staticmethod
        def backward(ctx, da, db):
            return 2 * da + 3 * db

    x = leaf([1.0, 1.0])
    a, b = Two.apply(x)
    graph = tinynet.draw(a.sum()).graph
    two = box(graph, "Two")
    assert [o.name for o in two.outputs] == ["a", "b"] and two.formula == "a = 2 x, b = 3 x"
    assert [o.gradient.values.tolist() for o in two.outputs] == [[1, 1], [0, 0]]
    assert named(graph, "x").gradient.values.tolist() == [2, 2]
    graph = tinynet.draw((a * b).sum()).graph
    assert [o.gradient.values.tolist() for o in box(graph, "Two").outputs] == [[3, 3], [2, 2]]
    assert named(graph, "x").gradient.values.tolist() == [12, 12]


def test_a_result_of_integers_has_no_gradient():
    class Ranked(tinynet.Function):
        """Twice x, and how to sort it."""

        @staticmethod
        def forward(ctx, x):
            return 2 * x, np.argsort(x)

        @staticmethod
        def backward(ctx, dtwice, dorder):
            return 2 * dtwice

    twice, _ = Ranked.apply(leaf([2.0, 1.0]))
    (ranked,) = tinynet.draw(twice).graph.steps
    two, none = (output.gradient for output in ranked.outputs)
    assert two.values.tolist() == [1, 1] and none is None


def test_what_follows_a_layer_says_so():
    net, pictures = mini()
    with tinynet.tracing(net):
        loss = F.cross_entropy(net(pictures), [3, 7])
    pools = [b for b in tinynet.draw(loss).graph.boxes if b.title == "MaxPool2d"]
    assert [b.after for b in pools] == [
        f"after {tower}.conv{n}" for n in (1, 2, 5) for tower in "ab"
    ]


@pytest.mark.parametrize("turn", [1, -1])
def test_what_joins_two_layers_comes_after_the_one_that_ran_last(turn):
    """Whichever of the arguments that is."""
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    x = tinynet.tensor(np.ones((1, 2), np.float32))
    with tinynet.tracing(net):
        results = [layer(x) for layer in net.layers]
        joined = tinynet.concat([results[i] for i in (0, 2, 1)[::turn]])
        loss = F.relu(joined).sum()
    after = {b.title: b.after for b in tinynet.draw(loss).graph.steps}
    last = "after layers.2"
    assert after == {"Sum": last, "ReLU": last, "Concat": last, "Linear": ""}


def test_what_belongs_to_an_operation_stands_inside_it():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    x, shift = tinynet.tensor(np.ones((2, 1, 4, 4), np.float32)), tinynet.tensor(2.0)
    with tinynet.tracing(net):
        y = net(x) * 3.0 + shift
        loss = (y * net.layers[0].bias.reshape(1, 2, 1, 1)).sum()
    graph = tinynet.draw(loss).graph
    own = {f"layers.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    assert {b.title for b in graph.inside if b.title != "plain"} == own | {"layers.0.weight"}
    # the bias is used twice, x and shift are no one's
    assert {b.title for b in graph.shown if not b.runs} == {"x", "shift", "layers.0.bias"}


def test_wrong_calls():
    x = leaf([1.0])
    with pytest.raises(TypeError, match="expected a Tensor, got float"):
        tinynet.draw(1.0)
    for off_the_tape in (x, tinynet.tensor([1.0]), x.detach() * 2.0):
        with pytest.raises(RuntimeError, match="draw: .*a tensor without a tape"):
            tinynet.draw(off_the_tape)
    for group in ("all", 0, -1, 1.0, True, None):
        with pytest.raises(ValueError, match='expected group to be "auto", "none" or 1, 2'):
            tinynet.draw(x * 2.0, group=group)
    with pytest.raises(TypeError, match="expected net to be a Module, got list"):
        tinynet.draw(x * 2.0, [])
    with pytest.raises(TypeError, match="expected names to be a dict, name -> tensor, got list"):
        tinynet.draw(x * 2.0, names=[x])
    y = x * x
    x.data[:] = 5
    with pytest.raises(RuntimeError, match="was changed in place after forward"):
        tinynet.draw(y)


def test_a_long_chain_needs_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(3001):  # more than a picture may have boxes
        y = y + x
    graph = tinynet.draw(y).graph
    assert [b.title for b in graph.boxes] == ["3001 \u00d7 Add"]


@pytest.mark.slow
def test_the_whole_of_cfg145(capsys, tmp_path):
    net = AlexNet(preset="cfg145", devices=("cpu", "cpu:1"))
    x = tinynet.tensor(np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32))
    with tinynet.tracing(net):
        loss = F.cross_entropy(net(x), [3])
    start = time.perf_counter()
    drawing = tinynet.draw(loss)
    page = drawing.save(tmp_path / "cfg145.html")
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\ncfg145 at batch 1: {seconds:.2f} s, {page.stat().st_size / 1000:.0f} kB")
    assert len(drawing.graph.steps) == 54
    norms = [b for b in drawing.graph.boxes if b.path.endswith("after.conv2.layers.0")]
    assert [b.title for b in norms] == ["LocalResponseNorm"] * 2
    assert [b.kept for b in norms] == [0, 0]  # conv2 keeps its result already
    loss.backward()
    for name, p in net.named_parameters():
        assert same(named(drawing.graph, name).gradient, p.grad.numpy()), name
    assert re.search(r"\ba\.conv1\b", page.read_text())
