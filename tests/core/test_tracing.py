"""tinynet.tracing(): what is recorded on the nodes of the tape."""

from __future__ import annotations

import gc
import inspect
import threading
import weakref

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn, tracer


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def line_of(function, text):
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if text in line)


def test_names_values_and_lines():
    x, y = leaf([3.0, -4.0]), tinynet.tensor([1.0, 2.0])
    with tinynet.tracing() as trace:
        q = x * y
        loss = (q + 1.0).sum()
    assert [note.operation for note in trace.notes] == ["Mul", "Add", "Sum"]
    mul, add, total = trace.notes
    assert q.node[0].note is mul and loss.node[0].note is total
    assert [value.name for value in mul.inputs] == ["x", "y"] and mul.outputs[0].name == "q"
    assert add.inputs[0] is mul.outputs[0] and add.outputs[0].name is None
    assert total.outputs[0].name == "loss"
    assert mul.file == __file__
    assert mul.line == line_of(test_names_values_and_lines, "q = x * y")
    assert total.line == add.line == mul.line + 1
    value = mul.inputs[0]
    assert (value.shape, value.dtype, value.device) == ((2,), np.float32, "cpu")
    assert value.values.tolist() == [3, -4]
    assert (value.norm, value.least, value.largest) == (5, -4, 3)
    assert total.inputs[1:] == (None, None) and total.options == {"axis": None, "keepdims": False}
    loss.backward()
    assert loss.node[0].note is total  # also when the graph is freed


def test_values_are_copies_of_at_most_sixteen():
    x = leaf(np.arange(-20.0, 20.0).reshape(5, 8))
    with tinynet.tracing():
        h = x * 1
        y = F.relu(h, inplace=True)
    before, after = h.node[0].note.outputs[0], y.node[0].note.outputs[0]
    assert h.data is y.data and before.least == -20 and after.least == 0
    assert before.values.tolist() == list(range(-20, -4)) and not after.values.any()
    x.data[:] = 0
    assert y.node[0].note.inputs[0] is before and h.node[0].note.inputs[0].largest == 19
    assert before.norm == pytest.approx(np.linalg.norm(np.arange(-20, 20)))


def test_an_input_is_looked_at_before_forward_overwrites_it():
    x, scale = leaf([1.0, -1.0]), tinynet.tensor([5.0, -5.0])

    class Overwrite(tinynet.Function):
        @staticmethod
        def forward(ctx, a, b):
            b[:] = 0
            return a + b

    with tinynet.tracing() as trace:
        Overwrite.apply(x, scale)
    assert trace.notes[0].inputs[1].values.tolist() == [5, -5] and not scale.data.any()


def test_values_without_order_or_elements():
    x = leaf([1.0, np.nan])
    with tinynet.tracing() as trace:
        x * 1
        leaf(np.zeros((0, 3))) * 1.0
        leaf([2.0]) * tinynet.tensor(3j)
    odd, empty, turned = trace.notes
    assert np.isnan(odd.inputs[0].norm) and np.isnan(odd.inputs[0].least)
    assert (empty.inputs[0].norm, empty.inputs[0].least, empty.inputs[0].largest) == (0, None, None)
    assert (turned.outputs[0].norm, turned.outputs[0].least) == (6, None)


class Block(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(1, 2, 3, bias=False)

    def forward(self, x):
        h = self.conv(x)
        return F.relu(h)


class Net(nn.Module):
    def __init__(self):
        self.blocks = [Block()]
        self.heads = {"left": nn.Linear(8, 2)}

    def forward(self, x):
        return self.heads["left"](self.blocks[0](x).flatten(1))


def test_modules_and_the_names_of_a_net(rng):
    net, pictures = Net(), tinynet.tensor(rng.normal(size=(2, 1, 4, 4)).astype(np.float32))
    for trace in (tinynet.tracing(net), tinynet.tracing()):  # without a net: what is called first
        with trace:
            logits = net(pictures)
            F.cross_entropy(logits, [0, 1])
        conv, relu, flat, linear, *loss = trace.notes
        assert [value.name for value in conv.inputs[:2]] == ["pictures", "blocks.0.conv.weight"]
        assert conv.outputs[0].name == "h" and conv.line == line_of(Block, "h = self.conv")
        assert conv.file == __file__
        assert conv.modules == (("", "Net"), ("blocks.0", "Block"), ("blocks.0.conv", "Conv2d"))
        assert relu.modules == conv.modules[:2] and flat.modules == conv.modules[:1]
        assert linear.modules == (("", "Net"), ("heads.left", "Linear")) and loss[0].modules == ()
        assert linear.inputs[1].name == "heads.left.weight"
        assert linear.outputs[0].name == "logits"
    with tinynet.tracing(net) as trace:
        net.blocks[0](pictures)
    assert trace.notes[0].modules == conv.modules[1:]
    with tinynet.tracing() as trace:
        net.blocks[0](pictures)
    assert trace.notes[0].modules == (("", "Block"), ("conv", "Conv2d"))


def test_a_module_that_raises_is_left():
    class Wrong(nn.Module):
        def forward(self, x):
            raise KeyError

    with tinynet.tracing() as trace:
        with pytest.raises(KeyError):
            Wrong()(1)
        leaf([1.0]) * 1
    assert trace.notes[0].modules == ()


def test_the_function_that_traces_gives_its_names():
    def double(inner):
        result = inner * 2
        return result + 1, result

    x = leaf([1.0])
    with tinynet.tracing() as trace:
        y, doubled = double(x)
    mul, add = trace.notes
    assert mul.inputs[0].name == "x"  # not "inner"
    assert mul.outputs[0].name == "doubled" and add.outputs[0].name == "y"
    assert y is not doubled


def test_options_are_copied_and_named(rng):
    x = leaf(rng.normal(size=(4, 3)))
    places = np.array([2, 0])
    with tinynet.tracing() as trace:
        x[places]
        tinynet.concat([x, x], 1)
        x.transpose([1, 0])
    index, concat, transpose = trace.notes
    places[:] = 0
    assert index.options["key"].values.tolist() == [2, 0]
    assert concat.options == {"axis": 1} and len(concat.inputs) == 2
    assert concat.inputs[0] is concat.inputs[1]
    assert transpose.options == {"axes": (1, 0)}


def test_arrays_within_options_are_copied_however_deep():
    class Keep(tinynet.Function):
        @staticmethod
        def forward(ctx, x, first, *others, kept):
            return x + 0

        @staticmethod
        def backward(ctx, dy):
            return dy, None, None, None

    a, b = np.arange(3), np.array([True, False])
    option = [a, (b, [a, "text"], (None, 2.5)), slice(1, 2)]
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    with tinynet.tracing() as trace:
        Keep.apply(x, option, (option,), a, kept=(a, option))
        x[b, 1], x[np.array([0, 1]), slice(None)]
    a[:], b[:] = 9, True
    option[1][1].append("later")
    option.append("later")
    kept, *keys = (note.options for note in trace.notes)
    assert list(kept) == ["first", "argument 2", "argument 3", "kept"]
    first, second, third, last = kept.values()
    for found in (first, second[0], last[1]):
        numbers, (flags, (again, text), rest), part = found
        assert type(found) is type(found[1][1]) is tuple  # nor can the note be changed
        assert numbers.values.tolist() == again.values.tolist() == [0, 1, 2]
        assert flags.values.tolist() == [True, False] and flags.dtype == bool
        assert (text, rest, part) == ("text", (None, 2.5), slice(1, 2))
    assert third.values.tolist() == last[0].values.tolist() == [0, 1, 2]
    assert keys[0]["key"][0].values.tolist() == [True, False] and keys[0]["key"][1] == 1
    assert keys[1]["key"][0].values.tolist() == [0, 1] and keys[1]["key"][1] == slice(None)


def test_what_is_not_recorded():
    x, plain = leaf([1.0]), tinynet.tensor([1.0])
    before = x * 2
    with tinynet.tracing() as trace:
        plain * 2
        with tinynet.no_grad():
            x * 2
        thread = threading.Thread(target=lambda: x * 2)
        thread.start()
        thread.join()
    after = x * 2
    assert trace.notes == [] and before.node[0].note is None and after.node[0].note is None


def test_a_whole_trace_also_sees_what_goes_on_no_tape():
    class Whole(tracer.Trace):
        whole, seen = True, ()

        def look(self, cls, args, kwargs):
            self.seen += (cls.__name__,)

        def note(self, *args):
            pass

    x, plain = leaf([1.0]), tinynet.tensor([1.0])
    with Whole() as trace:
        plain * 2
        with tinynet.no_grad():
            x + 2
        x - 1
    assert trace.seen == ("Mul", "Add", "Sub")


def test_one_trace_a_thread_and_none_after_an_error():
    with tinynet.tracing(), pytest.raises(RuntimeError, match="traced already"):
        tinynet.tracing().__enter__()
    with pytest.raises(KeyError), tinynet.tracing():
        raise KeyError
    with pytest.raises(AttributeError), tinynet.tracing("no net"):
        pass
    with tinynet.tracing() as trace:
        leaf([1.0]) * 1
    assert len(trace.notes) == 1


def test_a_trace_keeps_no_tensor_alive():
    with tinynet.tracing() as trace:
        y = leaf([1.0]) * 2
        kept = weakref.ref(y)
        del y
    gc.collect()
    assert kept() is None and trace.notes[0].outputs[0].values.tolist() == [2]


def test_a_trace_keeps_no_variable_of_a_function_alive():
    def traced():
        variable = Block()
        with tinynet.tracing() as trace:
            leaf([1.0]) * 1
        return trace, weakref.ref(variable)

    trace, kept = traced()
    gc.collect()
    assert kept() is None and len(trace.notes) == 1


def test_a_tensor_that_is_gone_is_not_taken_for_the_next_one():
    """Which often lies where it lay, and has its number."""
    with tinynet.tracing() as trace:
        for i in range(100):
            leaf([float(i)]) * 2.0
    assert [note.inputs[0].values.tolist() for note in trace.notes] == [[i] for i in range(100)]
    assert [note.outputs[0].values.tolist() for note in trace.notes] == [
        [2 * i] for i in range(100)
    ]


@pytest.mark.parametrize("shape", [(3,), (tracer.PIECE + 1,), (5, tracer.PIECE), (7, 9, 700)])
def test_a_large_array_is_summed_up_whole(shape, rng):
    """In any order in memory; the values shown are the first in C order."""
    a = rng.normal(size=shape).astype(np.float32)
    a.flat[-1], a.flat[a.size // 2] = 100, -90
    for array in (a, np.asfortranarray(a), a[::-1], np.repeat(a, 2, axis=-1)[..., ::2]):
        value = tracer.Value.of(array, tinynet.device("cpu"))
        assert value.norm == pytest.approx(np.linalg.norm(array.astype(float)), rel=1e-12)
        assert (value.least, value.largest) == (array.min(), array.max())
        np.testing.assert_array_equal(value.values, array.ravel()[: tracer.SHOWN])


def test_tracing_changes_no_bit(rng):
    net, x = Net(), tinynet.tensor(rng.normal(size=(2, 1, 4, 4)).astype(np.float32))
    gradients = []
    for _ in range(2):
        F.cross_entropy(net(x), [0, 1]).backward()
        gradients.append([p.grad.numpy() for p in net.parameters()])
        net.zero_grad()
        with tinynet.tracing(net):
            loss = F.cross_entropy(net(x), [0, 1])
        loss.backward()
        gradients.append([p.grad.numpy() for p in net.parameters()])
        net.zero_grad()
    for later in gradients[1:]:
        for a, b in zip(gradients[0], later, strict=True):
            np.testing.assert_array_equal(a, b)
