"""What people know from torch and NumPy: it means what it says, or is answered by what to write."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import instead, nn
from tinynet.optim import lr_scheduler

x = tinynet.tensor([[1.0, -2.0], [3.0, 4.0]])
w = tinynet.tensor([1.0, 2.0], requires_grad=True)
PLACES = [
    (x, instead.TENSOR), (tinynet, instead.TINYNET), (nn, instead.NN), (F, instead.FUNCTIONAL),
    (nn.Linear(2, 2), instead.MODULE), (nn.init, instead.INIT), (lr_scheduler, instead.SCHEDULES),
]  # fmt: skip


def message(owner, name):
    with pytest.raises(AttributeError) as caught:
        getattr(owner, name)
    return str(caught.value)


@pytest.mark.parametrize("number", range(len(PLACES)))
def test_what_is_answered_is_missing_and_the_answer_is_given(number):
    owner, table = PLACES[number]
    for name, write in table.items():
        said = message(owner, name)
        assert said.endswith(f" has no {name!r}; write {write}"), said
    assert message(owner, "nothing").endswith(" has no 'nothing'")


def test_what_numpy_has_is_named():
    assert message(x, "round").endswith("write numpy.round(x.numpy()), which is not on the tape")
    assert message(tinynet, "flip").endswith("numpy.flip(x.numpy()), which is not on the tape")
    assert message(tinynet, "pi").endswith("; write numpy.pi")
    for hidden in ("__array_interface__", "__path__"):  # NumPy has a __path__
        assert message(x, hidden).endswith(repr(hidden))


def test_numpys_functions_take_the_values_or_say_to_detach():
    array = x.numpy()
    for call in (np.sum, np.mean, np.std, np.max, np.argmax, np.squeeze, np.transpose, np.cumsum):
        assert np.array_equal(call(x), call(array)) and not isinstance(call(x), tinynet.Tensor)
        with pytest.raises(TypeError, match=r"write x\.detach\(\)"):
            call(w)
    assert np.array_equal(np.concatenate([x, array]), np.concatenate([array, array]))
    assert np.array_equal(np.sum(a=x, axis=0), array.sum(0))


def test_a_whole_number_makes_whole_numbers_of_booleans():
    for got, expected in (
        ((x > 0) * 2, [[2, 0], [2, 2]]),
        ((x > 0) + 1, [[2, 1], [2, 2]]),
        (1 - (x > 0), [[0, 1], [0, 0]]),
    ):
        assert got.dtype == np.int64 and got.tolist() == expected
    assert ((x > 0) == 1).tolist() == (x > 0).tolist()
    assert ((x > 0) * True).dtype == np.bool_


def test_an_exchange_of_two_axes():
    """The method has NumPy's meaning: of two axes, torch's call changes nothing, and says so."""
    assert tinynet.transpose(x, 0, 1).tolist() == [[1, 3], [-2, 4]]
    assert tinynet.transpose(tinynet.zeros(2, 3, 4), -1, 0).shape == (4, 3, 2)
    with pytest.raises(ValueError, match="transpose: expected an axis of a 2-d tensor, got 2"):
        tinynet.transpose(x, 0, 2)
    for axes in itertools.product((0, -2), (1, -1)):
        with pytest.warns(UserWarning, match=r"the axes stay as they are.* write x\.T") as told:
            assert x.transpose(*axes).tolist() == x.tolist()
        assert [each.filename for each in told] == [__file__]  # the line that called it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (x.transpose(1, 0), x.transpose(), x.T):
            assert same.tolist() == [[1, 3], [-2, 4]]
        assert x.permute(0, 1).tolist() == x.transpose((0, 1)).tolist() == x.tolist()


def test_device_and_dtype_at_once():
    for moved in (
        x.to("cpu:1", tinynet.double),
        x.to(device="cpu:1", dtype="float64"),
        x.to(tinynet.float64, device="cpu:1"),
    ):
        assert str(moved.device) == "cpu:1" and moved.dtype == np.float64
    assert x.to(device="cpu") is x and x.to() is x


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "**", "@"])
def test_a_leaf_that_is_learned_does_not_change_under_its_name(sign):
    with pytest.raises(RuntimeError, match=r"expected no leaf that requires a gradient"):
        exec(f"v {sign}= 2.0", {"v": w})
    y = {"v": w * 1}
    exec(f"v {sign}= w", y | {"w": w})


def test_random_whole_numbers_from_0_on():
    drawn = tinynet.randint(3, (100,))
    assert set(drawn.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    "given", [(2, 3), ([1, 2],), (2, 3, 4), ([1.0], "cpu"), (np.ones(2), None)]
)
def test_the_class_makes_no_tensor(given):
    with pytest.raises(TypeError, match=r"Tensor: made by tinynet\.tensor\(\[1, 2\]\)"):
        tinynet.Tensor(*given)


def test_an_array_in_a_tensors_place():
    with pytest.raises(TypeError, match=r"got ndarray; write tinynet\.tensor\(x\), and x for x\.d"):
        tinynet.max(x.data, 1)


def test_import_of_what_is_missing():
    code = "import tinynet.nn as nn\nfrom tinynet.nn import ModuleList"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert "ImportError: cannot import name 'ModuleList'" in run.stderr
