"""Tensors: made, converted, printed, copied, moved; operators with what is no tensor."""

from __future__ import annotations

import copy
import operator

import numpy as np
import pytest

import tinynet
import tinynet.functional as F


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_deepcopy_is_independent(rng):
    x = leaf(rng.normal(size=3))
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    twin.data[:] = 0
    twin.grad.data[:] = 0
    assert x.data.any() and (x.grad.numpy() == 2).all()
    assert twin.requires_grad and twin.device is x.device and twin.node is None
    with pytest.raises(RuntimeError, match="deepcopy: expected a leaf"):
        copy.deepcopy(x * 2)


def test_move_takes_the_gradient_along():
    x = leaf([1.0, 2.0])
    (x * 2).sum().backward()
    x.move(tinynet.device("cpu:1"))
    assert x.device == "cpu:1" and x.grad.device == "cpu:1" and x.grad.numpy().tolist() == [2, 2]
    leaf([1.0]).move(tinynet.device("cpu:1"))
    with pytest.raises(RuntimeError, match="move.*expected a leaf"):
        (x * 2).move(tinynet.device("cpu"))


# Values and conversions


def test_tensor_takes_numbers_lists_arrays_and_tensors():
    assert tinynet.tensor(1).dtype == np.int64 and tinynet.tensor(1.5).dtype == np.float32
    assert tinynet.tensor([True, False]).dtype == bool and tinynet.tensor([[1, 2.5]]).shape == (
        1,
        2,
    )
    assert (
        tinynet.tensor(np.ones(2)).dtype == np.float64
        and tinynet.tensor(np.float64(1)).dtype == np.float64
    )
    assert tinynet.tensor([1, 2], dtype=np.float64).dtype == np.float64
    assert tinynet.tensor(1j).dtype == np.complex128
    a = np.ones(2)
    t = tinynet.tensor(a)
    a[:] = 0
    assert t.numpy().tolist() == [1, 1]  # a copy
    u = tinynet.tensor(t, dtype=np.float32, device="cpu:1", requires_grad=True)
    assert u.dtype == np.float32 and u.device == "cpu:1" and u.requires_grad and u.node is None
    assert tinynet.tensor(u).device == "cpu:1" and not tinynet.tensor(u).requires_grad
    u.data[:] = 7
    assert t.numpy().tolist() == [1, 1]
    both = tinynet.tensor([t.sum(), tinynet.tensor(5.0)])
    assert both.numpy().tolist() == [2, 5]


def test_conversions_of_a_tensor():
    t = tinynet.tensor([[1.5, 2.0]])
    assert (t.shape, t.ndim, t.size, len(t)) == ((1, 2), 2, 2, 1)
    assert (
        float(tinynet.tensor([1.5])) == 1.5
        and int(tinynet.tensor(3)) == 3
        and bool(tinynet.tensor(0)) is False
    )
    assert [row.shape for row in t] == [(2,)] and [x.item() for x in t[0]] == [1.5, 2.0]
    n = t.numpy()
    n[:] = 0
    assert t.numpy().any()
    with pytest.raises(
        ValueError, match=r"item\(\): expected a tensor of one element, got shape \(1, 2\)"
    ):
        t.item()
    with pytest.raises(TypeError, match="at least one axis"):
        len(tinynet.tensor(1.0))
    assert isinstance(tinynet.tensor(2).item(), int) and isinstance(
        tinynet.tensor(2.0).item(), float
    )


def test_repr():
    assert repr(tinynet.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    text = repr(tinynet.tensor([1.0], dtype=np.float64, device="cpu:1", requires_grad=True))
    assert text == "tensor([1.], dtype=float64, device='cpu:1', requires_grad=True)"


def test_operators_with_numbers_arrays_and_lists():
    x = leaf([2.0, 4.0])
    for y, expected in [
        (x + 1, [3, 5]),
        (1 + x, [3, 5]),
        (x - 1, [1, 3]),
        (1 - x, [-1, -3]),
        (x * 3, [6, 12]),
        (3 * x, [6, 12]),
        (x / 2, [1, 2]),
        (8 / x, [4, 2]),
        (-x, [-2, -4]),
        (+x, [2, 4]),
        (abs(x), [2, 4]),
        (x**2, [4, 16]),
        (2**x, [4, 16]),
        (tinynet.stack(list(x)), [2, 4]),
        (x.view(2), [2, 4]),
        (operator.iadd(x * 1, 1), [3, 5]),
        (operator.isub(x * 1, 1), [1, 3]),
        (operator.imul(x * 1, 3), [6, 12]),
        (operator.itruediv(x * 1, 2), [1, 2]),
        (operator.ipow(x * 1, 2), [4, 16]),
        (operator.imatmul(x * 1, np.eye(2, dtype=np.float32)), [2, 4]),
        (x + [1.0, 2.0], [3, 6]),
        (np.array([1.0, 2.0], np.float32) + x, [3, 6]),
        (np.array([1.0, 2.0], np.float32) * x, [2, 8]),
        (np.array([8.0, 8.0], np.float32) / x, [4, 2]),
        (x - np.array([1.0, 2.0], np.float32), [1, 2]),
        (np.float32(3) * x, [6, 12]),
        (np.array([5.0, 6.0], np.float32) - x, [3, 2]),
        (True + x, [3, 5]),
    ]:
        assert isinstance(y, tinynet.Tensor) and y.requires_grad and y.dtype == np.float32
        assert y.numpy().tolist() == expected
    assert (np.ones((1, 2), np.float32) @ x).numpy().tolist() == [6]
    assert (x @ np.ones((2, 1), np.float32)).numpy().tolist() == [6]
    i = tinynet.tensor([1, 2])
    assert (
        (i + 1).dtype == np.int64
        and (i * 0.5).dtype.kind == "f"
        and (i / 2).numpy().tolist() == [0.5, 1]
    )


def test_index_with_tensors_and_repeated_elements():
    x = leaf(np.arange(4.0))
    picked = x[tinynet.tensor([1, 1, 3])]
    assert picked.numpy().tolist() == [1, 1, 3]
    picked.sum().backward()
    assert x.grad.numpy().tolist() == [0, 2, 0, 1]
    y = leaf(np.ones((2, 3)))
    y[tinynet.tensor([0, 1]), [2, 2]].sum().backward()
    assert y.grad.numpy().tolist() == [[0, 0, 1], [0, 0, 1]]


def test_equal_maxima_share_the_gradient():
    x = leaf([[1.0, 3.0, 3.0], [5.0, 5.0, 5.0]])
    x.max(1).backward([6.0, 6.0])
    assert x.grad.numpy().tolist() == [[0, 3, 3], [2, 2, 2]]
    x.zero_grad()
    x.max().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [1 / 3] * 3], rtol=1e-6)
    a, b = leaf([1.0, 2.0, 3.0]), leaf([3.0, 2.0, 1.0])
    F.maximum(a, b).backward([4.0, 4.0, 4.0])
    assert a.grad.numpy().tolist() == [0, 2, 4] and b.grad.numpy().tolist() == [4, 2, 0]


def test_nan_is_seen_in_max_and_its_gradient():
    x = leaf([[1.0, np.nan]])
    y = x.max(1)
    assert np.isnan(y.item())
    y.backward([1.0])
    assert x.grad.numpy().any()
    a, b = leaf([np.nan, 1.0]), leaf([1.0, np.nan])
    F.maximum(a, b).backward([1.0, 1.0])
    assert np.isnan(F.maximum(a, b).numpy()).all()


def test_pow_zero_has_no_gradient_even_at_zero():
    x = leaf([0.0, 2.0])
    (x**0).sum().backward()
    assert x.grad.numpy().tolist() == [0, 0]


def test_sum_of_small_integers_and_bools():
    assert tinynet.tensor([True, True]).sum().item() == 2
    assert tinynet.tensor([[1, 2], [3, 4]]).mean(0).numpy().tolist() == [2, 3]


def test_results_are_arrays():
    """NumPy makes a bare number of a whole sum; here it is an array without axes, which can be
    changed in place.
    """
    for y in (
        leaf([1.0, 2.0]).sum(),
        leaf([1.0]).sum() * 2,
        leaf([[1.0, 3.0]]).max(),
        leaf([1.0, 2.0])[0],
    ):
        assert isinstance(y.data, np.ndarray) and y.shape == ()


def test_a_leaf_that_moves_leaves_its_old_memory_alone():
    x = leaf([1.0, 2.0])
    x.grad = tinynet.tensor([3.0, 4.0])
    data, grad = x.data, x.grad.data
    x.move(tinynet.device("cpu:1"))
    x.data[:], x.grad.data[:] = 7, 7
    assert data.tolist() == [1, 2] and grad.tolist() == [3, 4]


def test_a_long_tensor_is_printed_in_short():
    assert "..." in repr(tinynet.tensor(np.zeros(101))) and "..." not in repr(
        tinynet.tensor(np.zeros(100))
    )


@pytest.mark.parametrize("has_grad", [False, True])
@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("place", ["cpu", "cpu:1"])
def test_a_twin_is_the_same_in_all_and_shares_nothing(place, required, has_grad):
    x = tinynet.tensor([[1.0, 2.0], [3.0, 4.0]], "float64", place, required)
    if has_grad:
        x.grad = tinynet.tensor([[5.0, 6.0], [7.0, 8.0]], "float64", place)
    (twin, again), single = copy.deepcopy([x, x]), copy.deepcopy(x)
    assert twin is again and twin is not x
    for other in (twin, single):
        assert other.device is x.device and other.requires_grad is required
        assert other.dtype == x.dtype and other.node is None and type(other) is type(x)
        assert other.tolist() == x.tolist() and (other.grad is not None) == has_grad
        assert not np.shares_memory(other.data, x.data)
        if has_grad:
            assert other.grad.tolist() == x.grad.tolist() and other.grad.device is x.device
            assert not np.shares_memory(other.grad.data, x.grad.data)


def test_lists_of_numbers_and_tensors_mixed():
    t = tinynet.tensor(2.0, device="cpu:1")
    for given in ([t, 1.0], [1.0, t], (1.0, 3.0, t), [t, t]):
        expected = [float(x) for x in given]
        assert tinynet.tensor(given).tolist() == expected
        assert (tinynet.zeros(len(given)) + list(given)).tolist() == expected
    assert tinynet.tensor([1.0, leaf(2.0)]).tolist() == [1, 2]


@pytest.mark.parametrize("call", [bool, int, float, operator.index, "{:.1f}".format])
def test_what_is_asked_of_one_value_is_refused_of_several_and_of_none(call):
    for several in (tinynet.tensor([1, 2]), tinynet.zeros(0), tinynet.zeros(2, 2)):
        with pytest.raises((ValueError, TypeError), match="expected .*one"):
            call(several)
    for one in (tinynet.tensor(3), tinynet.tensor([3]), tinynet.tensor([[3]], "uint8")):
        assert call(one) == call(3)


def test_a_fraction_or_a_yes_is_no_index():
    for value in (1.7, 1.0, True):
        with pytest.raises(TypeError, match="index: expected one whole number"):
            [1, 2, 3][tinynet.tensor(value)]
    assert int(tinynet.tensor(1.7)) == 1 and range(5)[tinynet.tensor(1)] == 1


def test_what_requires_a_gradient_is_set_on_leaves_alone():
    x = leaf([1.0, 2.0])
    y = x * 2
    for value in (True, False):
        with pytest.raises(RuntimeError, match="x.requires_grad: expected a leaf"):
            y.requires_grad = value
        with pytest.raises(RuntimeError, match="x.requires_grad: expected a leaf"):
            y.requires_grad_(value)
    assert x.requires_grad_(False) is x and not x.requires_grad and not (x * 2).requires_grad
    for kind in ("int64", "bool", "float16"):
        plain = tinynet.ones(2, dtype=kind)
        for refused in (plain.requires_grad_, lambda x=plain: setattr(x, "requires_grad", True)):
            with pytest.raises(ValueError, match="requires_grad: expected dtype float32 or float"):
                refused()
        assert not plain.requires_grad and plain.detach().tolist() == plain.tolist()
        with pytest.raises(ValueError, match="requires_grad: expected dtype float32 or float64"):
            tinynet.tensor(np.ones(2, kind), requires_grad=True)


def test_data_and_grad_are_checked_when_they_are_set():
    x = leaf([1.0, 2.0])
    for wrong, error in (
        (np.array([1, 2]), ValueError), (np.array([True, False]), ValueError),
        (np.array(["a", "b"]), ValueError), ([1.0, 2.0], TypeError), (3.0, TypeError),
        (tinynet.zeros(2), TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match="x.data: expected an array of"):
            x.data = wrong
    for wrong, error in (
        (tinynet.zeros(3), ValueError), (tinynet.zeros(2, device="cpu:1"), ValueError),
        (tinynet.zeros(2, 1), ValueError), (np.zeros(2), TypeError), (0, TypeError),
    ):  # fmt: skip
        with pytest.raises(error, match="x.grad: expected "):
            x.grad = wrong
    assert x.tolist() == [1, 2] and x.grad is None
    x.data, x.grad = np.array([3.0, 4.0]), tinynet.zeros(2)
    assert x.dtype == np.float64 and x.tolist() == [3, 4] and x.grad.tolist() == [0, 0]
    plain = tinynet.tensor([1.0])
    plain.data = np.array([True])
    assert plain.dtype == bool
    plain.data = np.float32(2)
    assert plain.shape == () and isinstance(plain.data, np.ndarray)
