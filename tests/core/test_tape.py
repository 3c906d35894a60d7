"""The tape: order, sharing, memory, errors, copies."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinynet
import tinynet.functional as F
from tinynet.devices.memory import pool
from tinynet.gradcheck import gradcheck


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_gradients_add_up_where_a_tensor_is_used_twice():
    a = leaf([3.0])
    b = a + a
    c = b * b
    (c + b).sum().backward()
    assert a.grad.item() == 8 * 3 + 2  # c = 4 a^2, b = 2 a


def test_gradients_add_up_over_calls_until_forgotten():
    a = leaf([1.0, 2.0])
    (a * 2).sum().backward()
    first = a.grad.data
    (a * 3).sum().backward()
    assert a.grad.numpy().tolist() == [5, 5]
    assert first.tolist() == [2, 2]  # the array that was there is not written to
    a.zero_grad()
    assert a.grad is None


def test_a_gradient_belongs_to_its_leaf_alone():
    """Add hands the same array to both sides; what is done with one gradient must not reach the
    other.
    """
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    given = np.array([5.0, 6.0], np.float32)
    (a + b).backward(given)
    a.grad.data[:] = 0
    assert b.grad.numpy().tolist() == [5, 6] and given.tolist() == [5, 6]
    c = leaf([1.0, 2.0])
    upstream = tinynet.tensor([7.0, 8.0])
    c.backward(upstream)
    c.grad.data[:] = 0
    assert upstream.numpy().tolist() == [7, 8]


def test_one_gradient_for_two_leaves_is_copied():
    class Total(tinynet.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, dy):
            g = dy * 1
            return g, g

    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    Total.apply(a, b).sum().backward()
    a.grad.data[:] = 0
    assert b.grad.numpy().tolist() == [1, 1]


def test_a_gradient_passed_on_by_several_nodes_is_copied_for_each_leaf():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (a + (b + 0.0)).backward([5.0, 6.0])
    a.grad.data[:] = 0
    assert b.grad.numpy().tolist() == [5, 6]


def test_a_gradient_that_views_another_is_copied():
    a, b = leaf(np.ones((2, 3))), leaf(np.ones((2, 3)))
    whole = tinynet.concat([a, b], 0)
    whole.backward(np.arange(12.0).reshape(4, 3))
    a.grad.data[:] = -1
    assert b.grad.numpy().tolist() == [[6, 7, 8], [9, 10, 11]]
    x = leaf(np.ones((2, 3)))
    y = x.reshape(3, 2)
    z = (y + 0) + (y * 0)
    z.sum().backward()
    assert (x.grad.numpy() == 1).all()


# Their backward gives a view of what arrives.
VIEWS = {
    "reshape": lambda x: x.reshape(3, 2),
    "flatten": lambda x: x.flatten(),
    "transpose": lambda x: x.T,
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(),
    "sum": lambda x: x.sum(),
    "sum of an axis": lambda x: x.sum(1),
    "concat": lambda x: tinynet.concat([x, x * 0]),
    "stretched": lambda x: x[:1] + tinynet.zeros(2, 3),
    "product": lambda x: tinynet.einsum("ij->ji", x),
}


@pytest.mark.parametrize("way", VIEWS)
def test_views_of_one_gradient_are_copied_for_each_leaf(way):
    """+ hands one array to both sides, and both views of it to leaves."""
    a, b, c = (leaf(np.ones((2, 3))) for _ in range(3))
    y = VIEWS[way](a) + VIEWS[way](b)
    given = tinynet.tensor(np.arange(y.size, dtype=np.float32).reshape(y.shape))
    y.backward(given)
    VIEWS[way](c).backward(given)
    expected = c.grad.numpy()
    a.grad.data[...] = -1
    np.testing.assert_array_equal(b.grad.numpy(), expected)
    b.grad.data[...] = c.grad.data[...] = -2
    np.testing.assert_array_equal(given.numpy().ravel(), np.arange(y.size))
    assert (a.grad.numpy() == -1).all()


@pytest.mark.parametrize("length", [30_000])
def test_a_chain_of_any_length(length):
    x = leaf([1.0], dtype=np.float64)
    y = x
    for _ in range(length):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1
    assert y.item() == length + 1
    del y  # and is taken apart without recursion


COMBINE = [
    lambda x, y: x + y,
    lambda x, y: x * y * 0.5,
    lambda x, y: F.tanh(x) - y,
    lambda x, y: x[::-1] + 1,
    lambda x, y: F.sigmoid(x * y),
]
ANY = st.integers(0, 99)


@given(
    st.lists(st.tuples(st.sampled_from(COMBINE), ANY, ANY), min_size=1, max_size=12),
    st.lists(ANY, min_size=1),
)
def test_random_graphs_of_shared_nodes(steps, used):
    """Graphs in which a node may use any two before it, and outputs may be any nodes, also several
    times.
    """

    def graph(a, b):
        nodes = [a, b]
        for combine, i, j in steps:
            nodes.append(combine(nodes[i % len(nodes)], nodes[j % len(nodes)]))
        return [nodes[k % len(nodes)] * (1.0 + n) for n, k in enumerate(used)]

    rng = np.random.default_rng(len(steps))
    assert gradcheck(graph, [rng.normal(size=3), rng.normal(size=3)], rtol=1e-5)


@given(st.permutations(range(5)))
def test_the_order_of_use_does_not_matter(order):
    x = leaf([0.3, -0.7], dtype=np.float64)
    h = F.tanh(x)
    uses = [h * 2, h * h, F.sigmoid(h), h + x, h * x]
    total = uses[order[0]]
    for i in order[1:]:
        total = total + uses[i]
    total.sum().backward()
    v, t = np.array([0.3, -0.7]), np.tanh([0.3, -0.7])
    s = 1 / (1 + np.exp(-t))
    expected = (3 + 2 * t + s * (1 - s) + v) * (1 - t**2) + 1 + t
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_no_gradient_where_none_is_asked_for():
    a, b = leaf([1.0]), tinynet.tensor([2.0])
    y = a * b
    y.backward()
    assert b.grad is None and y.grad is None and a.grad.item() == 2
    assert not (b * b).requires_grad
    assert (a * b).detach().requires_grad is False
    assert a.detach().data is a.data
    assert not tinynet.tensor([1.5, 2.5])[[0]].requires_grad


def test_backward_asks_only_for_the_gradients_that_are_needed():
    class Spy(tinynet.Function):
        @staticmethod
        def forward(ctx, a, b, c):
            assert ctx.needs_input_grad == (True, False, False)
            return a + b

        @staticmethod
        def backward(ctx, dy):
            return dy, dy, None

    a, b = leaf([1.0]), tinynet.tensor([2.0])
    Spy.apply(a, b, 3).backward()
    assert a.grad.item() == 1 and b.grad is None

    class Careless(tinynet.Function):  # what nobody asked for may have any shape
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, dy):
            return dy, np.zeros(7)

    Careless.apply(a, b).backward()
    assert a.grad.item() == 2 and b.grad is None


def test_no_grad():
    a = leaf([1.0])
    with tinynet.no_grad():
        with tinynet.no_grad():
            assert not (a * 2).requires_grad
        assert not (a * 2).requires_grad  # leaving the inner one does not end the outer one
    assert (a * 2).requires_grad

    @tinynet.no_grad()
    def f(depth):
        return f(depth - 1) if depth else a * 2

    assert not f(2).requires_grad
    assert (a * 2).requires_grad
    with pytest.raises(KeyError), tinynet.no_grad():
        raise KeyError
    assert (a * 2).requires_grad
    seen = []
    with tinynet.no_grad():
        thread = threading.Thread(target=lambda: seen.append((a * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen == [True]  # of this thread alone


def test_nothing_is_saved_without_a_gradient():
    saved = []

    class Spy(tinynet.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            saved.append(ctx.saved_tensors)
            return a * 2

    Spy.apply(tinynet.tensor([1.0]))
    with tinynet.no_grad():
        Spy.apply(leaf([1.0]))
    Spy.apply(leaf([1.0]))
    assert [len(s) for s in saved] == [0, 0, 1]


class Big(tinynet.Function):
    """Saves an array; notes how many of all saved ones are alive when its backward runs."""

    alive: list = []
    seen: list = []

    @staticmethod
    def forward(ctx, x):
        array = pool.empty((1 << 18,), np.float32)
        Big.alive.append(weakref.ref(array))
        ctx.save_for_backward(array)
        return x * 1

    @staticmethod
    def backward(ctx, dy):
        gc.collect(0)
        Big.seen.append(sum(ref() is not None for ref in Big.alive))
        return dy * 1


def test_saved_arrays_are_let_go_node_by_node():
    Big.alive, Big.seen = [], []
    x = leaf([1.0])
    y = x
    for _ in range(10):
        y = Big.apply(y)
    gc.disable()
    try:
        y.sum().backward()
    finally:
        gc.enable()
    assert Big.seen == list(range(10, 0, -1))
    assert not any(ref() is not None for ref in Big.alive)


def test_memory_falls_during_backward_and_is_all_given_back():
    gc.collect()
    start = pool.stats().used
    x = leaf(np.ones((1 << 18,), np.float32))
    y = x
    for _ in range(12):
        y = F.relu(y)
    y = y.sum()
    held = pool.stats().used - start
    assert held >= 12 << 20
    pool.peak = pool.stats().used
    y.backward()
    assert pool.stats().peak - start <= held + (4 << 20)  # a gradient or two come on top, no more
    del y
    assert pool.stats().used - start <= 2 << 20


def test_backward_twice():
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert x.grad.item() == 8
    y.backward()
    with pytest.raises(RuntimeError, match=r"graph behind Sum was freed .* retain_graph=True"):
        y.backward()
    half = x * 3
    half.sum().backward()
    with pytest.raises(RuntimeError, match="graph behind Mul was freed"):
        (half * 2).sum().backward()


@pytest.mark.parametrize("size", [1, 5, 1000, 1 << 16])
def test_a_change_in_place_of_what_backward_needs(size):
    x = leaf(np.linspace(0, 1, size))
    y = x * x
    x.data += 1
    with pytest.raises(
        RuntimeError, match=rf"saved array 0, shape \({size},\)\) was changed in place"
    ):
        y.sum().backward()


def test_a_change_of_one_element_of_a_small_array_is_noticed():
    for i in range(0, 1000, 7):
        x = leaf(np.zeros(1000))
        y = x * x
        x.data[i] = 1e-30
        with pytest.raises(RuntimeError, match="changed in place"):
            y.sum().backward()


@pytest.mark.parametrize("part", [slice(None, 99), slice(2000, 2099), slice(-99, None)])
@pytest.mark.parametrize("lies", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_change_of_some_pictures_of_a_large_array_is_noticed(part, lies):
    x = leaf(np.zeros((4200, 6, 5)).transpose(np.argsort(lies)).copy().transpose(lies))
    y = x * x
    x.data[part] = 1e-30
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_relu_in_place_over_a_saved_array_is_noticed(rng):
    x = leaf(rng.normal(size=(3, 4)))
    h = F.tanh(x)
    y = F.relu(h, inplace=True)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()


def test_backward_from_what_is_no_scalar():
    x = leaf([1.0, 2.0])
    with pytest.raises(
        RuntimeError, match=r"scalar only, and this tensor has shape \(2,\).*backward\(grad\)"
    ):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        (x * 2).backward([1.0, 2.0, 3.0])
    (x * 2).backward([1.0, 10.0])
    assert x.grad.numpy().tolist() == [2, 20]
    leaf([[3.0]]).backward()  # one element is a scalar


def test_backward_without_anything_that_requires_a_gradient():
    with pytest.raises(RuntimeError, match="requires no gradient"):
        tinynet.tensor([1.0]).backward()
    with tinynet.no_grad():
        y = leaf([1.0]) * 2
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()


def test_grad_keeps_dtype_and_device():
    for dtype in (np.float32, np.float64):
        x = leaf([1.0, 2.0], dtype=dtype, device="cpu:1")
        (x * 2).sum().backward()
        assert x.grad.dtype == dtype and x.grad.device == "cpu:1" and not x.grad.requires_grad


class Split(tinynet.Function):
    """Two outputs and a number: y = 2 x, z = 3 x."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return 2 * x, factor * x

    @staticmethod
    def backward(ctx, dy, dz):
        return 2 * dy + ctx.factor * dz


def test_a_function_of_several_outputs():
    x = leaf([1.0, 2.0])
    y, z = Split.apply(x, 3.0)
    z.sum().backward(retain_graph=True)
    assert x.grad.numpy().tolist() == [3, 3]
    x.zero_grad()
    (y * z).sum().backward()
    assert x.grad.numpy().tolist() == [12, 24]
    assert gradcheck(lambda x: Split.apply(x, 3.0), [np.ones(3)])


def test_what_a_function_may_return_and_what_not():
    class Odd(tinynet.Function):
        answer = None

        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, dy):
            return Odd.answer(dy)

    a, b = leaf([1.0, 2.0]), leaf([[1.0], [2.0]])
    Odd.answer = lambda dy: (dy,)
    with pytest.raises(
        RuntimeError,
        match="Odd.backward: expected a gradient for each positional argument .*, 2 in all, got 1",
    ):
        Odd.apply(a, b).sum().backward()
    Odd.answer = lambda dy: None  # a backward without return
    with pytest.raises(RuntimeError, match=r"^Odd.backward: expected a gradient, got None; .*"):
        Odd.apply(a, b).sum().backward()
    Odd.answer = lambda dy: (dy, dy)
    with pytest.raises(RuntimeError, match=r"shape \(2,\) for argument 0, got \(2, 2\)"):
        Odd.apply(a, b).sum().backward()
    Odd.answer = lambda dy: (None, dy.sum(axis=1, keepdims=True).astype(np.float64))
    Odd.apply(a, b).sum().backward()
    assert a.grad is None and b.grad.dtype == np.float32 and b.grad.numpy().tolist() == [[2], [2]]
    with pytest.raises(TypeError, match="Odd: expected a tensor among its arguments, got int"):
        Odd.apply(1, 2)

    class Nothing(tinynet.Function):
        pass

    with pytest.raises(NotImplementedError, match="forward"):
        Nothing.apply(a)

    class OneWay(tinynet.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 1

    with pytest.raises(NotImplementedError, match="backward"):
        OneWay.apply(a).sum().backward()


class Scale(tinynet.Function):
    """y = w x, where w may be left out."""

    @staticmethod
    def forward(ctx, x, w=2.0, *, more=()):
        return x * np.asarray(w)

    @staticmethod
    def backward(ctx, dy):
        return 2 * dy, None


@pytest.mark.parametrize("grad", [False, True])
def test_a_function_takes_tensors_by_position_alone(grad):
    """Forward would get others as they are, and they would get no gradient."""
    x, w = leaf([1.0, 2.0]), tinynet.tensor([3.0, 4.0], requires_grad=grad)
    start = "^Scale: expected tensors by position, each an argument of its own, got "
    with pytest.raises(TypeError, match=start + "w by keyword; write w, not w=w$"):
        Scale.apply(x, w=w)
    for kind in (list, tuple):
        for args, kwargs in [((x, kind([1.0, w])), {}), ((x,), {"more": kind([w])})]:
            named = f"one in a {kind.__name__}; write \\*tensors, not tensors$"
            with pytest.raises(TypeError, match=start + named):
                Scale.apply(*args, **kwargs)
    assert Scale.apply(x, w=[3.0, 4.0], more=[1]).numpy().tolist() == [3, 8]


def test_a_function_has_no_objects():
    for call in (lambda: Scale(leaf([1.0])), Scale, lambda: Scale(w=2.0)):
        with pytest.raises(TypeError, match=r"^Scale: expected Scale\.apply\(\.\.\.\), got Scale"):
            call()


def test_gradients_are_counted_by_the_arguments_that_apply_was_given():
    """Not by those of forward, of which some have defaults."""
    x = leaf([1.0])
    said = "^Scale.backward: expected a gradient for each positional argument that apply was given"
    with pytest.raises(RuntimeError, match=said + ".*, 1 in all, got 2$"):
        Scale.apply(x, w=3.0).sum().backward()
    Scale.apply(x, 3.0).sum().backward()


def test_integers_get_no_gradient():
    class Rank(tinynet.Function):
        @staticmethod
        def forward(ctx, a):
            return a * 2, np.argsort(a)

        @staticmethod
        def backward(ctx, dy, dorder):
            assert dorder.dtype.kind == "i" and not dorder.any()
            return 2 * dy

    y, order = Rank.apply(leaf([2.0, 1.0]))
    assert y.requires_grad and not order.requires_grad and order.numpy().tolist() == [1, 0]
    y.sum().backward()


def test_the_context_of_a_function():
    class Look(tinynet.Function):
        @staticmethod
        def forward(ctx, a):
            assert ctx.xp is np and ctx.kernels is tinynet.kernels and ctx.device == "cpu:1"
            ctx.save_for_backward(a, None)
            return a * 1

        @staticmethod
        def backward(ctx, dy):
            a, nothing = ctx.saved_tensors
            assert nothing is None
            return dy * a

    x = leaf([5.0], device="cpu:1")
    Look.apply(x).backward()
    assert x.grad.item() == 5
