"""What must not go wrong without a word on the tape: gradients that share memory, half of a
backward, several threads, contexts that are entered twice, indices that change later.
"""

from __future__ import annotations

import sys
import threading
from typing import ClassVar

import numpy as np
import pytest
from interrupts import at_every_place

import tinynet
import tinynet.functional as F
from tinynet import tape, tensors


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


# Gradients that meet: added, never changed


def test_a_gradient_that_goes_two_ways_is_not_changed_where_it_meets_another():
    """c hands one array to a and to b; at a it meets another gradient, and b must not see the
    sum.
    """
    for swapped in (False, True):
        for older in "ab":  # it is visited last, when the other one's gradient is added up
            x, z = leaf([1.0]), leaf([1.0])
            b = z * 3
            a = x * 2
            b = b if older == "b" else z * 3
            d = a * 5
            c = a + b
            (d + c if swapped else c + d).sum().backward()
            assert z.grad.item() == 3 and x.grad.item() == 12


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_a_gradient_that_goes_two_ways_through_a_copy(device):
    """The same where a is a copy: gradients into a copy are added as they come."""
    x, z = leaf([1.0], device=device), leaf([1.0], device="cpu:2")
    a, b = x.to("cpu:2"), z * 3
    c = a + b
    ((a * 5) + (c + a * 7)).sum().backward()
    assert z.grad.item() == 3 and x.grad.item() == 13


def test_the_gradient_of_a_leaf_is_replaced_and_its_arrays_are_left_alone():
    x, z = leaf([1.0, 1.0]), leaf([1.0, 1.0])
    given = np.array([1.0, 2.0], np.float32)
    upstream = tinynet.tensor(given)
    kept = []
    for calls in (1, 2, 3):
        (x + (z + x)).backward(upstream)  # both leaves, x twice, get the array that came
        kept.append((x.grad, x.grad.numpy(), z.grad, z.grad.numpy()))
        assert x.grad.numpy().tolist() == [2 * calls, 4 * calls]
        assert z.grad.numpy().tolist() == [calls, 2 * calls]
        assert upstream.numpy().tolist() == [1, 2]
    for x_grad, x_was, z_grad, z_was in kept:
        np.testing.assert_array_equal(x_grad.data, x_was)
        np.testing.assert_array_equal(z_grad.data, z_was)


def test_a_retained_graph_gives_the_same_every_time(rng):
    x = leaf(rng.normal(size=(3, 3)))
    h = F.tanh(x)
    y = (h * h + h[::-1] - h.reshape(9).reshape(3, 3).transpose() * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy()
    for _ in range(2):
        x.zero_grad()
        y.backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), first)


constant = np.full(2, 5.0, np.float32)  # an array that outlives its operation


class Constant(tinynet.Function):
    """Its gradient is always the same array, or an attribute of the context, or what came."""

    @staticmethod
    def forward(ctx, a, how):
        ctx.how, ctx.mine = how, np.full(2, 5.0, np.float32)
        return a * 1

    @staticmethod
    def backward(ctx, dy):
        return {"global": constant, "view": constant[:], "mine": ctx.mine, "dy": dy}[ctx.how], None


@pytest.mark.parametrize("how", ["global", "view", "mine", "dy"])
def test_a_leaf_owns_its_gradient_whatever_a_backward_returns(how):
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    ya, yb = Constant.apply(a, how), Constant.apply(b, how)
    given = tinynet.tensor([5.0, 5.0])
    ya.backward(given, retain_graph=True)
    yb.backward(given)
    a.grad.data[:] = -1
    assert b.grad.numpy().tolist() == [5, 5] and constant.tolist() == [5, 5]
    assert given.numpy().tolist() == [5, 5]
    a.zero_grad()
    ya.backward(given)
    assert a.grad.numpy().tolist() == [5, 5]


class Scratch(tinynet.Function):
    """Its gradient is always in the same memory."""

    memory = np.zeros(1, np.float32)

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return np.multiply(2 * x, dy, out=Scratch.memory)


def test_a_gradient_that_waits_is_not_overwritten_by_the_next_backward():
    a, b = leaf([3.0]), leaf([5.0])
    x, y = (
        a * 1,
        b * 1,
    )  # older than both squares: the first gradient waits while the second is made
    (Scratch.apply(x) + Scratch.apply(y)).backward()
    assert a.grad.item() == 6 and b.grad.item() == 10


def test_what_is_no_array_is_refused_as_a_gradient():
    class Odd(tinynet.Function):
        answer = None

        @staticmethod
        def forward(ctx, a):
            return a * 1

        @staticmethod
        def backward(ctx, dy):
            return Odd.answer

    for answer in (tinynet.tensor([1.0]), 1.0, [1.0]):
        Odd.answer = (answer,)
        with pytest.raises(
            RuntimeError, match="Odd.backward: expected an array of shape .* for argument 0, got "
        ):
            Odd.apply(leaf([1.0])).backward()


# A backward that fails


class Fails(tinynet.Function):
    wanted = True

    @staticmethod
    def forward(ctx, a):
        return a * 1

    @staticmethod
    def backward(ctx, dy):
        if Fails.wanted:
            raise KeyError("no")
        return dy * 1


def test_a_backward_that_fails_changes_no_gradient_and_can_be_repeated():
    a, b = leaf([1.0]), leaf([2.0])
    y = Fails.apply(a * 1) + b * 3  # b's gradient is known before the failure
    b.grad = tinynet.tensor([10.0])
    Fails.wanted = True
    for _ in range(2):
        with pytest.raises(KeyError):
            y.backward(retain_graph=True)
        assert a.grad is None and b.grad.item() == 10
    Fails.wanted = False
    y.backward()
    assert a.grad.item() == 1 and b.grad.item() == 13


def test_an_interrupt_leaves_all_gradients_set_or_none():
    leaves = [leaf([float(i)]) for i in range(3)]
    files = {tape.__file__, tinynet.tensor.__globals__["__file__"]}

    def work():
        for x in leaves:
            x.zero_grad()
        (leaves[0] * leaves[1] + leaves[2]).sum().backward()

    def check():
        assert len({x.grad is None for x in leaves}) == 1

    work()  # for coverage.py
    assert at_every_place(work, files, check) > 20


# Several threads


def test_a_leaf_that_several_threads_share_loses_nothing():
    x = leaf(np.zeros(50_000))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work():
            for _ in range(50):
                (x * 1.0).sum().backward()

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert (x.grad.numpy() == 200).all()


class Watched(tinynet.Tensor):
    """A leaf that tells whether its gradient is set by who holds the lock."""

    __slots__ = ()
    held: ClassVar[list[bool]] = []

    @property
    def _grad(self):
        return None

    @_grad.setter
    def _grad(self, value):
        self.held.append(tensors._grads._is_owned())


def test_gradients_are_set_by_who_holds_the_lock():
    """Between reading the old gradient and setting the sum no other thread may do the same."""
    a, b = (Watched(np.ones(2), tinynet.device("cpu"), True) for _ in range(2))
    Watched.held.clear()  # they were made
    (a * b + a).sum().backward()
    assert Watched.held == [True, True] and not tensors._grads._is_owned()


# No recording


def test_one_no_grad_object_entered_twice():
    a, off = leaf([1.0]), tinynet.no_grad()
    with off:
        with off:
            assert not (a * 2).requires_grad
        assert not (a * 2).requires_grad
    assert (a * 2).requires_grad
    with off:  # and once more, later
        pass
    assert (a * 2).requires_grad


def test_one_no_grad_object_on_two_threads():
    a, off = leaf([1.0]), tinynet.no_grad()
    inside, outside = threading.Event(), threading.Event()
    seen = []

    def other():
        with off:
            inside.set()
            outside.wait(20)
        seen.append((a * 2).requires_grad)

    thread = threading.Thread(target=other)
    with off:
        thread.start()
        inside.wait(20)
    seen.append((a * 2).requires_grad)
    outside.set()
    thread.join()
    assert seen == [True, True]


def test_a_generator_under_no_grad():
    a = leaf([1.0])

    @tinynet.no_grad()
    def numbers(n):
        """Doc."""
        got = []
        for i in range(n):
            try:
                got.append((yield (a * i).requires_grad))
            except KeyError:
                got.append((a * i).requires_grad)
        return got

    assert numbers.__doc__ == "Doc."
    run = numbers(3)
    assert next(run) is False
    assert (a * 2).requires_grad  # between its steps, its caller records
    assert run.send("sent") is False and (a * 2).requires_grad
    assert run.throw(KeyError()) is False and (a * 2).requires_grad
    with pytest.raises(StopIteration) as stop:
        next(run)
    assert stop.value.value == ["sent", False, None] and (a * 2).requires_grad
    left = numbers(2)
    next(left)
    left.close()
    assert (a * 2).requires_grad


def test_a_generator_that_is_left_or_hit_ends_under_no_grad():
    a, seen = leaf([1.0]), []

    @tinynet.no_grad()
    def steps():
        try:
            yield 1
        finally:
            seen.append((a * 2).requires_grad)

    run = steps()
    next(run)
    run.close()
    run = steps()
    next(run)
    with pytest.raises(KeyError, match="hit"):
        run.throw(KeyError("hit"))
    run = steps()
    next(run)
    assert next(run, None) is None
    assert seen == [False] * 3 and (a * 2).requires_grad


def test_what_raises_under_no_grad_ends_it():
    """In a block, in a decorated function, in the first or a later step of a generator."""
    a = leaf([1.0])

    def fail():
        assert not (a * 2).requires_grad
        raise KeyError("hit")

    def block():
        with tinynet.no_grad():
            fail()

    @tinynet.no_grad()
    def steps(count):
        yield from range(count)
        fail()

    for way in (block, tinynet.no_grad()(fail), lambda: list(steps(0)), lambda: list(steps(2))):
        for _ in range(2):
            with pytest.raises(KeyError, match="hit"):
                way()
            assert (a * 2).requires_grad


def test_no_grad_refuses_what_it_cannot_switch_off():
    async def task():
        pass

    async def steps():
        yield 1

    for function in (task, steps):
        with pytest.raises(TypeError, match=r"no_grad: .*async.*with no_grad\(\)"):
            tinynet.no_grad()(function)


# Indices


@pytest.mark.parametrize(
    "kind", [list, np.array, tinynet.tensor, "mask", "tuple", "tuple of tensors", "nested"]
)
def test_an_index_that_changes_later(kind):
    x = leaf([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    if kind == "mask":
        index = np.array([True, False])
        key, data, expected = index, index, [[1, 1, 1], [0, 0, 0]]
    elif kind == "tuple":
        data = np.array([0, 0])
        key, expected = (data, slice(1, None)), [[0, 2, 2], [0, 0, 0]]
    elif kind == "tuple of tensors":
        index = tinynet.tensor([0, 0])
        data, key, expected = index.data, (index, slice(1, None)), [[0, 2, 2], [0, 0, 0]]
    elif kind == "nested":
        data = [0]
        key, expected = [data], [[1, 1, 1], [0, 0, 0]]
    else:
        index = kind([0, 0])
        data = index.data if isinstance(index, tinynet.Tensor) else index
        key, expected = index, [[2, 2, 2], [0, 0, 0]]
    y = x[key].sum()
    data[0] = not data[0]
    y.backward()
    assert x.grad.numpy().tolist() == expected


# Second derivatives


def test_second_derivatives_are_refused_with_the_reason():
    x = leaf([2.0])
    y = (x * x).sum()
    with pytest.raises(RuntimeError, match="second derivatives.*plain arrays"):
        y.backward(create_graph=True)
    assert x.grad is None
    y.backward()
    with pytest.raises(RuntimeError, match="second derivatives.*plain arrays"):
        (x.grad * 2).sum().backward()
