"""Tensors in the hands of NumPy and others, by its protocols, and back."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tinynet
from tinynet import creation

x = tinynet.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
a = x.numpy()


def test_a_format_is_that_of_the_number():
    for value in (1.5e-9, -2.0, 12345.678, 1e30):
        one = tinynet.tensor(value, dtype="float64")
        for spec in (".2e", ".12f", "g", "+012.3f"):
            assert format(one, spec) == format(value, spec)
    assert (
        f"{tinynet.tensor(7):03d}" == "007" and f"{tinynet.tensor(7)}" == "tensor(7, dtype=int64)"
    )


def test_asarray_is_the_memory_itself():
    t = tinynet.tensor([1.0, 2.0])
    np.asarray(t)[0] = 5
    assert t.tolist() == [5, 2]
    assert not np.shares_memory(np.array(t), t.data)
    assert np.asarray(t, np.float64).dtype == np.float64
    with pytest.raises(ValueError):
        np.array(t, np.float64, copy=False)
    t.data.setflags(write=False)
    assert not np.asarray(t).flags.writeable
    np.testing.assert_array_equal(np.stack([x, x]), np.stack([a, a]))


@pytest.mark.parametrize(
    "function",
    [np.exp, np.sin, np.cos, np.tanh, np.abs, np.negative, lambda x: np.sqrt(x * x)],
)
def test_a_function_of_numpy_is_tinynets(function):
    t = tinynet.tensor(a, requires_grad=True)
    y = function(t)
    assert isinstance(y, tinynet.Tensor) and y.requires_grad
    np.testing.assert_allclose(y.numpy(), function(a), rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        np.add, np.subtract, np.multiply, np.divide, np.power, np.maximum, np.minimum, np.equal,
        np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    ],
)  # fmt: skip
def test_an_array_and_a_tensor_make_a_tensor(function):
    b = np.abs(a) + np.eye(2, 3, dtype=np.float32)
    for y in (function(b, x), function(x, b)):
        assert isinstance(y, tinynet.Tensor)
    np.testing.assert_allclose(function(b, x).numpy(), function(b, a), rtol=1e-6)
    np.testing.assert_allclose(function(x, b).numpy(), function(a, b), rtol=1e-6)


def test_every_name_in_the_table_is_a_function_of_numpy():
    from tinynet.holder import UFUNCS
    from tinynet.operations import OPERATIONS

    for theirs, ours in UFUNCS.items():
        assert isinstance(getattr(np, theirs), np.ufunc) and ours in OPERATIONS


def test_operators_of_arrays_with_tensors_on_the_right():
    np.testing.assert_array_equal((a - x).numpy(), a - a)
    np.testing.assert_array_equal((a == x).numpy(), a == a)
    np.testing.assert_array_equal((a.T @ x).numpy(), a.T @ a)
    np.testing.assert_array_equal((np.float32(2) * x).numpy(), 2 * a)
    array = a.copy()
    before = array
    array -= x * 2
    assert array is before and isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, -a)
    whole = np.arange(3)
    with pytest.raises(TypeError):  # floats into whole numbers
        whole += x[0]
    with pytest.raises(ValueError):
        array -= tinynet.zeros(4, 2, 3)


def test_numpy_from_dlpack_and_back():
    np.testing.assert_array_equal(np.from_dlpack(x), a)
    assert np.shares_memory(np.from_dlpack(x), x.data)
    array = np.arange(6.0).reshape(2, 3).T
    t = tinynet.from_dlpack(array)
    assert np.shares_memory(t.data, array) and t.shape == (3, 2) and t.dtype == np.float64
    for on_cpu in (x, tinynet.tensor([1.0], requires_grad=True)):
        assert not hasattr(on_cpu, "__cuda_array_interface__")


def test_what_is_read_only_stays_so_in_dlpack_or_is_refused():
    array = np.arange(6.0)
    array.setflags(write=False)
    if np.lib.NumpyVersion(np.__version__) < "2.1.0":  # DLPack could not say so yet
        with pytest.raises(ValueError, match="from_dlpack: ndarray cannot be read: .*readonly"):
            tinynet.from_dlpack(array)
        with pytest.raises(BufferError):
            np.from_dlpack(tinynet.from_numpy(array))
    else:
        assert not tinynet.from_dlpack(array).data.flags.writeable
        assert not np.from_dlpack(tinynet.from_numpy(array)).flags.writeable


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_others_from_dlpack_and_back(name):
    other = pytest.importorskip(name)
    theirs = other.from_dlpack(x)
    np.testing.assert_array_equal(np.asarray(theirs), a)
    back = tinynet.from_dlpack(theirs)
    assert np.shares_memory(back.data, x.data) or name != "torch"
    assert back.dtype == x.dtype and back.device == "cpu"
    np.testing.assert_array_equal(back.numpy(), a)
    if name == "torch":
        theirs[0, 0] = 1
        with pytest.raises(ValueError, match="from_dlpack: Tensor cannot be read"):
            tinynet.from_dlpack(theirs.bfloat16())
        with pytest.raises(ValueError, match="from_dlpack"):
            tinynet.from_dlpack(theirs.clone().requires_grad_())
    with pytest.raises(TypeError, match="x.detach()"):
        other.from_dlpack(tinynet.ones(2, requires_grad=True))


@pytest.mark.parametrize("kind, index", [(1, 0), (2, 0), (2, 3), (3, 0), (10, 0), (13, 1), (16, 0)])
def test_devices_of_others(kind, index, monkeypatch):
    """Numbers of DLPack: 1 is the CPU, 2 a CUDA GPU. Others are refused, not looked for."""

    class Theirs:
        def __dlpack_device__(self):
            return np.int32(kind), np.int32(index)

        def __dlpack__(self, **options):
            raise AssertionError("it is not there")

    asked = []

    def find(name):
        asked.append(name)
        raise KeyError

    monkeypatch.setattr(creation, "find_device", find)
    refused = f"from_dlpack: expected an array on the CPU or a CUDA GPU, got kind {kind}"
    known = {1: "cpu", 2: f"cuda:{index}"}
    if kind in known:
        with pytest.raises(KeyError):
            tinynet.from_dlpack(Theirs())
    else:
        with pytest.raises(ValueError, match=refused):
            tinynet.from_dlpack(Theirs())
    assert asked == ([known[kind]] if kind in known else [])


def test_from_numpy_is_the_array():
    array = np.zeros(3)
    t = tinynet.from_numpy(array)
    array[0] = 1
    assert t.tolist() == [1, 0, 0] and t.data is array


def test_formats_and_numbers():
    y = tinynet.tensor(2.34567)
    assert f"{y:.2f}" == "2.35" and f"{y}" == str(y) == "tensor(2.34567)"
    assert "%.1f" % y == "2.3" and int(y) == 2 and float(tinynet.tensor(3)) == 3  # noqa: UP031
    assert list(range(tinynet.tensor(3))) == [0, 1, 2]
    assert x.size == 6 and x.size(0) == 2 and x.size() == (2, 3) and x.size(-1) == 3
    assert x.numel() == 6 and x.dim() == 2


def test_equality_and_identity():
    y = x.clone()
    assert (x == y).all() and (x == a).all() and not (x != y).any()
    assert len({x: 1, y: 2}) == 2 and {x: 1}[x] == 1
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert (x == "a") is False and (x == object()) is False
    with pytest.raises(ValueError, match="`is` to compare"):
        x in [y]  # noqa: B015
    twin = copy.deepcopy(x)
    assert twin is not x and (twin == x).all()


def test_requires_grad_can_be_set():
    t = tinynet.zeros(2)
    assert t.requires_grad_() is t and t.requires_grad
    t.requires_grad = False
    assert not t.requires_grad


def test_no_gradient_is_lost_on_the_way_to_others():
    """TypeError for what is not on the tape, by every way out of tinynet."""
    w = tinynet.tensor([1.0, 2.0], requires_grad=True)
    array = np.ones(2, np.float32)
    for lost in (
        lambda: np.asarray(w), lambda: np.array(w), lambda: np.from_dlpack(w), lambda: np.sum(w),
        lambda: np.stack([w, w]), lambda: np.concatenate((array, w)), lambda: np.mean(a=w),
        lambda: np.subtract(array, w, out=array), lambda: array.__isub__(w),
        lambda: np.copyto(array, w), lambda: np.where(array > 0, array, w),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"write x\.detach\(\)"):
            lost()
    assert array.tolist() == [1, 1]
    assert (array - w).requires_grad and np.from_dlpack(w.detach()).tolist() == [1, 2]


def test_tensors_among_the_options_of_numpys_functions():
    t, mask = tinynet.tensor([1.0, 2.0, 3.0]), tinynet.tensor([True, False, True])
    assert np.sum(t, where=mask) == 4 and np.mean(a=t) == 2
    assert np.clip(t, a_min=tinynet.tensor(2.0), a_max=None).tolist() == [2, 2, 3]
    assert np.concatenate([t, t.numpy()], axis=0).shape == (6,)
    assert np.average(t, weights=t) == pytest.approx(14 / 6)
    with pytest.raises(TypeError, match="tinynet has no such operation"):
        np.add(t, t, where=mask.numpy())
    with pytest.raises(TypeError, match=r"numpy\.add\.reduce"):
        np.add.reduce(t)
