"""Small print of the tape: what is said, whose arrays are copied, what a Function may give."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import marks, sharing, tape
from tinynet.tape import add_up, walk


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_the_array_that_was_changed_is_named():
    for changed, (number, shape) in enumerate([(0, "(3,)"), (1, "(2, 3)")]):
        arguments = leaf([1.0, 2.0, 3.0]), leaf(np.ones((2, 3)))
        y = (arguments[0] * arguments[1]).sum()
        arguments[changed].data += 1
        with pytest.raises(RuntimeError) as caught:
            y.backward()
        assert f"(saved array {number}, shape {shape})" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        3,
        True,
        2.5,
        1j,
        10**12,
        *map(np.dtype("b").type, (0, -7)),
        np.float16(1.5),
        np.float32(1.5),
        np.float64(1.5),
        np.bool_(0),
    ],
)
def test_a_number_that_forward_returns_is_an_array_of_its_kind(value):
    """As NumPy has it; alone, in a tuple, and where the tape records."""

    class Number(tinynet.Function):
        @staticmethod
        def forward(ctx, x, both):
            return (x * 1, value) if both else value

        @staticmethod
        def backward(ctx, *grads):
            return grads[-1] * np.ones(2), None

    expected = np.asarray(value)
    for recorded in (False, True):
        x = tinynet.tensor([1.0, 2.0], requires_grad=recorded)
        for y in (Number.apply(x, False), Number.apply(x, True)[1]):
            assert (y.shape, y.dtype, y.item()) == ((), expected.dtype, value)
            assert y.requires_grad == (recorded and expected.dtype.kind == "f")


@pytest.mark.parametrize(
    "given, got",
    [
        ([np.ones(2)], "got list"),
        ((np.ones(2), [1.0]), "got list in a tuple"),
        (None, "got NoneType; return the result"),
        (tinynet.ones(2), "got Tensor"),
        ("two", "got str"),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_forward_returns_is_an_array_or_a_tuple_of_arrays(recorded, given, got):
    """NumPy would make one array of a list of two results."""

    class Wrong(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return given

    with pytest.raises(TypeError) as caught:
        Wrong.apply(tinynet.tensor([1.0, 2.0], requires_grad=recorded))
    assert str(caught.value) == f"Wrong.forward: expected an array or a tuple of arrays, {got}"


def test_a_function_without_forward_or_backward_is_named():
    class Half(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    class Empty(tinynet.Function):
        pass

    x = tinynet.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"^Half has no static backward\(ctx, \*grads\)$"):
        Half.apply(x).sum().backward()
    with pytest.raises(
        NotImplementedError, match=r"^Empty has no static forward\(ctx, \*arrays\)$"
    ):
        Empty.apply(x)


@pytest.mark.parametrize("shape", [(), (2,), (0,), (2, 3)])
def test_what_requires_no_gradient_says_so_whatever_its_shape(shape):
    with pytest.raises(RuntimeError, match="this tensor requires no gradient"):
        tinynet.ones(shape).backward()


@pytest.mark.parametrize("size", [1025, 2047, 2048, 5000, 1 << 17])
def test_a_mark_is_of_samples_spread_evenly(size):
    """Any run of elements as long as the distance of two samples holds one."""
    for array in (np.zeros((size, 1)), np.zeros((1, size)).T, np.zeros((size, 2))[:, 1:]):
        before = marks.mark(array)
        samples, step = len(before) // array.itemsize, size // marks.SAMPLES
        assert marks.SAMPLES <= samples <= 2 * marks.SAMPLES
        for start in (0, 1, size // 2, size - 2 * step):
            array[start : start + step] += 1
            assert marks.mark(array) != before
            array[start : start + step] -= 1
        assert marks.mark(array) == before


@pytest.mark.parametrize(
    "module, ours",
    [
        ("tinynet", True),
        ("tinynet.functional.x", True),
        ("tinynet_more.layers", False),
        ("t", False),
    ],
)
def test_a_function_is_ours_if_its_package_is(module, ours):
    """A stranger's gradients are copied: they may be arrays that are kept, or written to again."""
    kept = np.ones(2, np.float32)
    body = dict(
        __module__=module,
        forward=staticmethod(lambda ctx, x: x * 2),
        backward=staticmethod(lambda ctx, dy: kept),
    )
    function = type("Stranger", (tinynet.Function,), body)
    assert function.ours == ours
    if not ours:
        x = leaf([1.0, 2.0])
        function.apply(x).sum().backward()
        x.grad.data[...] = 7
        assert kept.tolist() == [1, 1]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("required", [(True, True), (True, False), (False, True)])
def test_gradients_for_all_arguments_or_for_the_tensors_alone(alone, required):
    """Whichever of them requires one."""

    class Mix(tinynet.Function):
        @staticmethod
        def forward(ctx, p, a, q, b):
            ctx.factors = p, q
            return p * a + q * b

        @staticmethod
        def backward(ctx, dy):
            p, q = ctx.factors
            return (p * dy, q * dy) if alone else (None, p * dy, None, q * dy)

    a, b = (tinynet.tensor([1.0, 2.0], requires_grad=need) for need in required)
    Mix.apply(3.0, a, 5.0, b).sum().backward()
    assert [x.grad is not None for x in (a, b)] == list(required)
    assert all(x.grad is None or x.grad.tolist() == [n, n] for x, n in ((a, 3), (b, 5)))


def test_a_share_ends_where_it_began():
    """Also inside of another, of none, and where an error leaves it."""
    outer, inner = (sharing.Share(first, 2, 4, lambda value: [value]) for first in (0, 2))
    with sharing.shared(outer):
        for share in (inner, None):
            with pytest.raises(KeyError), sharing.shared(share):
                assert sharing.current() is share
                raise KeyError
            assert sharing.current() is outer
    assert sharing.current() is None


def test_what_forward_gives_in_a_tuple_comes_in_a_tuple():
    class Several(tinynet.Function):
        @staticmethod
        def forward(ctx, x, count):
            ctx.count = count
            return tuple(x * i for i in range(count))

        @staticmethod
        def backward(ctx, *dys):
            assert len(dys) == ctx.count
            return sum(i * dy for i, dy in enumerate(dys)), None

    for count in (1, 2, 3):
        ys = Several.apply(leaf([1.0]), count)
        assert type(ys) is tuple and [y.item() for y in ys] == list(range(count))
        ys[-1].backward()
    x, w = tinynet.ones(1, 1, 2, 2), tinynet.ones(1, 1, 2, 2)
    assert type(F.conv2d_each(x, [w])) is tuple and len(x.split(1)) == 1


def test_gradients_that_were_added_are_gone_while_the_next_operation_works():
    """Their memory is free for it."""
    given = []

    class Twice(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, dy):
            if len(given) == 2:  # both went to x
                assert [gradient() for gradient in given] == [None, None]
            dx = 2 * dy
            given.append(weakref.ref(dx))
            return dx

    Twice.ours = True  # no copy is made of what it gives
    x, z = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    first, *others = Twice.apply(z), Twice.apply(x), Twice.apply(x)
    (first + others[0] + others[1]).backward(np.ones(2))
    assert len(given) == 3 and x.grad.tolist() == [4, 4] and z.grad.tolist() == [2, 2]


def test_the_gradient_of_the_result_is_gone_while_the_next_operation_works():
    arrived = []

    class Seen(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, dy):
            assert [gradient() for gradient in arrived] == [None] * len(arrived)
            arrived.append(weakref.ref(dy))
            return 2 * dy

    x = leaf([1.0])
    Seen.apply(Seen.apply(x)).backward()
    assert len(arrived) == 2 and x.grad.item() == 4


def test_gradients_are_added_at_the_visit_and_those_into_a_copy_as_they_come(monkeypatch):
    """A copy then waits for none that goes the other way."""
    sums = []

    def spy(parts, device):
        sums.append((len(parts), device))
        return add_up(parts, device)

    monkeypatch.setattr(tape, "add_up", spy)
    x = leaf([1.0, 2.0])
    for middle, counts in ((x * 1, [3]), (x.to("cpu:1"), [2, 2])):
        sums.clear()
        (middle * 2 + middle * 3 + middle * 4).sum().backward()
        assert [each for each in sums if each[0] > 1] == [(n, middle.device) for n in counts]
    assert x.grad.tolist() == [18, 18]


def test_the_gradient_that_is_given_takes_the_type_of_its_tensor():
    for kind, other in (("float32", np.float64), ("float64", np.float32)):
        x = leaf([1.0, 2.0], dtype=kind)
        for given in (np.ones(2, other), tinynet.ones(2, dtype=other), [1, 1]):
            x.zero_grad()
            x.backward(given)
            assert x.grad.dtype == kind
            x.zero_grad()
            (x * 2).backward(given)
            assert x.grad.dtype == kind and x.grad.tolist() == [2, 2]
        y = leaf(1.0, dtype=kind)
        y.backward()
        ((_, arrived, _),) = walk(y * 3)
        assert y.grad.dtype == arrived[0].dtype == kind


TARGET = np.arange(4)
INPUT_NOT_KEPT = {
    "add": lambda h: h + 1, "sub": lambda h: 1 - h, "mul": lambda h: h * 2, "div": lambda h: h / 2,
    "neg": lambda h: -h, "sum": lambda h: h.sum(), "mean": lambda h: h.mean(0),
    "cumsum": lambda h: h.cumsum(0), "exp": lambda h: h.exp(), "sqrt": lambda h: h.sqrt(),
    "relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid, "softmax": F.softmax,
    "log_softmax": F.log_softmax, "dropout": F.dropout, "clone": lambda h: h.clone(),
    "concat": lambda h: tinynet.concat([h, h]), "where": lambda h: tinynet.where(True, h, 0),
    "pad": lambda h: F.pad(h, (1, 1)), "lookup": lambda h: h[[0, 0]],
    "cross_entropy": lambda h: F.cross_entropy(h, TARGET),
    "max_pool2d": lambda h: F.max_pool2d(h.reshape(1, 1, 4, 4), 2),
    "avg_pool2d": lambda h: F.avg_pool2d(h.reshape(1, 1, 4, 4), 2),
    "interpolate": lambda h: F.interpolate(h.reshape(1, 1, 4, 4), 2),
    "mse_loss": lambda h: F.mse_loss(h * 0, tinynet.zeros(4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUT_NOT_KEPT)
def test_what_backward_does_not_need_is_not_kept(name):
    h = leaf(np.ones((4, 4), np.float32)) + 1
    array = weakref.ref(h.data)
    y = INPUT_NOT_KEPT[name](h)
    del h
    assert y.requires_grad and array() is None
