"""Wrong calls made from the table: each tensor of an operation's first case is exchanged for one of
integers, for what is no tensor, and for one on another device.
"""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
from test_layer_borders import SIZES
from test_optim_options import DEFAULTS as RULES

import tinynet
import tinynet.functional as F
from tinynet import functions, nn, optim
from tinynet.gradcheck.cases import CASES
from tinynet.operations import OPERATIONS


def first_case(name):
    fn, inputs = next(CASES[name].make(np.random.default_rng(0)))
    return fn, [tinynet.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]


def needed(function):
    """How many arguments must be given, and may not be None."""
    parameters = inspect.signature(function).parameters.values()
    return sum(p.default is p.empty and "None" not in str(p.annotation) for p in parameters)


def calls():
    """(operation, number of the argument, what comes in its place)."""
    for name in OPERATIONS:
        inputs = first_case(name)[1]
        tensors = [i for i, x in enumerate(inputs) if isinstance(x, tinynet.Tensor)]
        for i in tensors:
            if "integers" not in CASES[name].accepts:
                yield name, i, "integers"
            if len(tensors) > 1 or name in F.__all__:  # of an object, Python asks for a method
                yield name, i, "object"
                if name in F.__all__ and i < needed(getattr(F, name)):
                    yield name, i, "None"
                if "arrays" not in CASES[name].accepts:
                    yield name, i, "array"
                    yield name, i, "list"
            if len(tensors) > 1:
                yield name, i, "device"


@pytest.mark.parametrize("name, i, what", list(calls()))
def test_an_operation_refuses(name, i, what):
    fn, inputs = first_case(name)
    fn(*inputs)  # right as it is
    x = inputs[i]
    inputs[i] = {
        "integers": lambda: tinynet.tensor(x.numpy().astype(np.int64)),
        "object": object,
        "None": lambda: None,
        "array": x.numpy,
        "list": lambda: x.numpy().tolist(),
        "device": lambda: x.to("cpu:1"),
    }[what]()
    expected = tinynet.DeviceMismatchError if what == "device" else (ValueError, TypeError)
    with pytest.raises(expected) as caught:
        fn(*inputs)
    text = str(caught.value)
    said = text.partition(":")[0].lower()  # the name, or that of its Function
    assert said in {name, *(f.__name__.lower() for f in OPERATIONS[name].functions)}, text
    assert "expected" in text and "\n" not in text
    kinds = {"object": "object", "None": "NoneType", "array": "ndarray", "list": "list"}
    if what in kinds:
        assert kinds[what] in text or "nothing but tensors" in text, text


# What a function needs beside the tensor; WRONG stands for what is no tensor.
WRONG = object()
BESIDE = dict(
    split=(1,), cumsum=(0,), permute=(1, 0), reshape=(6,), transpose=(0, 1), unsqueeze=(0,),
    where=(WRONG, WRONG), **dict.fromkeys(
        ("add", "div", "matmul", "maximum", "minimum", "mul", "pow", "sub"), (WRONG,)),
)  # fmt: skip


@pytest.mark.parametrize("name", functions.__all__)
def test_a_function_refuses_what_is_no_tensor(name):
    """As a user calls it, without and with an axis: never by what Python says of the object."""
    function = getattr(tinynet, name)
    along = {"axis", "dim"} & set(inspect.signature(function).parameters)
    for wrong in (np.ones((2, 3)), [[1.0, 2.0]], object(), 3.0, None):
        given = [wrong if x is WRONG else x for x in (WRONG, *BESIDE.get(name, ()))]
        if name == "einsum":
            given = ["ij -> i", wrong]
        for options in ({}, *({axis: 1} for axis in along if name not in BESIDE)):
            with pytest.raises((TypeError, ValueError), match=r"^\w+: expected .*tensor") as caught:
                function(*given, **options)
            assert type(wrong).__name__ in str(caught.value) or name in ("cat", "concat", "stack")


X = tinynet.tensor(np.ones((2, 4, 6, 6)))
WEIGHT = tinynet.tensor(np.ones((4, 4, 3, 3)))
WINDOW, NORM = dict(kernel_size=2, stride=1, padding=0), dict(size=3, alpha=1, beta=1, k=1)
CONV = dict(weight=WEIGHT, stride=1, padding=0, groups=1)
OPTIONS = {
    "adaptive_avg_pool2d": dict(output_size=2), "avg_pool2d": WINDOW, "max_pool2d": WINDOW,
    "conv2d": CONV | dict(dilation=1), "conv_transpose2d": CONV | dict(output_padding=0),
    "elu": dict(alpha=1), "gelu": dict(approximate="none"), "interpolate": dict(scale_factor=2),
    "leaky_relu": dict(negative_slope=1), "local_response_norm": NORM, "softmax": dict(dim=1),
    "spatial_response_norm": NORM,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(6, 6), (4, 6, 6), (1, 2, 4, 6, 6)])
@pytest.mark.parametrize("name", [name for name in OPTIONS if "2d" in name or "spatial" in name])
def test_pictures_and_kernels_have_four_axes(name, shape):
    options = {"x": X} | OPTIONS[name]
    for wrong in {"x", "weight"} & set(options):
        with pytest.raises(ValueError, match=f"^{name}: expected {wrong} of shape"):
            getattr(F, name)(**options | {wrong: tinynet.ones(shape, dtype="float64")})


HANDS_ON = {nn.Module, nn.Sequential, nn.Identity}  # whatever they are given
LAYERS = {a for a in vars(nn).values() if isinstance(a, type) and issubclass(a, nn.Module)}


@pytest.mark.parametrize("layer", sorted(LAYERS - HANDS_ON, key=str))
@pytest.mark.parametrize("wrong", [None, object(), np.ones((2, 4, 6, 6), np.float32)])
def test_a_layer_refuses_what_is_no_tensor(layer, wrong):
    attention = dict(embed_dim=2, num_heads=1) if layer is nn.MultiHeadAttention else {}
    made = layer(**SIZES[layer][0] if layer in SIZES else attention)
    with pytest.raises(TypeError, match=r"^\w+: expected \w+ to be (a tensor|integers), got "):
        made(*[wrong] * needed(made.forward))


def test_the_shares_of_attention_refuse_what_is_no_tensor():
    with pytest.raises(TypeError, match="^linear: expected x to be a tensor, got NoneType"):
        nn.MultiHeadAttention(4, 2).shares(None)


@pytest.mark.parametrize("name", OPTIONS)
def test_of_wrong_arguments_the_first_is_named(name):
    function, right = getattr(F, name), {"x": X} | OPTIONS[name]
    names = [p for p in inspect.signature(function).parameters if p in right]
    assert told(function, right) == names


def told(function, right):
    """The arguments in the order in which they are refused: all are wrong, and each one is set
    right when an error names it.
    """
    given, names = dict.fromkeys(right, WRONG), []
    while len(names) <= len(right):
        try:
            function(**given)
            break
        except (TypeError, ValueError) as error:
            names.append(re.search(r"expected (\w+)", str(error))[1])
            given[names[-1]] = right[names[-1]]
    return names


@pytest.mark.parametrize("layer", SIZES)
def test_of_wrong_sizes_of_a_layer_the_first_is_named(layer):
    sizes = SIZES[layer][0]
    assert told(layer, sizes) == list(sizes)


@pytest.mark.parametrize("name", RULES)
def test_of_wrong_options_of_a_rule_the_first_is_named(name):
    """What every group has comes first."""
    general = dict(lr_scale=1.0, fixed_lr=1.0, frozen=False, weight_decay=0.0)
    own = {k: v for k, v in RULES[name].items() if k not in ("lr", *general)}
    rule, parameters = getattr(optim, name), [nn.Parameter(np.ones(3))]
    options = general | own
    found = told(lambda **given: rule([{"params": parameters, **given}], 0.5), options)
    assert found == list(options)


def test_every_operation_is_called_wrongly():
    """All but the methods of Tensor that take one tensor, of any dtype: Python finds none of that
    name for anything else. What stands in tests/core/test_wrong_calls.py is refused there.
    """
    methods = {name for name in OPERATIONS if hasattr(tinynet.Tensor, name)}
    others = {"neg", "index", "logical_not", "max_along", "min_along"}
    assert set(OPERATIONS) - {name for name, _, _ in calls()} <= methods | others
