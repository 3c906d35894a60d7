"""Large tapes made small: what goes into one box, and that nothing gets lost."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.drawing import folding
from tinynet.nn import init


class Block(nn.Module):
    def __init__(self):
        small = init.normal(0.01)  # 301 of them do not overflow
        self.first = nn.Linear(4, 4, weight_init=small)
        self.second = nn.Linear(4, 4, weight_init=small)

    def forward(self, x):
        return x + self.second(F.gelu(self.first(x)))


class Net(nn.Module):
    def __init__(self, count):
        self.blocks = [Block() for _ in range(count)]
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def traced(count, net=None):
    net = net or Net(count)
    x = tinynet.tensor(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))
    with tinynet.tracing(net):
        return F.cross_entropy(net(x), [0, 2, 1, 1, 0])


def chain(count, use=lambda y: y * 1.01 + 0.5):
    y = tinynet.tensor(1.0, requires_grad=True)
    for _ in range(count):
        y = use(y)
    return y


def shown(loss, group="auto"):
    return [
        " ".join(filter(None, (b.title, b.path)))
        for b in tinynet.draw(loss, group=group).graph.shown
    ]


def test_by_depth_of_modules():
    loss = traced(2)
    tail = ["CrossEntropy", "Sum", "Div"]
    assert shown(loss, 1) == ["x", "Net", *tail]
    assert tinynet.draw(loss, group=2).graph.steps[3].kind == "operation"  # the head, one in all
    assert shown(loss, 2) == ["x", "Block blocks.0", "Block blocks.1", "Linear head", *tail]
    linears = [f"Linear blocks.{i}.{name}" for i in (0, 1) for name in ("first", "second")]
    assert [t for t in shown(loss, 3) if t.startswith("Linear b")] == linears
    assert shown(loss, 3) == shown(loss, "none") == shown(loss, 99) == shown(loss)


def test_what_runs_before_a_module_is_not_in_it():
    net, x = Net(1), tinynet.tensor(np.ones((1, 4), np.float32), requires_grad=True)
    with tinynet.tracing(net):
        loss = net(x * 2.0 + 1.0).sum()
    assert [b.title for b in tinynet.draw(loss, group=1).graph.steps] == [
        "Sum",
        "Net",
        "Add",
        "Mul",
    ]


def test_results_of_a_fold_and_leaves_of_two():
    """Each arrow leaves from its own result; a leaf that two folds use goes into none."""

    class Two(nn.Module):
        def forward(self, x):
            first = x * 2.0
            return first, first + 1.0

    net, x = Two(), tinynet.tensor(3.0, requires_grad=True)
    with tinynet.tracing(net):
        a, b = net(x)
        loss = a * b
    graph = tinynet.draw(loss, group=1).graph
    (fold,) = (box for box in graph.boxes if box.kind == "fold")
    values = [fold.outputs[e.output].value.values[0] for e in graph.out_of[fold]]
    assert sorted(values) == [6, 7]
    with tinynet.tracing(net):
        a, b = net(x)
        loss = a * (b * a)
    graph = tinynet.draw(loss, group=1).graph
    (fold,) = (box for box in graph.boxes if box.kind == "fold")
    values = [fold.outputs[e.output].value.values[0] for e in graph.out_of[fold]]
    assert sorted(values) == [6, 6, 7] and len(fold.outputs) == 2
    one = tinynet.tensor(1.0, requires_grad=True)
    y = chain(200, lambda y: y * one).log()
    for _ in range(200):
        y = y + one
    assert shown(y) == ["leaf", "200 \u00d7 Mul", "Log", "200 \u00d7 Add"]


def test_a_fold_has_the_results_that_leave_it():
    """The last one of all is that which is drawn."""
    net, x = Net(1), tinynet.tensor(np.ones((1, 4), np.float32), requires_grad=True)
    with tinynet.tracing(net):
        y = net(x)
        z = y.exp()
    for drawn, results in ((y, [["y"]]), (z, [["y"], ["z"]])):
        boxes = tinynet.draw(drawn, group=1).graph.steps[::-1]
        assert [[output.name for output in box.outputs] for box in boxes] == results


def test_what_a_fold_holds_and_what_goes_through_it():
    loss = traced(2)
    whole = tinynet.draw(loss, group="none").graph
    folded = tinynet.draw(loss, group=2).graph
    assert (folded.kept, folded.shared) == (whole.kept, whole.shared)
    block = folded.boxes[[b.path for b in folded.boxes].index("blocks.1")]
    assert block.kind == "fold"
    assert [b.title for b in block.parts] == ["Linear", "GELU", "Linear", "Add"]
    assert [b.step for b in folded.steps] == [1, 2, 3, 4, 5, 6]
    into = folded.into[block]
    names = [e.source.outputs[0].name for e in into]
    assert sorted(n for n in names if n and n.startswith("blocks")) == [
        f"blocks.1.{name}.{what}" for name in ("first", "second") for what in ("bias", "weight")
    ]
    # what the block takes from the one before: by its first layer, and past it
    assert len([e for e in into if e.source.kind == "fold"]) == 2
    assert all(e.local is None for e in into)
    (out,) = folded.out_of[block]
    last = [b for b in whole.boxes if b.title == "Add"][-1]
    assert out.gradient is not None
    np.testing.assert_array_equal(out.gradient.values, whole.out_of[last][0].gradient.values)
    assert block.outputs[0].gradient is not None
    parameters = {b.title: b.outputs[0].gradient.norm for b in whole.boxes if b.kind == "parameter"}
    assert parameters == {
        b.title: b.outputs[0].gradient.norm for b in folded.boxes if b.kind == "parameter"
    }
    position = {b: i for i, b in enumerate(folded.boxes)}
    assert all(position[e.source] < position[e.target] for e in folded.edges)


def test_auto_folds_over_300_boxes_as_little_as_needed():
    # x, and 4 a block, and 4 at the end
    assert len(shown(traced(73))) == 297
    assert len(shown(traced(74))) == 74 + 5
    pairs = [[Block(), Block()] for _ in range(40)]
    net = nn.Sequential(*(nn.Sequential(*pair) for pair in pairs), nn.Linear(4, 3))
    assert len(shown(traced(0, net))) == 1 + 80 + 1 + 3  # 40 pairs would be less than is needed
    many = traced(301)
    graph = tinynet.draw(many).graph
    assert sum(b.kind == "parameter" for b in graph.boxes) == 301 * 4 + 2  # none is lost
    assert max(len(b.parts) for b in graph.boxes) == 301 * 4  # of a fold of folds: operations
    assert shown(many) == [
        "301 \u00d7 Block", "Linear head", "CrossEntropy", "Sum", "Div",
    ]  # fmt: skip


def test_a_fold_lists_some_of_its_parameters(tmp_path):
    loss = traced(301)
    picture = tinynet.draw(loss).save(tmp_path / "a.svg").read_text()
    assert picture.index("blocks.0.first.weight") < picture.index("blocks.0.first.bias")
    assert "blocks.300" not in picture
    page = tinynet.draw(loss).save(tmp_path / "a.html").read_text()
    named = {f"{i}.{part}" for i in range(301) for part in ("first.weight", "second.bias")}
    assert sum(f">blocks.{name}<" in page for name in named) <= 24
    assert "and 1,198 more" in page and "and to 1,180 more" in page  # of 1,204


def test_what_follows_a_layer_says_which():
    add = [b for b in tinynet.draw(traced(2)).graph.boxes if b.title == "Add"][1]
    assert add.after == "after blocks.1.second"  # not that of x, which came past it


def test_repetitions():
    assert len(shown(chain(149))) == 299
    assert shown(chain(150)) == ["150 \u00d7 (Mul, Add)"]
    assert shown(chain(150) * 1.01) == ["150 \u00d7 (Mul, Add)", "Mul"]  # half a unit is none
    y = chain(200, lambda y: (y * 0.1).exp())
    odd = (y.log() * y).reshape(1, 1)
    for _ in range(70):
        odd = odd + 1.0
    assert shown(odd) == [
        "200 \u00d7 (Mul, Exp)", "Log", "Mul", "Reshape", "70 \u00d7 Add",
    ]  # fmt: skip
    graph = tinynet.draw(odd).graph
    assert len(graph.boxes[0].parts) == 400
    # the derivative of one operation is not that of 70
    assert [e.local is None for e in graph.edges] == [e.target.kind == "fold" for e in graph.edges]
    assert graph.boxes[0].outputs[0].gradient is not None


def longest_repetitions(word, low, high):
    """By trying all: the most boxes, of the shortest unit, the first; then what is beside them."""
    found = [
        (stop - start, -period, -start)
        for start in range(low, high)
        for period in range(1, high - start)
        for stop in range(start + 2 * period, high + 1, period)
        if word[start:stop] == word[start : start + period] * ((stop - start) // period)
    ]
    if found:
        length, period, start = max(found)
        yield -start, length - start, -period
        yield from longest_repetitions(word, low, -start)
        yield from longest_repetitions(word, length - start, high)


def test_the_longest_repetitions_are_found_first(rng):
    overlapping = np.array([0, 0, 1, 0, 0, 1, 1, 0, 1, 1])  # 2 of 001, or 2 of 011
    for word in (overlapping, *(rng.integers(0, letters, 12) for letters in (2, 3) * 20)):
        expected = sorted(longest_repetitions(word.tolist(), 0, len(word)))
        assert sorted(folding._periodic(word, 0, len(word))) == expected, word


def test_what_has_another_shape_is_no_repetition():
    y = chain(160, lambda y: y + 1.0) + np.ones(1, np.float32)
    for _ in range(150):
        y = y + 1.0
    assert shown(y) == ["160 \u00d7 Add", "151 \u00d7 Add"]


def test_a_module_that_is_called_again_later_is_two_folds():
    class Shared(nn.Module):
        def __init__(self):
            self.block, self.between = Block(), nn.Linear(4, 4)

        def forward(self, x):
            return self.block(self.between(self.block(x)))

    net = Shared()
    assert shown(traced(0, net), 2)[:2] == ["x", "block.first.weight"]
    titles = [t for t in shown(traced(0, net), 2) if not t.startswith("block.")]
    assert titles[1:4] == ["Block block", "Linear between", "Block block"]
    loss = traced(0, net)
    weight = next(
        b for b in tinynet.draw(loss, group=2).graph.boxes if b.title == "block.first.weight"
    )
    loss.backward()
    norm = float(np.linalg.norm(net.block.first.weight.grad.numpy()))
    assert weight.outputs[0].gradient.norm == pytest.approx(norm)


def test_more_than_3000_boxes_are_refused_with_a_way_out(rng):
    with pytest.raises(ValueError, match=r'at most 3,000 boxes, got 3,002; draw a part.*"auto"'):
        tinynet.draw(chain(1501), group="none")

    kinds = [operator.neg, abs, tinynet.exp, tinynet.tanh]
    kinds += [lambda y: y + 1.0, lambda y: y * 0.5, lambda y: y - 0.5, lambda y: y / 3.0]
    line = [tinynet.tensor(0.5, requires_grad=True)]
    with np.errstate(all="ignore"):
        for kind in rng.integers(0, 8, 4200):
            line.append(kinds[kind](line[-1]))
        with pytest.raises(ValueError, match="at most 3,000 boxes, got 3,.*; draw a part") as error:
            tinynet.draw(line[-1])
        assert "auto" not in str(error.value)  # that was tried
        assert 300 < len(tinynet.draw(line[1000]).graph.shown) < 1000


def test_a_fold_over_two_devices_says_both(tmp_path):
    x = tinynet.tensor(np.ones(4, np.float32), requires_grad=True)

    class There(nn.Module):
        def forward(self, x):
            return (x.to("cpu:1") * 2.0).to("cpu") + 1.0

    net = There()
    with tinynet.tracing(net):
        loss = net(x).sum()
    graph = tinynet.draw(loss, group=1).graph
    assert [b.device for b in graph.boxes] == ["cpu", "cpu, cpu:1", "cpu"]
    assert "There" in tinynet.draw(loss, group=1).save(tmp_path / "a.html").read_text()
