"""The walk along the tape: what it visits and yields, in which order gradients are added, who owns
them.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.devices.cpu import CpuDevice
from tinynet.kernels import layout
from tinynet.kernels.order import add
from tinynet.tape import walk


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_a_dry_walk_shows_every_node_and_changes_nothing():
    x = leaf([2.0, 3.0])
    q = x * x
    y = (q + x).sum()
    visits = [
        (node.function.__name__, [a.tolist() for a in arrived], leaving)
        for node, arrived, leaving in walk(y)
    ]
    assert [name for name, _, _ in visits] == ["Sum", "Add", "Mul"]
    assert [arrived for _, arrived, _ in visits] == [[1.0], [[1.0, 1.0]], [[1.0, 1.0]]]
    assert [g.tolist() for g in visits[2][2]] == [[2.0, 3.0], [2.0, 3.0]]
    assert visits[0][2][1:] == [None, None]  # axis and keepdims get no gradient
    assert x.grad is None
    y.backward()
    assert x.grad.numpy().tolist() == [5, 7]
    with pytest.raises(RuntimeError, match="graph behind Sum was freed by an earlier backward"):
        next(walk(y))


def test_a_dry_walk_gives_the_bits_of_backward(rng):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(100, 3), nn.Dropout(0.5)
    )
    x = leaf(rng.normal(size=(3, 2, 5, 5)).astype(np.float32))
    h = net(x)
    loss = (h * h + F.tanh(h) - h).sum()
    dry: dict = {}
    for node, _, leaving in walk(loss):
        for source, g in zip(node.inputs, leaving, strict=True):
            if isinstance(source, tinynet.Tensor) and g is not None:
                dry[source] = dry[source] + g if source in dry else g.copy()
    assert set(dry) == {x, *net.parameters()} and all(p.grad is None for p in dry)
    loss.backward()
    for p, g in dry.items():
        np.testing.assert_array_equal(p.grad.data, g)


def test_a_walk_can_be_left_and_frees_what_it_has_passed():
    x = leaf([2.0])
    y = (x * x).sum()
    for node, _, _ in walk(y, retain_graph=False):
        assert node.function.__name__ == "Sum" and node.inputs is not None
        break
    assert [node.function.__name__ for node, _, _ in walk(y, retain_graph=False)] == ["Sum", "Mul"]
    assert list(walk(x)) == []  # a leaf has no tape
    with pytest.raises(RuntimeError, match="requires no gradient"):
        next(walk(tinynet.tensor([1.0])))
    with pytest.raises(RuntimeError, match="was freed"):
        y.backward()


def test_gradients_are_added_in_the_order_in_which_they_arrive():
    """The newest use arrives first. In float32, (1e8 + 1) - 1e8 is 0 and (1e8 - 1e8) + 1 is 1."""
    for factors, total in [((-1e8, 1.0, 1e8), 0.0), ((1.0, -1e8, 1e8), 1.0)]:
        x = leaf([1.0])
        h = x * 1.0
        uses = [h * factor for factor in factors]
        tinynet.concat(uses).sum().backward()
        assert x.grad.item() == total


def test_gradients_that_meet_at_a_freed_node_are_refused_in_one_line():
    x = leaf([1.0])
    h = x * 2
    h.sum().backward()
    with pytest.raises(RuntimeError, match="graph behind Mul was freed by an earlier backward"):
        (h * 3 + h * 4).sum().backward()


class Aliases(tinynet.Function):
    """Gives its arguments gradients that share memory with each other, or with a saved array."""

    @staticmethod
    def forward(ctx, a, b, how):
        ctx.constant, ctx.how = np.full(a.shape, 5.0, a.dtype), how
        ctx.save_for_backward(ctx.constant)
        return a + b

    @staticmethod
    def backward(ctx, dy):
        if ctx.how == "saved":
            return ctx.saved_tensors[0], dy * 1, None
        fresh = dy * 1
        return fresh, fresh.T, None


@pytest.mark.parametrize("how", ["views", "saved"])
def test_a_leaf_never_shares_its_gradient(how):
    a, b = leaf(np.ones((2, 2))), leaf(np.ones((2, 2)))
    y = Aliases.apply(a, b, how)
    constant = y.node[0].constant
    y.sum().backward()
    before = b.grad.numpy()
    a.grad.data[:] = 7
    np.testing.assert_array_equal(b.grad.numpy(), before)
    assert (constant == 5).all()


def test_a_gradient_without_axes_is_an_array():
    a = leaf(3.0)
    (a * a + a).backward()
    assert isinstance(a.grad.data, np.ndarray) and a.grad.shape == () and a.grad.item() == 7
    a.grad.data[...] = 1
    assert a.grad.item() == 1


def test_copies_that_swap_follow_each_other_at_once(monkeypatch):
    """Between the two copies back, no device is asked for anything else: on GPUs a sum in between
    would make the second copy wait for the first.
    """
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0], device="cpu:1")
    for twice in (False, True):
        xa, xb = a * 2, b * 2
        xb_on_a, xa_on_b = xb.to("cpu"), xa.to("cpu:1")
        ya, yb = xa * xb_on_a, xb * xa_on_b  # xa and xb have two uses, one of them the copy
        if twice:  # and the copies as well
            ya, yb = ya + xb_on_a * 3, yb + xa_on_b * 3
        loss = ya.sum() + yb.sum().to("cpu")
        log = []

        def activate(self, operation="", arrays=(), log=log):
            log.append((operation, str(self)))
            return nullcontext()

        with monkeypatch.context() as patched:
            patched.setattr(CpuDevice, "activate", activate)
            patched.setattr(CpuDevice, "always_active", False)
            loss.backward()
        copies = [i for i, (operation, _) in enumerate(log) if operation == "Copy"]
        assert len(copies) == 3 and copies[2] == copies[1] + 1
        a.zero_grad()
        b.zero_grad()


def test_the_gradient_of_a_slice_lies_in_memory_as_its_input_does():
    pictures = np.zeros((3, 4, 4, 2), np.float32).transpose(3, 0, 1, 2)  # batch innermost
    x = tinynet.tensor(pictures, requires_grad=True)
    _, _, (dx, _) = next(walk(x[:, :, ::2, 1:], np.ones((2, 3, 2, 3), np.float32)))
    assert dx.strides == x.data.strides
    expected = np.zeros((2, 3, 4, 4))
    expected[:, :, ::2, 1:] = 1
    np.testing.assert_array_equal(dx, expected)


def test_large_gradients_are_added_with_the_same_bits_as_small_ones(rng, set_pieces):
    a, b = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    device = tinynet.device("cpu")
    set_pieces(layout, "PIECE", 20)
    for first, second in (
        (a, b), (a, np.asfortranarray(b)), (a.astype(np.float64), b), (a, b[:, :1]),
    ):  # fmt: skip
        found = add(device, first, second)
        assert found.dtype == (first + second).dtype
        np.testing.assert_array_equal(found, first + second)


def test_a_gradient_has_the_type_of_what_it_goes_to():
    x = leaf([1.0, 2.0])
    y = (x.astype("float64") * 2.0).sum()
    types = [(node.function.__name__, leaving[0].dtype) for node, _, leaving in walk(y)]
    assert types == [("Sum", np.float64), ("Mul", np.float64), ("Cast", np.float32)]
