"""Everything that a file can say, in one net: written once, run by onnxruntime, read once; with
another size of the batch than the example's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinynet
import tinynet.arithmetic as A
import tinynet.functional as F
from tinynet import nn
from tinynet.onnx.operators import READERS
from tinynet.onnx.writing import WRITERS

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(5)


def weight(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


MASK = np.tril(np.ones((5, 5), bool))
MASK[0, 3] = True
PLACES = (None, -9, -5, -2, 0, 3, 9)  # in an axis of 5
SLICES = [slice(a, b, c) for a in PLACES for b in PLACES for c in (None, 2, -1)]
# name -> what is computed of pictures p (N, 4, 7, 6), rows r (N, 6), sequences s (N, 5, 4), tokens
# t (N, 5), and the parameters of the net
WAYS: dict[str, Callable[..., Any]] = {
    "conv": lambda w, p, r, s, t: F.conv2d(p, w.k, w.b6, (1, 2), (2, 1)),
    "conv relu": lambda w, p, r, s, t: F.conv2d(p, w.k, None, 2, (0, 1), relu=True),
    "conv holes": lambda w, p, r, s, t: F.conv2d(p, w.k, w.b6, 1, (1, 2), dilation=(2, 1)),
    "conv groups": lambda w, p, r, s, t: F.conv2d(p, w.k2, w.b6, 1, 1, 2, relu=True),
    "conv each": lambda w, p, r, s, t: A.concat(
        F.conv2d_each(p, [w.k, w.k + 1], [w.b6, None], (2, 1), (1, 0), 1, True), 1
    ),
    "transposed": lambda w, p, r, s, t: F.conv_transpose2d(p, w.turn, w.b6, (2, 3), (1, 0), (1, 2)),
    "transposed groups": lambda w, p, r, s, t: F.conv_transpose2d(p, w.turn2, None, 2, 0, 0, 2),
    **{
        f"max {k} {s_} {p_} {ceil}": lambda w, p, r, s, t, o=(k, s_, p_, ceil): F.max_pool2d(p, *o)
        for k, s_, p_, ceil in [(3, 2, 1, False), ((2, 3), (3, 2), (1, 0), True), (2, 2, 0, True)]
    },
    **{
        f"mean {k} {s_} {p_} {c}": lambda w, p, r, s, t, o=(k, s_, p_, *c): F.avg_pool2d(p, *o)
        for k, s_, p_ in [(3, 2, (1, 0)), ((2, 3), (3, 2), (0, 1)), (2, 2, 0)]
        for c in [(False, False), (False, True), (True, False), (True, True)]
    },
    **{
        f"adaptive {size}": lambda w, p, r, s, t, size=size: F.adaptive_avg_pool2d(p, size)
        for size in [1, (7, 3), (3, 4), (1, 6), (3, 6), (7, 4), (14, 6), (7, 18)]
    },
    "blocks": lambda w, p, r, s, t: F.interpolate(p, (2, 3)),
    "lrn": lambda w, p, r, s, t: F.local_response_norm(p, 3, 2.0, 0.6, 1.5),
    "lrn rows": lambda w, p, r, s, t: F.local_response_norm(r, 5, 3.0, 0.75, 2.0),
    "lrn sequences": lambda w, p, r, s, t: F.local_response_norm(s, 3, 3.0, 0.75, 2.0),
    "lrn volumes": lambda w, p, r, s, t: F.local_response_norm(
        p.reshape(len(p), 4, 7, 3, 2), 3, 3.0, 0.75, 2.0
    ),
    "patches": lambda w, p, r, s, t: F.spatial_response_norm(p, 3, 3.0, 0.6, 1.5),
    "even patches": lambda w, p, r, s, t: F.spatial_response_norm(p, 4, 3.0, 0.75, 1.5),
    "batch norm": lambda w, p, r, s, t: F.batch_norm(p, w.m, w.v, w.b4, w.c4, eps=0.3),
    "batch norm relu": lambda w, p, r, s, t: F.batch_norm(p, w.m, w.v, None, w.c4, relu=True),
    "batch norm alone": lambda w, p, r, s, t: F.batch_norm(s.transpose(0, 2, 1), w.m, w.v),
    "batch norm of volumes": lambda w, p, r, s, t: F.batch_norm(
        p.reshape(len(p), 4, 7, 3, 2), w.m, w.v, w.b4, w.c4
    ),
    "layer norm": lambda w, p, r, s, t: F.layer_norm(s, 4, w.b4, w.c4, 0.3),
    "layer norm 2": lambda w, p, r, s, t: F.layer_norm(s, (5, 4), w.s54),
    "layer norm alone": lambda w, p, r, s, t: F.layer_norm(s, 4),
    "linear": lambda w, p, r, s, t: F.linear(r, w.l, w.b3),
    "linear relu": lambda w, p, r, s, t: F.linear(r, w.l, relu=True),
    "linear of sequences": lambda w, p, r, s, t: F.linear(s, w.q, w.b3, relu=True),
    "linear alone": lambda w, p, r, s, t: F.linear(s, w.q),
    "linear of four axes": lambda w, p, r, s, t: F.linear(p, w.l, w.b3, True),
    "attention": lambda w, p, r, s, t: F.attention(s, s + 1, s * 2, 2),
    "no future": lambda w, p, r, s, t: F.attention(s, s, s[:, :, :2], 2, causal=True),
    "mask": lambda w, p, r, s, t: F.attention(s, s, s, 1, mask=MASK),
    "mask and no future": lambda w, p, r, s, t: F.attention(s, s, s, 2, MASK, True),
    "embedding": lambda w, p, r, s, t: F.embedding(t, w.s54),
    "relu": lambda w, p, r, s, t: F.relu(r),
    "leaky": lambda w, p, r, s, t: F.leaky_relu(r, 0.3),
    "elu": lambda w, p, r, s, t: F.elu(r, 0.7),
    "gelu": lambda w, p, r, s, t: F.gelu(r),
    "gelu tanh": lambda w, p, r, s, t: F.gelu(r, "tanh"),
    "softmax": lambda w, p, r, s, t: F.softmax(s, 1) + F.softmax(s),
    "log softmax": lambda w, p, r, s, t: F.log_softmax(s, 1) + F.log_softmax(s),
    "softmax of the batch": lambda w, p, r, s, t: F.softmax(s, 0) + F.log_softmax(s, 0),
    "functions": lambda w, p, r, s, t: A.concat(
        [F.tanh(r), F.sigmoid(r), r.exp(), (r.abs() + 1).log(), A.sin(r), A.cos(r), A.erf(r), -r]
    ),
    "roots": lambda w, p, r, s, t: A.concat([r.abs().sqrt(), (r * r + 1).norm(2, 1, True)], 1),
    "clip": lambda w, p, r, s, t: A.concat(
        [r.clip(-0.5, 0.3), r.clip(0), r.clip(None, 0), r.clip(-np.inf)]
    ),
    "powers": lambda w, p, r, s, t: r**2 + (r.abs() + 0.1) ** 0.3 + (r.abs() + 1) ** r,
    "two": lambda w, p, r, s, t: (r - 2) * (3 - r) / (r * r + 1) + F.maximum(r, 0.2) - 1 / (r + 9),
    "least": lambda w, p, r, s, t: A.minimum(s, 0.2) + A.minimum(s, w.b4),
    "stretched": lambda w, p, r, s, t: s * w.b4 + w.b4.unsqueeze(0) - s[:, :1],
    "where": lambda w, p, r, s, t: A.where(r > 0, r * 2, -1.0) + A.where(r <= 0.3, 1.0, r),
    "and": lambda w, p, r, s, t: ((r > 0) & (r < 1)) | ~(r >= -1),
    "equal": lambda w, p, r, s, t: (t == 2) | (t != 3) & (t <= 1),
    "not equal": lambda w, p, r, s, t: A.where(r != r.max(1, keepdims=True), r, 7.0),
    "mixed types": lambda w, p, r, s, t: t * 0.5 + (t > 1) + t.float(),
    "whole": lambda w, p, r, s, t: (r * 3).long() + (r > 0),
    "sums": lambda w, p, r, s, t: p.sum((2, 3), True) + p.mean(2, keepdims=True).sum(3, True),
    "sum of all but": lambda w, p, r, s, t: p.sum((1, 2, 3)) + r.sum(-1),
    "count": lambda w, p, r, s, t: (s > 0).sum(1),
    "most": lambda w, p, r, s, t: s.max(1) + s.min(-2) * s.prod(1),
    "most kept": lambda w, p, r, s, t: s.max((1, 2), keepdims=True) - s.min(1, keepdims=True),
    "running": lambda w, p, r, s, t: s.cumsum(1) + s.cumsum(-1),
    "over the batch": lambda w, p, r, s, t: A.concat(
        [s.cumsum(0), s.sum(0, True), s.max(0, True), s.min(0, True), s.prod(0, True)]
    ),
    "spread": lambda w, p, r, s, t: s.var(1) + s.std(1, correction=0),
    "flat": lambda w, p, r, s, t: p.flatten(1),
    "rows as batch": lambda w, p, r, s, t: s.reshape(-1, 4) @ w.q.transpose(),
    "parts": lambda w, p, r, s, t: s.reshape(len(s), 5, 2, 2).transpose(0, 2, 1, 3),
    "batch twice": lambda w, p, r, s, t: (
        (r.unsqueeze(1) + r.unsqueeze(0)).reshape(len(r), len(r), 2, 3)
    ),
    "batch twice, rows of one": lambda w, p, r, s, t: (
        (r.unsqueeze(1) + r.unsqueeze(0)).reshape(len(r), -1)
    ),
    "batch in the middle": lambda w, p, r, s, t: s.transpose(1, 0, 2),
    "turned": lambda w, p, r, s, t: s.transpose(),
    "squeezed": lambda w, p, r, s, t: r.unsqueeze(1).unsqueeze(-1).squeeze(1),
    "products": lambda w, p, r, s, t: s @ w.q.transpose() + (s @ s.transpose(0, 2, 1))[:, :, :3],
    "of vectors": lambda w, p, r, s, t: s @ w.b4,
    "einsum": lambda w, p, r, s, t: A.einsum("nti,oi->not", s, w.q),
    "concat": lambda w, p, r, s, t: A.concat([r, t.float(), r * 2], 1),
    "stack": lambda w, p, r, s, t: A.stack([s, s + 1], 2),
    "split": lambda w, p, r, s, t: s.split([1, 3, 1], 1)[1] * 2,
    "pad": lambda w, p, r, s, t: F.pad(p, (1, 2, 0, 3)),
    "pad value": lambda w, p, r, s, t: F.pad(s, (0, 2, 1, 0), 1.5),
    "pad whole": lambda w, p, r, s, t: F.pad(t, (2, 1), 3),
    "slice": lambda w, p, r, s, t: p[:, 1:, ::2, -3:],
    "slice back": lambda w, p, r, s, t: p[:, ::-1, 5:1:-2, -2::-1],
    "slice from and to 0": lambda w, p, r, s, t: A.concat(
        [s[:, 0::-1], s[:, 3:0:-1], s[:, 0:2], s[:, :0], s[:, :0:-1]], 1
    ),
    "slices of every kind": lambda w, p, r, s, t: A.concat([s[:, part] for part in SLICES], 1),
    "slice back behind a number": lambda w, p, r, s, t: p[:, 1, -7::-1],
    "slices of the batch": lambda w, p, r, s, t: A.concat([r[::-1], r[1:], r[:-1], r[5:0:-2]]),
    "numbers": lambda w, p, r, s, t: p[:, 1, ..., -1] + p[:, 2, :, 0],
    "new axes": lambda w, p, r, s, t: p[:, None, 1, 2:, None, ..., None],
    "new at the end": lambda w, p, r, s, t: s[:, 1, :, None] + s[..., None][:, 0],
    "looked up": lambda w, p, r, s, t: s[:, np.array([[0, 2], [4, 4], [1, 0]])],
    "to and fro": lambda w, p, r, s, t: (r.to("cpu:1") * 2).to("cpu"),
    "same twice": lambda w, p, r, s, t: F.relu(r + 1) - F.relu(r + 1) * 2,
}  # fmt: skip


class Everything(nn.Module):
    def __init__(self) -> None:
        shapes = dict(
            k=(6, 4, 3, 2), k2=(6, 2, 3, 3), turn=(4, 6, 3, 4), turn2=(4, 3, 2, 2), l=(3, 6),
            q=(3, 4),            s54=(5, 4), b3=(3,), b4=(4,), c4=(4,), b6=(6,),
        )  # fmt: skip
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(weight(*shape)))
        self.m, self.v = nn.Buffer(weight(4)), nn.Buffer(np.abs(weight(4)) + 0.5)

    def forward(self, p: Any, r: Any, s: Any, t: Any) -> Any:
        return tuple(way(self, p, r, s, t) for way in WAYS.values())


def inputs(n: int) -> tuple[np.ndarray, ...]:
    return (
        weight(n, 4, 7, 6), weight(n, 6), weight(n, 5, 4), RNG.integers(0, 5, (n, 5)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path, net = tmp_path_factory.mktemp("onnx") / "all.onnx", Everything()
    tinynet.onnx.export(net, inputs(2), path, outputs=list(WAYS))
    return path, net


@pytest.mark.parametrize("n", [1, 3])
def test_everything_at_once(file: Any, n: int) -> None:
    path, net = file
    given = inputs(n)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, dict(zip("prst", given, strict=True)))
    with tinynet.no_grad():
        ours = net.eval()(*map(tinynet.tensor, given))
        again = tinynet.onnx.load(path).eval()(*given)
    wrong = []
    for name, y, back, expected in zip(WAYS, ours, again, theirs, strict=True):
        for who, found in (("written", expected), ("read", back.numpy())):
            y_ = y.numpy()
            if (y_.shape, y_.dtype) != (found.shape, found.dtype):
                wrong.append(f"{name}, {who}: {y_.shape} {y_.dtype}, {found.shape} {found.dtype}")
                continue
            apart = np.abs(y_.astype(float) - found.astype(float)).max(initial=0)
            if not apart <= 3e-5 * max(1, np.abs(y_).max(initial=0)):
                wrong.append(f"{name}, {who}: {apart}")
    assert not wrong, "\n".join(wrong)


def test_every_row_of_both_dictionaries_is_used(file: Any) -> None:
    path, net = file
    read = {node.op for node in tinynet.onnx.load(path).nodes}
    # What tinynet reads and never writes.
    others = {
        "Dropout", "Flatten", "GlobalMaxPool", "Mean", "ReduceMean",
        "SoftmaxCrossEntropyLoss", "Squeeze", "Sum",
    }  # fmt: skip
    assert READERS.keys() - read == others
    recorded = tinynet.onnx.recording.record(net, inputs(2))
    assert WRITERS.keys() == {step.function for step in recorded.steps} & WRITERS.keys()


def test_names_and_sizes_of_the_file(file: Any) -> None:
    model = onnx.load(file[0])
    onnx.checker.check_model(model, full_check=True)
    sizes = {
        one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert list(sizes) == [*"prst", *WAYS]
    assert sizes["p"] == ["N", 4, 7, 6] and sizes["t"] == ["N", 5]
    assert sizes["flat"] == ["N", 168] and sizes["concat"] == ["N", 17]
    assert sizes["batch in the middle"][0] == 5 and sizes["batch in the middle"][2] == 4
    weights = {w.name for w in model.graph.initializer}
    assert weights >= {name for name, _ in file[1].named_parameters()} | {"m", "v"}
    # A constant is there once for each type and shape, a weight once, and what nobody needs never.
    arrays = [onnx.numpy_helper.to_array(w) for w in model.graph.initializer]
    told = [(a.dtype, a.shape, a.tobytes()) for a in arrays if a.nbytes <= 1024]
    assert len(told) == len(set(told))
    used = {name for node in model.graph.node for name in node.input}
    assert weights <= used
    nodes = [node for node in model.graph.node if node.op_type != "Identity"]
    doing = [(n.op_type, *n.input, str(n.attribute)) for n in nodes]
    assert len(doing) == len(set(doing)) and all(node.name for node in nodes)
    assert all(node.input[-1] for node in nodes)  # what is left out at the end is not there
    flags = {"transB", "keepdims", "count_include_pad"}
    assert {a.i for n in nodes for a in n.attribute if a.name in flags} == {0, 1}


def test_parameters_of_the_file_are_the_nets(file: Any) -> None:
    """What is fixed stays fixed: a constant, wherever it is, a mean, a weight that is left out."""
    path, net = file
    weights = tinynet.onnx.load(path).weights.items()
    learn = {name for name, w in weights if isinstance(w, nn.Parameter)}
    assert learn == {name for name, _ in net.named_parameters()}


def test_a_batch_may_be_far_larger_than_the_example(tmp_path: Any) -> None:
    ways = (
        lambda x: x[::-1], lambda x: x[1:], lambda x: x[1::3], lambda x: x[-2::-3],
        lambda x: x.cumsum(0), lambda x: x.flatten(1), lambda x: x.reshape(-1, 2),
    )  # fmt: skip
    large, names = weight(1000, 4), [f"y{i}" for i in range(len(ways))]
    found = exported(tmp_path, Small(), call=lambda x: [way(x) for way in ways], outputs=names)
    for way, y in zip(ways, found.run(None, {"x": large}), strict=True):
        np.testing.assert_allclose(y, way(tinynet.tensor(large)).numpy(), rtol=1e-4, atol=1e-5)


class Small(nn.Module):
    """What goes wrong in few lines, a name each."""

    def __init__(self, way: str = ""):
        self.way, self.fc = way, nn.Linear(4, 3)
        self.drop, self.frozen = nn.Dropout(0.5), nn.BatchNorm1d(3)
        self.weight = nn.Parameter(weight(3))

    def forward(self, x: Any) -> Any:
        if self.way == "kinds":
            y = x + tinynet.tensor(np.zeros(2, np.float32)).sum()
            return y, x.long() + np.zeros(1, int), x.astype(np.float64) + np.zeros(1)
        if self.way == "written to":  # a constant that a later operation overwrites
            c = tinynet.tensor(np.ones(3, np.float32))
            y = self.fc(x) * c
            c.data[...] = 7
            return y
        if self.way == "nan":
            return A.where(x > 0, x, float("nan")) + tinynet.tensor(np.float32([np.nan, 1, 2, 3]))
        if self.way == "tensors that are gone":
            return sum((tinynet.tensor(np.full(4, i, np.float32)) * x for i in range(30)), x)
        if self.way == "large constants":
            large = np.arange(1200, dtype=np.float32).reshape(300, 4, 1)[None]
            x = x.reshape(-1, 1, 4, 1)
            return x * tinynet.tensor(large) - tinynet.tensor(large[:, ::-1].copy())
        if self.way == "ends":
            return x, x, self.fc(x), self.weight, self.fc(x)
        return self.frozen(self.drop(self.fc(x)))


ROWS = weight(3, 4)


def exported(tmp_path: Any, net: nn.Module, example: Any = ROWS, **options: Any) -> Any:
    tinynet.onnx.export(net, example, tmp_path / "net.onnx", **options)
    return ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "way, results", [("kinds", 3), ("written to", 1), ("nan", 1), ("tensors that are gone", 1),
                     ("large constants", 1),
                     ("ends", 5), ("", 1)]
)  # fmt: skip
def test_small_nets(way: str, results: int, tmp_path: Any) -> None:
    net, names = Small(way), [f"y{i}" for i in range(results)]
    found = exported(tmp_path, net, outputs=names).run(names, {"x": ROWS})
    with tinynet.no_grad():
        ours = net.eval()(tinynet.tensor(ROWS))
    ours = ours if isinstance(ours, tuple) else (ours,)
    for y, theirs in zip(ours, found, strict=True):
        np.testing.assert_allclose(y.numpy(), theirs, rtol=1e-5, atol=1e-6)
        assert y.dtype == theirs.dtype


def test_the_net_is_as_it_was(tmp_path: Any) -> None:
    """Each module gets its own mode back, also after a failure; nothing is recorded or moved."""
    net = Small()
    net.frozen.eval()
    modes = [module.training for module in net.modules()]
    assert len(set(modes)) == 2
    before = {name: np.array(x) for name, x in net.state_dict().items()}
    state = tinynet.random.get_state()
    kept: list[Any] = []
    exported(tmp_path, net, call=lambda x: kept.append(net(x)) or kept[-1])
    assert not any(y.requires_grad for y in kept)
    with pytest.raises(tinynet.ModelFileError, match="expected 1 names of results, got 2"):
        exported(tmp_path, net, outputs=["a", "b"])
    with pytest.raises(ZeroDivisionError):
        exported(tmp_path, net, call=lambda x: net(x) + 1 // 0)
    assert [module.training for module in net.modules()] == modes
    assert state == tinynet.random.get_state()
    for name, x in net.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


def test_words_beside_the_net(tmp_path: Any) -> None:
    told = {"text": 'a "b" \u00e4', "list": ["a", 1, None], "number": 3, "0": 0, "no": [], "-": ""}
    exported(tmp_path, Small(), metadata=told)
    assert tinynet.onnx.load(tmp_path / "net.onnx").metadata == {
        "text": 'a "b" \u00e4', "list": '["a", 1, null]', "number": "3", "0": "0", "no": "[]",
        "-": "",
    }  # fmt: skip


def test_names_that_meet(tmp_path: Any) -> None:
    """A result may be called as a node would be; not as an input or a weight is."""
    session = exported(tmp_path, Small(), outputs=["fc/Gemm"])
    np.testing.assert_equal(session.run(None, {"x": ROWS})[0].shape, (3, 3))
    names = ["a", "b", "fc/Gemm", "c", "fc/Gemm_2"]
    found = exported(tmp_path, Small("ends"), outputs=names).run(names, {"x": ROWS})
    assert [y.shape for y in found] == [(3, 4), (3, 4), (3, 3), (3,), (3, 3)]
    for name in ("x", "weight", "fc.bias", "frozen.weight", "frozen.running_var"):
        with pytest.raises(tinynet.ModelFileError, match=f"got {name!r} twice; rename one"):
            exported(tmp_path, Small(), outputs=[name])


def test_a_constant_is_called_by_the_module_that_takes_it(tmp_path: Any) -> None:
    """One that is a result by none; and a / tells it from a weight."""

    def call(x: Any) -> Any:
        return net.frozen(net.fc(x) * 2), tinynet.tensor(np.ones(3, np.float32))

    net = Small()
    exported(tmp_path, net, call=call, outputs=["y", "z"])
    model = onnx.load(tmp_path / "net.onnx")
    constants = {w.name: onnx.numpy_helper.to_array(w).tolist() for w in model.graph.initializer}
    weights = {name for name, _ in (*net.named_parameters(), *net.named_buffers())}
    assert {name: x for name, x in constants.items() if name not in weights} == {
        "/constant": 2, "/constant_2": [1, 1, 1]
    }  # fmt: skip
    learn = tinynet.onnx.load(tmp_path / "net.onnx").named_parameters()
    assert len([*learn]) == 4  # of fc and frozen


class Called(nn.Module):
    """Weights and inputs called as nodes and constants would be."""

    def __init__(self) -> None:
        self.Mul, self.Sub = nn.Parameter(weight(4)), nn.Buffer(weight(4))
        self.Mul_2, self.constant = nn.Buffer(weight(4)), nn.Buffer(weight(4))

    def forward(self, Add: Any, Sqrt: Any) -> Any:  # noqa: N803
        y = (Add + self.Mul) * (self.Sub - Add) * self.Mul_2
        return (y * y + 2.5).sqrt() - self.constant * 3.5 + Sqrt


def test_names_of_weights_and_inputs_are_theirs(tmp_path: Any) -> None:
    net, given = Called(), (ROWS, ROWS + 1)
    session = exported(tmp_path, net, given, outputs=["Add_2"])
    (theirs,) = session.run(None, dict(zip(["Add", "Sqrt"], given, strict=True)))
    with tinynet.no_grad():
        ours = net(*map(tinynet.tensor, given)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in model.graph.initializer}
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(weights[name], array)
    names = [*weights, *(x.name for x in model.graph.input)]
    names += [name for node in model.graph.node for name in node.output]
    assert len(names) == len({*names})


TINY = 1.2345678e-7
OPTIONS = {  # operator -> its options that are numbers
    "LeakyRelu": (lambda x: F.leaky_relu(x, TINY), ["alpha"]),
    "Elu": (lambda x: F.elu(x, TINY), ["alpha"]),
    "LRN": (lambda x: F.local_response_norm(x, 3, TINY, TINY, TINY), ["alpha", "beta", "bias"]),
    "LayerNormalization": (lambda x: F.layer_norm(x, 4, eps=TINY), ["epsilon"]),
    "BatchNormalization": (
        lambda x: F.batch_norm(x, tinynet.zeros(4), tinynet.ones(4), eps=TINY), ["epsilon"]
    ),
    "Clip": (lambda x: x.clip(TINY), []),
    "Pow": (lambda x: x**TINY, []),
    "Mul": (lambda x: x * TINY, []),
}  # fmt: skip


@pytest.mark.parametrize("op", OPTIONS)
def test_numbers_keep_all_their_digits(op: str, tmp_path: Any) -> None:
    """As far as float32 has them, both ways."""
    call, names = OPTIONS[op]
    tinynet.onnx.export(Small(), ROWS, tmp_path / "net.onnx", call=call)
    net = tinynet.onnx.load(tmp_path / "net.onnx")
    (node,) = (node for node in net.nodes if node.op == op)
    found = [node.attributes[name] for name in names]
    found = found or [y.numpy().item() for y in net.weights.values()]
    assert found == [float(np.float32(TINY))] * max(1, len(names))


KINDS = ("float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")


class Kinds(nn.Module):
    """A result of each type, from a buffer of it."""

    def __init__(self) -> None:
        large = {"float64": 1 + 2.0**-40, "int64": 2**40 + 1, "int32": 2**30 + 1}
        for kind in KINDS:
            setattr(self, kind, nn.Buffer(np.full(4, large.get(kind, 1), kind)))

    def forward(self, x: Any) -> Any:
        return tuple(getattr(self, kind) for kind in KINDS)


def test_weights_keep_their_types(tmp_path: Any) -> None:
    net = Kinds()
    found = exported(tmp_path, net, outputs=[f"y{i}" for i in range(len(KINDS))])
    for kind, theirs in zip(KINDS, found.run(None, {"x": ROWS}), strict=True):
        assert theirs.dtype == kind
        np.testing.assert_array_equal(theirs, getattr(net, kind).numpy())
    for kind, y in zip(KINDS, tinynet.onnx.load(tmp_path / "net.onnx").eval()(ROWS), strict=True):
        assert y.dtype == kind
        np.testing.assert_array_equal(y.numpy(), getattr(net, kind).numpy())


class Tokens(nn.Module):
    """A net of whole numbers: those of the second run are among those of the example."""

    def __init__(self) -> None:
        self.rows, self.seen = nn.Parameter(weight(6, 3)), []

    def forward(self, t: Any) -> Any:
        self.seen.append(t.numpy().copy())
        return F.embedding(t, self.rows)


@pytest.mark.parametrize("seed", range(5))
def test_two_runs_of_different_values(seed: int, tmp_path: Any, monkeypatch: Any) -> None:
    default = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda _: default(seed))
    net, example = Tokens(), np.array([[0, 5]])
    exported(tmp_path, net, example)
    first, second = net.seen
    assert second.shape == (2, 2) and set(second.ravel()) <= {0, 5}
    assert (second[:1] != first).any()
