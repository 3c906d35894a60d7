"""What holds for every operation of the table, on all of its cases (tinynet/gradcheck/cases): the
results do not depend on how a kernel cuts its work, nor on what was in memory before; and float32
stays float32.
"""

from __future__ import annotations

import inspect
import sys

import numpy as np
import pytest

import tinynet
from tinynet.devices.memory import Pool
from tinynet.devices.scratch import Scratch
from tinynet.gradcheck.cases import CASES
from tinynet.tape import walk

# Whatever kernel has a size of this name gets pieces so small that every case has several.
SMALL = dict(
    PIECE=13, BLOCK=5, ROWS=2, PICTURES=2, COLUMN_BYTES=(300, 300), PIXELS=3, DB_ELEMENTS=9, HALF=2
)


def graph(fn, inputs, dtype=np.float64, **options):
    """The results, a scalar made of them with random weights (None if nothing requires a gradient),
    and the leaves.
    """
    draw = np.random.default_rng(1)
    tinynet.manual_seed(1)
    given = [
        tinynet.tensor(a, dtype, requires_grad=True)
        if isinstance(a, np.ndarray) and a.dtype == np.float64
        else a
        for a in inputs
    ]
    ys = fn(*given, **options)
    ys = ys if isinstance(ys, tuple) else (ys,)
    weights = [tinynet.tensor(draw.normal(size=y.shape), y.dtype, y.device) for y in ys]
    parts = [(y * w).sum() for y, w in zip(ys, weights, strict=True) if y.requires_grad]
    leaves = [x for x in given if isinstance(x, tinynet.Tensor) and x.requires_grad]
    return ys, sum(parts) if parts else None, leaves


def graphs(name, dtype=np.float64):
    for fn, inputs in CASES[name].make(np.random.default_rng(0)):
        yield graph(fn, inputs, dtype)


def outcomes(name, dtype=np.float64):
    """Of each case the results, and the gradients of the leaves."""
    found = []
    for ys, total, leaves in graphs(name, dtype):
        if total is not None:
            total.backward()
        gradients = [None if x.grad is None else x.grad.data for x in leaves]
        found.append([y.data for y in ys] + gradients)
    return found


def compare(found, expected, tolerance, name):
    for i, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None), (name, i)
            if a is not None:
                assert a.shape == b.shape, (name, i)
                atol = tolerance * max(1, np.abs(b).max(initial=0))
                np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=f"{name}, case {i}")


@pytest.mark.parametrize("name", CASES)
def test_neither_pieces_nor_what_was_in_memory_count(name, monkeypatch):
    expected, threads = outcomes(name), tinynet.get_num_threads()

    def of_ones(array):
        """NaN, or -1, in every element."""
        array[...] = np.nan if array.dtype.kind in "fc" else np.array(-1).astype(array.dtype)
        return array

    for owner, method in ((Pool, "empty"), (Scratch, "array"), (np, "empty"), (np, "empty_like")):
        usual = getattr(owner, method)
        monkeypatch.setattr(
            owner, method, lambda *a, usual=usual, **options: of_ones(usual(*a, **options))
        )
    for module in [m for m in sys.modules if m.startswith("tinynet.kernels.")]:
        for size, value in SMALL.items():
            if isinstance(getattr(sys.modules[module], size, None), type(value)):
                monkeypatch.setattr(sys.modules[module], size, value)
    tinynet.set_num_threads(3)
    try:
        compare(outcomes(name), expected, 1e-11, name)
    finally:
        tinynet.set_num_threads(threads)


@pytest.mark.parametrize("name", CASES)
def test_single_precision_stays_so_and_is_near_double(name, warnings_are_errors):
    single, double = outcomes(name, np.float32), outcomes(name)
    for arrays in single:
        assert {a.dtype for a in arrays if a is not None and a.dtype.kind == "f"} <= {
            np.dtype(np.float32)
        }, name
    compare(single, double, 1e-4, name)


@pytest.mark.parametrize("name", CASES)
def test_what_walks_back_is_of_the_shape_and_type_of_what_went_forward(name):
    """And each node is empty once it was visited."""
    for _, total, _ in graphs(name, np.float32):
        visited = []
        for node, arrived, leaving in walk(total, None, False) if total is not None else ():
            assert not any(vars(earlier) or earlier.inputs for earlier in visited), name
            visited.append(node)
            assert [(g.shape, g.dtype) for g in arrived] == node.outputs
            for source, g in zip(node.inputs, leaving, strict=True):
                if isinstance(source, tuple):
                    assert g is None or (g.shape, g.dtype) == source[0].outputs[source[1]]
                elif g is not None:
                    assert (g.shape, g.dtype) == (source.shape, source.dtype)


@pytest.mark.parametrize("name", CASES)
def test_a_gradient_lies_in_new_memory_or_in_that_of_what_arrived(name):
    """So that a leaf may keep it as its own: it is nothing that the node keeps, and no part of
    another argument's, unless both are what arrived.
    """
    for _, total, _ in graphs(name):
        for node, arrived, leaving in walk(total) if total is not None else ():
            new = [g for g in leaving if g is not None]
            new = [g for g in new if not any(np.may_share_memory(g, other) for other in arrived)]
            kept = [array for array in node.saved if isinstance(array, np.ndarray)]
            for i, g in enumerate(new):
                assert not any(np.may_share_memory(g, other) for other in [*kept, *new[:i]]), name


@pytest.mark.parametrize("name", CASES)
def test_what_changes_after_forward_is_noticed_or_does_not_count(name):
    """Each leaf, and each array or tensor among the options: indices, targets, masks."""
    for fn, inputs in CASES[name].make(np.random.default_rng(0)):
        parameters = inspect.signature(fn).parameters.items()
        arrays = {n: p.default for n, p in parameters if isinstance(p.default, np.ndarray)}
        for kind in (np.array, tinynet.tensor) if arrays else (np.array,):
            _, total, leaves = graph(fn, inputs)
            if total is None:
                continue
            total.backward()
            expected = [leaf.grad.data for leaf in leaves]
            for i in range(len(leaves) + len(arrays)):
                options = {n: kind(array) for n, array in arrays.items()}
                _, total, leaves = graph(fn, inputs, **options)
                changed = [*leaves, *options.values()][i]
                data = changed.data if isinstance(changed, tinynet.Tensor) else changed
                data[...] = np.roll(data, 1)
                try:
                    total.backward()
                except RuntimeError as error:
                    assert "changed in place" in str(error), (name, i)
                    continue
                for leaf, gradient in zip(leaves, expected, strict=True):
                    np.testing.assert_array_equal(leaf.grad.data, gradient, err_msg=f"{name}, {i}")


SAID = r"^\w+: expected all tensors on one device, got .* on cpu.*; move them with .to"


@pytest.mark.parametrize("name", CASES)
def test_tensors_of_two_devices_are_refused(name):
    """Whichever of them is elsewhere, with a gradient and without; the line says what to write."""
    for fn, inputs in CASES[name].make(np.random.default_rng(0)):
        places = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype == float]
        for away in places if len(places) > 1 else ():
            given = [
                tinynet.tensor(a, device="cpu:1" if i == away else "cpu", requires_grad=i % 2 > 0)
                if i in places
                else a
                for i, a in enumerate(inputs)
            ]
            with pytest.raises(tinynet.DeviceMismatchError, match=SAID):
                fn(*given)
