"""Every form in one file of its version, against onnxruntime. And what such a net is."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import ModelFileError
from tinynet.nn import Buffer, Parameter
from tinynet.onnx.operators import READERS, Node
from tinynet.onnx.windows import even
from tinynet.onnx.work import stretched, work

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from onnx_forms import COLUMN, INPUTS, RNG, ROW, VERSIONS, Form, M, P, S, W, file, scalar  # noqa: E402

helper = onnx.helper


@pytest.mark.parametrize("opset", VERSIONS)
def test_every_form_of_a_version(opset, tmp_path):
    path, forms = tmp_path / "net.onnx", VERSIONS[opset]
    missing = {"Erf", "Where"} if opset < 9 else set()
    forms = [form for form in forms if form[0] not in missing]
    onnx.save(file(forms, opset, INPUTS), path)
    net = tinynet.onnx.load(path).eval()
    with tinynet.no_grad():
        ours = net(*INPUTS.values())
    theirs = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, INPUTS)
    wrong = []
    inputs = {name: tinynet.tensor(x) for name, x in INPUTS.items()}
    for form, node, y, expected in zip(forms, net.nodes, ours, theirs, strict=True):
        y = y.numpy()
        given = [{"": None, **inputs, **net.weights}[name] for name in node.inputs]
        if work(node, given) < 256 * y.size:  # which a limit is held against before it runs
            wrong.append(f"{form[0]} {form[2]}: {work(node, given)} for {y.size}")
        if (y.shape, y.dtype) != (expected.shape, expected.dtype):
            wrong.append(f"{form[0]} {form[2]}: {y.shape} {y.dtype}, not {expected.shape}")
        elif not np.allclose(y.astype(float), expected.astype(float), rtol=1e-4, atol=1e-5):
            wrong.append(f"{form[0]} {form[2]} of {[np.shape(x) or x for x in form[1]]}")
    assert not wrong, "\n".join(wrong)


def test_shapes_are_stretched_from_their_ends():
    assert stretched((3, 1, 2), (4, 2)) == stretched((4, 2), (3, 1, 2)) == 24
    assert stretched((1, 2), (2,)) == stretched((2,), (1, 2)) == 2
    assert stretched() == stretched((), ()) == 1 and stretched((2, 1), (1, 5), (1,)) == 10


SAME = {
    # 7 x 6 pixels, a kernel of 3 x 2 that sees 5 x 2
    "holes, the odd pixel below": (
        dict(auto_pad="SAME_UPPER", dilations=[2, 1]), dict(pads=[2, 0, 2, 1], dilations=[2, 1])
    ),
    "holes, the odd pixel above": (
        dict(auto_pad="SAME_LOWER", dilations=[2, 1]), dict(pads=[2, 1, 2, 0], dilations=[2, 1])
    ),
    "holes and strides": (  # rows at 0, 2, 4, 6 see 5 each: 11 of 7, two more on each side
        dict(auto_pad="SAME_UPPER", dilations=[2, 1], strides=[2, 3]),
        dict(pads=[2, 0, 2, 0], dilations=[2, 1], strides=[2, 3]),
    ),
}  # fmt: skip


def test_borders_that_runtimes_do_not_know(tmp_path):
    """With holes in the kernel; against the same borders in numbers."""
    path = tmp_path / "net.onnx"
    forms: list[Form] = [("Conv", ["p", W], way) for pair in SAME.values() for way in pair]
    onnx.save(file(forms, 17, dict(p=P)), path)
    found = [y.numpy() for y in tinynet.onnx.load(path)(P)]
    for name, ours, expected in zip(SAME, found[::2], found[1::2], strict=True):
        np.testing.assert_array_equal(ours, expected, err_msg=name)


def test_pools_that_hang_over_the_end(tmp_path):
    """On which programs disagree; by definition. A last window begins in the picture or before it;
    what it hangs over counts never, padding where it is asked for.
    """
    forms, expected = [], []
    for n, k, s, before, after in itertools.product((5, 6, 7), (2, 3), (2, 3), (0, 1), (0, 1)):
        x = RNG.normal(size=(1, 1, n, 1)).astype(np.float32)
        options = dict(kernel_shape=[k, 1], strides=[s, 1], pads=[before, 0, after, 0], ceil_mode=1)
        starts = range(-before, -before - (-(n + before + after - k) // s) * s + 1, s)
        ranges = [(i, max(i, 0), min(i + k, n)) for i in starts if i < n]
        found = [[x[0, 0, lo:hi].max() for _, lo, hi in ranges]]
        for counts in (0, 1):
            lengths = [min(i + k, n + after) - i if counts else hi - lo for i, lo, hi in ranges]
            sums = [x[0, 0, lo:hi].sum() for _, lo, hi in ranges]
            found.append([a / b for a, b in zip(sums, lengths, strict=True)])
            forms.append(("AveragePool", [x], options | dict(count_include_pad=counts)))
        forms[-2:-2] = [("MaxPool", [x], options)]
        expected += found
    onnx.save(file(forms, 17, dict(m=M)), tmp_path / "net.onnx")
    for form, y, right in zip(
        forms, tinynet.onnx.load(tmp_path / "net.onnx")(M), expected, strict=True
    ):
        np.testing.assert_allclose(y.numpy().ravel(), right, rtol=1e-5, err_msg=str(form))


def test_a_row_along_an_axis_of_version_6(tmp_path):
    """Before version 7 `axis` said where the second input lies, if broadcast=1."""
    path = tmp_path / "net.onnx"
    rows = {0: RNG.normal(size=2), 1: RNG.normal(size=3), -2: RNG.normal(size=3)}
    rows = {axis: row.astype(np.float32) for axis, row in rows.items()}
    two = RNG.normal(size=(2, 3)).astype(np.float32)
    forms: list[Form] = [("Add", ["s", r], dict(axis=i, broadcast=1)) for i, r in rows.items()]
    forms += [
        ("Mul", ["s", two], dict(axis=0, broadcast=1)),
        ("Sub", ["s", ROW], dict(broadcast=1)),
    ]
    onnx.save(file(forms, 6, dict(s=S)), path)
    expected = [S + rows[0][:, None, None], S + rows[1][:, None], S + rows[-2][:, None]]
    expected += [S * two[:, :, None], S - ROW]
    for ours, right in zip(tinynet.onnx.load(path)(S), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), right, rtol=1e-6)


# ------------------------------------------------------------------------- the net of a file


def load(tmp_path: Any, forms: list[Form], inputs: dict[str, np.ndarray], **options: Any) -> Any:
    """forms: as above, but a result may be called by a name: (op, inputs, options, name)."""
    model = file([form[:3] for form in forms], 17, inputs, **options)
    for node, result, form in zip(model.graph.node, model.graph.output, forms, strict=True):
        node.output[0] = result.name = form[3]
    onnx.save(model, tmp_path / "net.onnx")
    return model, tmp_path / "net.onnx"


def test_what_learns_and_what_stays(tmp_path):
    """Floats with axes are parameters; running means, single numbers and whole ones are buffers,
    and constants of a file that tinynet wrote."""
    c = np.ones(4, np.float32)
    forms = [
        ("Conv", ["p", W], {}, "a"),
        ("BatchNormalization", ["p", c * 1, c * 2, c * 3, c * 4], {}, "b"),
        ("Mul", ["b", scalar(2)], {}, "c"),
        ("Reshape", ["c", np.array([2, -1])], {}, "d"),
    ]
    model, path = load(tmp_path, forms, dict(p=P))
    constant = onnx.numpy_helper.from_array(c[:, None, None], "fc/constant")
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node("Add", ["c", "fc/constant"], ["e"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(c, "nobody needs it"))
    model.graph.output.append(onnx.ValueInfoProto(name="e"))
    learn = {"w0.1", "w1.1", "w1.2", "fc/constant"}
    for producer in ("pytorch", "tinynet"):
        model.producer_name = producer
        onnx.save(model, path)
        net = tinynet.onnx.load(path)
        assert {name for name, w in net.weights.items() if type(w) is Parameter} == learn
        stay = {name for name, w in net.weights.items() if type(w) is Buffer}
        assert stay | learn == {"w0.1", *(f"w1.{i}" for i in (1, 2, 3, 4)), "w2.1", "w3.1",
                                "fc/constant"}  # fmt: skip
        learn = learn - {"fc/constant"}
    again = tinynet.onnx.OnnxNet(net.description)  # zeros, for load_state_dict
    assert not any(w.numpy().any() for w in again.weights.values())
    again.load_state_dict(net.state_dict())
    for ours, expected in zip(again.eval()(P), net.eval()(P), strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())


def test_training_moves_means_and_drops(tmp_path):
    c = np.ones(4, np.float32)
    forms = [
        ("BatchNormalization", ["p", c * 1, c * 0, c * 3, c * 4], dict(momentum=0.75), "y"),
        ("Dropout", ["p", scalar(0.5)], {}, "z"),
    ]
    net = tinynet.onnx.load(load(tmp_path, forms, dict(p=P))[1])
    assert net.training
    _, z = net(P)
    mean, var = P.mean((0, 2, 3)), P.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(net.weights["w0.3"].numpy(), 0.75 * 3 + 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(net.weights["w0.4"].numpy(), 0.75 * 4 + 0.25 * var, rtol=1e-5)
    kept = z.numpy() != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(z.numpy()[kept], 2 * P[kept], rtol=1e-6)
    np.testing.assert_array_equal(net.eval()(P)[1].numpy(), P)


def chain(tmp_path: Any, count: int = 5) -> Any:
    forms = [
        ("Add", [f"y{i}" if i else "m", np.float32([[i]])], {}, f"y{i + 1}") for i in range(count)
    ]
    model, path = load(tmp_path, forms, dict(m=M))
    del model.graph.output[:-1]
    onnx.save(model, path)
    return tinynet.onnx.load(path).eval()


def test_arrays_go_where_the_weights_are(tmp_path):
    net = chain(tmp_path)
    for w in net.weights.values():
        w.move(tinynet.device("cpu:1"))
    assert net(M).device == "cpu:1" and "5 Add" in repr(net)


def test_a_run_keeps_what_is_asked_for_and_nothing_else(tmp_path, monkeypatch):
    net, alive, seen = chain(tmp_path), [], []
    add = tinynet.arithmetic.add

    def spy(a: Any, b: Any) -> Any:
        seen.append(sum(ref() is not None for ref in alive))
        y = add(a, b)
        alive.append(weakref.ref(y))
        return y

    monkeypatch.setitem(tinynet.onnx.reading.TWO, "Add", spy)
    with tinynet.no_grad():
        assert net(M).numpy().tolist() == (M + 10).tolist()
        assert max(seen) <= 1  # the one that is read now
        found = net.run(M, keep=["y2", "y4"])
    assert set(found) == {"y2", "y4", "y5"}
    np.testing.assert_allclose(found["y2"].numpy(), M + 1)
    np.testing.assert_allclose(found["y4"].numpy(), M + 6, rtol=1e-6)


def test_the_limit_is_for_all_nodes_together(tmp_path):
    net, one = chain(tmp_path), 256 * M.size
    with tinynet.no_grad():
        net.run(M, most=5 * one)
        with pytest.raises(ModelFileError, match="node 'y5' .*got a larger one"):
            net.run(M, most=5 * one - 1)
        with pytest.raises(ModelFileError, match=r"expected 1 inputs \(m\), got 2"):
            net.run(M, M)


def test_work_is_known_before_it_is_done(tmp_path):
    """Of a product m k n, whichever way its matrices lie; a border, a window, a block count."""
    a, b = np.zeros((3, 50), np.float32), np.zeros((50, 7), np.float32)
    forms = [
        ("MatMul", [a, b], {}, "plain"),
        ("Gemm", [a, b], {}, "gemm"),
        ("Gemm", [a.T, b], dict(transA=1), "turned a"),
        ("Gemm", [a, b.T], dict(transB=1), "turned b"),
        ("Gemm", [a.T, b.T], dict(transA=1, transB=1), "turned both"),
        ("MatMul", [np.stack([a] * 4)[:, None], np.stack([b] * 5)], {}, "20 of them"),
    ]
    for op, given, options, name in forms:
        net = tinynet.onnx.load(load(tmp_path, [(op, given, options, name)], {})[1])
        work = net.run()[name].size * (50 + 256)
        net.run(most=work)
        with pytest.raises(ModelFileError, match="got a larger one"):
            net.run(most=work - 1)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


PICTURE, EDGE = zeros(2, 4, 60, 50), dict(strides=[4, 5], pads=[1, 0, 2, 1])  # 15 x 10 windows
NEEDED: dict[str, tuple[Form, int]] = {  # a node, and what it takes: numbers times 256, or more
    "conv": (("Conv", [PICTURE, zeros(6, 4, 3, 2)], EDGE), 2 * 6 * 15 * 10 * (24 + 256)),
    "groups": (
        ("Conv", [PICTURE, zeros(6, 2, 3, 2)], EDGE | dict(group=2)), 2 * 6 * 15 * 10 * (12 + 256)
    ),
    "points": (
        ("Conv", [PICTURE, zeros(6, 4, 1, 1)], dict(strides=[7, 6])), 2 * 6 * 9 * 9 * (4 + 256)
    ),
    "turned, many channels": (
        ("ConvTranspose", [zeros(1, 64, 9, 9), zeros(64, 8, 7, 7)], {}),
        81 * 64 * 8 * 49 + 256 * 8 * 15 * 15,
    ),
    "turned": (
        ("ConvTranspose", [PICTURE, zeros(4, 3, 3, 2)], dict(strides=[2, 3])),
        PICTURE.size * 3 * 3 * 2 + 256 * 2 * 3 * (59 * 2 + 3) * (49 * 3 + 2),
    ),
    "pool": (
        ("MaxPool", [PICTURE], EDGE | dict(kernel_shape=[3, 2])), 256 * 2 * 4 * 15 * 10 * 3 * 2
    ),
    "mean": (
        ("AveragePool", [PICTURE], EDGE | dict(kernel_shape=[3, 2])), 256 * 2 * 4 * 15 * 10 * 3 * 2
    ),
    "rows": (("Gather", [zeros(50, 40), np.zeros((7, 9), int)], {}), 256 * 7 * 9 * 40),
    "columns": (("Gather", [zeros(50, 40), np.zeros(9, int)], dict(axis=-1)), 256 * 50 * 9),
    "concat": (("Concat", [zeros(50, 40), zeros(50, 20)], dict(axis=1)), 256 * 50 * 60),
    "border": (("Pad", [zeros(30, 40), np.array([1, 2, 30, 40])], {}), 256 * 61 * 82),
    "blocks": (("Resize", [PICTURE, "", np.float32([1, 1, 2, 3])], {}), 256 * PICTURE.size * 6),
    "two": (("Add", [zeros(50, 1), zeros(40)], {}), 256 * 50 * 40),
    "where": (("Where", [zeros(50, 1) > 0, zeros(40), zeros(3, 1, 1)], {}), 256 * 50 * 40 * 3),
    "one": (("Relu", [zeros(50, 40)], {}), 256 * 50 * 40),
    "sum": (("ReduceSum", [zeros(50, 40)], {}), 256 * 50 * 40),
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_work_is_what_it_takes_and_little_more(name, tmp_path):
    """Windows at the ends are counted before it is known whether they are there."""
    form, needed = NEEDED[name]
    net = tinynet.onnx.load(load(tmp_path, [(*form, "y")], {})[1])
    (node,) = net.nodes
    found = work(node, [None if not name else net.weights[name] for name in node.inputs])
    assert needed <= found <= needed * 1.2


def test_slices_of_every_kind():
    """By the standard's words: what lies before the first or behind the last is moved to it."""
    x, ends = tinynet.arange(3), (-(2**63), -4, -3, -2, 0, 1, 3, 4, 2**63 - 1)
    for start, stop, step in itertools.product(ends, ends, (-4, -2, -1, 1, 2, 4)):
        first, last = (i + 3 if i < 0 else i for i in (start, stop))
        if step > 0:
            first, last = min(max(first, 0), 3), min(max(last, 0), 3)
        else:
            first, last = min(max(first, 0), 2), min(max(last, -1), 2)
        given = [tinynet.tensor(np.array([n])) for n in (start, stop, 0, step)]
        y = READERS["Slice"].call(Node("Slice", "", [], []), x, *given)
        assert y.numpy().tolist() == [*range(first, last, step)], (start, stop, step)


def test_even_says_which_borders_our_pools_take():
    x = tinynet.zeros(1, 1, 6, 6)
    for k, before, after in itertools.product(range(1, 6), range(4), range(4)):
        for kernel, widths in (
            ((k, 2), [(before, after), (1, 1)]), ((2, k), [(1, 1), (before, after)])
        ):  # fmt: skip
            for pool in (F.max_pool2d, F.avg_pool2d):
                try:
                    pool(x, kernel, 1, (widths[0][0], widths[1][0]))
                    takes = before == after
                except ValueError:
                    takes = False
                assert even(kernel, widths) == takes, (kernel, widths)


def constant(name: str, **options: Any) -> Any:
    return helper.make_node("Constant", [], [name], **options)


def test_constants_of_every_form(tmp_path):
    """Nodes without inputs, and a shape that is known, are values when the file is read."""
    whole = onnx.numpy_helper.from_array(np.array([2, 3]), "shape")
    model, path = load(tmp_path, [("Identity", ["m"], {}, "y")], dict(m=M))
    graph = model.graph
    graph.initializer.append(whole)
    made = {
        "a": constant("a", value=onnx.numpy_helper.from_array(COLUMN)),
        "b": constant("b", value_float=1.2345678e-7),
        "c": constant("c", value_floats=[1 / 3, 2e-9]),
        "d": constant("d", value_int=2**40 + 3),
        "e": constant("e", value_ints=[4, -(2**40)]),
        "f": helper.make_node("ConstantOfShape", ["shape"], ["f"]),
        "g": helper.make_node("ConstantOfShape", ["shape"], ["g"],
                              value=onnx.numpy_helper.from_array(np.array([7]))),
    }  # fmt: skip
    expected = [COLUMN, np.float32(1.2345678e-7), np.float32([1 / 3, 2e-9]), np.int64(2**40 + 3),
                np.int64([4, -(2**40)]), np.zeros((2, 3), np.float32),
                np.full((2, 3), 7)]  # fmt: skip
    graph.node.extend(made.values())
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    onnx.save(model, path)
    net = tinynet.onnx.load(path)
    assert len(net.nodes) == 1
    for y, right in zip(net(M)[1:], expected, strict=True):
        np.testing.assert_array_equal(y.numpy(), right)
        assert y.dtype == np.asarray(right).dtype and y.shape == np.shape(right)


def test_attributes_are_those_of_the_file(tmp_path):
    """All digits of a float32 and of a 64-bit number."""
    forms: list[Form] = [
        ("LeakyRelu", ["m"], dict(alpha=float(np.float32(1.2345678e-7)))),
        ("Slice", ["m"], dict(axes=[1], starts=[-(2**40)], ends=[2**62 + 1])),
        ("Concat", ["m"], dict(axis=-(2**40))),
    ]
    onnx.save(file(forms, 7, dict(m=M)), tmp_path / "net.onnx")
    nodes = tinynet.onnx.load(tmp_path / "net.onnx").nodes
    assert [node.attributes for node in nodes] == [form[2] for form in forms]


def test_all_constants_together_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tinynet.onnx.loading, "LARGEST", 12)
    model, path = load(tmp_path, [("Identity", ["m"], {}, "y")], dict(m=M))
    for name, shape in (("shape", [2, 3]), ("one", [1])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), name))
    model.graph.node.extend(
        helper.make_node("ConstantOfShape", ["shape"], [f"c{i}"]) for i in range(2)
    )
    onnx.save(model, path)
    tinynet.onnx.load(path)
    model.graph.node.append(helper.make_node("ConstantOfShape", ["one"], ["c2"]))
    onnx.save(model, path)
    with pytest.raises(ModelFileError, match=r"node 'c2' .*at most 12 elements, got \[1\]"):
        tinynet.onnx.load(path)


def test_what_is_left_out_is_no_result_that_another_node_uses(tmp_path):
    """An input and a result that are left out have the same name, the empty one."""
    forms = [("Dropout", ["m"], {}, "y"), ("Clip", ["m", "", scalar(0.5)], {}, "z")]
    model, path = load(tmp_path, forms, dict(m=M))
    model.graph.node[0].output.append("")
    onnx.save(model, path)
    y, z = tinynet.onnx.load(path).eval()(M)
    np.testing.assert_array_equal(y.numpy(), M)
    np.testing.assert_array_equal(z.numpy(), np.minimum(M, np.float32(0.5)))


def test_a_weight_in_another_shape(tmp_path):
    """Reshaped when the file is read, so that its sizes can be asked for; but not where another
    node takes it as it is."""
    forms = [
        ("Reshape", [COLUMN, np.array([1, 3])], {}, "turned"),
        ("MatMul", ["turned", "m"], {}, "y"),
    ]
    model, path = load(tmp_path, forms, dict(m=M))
    net = tinynet.onnx.load(path)
    assert [node.op for node in net.nodes] == ["MatMul"]
    assert net.weights["turned"].shape == (1, 3) and set(net.weights) == {"turned"}
    model.graph.node.append(helper.make_node("Mul", ["m", "w0.0"], ["z"]))
    model.graph.output.append(onnx.ValueInfoProto(name="z"))
    onnx.save(model, path)
    net = tinynet.onnx.load(path)
    assert [node.op for node in net.nodes] == ["Reshape", "MatMul", "Mul"]
    turned, y, z = net(M)
    np.testing.assert_array_equal(turned.numpy(), COLUMN.T)
    np.testing.assert_allclose(y.numpy(), COLUMN.T @ M, rtol=1e-5)
    np.testing.assert_allclose(z.numpy(), COLUMN * M)


def test_the_version_of_onnxs_own_operators_counts(tmp_path):
    """Of several versions in a file that of the domain "": an old softmax sees a matrix."""
    model, path = load(tmp_path, [("Softmax", ["s"], dict(axis=1), "y")], dict(s=S))
    e = np.exp(S)
    for opset, axes in ((7, (1, 2)), (12, (1, 2)), (13, (1,)), (17, (1,))):
        del model.opset_import[:]
        for domain, version in (("ai.onnx.ml", 20 - opset), ("", opset), ("com.microsoft", 1)):
            model.opset_import.append(helper.make_opsetid(domain, version))
        onnx.save(model, path)
        found = tinynet.onnx.load(path)(S).numpy()
        np.testing.assert_allclose(found, e / e.sum(axes, keepdims=True), rtol=1e-5)


def test_inputs_are_described_as_the_file_has_them(tmp_path):
    """A size may be open, by a name or without one; 0 is a size."""
    model = file([("Identity", ["x"], {})], 17, {})
    model.graph.input.append(helper.make_tensor_value_info("x", 1, ["N", 3, 0, None]))
    onnx.save(model, tmp_path / "net.onnx")
    net = tinynet.onnx.load(tmp_path / "net.onnx")
    assert net.description["inputs"] == {"x": ["float32", [None, 3, 0, None]]}


def test_weights_that_old_files_name_among_the_inputs(tmp_path):
    """Before version 4 of the form every weight was an input as well."""
    model, path = load(tmp_path, [("MatMul", ["m", M.T], {}, "y")], dict(m=M))
    model.graph.input.append(helper.make_tensor_value_info("w0.1", 1, M.T.shape))
    onnx.save(model, path)
    net = tinynet.onnx.load(path)
    assert net.inputs == ["m"]
    np.testing.assert_allclose(net(M).numpy(), M @ M.T, rtol=1e-5)
