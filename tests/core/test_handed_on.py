"""Every option of every method and function of a tensor arrives at its operation, and nothing else
does; the tables of names lead to what they say.
"""

from __future__ import annotations

import inspect
import math
import operator

import numpy as np
import pytest

import tinynet
from tinynet import functions, operators
from tinynet.holder import UFUNCS
from tinynet.operations import OPERATIONS
from tinynet.operators import Operators

# What a method calls an argument, and what its operation does.
NAMES = dict(
    dim="axis", keepdim="keepdims", start_dim="start_axis", min="least", max="most", exponent="p"
)
VALUES = dict(
    axis=1, dim=2, keepdims=True, keepdim=True, correction=3, p=7, min=-5.0, max=5.0, start_axis=1,
    start_dim=2, sizes=[1, 2], exponent=3, dtype="float64",
)  # fmt: skip
ZERO = dict(axis=[0], dim=[0])  # an axis, although it counts as false
NEEDED = dict(
    split=dict(sizes=[1, 2]), clip=dict(min=-1.0), pow=dict(exponent=2),
    astype=dict(dtype="int64"),
)  # fmt: skip
METHODS = [
    name
    for name, method in vars(Operators).items()
    if name in OPERATIONS and len(inspect.signature(method).parameters) > 1
    and "*" not in str(inspect.signature(method)).replace("*, ", "")
]  # fmt: skip


class Spy:
    """In the place of `call`: what the operations are called with, by their names."""

    def __getattr__(self, name):
        def record(*args, **options):
            bound = inspect.signature(OPERATIONS[name].call).bind(*args, **options)
            bound.apply_defaults()
            return name, bound.arguments

        return record


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_a_method_arrives(name, monkeypatch):
    monkeypatch.setattr(operators, "call", Spy())
    x, method = tinynet.zeros(2, 3, 4), getattr(Operators, name)
    base = NEEDED.get(name, {})
    called, usual = method(x, **base)
    assert called == name
    options = list(inspect.signature(method).parameters)[1:]
    for option, value in [(o, v) for o in options for v in (VALUES[o], *ZERO.get(o, ()))]:
        called, found = method(x, **base | {option: value})
        if called != name:  # max(dim=1) gives the places as well
            assert (name, option, called) in [(n, "dim", f"{n}_along") for n in ("max", "min")]
            assert found["dim"] == value and found["x"] is x
            continue
        own = option if option in usual else NAMES[option]
        assert found[own] == value and found[next(iter(found))] is x, option
        rest = {key for key in usual if key != own}
        assert all(found[key] is usual[key] or found[key] == usual[key] for key in rest), option


@pytest.mark.parametrize("name", METHODS)
def test_no_axis_is_named_twice(name):
    """By NumPy's word and by torch's: refused, also if both say the same, or one is 0."""
    x, method = tinynet.ones(2, 3, 4), getattr(Operators, name)
    options = inspect.signature(method).parameters
    for ours, torchs in (("axis", "dim"), ("start_axis", "start_dim")):
        for a, b in ((0, 1), (1, 0), (0, 0), (1, 1)) if torchs in options else ():
            with pytest.raises(TypeError, match=f"{name}: expected axis or dim, got both: {a}"):
                method(x, **NEEDED.get(name, {}), **{ours: a, torchs: b})


@pytest.mark.parametrize("name", ["cat", "stack"])
def test_no_axis_of_what_is_joined_is_named_twice(name):
    for a, b in ((0, 1), (1, 0), (0, 0)):
        with pytest.raises(TypeError, match=f"{name}: expected axis or dim, got both: {a} and {b}"):
            getattr(tinynet, name)([tinynet.ones(2, 3)], a, dim=b)


def test_places_and_types_are_those_that_are_named(monkeypatch):
    monkeypatch.setattr(operators, "call", Spy())
    x = tinynet.zeros(2)
    for found, target in (
        (x.cpu(), "cpu"), (x.cuda(), "cuda:0"), (x.cuda(1), "cuda:1"), (x.float(), "float32"),
        (x.long(), "int64"),
    ):  # fmt: skip
        assert found[0] == "to" and found[1]["x"] is x and found[1]["target"] == target
    assert x.clone() == ("astype", {"x": x, "dtype": x.dtype})


def test_the_methods_seen_are_all_with_options():
    assert set(METHODS) >= {"sum", "var", "norm", "min", "argmin", "cumsum", "squeeze", "split"}
    assert {"reshape", "transpose"} <= set(OPERATIONS) - set(METHODS)  # any number of arguments


@pytest.mark.parametrize("keep", [dict(keepdim=True), dict(keepdims=True), {}])
@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_along_an_axis(name, keep, rng):
    a = rng.normal(size=(2, 3, 4))
    x = tinynet.tensor(a)
    for dim in (0, -1):
        values, places = getattr(x, name)(dim=dim, **keep)
        kept = bool(keep)
        np.testing.assert_array_equal(values.numpy(), getattr(a, name)(dim, keepdims=kept))
        place = getattr(np, f"arg{name}")(a, dim, keepdims=kept)
        np.testing.assert_array_equal(places.numpy(), place)
        torchs = getattr(tinynet, name)(x, dim, kept)
        np.testing.assert_array_equal(torchs[0].numpy(), values.numpy())
        np.testing.assert_array_equal(torchs[1].numpy(), place)
    assert getattr(tinynet, name)(x).numpy() == getattr(a, name)()
    other = tinynet.tensor(rng.normal(size=(2, 3, 4)))
    np.testing.assert_array_equal(
        getattr(tinynet, name)(x, other).numpy(), getattr(np, f"{name}imum")(a, other.numpy())
    )


def test_functions_are_the_methods_and_operations_of_their_names():
    others = {"cat", "stack", "transpose", "max", "min"}  # below and above
    for name in set(functions.__all__) - others:
        function = getattr(functions, name)
        assert function.__name__ == {"clamp": "clip", "permute": "permute"}.get(name, name)
        assert getattr(tinynet, name) is function
    a = np.arange(24.0).reshape(2, 3, 4)
    x = tinynet.tensor(a)
    for axis in (0, 1, -1):
        for options in (dict(axis=axis), dict(dim=axis)):
            for ours, theirs in ((tinynet.cat, np.concatenate), (tinynet.stack, np.stack)):
                np.testing.assert_array_equal(
                    ours([x, -x], **options).numpy(), theirs([a, -a], axis)
                )
    for i, j in ((0, 1), (-1, 0), (2, 1)):
        np.testing.assert_array_equal(tinynet.transpose(x, i, j).numpy(), np.swapaxes(a, i, j))


# All that may be left out, and is not None, 0, False, "mean" or all axes: torch's, where torch has
# it; dropout's second form, and norms as torch and cuda-convnet count them.
DEFAULTS = {
    "leaky_relu": dict(negative_slope=0.01),
    "elu": dict(alpha=1.0),
    "gelu": dict(approximate="none"),
    "softmax": dict(dim=-1),
    "log_softmax": dict(dim=-1),
    "attention": dict(heads=1),
    "conv2d": dict(stride=1, groups=1, dilation=1),
    "conv2d_each": dict(stride=1, groups=1),
    "conv_transpose2d": dict(stride=1, groups=1),
    "local_response_norm": dict(alpha=1e-4, beta=0.75, k=1.0),
    "spatial_response_norm": dict(alpha=1e-4, beta=0.75, k=1.0),
    "batch_norm": dict(momentum=0.1, eps=1e-5),
    "layer_norm": dict(eps=1e-5),
    "avg_pool2d": dict(count_include_pad=True),
    "dropout": dict(p=0.5, training=True, inverted=True),
    "var": dict(correction=1),
    "std": dict(correction=1),
    "norm": dict(p=2),
}


def test_what_may_be_left_out_is_what_torch_takes():
    for name, row in OPERATIONS.items():
        found = {
            option: parameter.default
            for option, parameter in inspect.signature(row.call).parameters.items()
            if parameter.default is not parameter.empty
            and not any(parameter.default is usual for usual in (None, False))
            and parameter.default not in ("mean", 0)
        }
        assert found == DEFAULTS.get(name, {}), name
        if hasattr(Operators, name):  # the method of this name
            method = inspect.signature(getattr(Operators, name)).parameters
            for option, value in found.items():
                assert method[option].default == value, name


# --- Names for what is done element by element ----------------------------------------------------

WHOLE = {"bitwise_and", "bitwise_or", "invert", "remainder", "floor_divide"}
FLOATS = np.array([[2.0, 0.5, 1.0], [3.0, 1.0, 0.25]])  # with equals, above 0 for logarithms


@pytest.mark.parametrize("name", UFUNCS)
def test_numpys_function_of_a_tensor_is_the_one_of_its_name(name):
    function = getattr(np, name)
    a = np.array([[7, -7, 3], [4, -4, 6]]) if name in WHOLE else FLOATS
    b = np.array([[2, 2, 3], [-3, -3, 5]]) if name in WHOLE else FLOATS[::-1].copy()
    if name == "matmul":
        b = b.T.copy()
    x, y = tinynet.tensor(a), tinynet.tensor(b)
    calls = [(x,)] if function.nin == 1 else [(x, y), (x, b), (a, y)]
    expected = function(*(a, b)[: function.nin])
    for arguments in calls:
        found = function(*arguments)
        assert isinstance(found, tinynet.Tensor)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-14)
    with pytest.raises(TypeError, match=f"numpy.{name}"):
        function(*calls[0], casting="unsafe")


SIGNS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
ORDERS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
WHOLES = [operator.mod, operator.floordiv, operator.and_, operator.or_]


@pytest.mark.parametrize("sign", SIGNS + ORDERS + WHOLES, ids=lambda sign: sign.__name__)
def test_signs_between_tensors_arrays_lists_and_numbers(sign):
    """On either side; the other may be a tensor, an array, a list, a number, or one of NumPy's."""
    a = FLOATS if sign not in WHOLES else np.array([[7, -7, 3], [4, -4, 6]])
    b = a[::-1].copy()
    numbers = [2, np.int64(2), *([] if sign in WHOLES else [0.5, np.float64(0.5)])]
    right = [tinynet.tensor(b), b, *([] if sign in (operator.and_, operator.or_) else numbers)]
    for other in right:
        theirs = other.numpy() if isinstance(other, tinynet.Tensor) else other
        found = sign(tinynet.tensor(a), other)
        assert isinstance(found, tinynet.Tensor)
        np.testing.assert_allclose(found.numpy(), sign(a, theirs), rtol=1e-14)
        if sign in WHOLES and not isinstance(other, (np.ndarray, tinynet.Tensor)):
            continue  # 2 % x is not there
        found = sign(other, tinynet.tensor(a))
        assert isinstance(found, tinynet.Tensor)
        np.testing.assert_allclose(found.numpy(), sign(theirs, a), rtol=1e-14)
    found = sign(tinynet.tensor(a), b.tolist())
    np.testing.assert_allclose(found.numpy(), sign(a, b), rtol=1e-6)


def test_products_of_matrices_with_lists_on_either_side(rng):
    a, b = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    x, y = tinynet.tensor(a), tinynet.tensor(b)
    for found in (x @ y, x @ b, a @ y, x @ b.tolist(), a.tolist() @ y):
        np.testing.assert_allclose(found.numpy(), a @ b, rtol=1e-6)


# --- Types of numbers -----------------------------------------------------------------------------

# What a number becomes beside a tensor of bool, uint8, int32, int64, float32, float64.
JOINED = {
    True: ("bool", "uint8", "int32", "int64", "float32", "float64"),
    3: ("int64", "uint8", "int32", "int64", "float32", "float64"),
    0.1: ("float32", "float32", "float32", "float32", "float32", "float64"),
}


@pytest.mark.parametrize("number", JOINED)
def test_a_number_takes_the_tensors_type_if_that_can_hold_it(number):
    kinds = ("bool", "uint8", "int32", "int64", "float32", "float64")
    for kind, joined in zip(kinds, JOINED[number], strict=True):
        x = tinynet.ones(2, dtype=kind)
        expected = np.ones(2, kind) + np.asarray(number, joined)
        for found in (x + number, number + x):
            assert found.dtype == expected.dtype, (kind, number)
            np.testing.assert_array_equal(found.numpy(), expected)
        # the value itself, not one of another type: 0.1 in float32 is not 0.1
        chosen = tinynet.where(x < 0, x, number)
        assert chosen.dtype == np.result_type(kind, joined), (kind, number)
        np.testing.assert_array_equal(chosen.numpy(), np.full(2, number, joined))


@pytest.mark.parametrize("kind", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_an_array_beside_a_tensor_keeps_its_type(kind):
    """And a list is what it is alone: float32, int64, bool."""
    for other in ("bool", "uint8", "int32", "int64", "float32", "float64"):
        x, a = tinynet.ones(2, dtype=kind), np.ones(2, other)
        for found in (x + a, a + x):
            assert found.dtype == np.result_type(kind, other)
    for values, own in (([0.5, 1.5], np.float32), ([2, 3], np.int64), ([True, False], bool)):
        assert (x + values).dtype == np.result_type(kind, own)


def test_two_numbers_to_choose_from_are_no_booleans():
    x = tinynet.tensor([1.0, -1.0])
    y = tinynet.where(x > 0, 2.5, 3.5)
    assert y.numpy().tolist() == [2.5, 3.5]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64])
def test_numpys_numbers_are_numbers(kind):
    """Wherever a number of Python's may stand; alone they keep their type."""
    two, x = kind(2), tinynet.tensor([1.0, 4.0], dtype=np.float64)
    assert tinynet.tensor(two).dtype == kind and tinynet.full((2,), two).dtype == kind
    for found, expected in (
        (x**two, [1, 16]),
        (x.clip(two, kind(3)), [2, 3]),
        (tinynet.functional.leaky_relu(-x, two), [-2, -8]),
        (tinynet.functional.elu(-x, two), 2 * np.expm1([-1.0, -4.0])),
        (tinynet.functional.dropout(x, kind(0)), [1, 4]),
        (tinynet.functional.pad(x, (1, 0), two), [2, 1, 4]),
    ):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-15)
    if issubclass(kind, np.integer):
        assert tinynet.zeros(two, kind(3)).shape == (2, 3) and len(tinynet.arange(two)) == 2
        assert tinynet.arange(two).dtype == np.int64
        assert x.sum(kind(0)).item() == 5 and x.unsqueeze(kind(1)).shape == (2, 1)
        assert [len(part) for part in x.split(kind(1))] == [1, 1]


def test_names_of_types_are_torchs():
    names = dict(float=np.float32, double=np.float64, int=np.int32, long=np.int64, bool=np.bool_)
    for name, kind in names.items():
        assert getattr(tinynet, name) == kind
        assert tinynet.ones(1, dtype=getattr(tinynet, name)).dtype == kind
    for name in ("float32", "float64", "int32", "int64", "uint8"):
        assert getattr(tinynet, name) == np.dtype(name)
    x = tinynet.ones(1, dtype=tinynet.uint8)
    assert x.float().dtype == np.float32 and x.long().dtype == np.int64


def test_to_does_all_that_it_is_asked():
    x = tinynet.ones(2)
    for y in (
        x.to(device="cpu:1", dtype="float64"), x.to("cpu:1", "float64"), x.to("float64", "cpu:1"),
        x.to("cpu:1", dtype=tinynet.float64), x.to(np.float64, device=tinynet.device("cpu:1")),
    ):  # fmt: skip
        assert y.device == "cpu:1" and y.dtype == np.float64
    assert x.to("float32") is x.to("cpu") is x.float() is x.to(device="cpu", dtype="float32") is x
    assert math.isclose(x.to("cpu:1").sum().item(), 2)
