"""Layer normalisation: against its definition, in pieces of any size, on any number of threads."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import layer_norm
from tinynet.kernels.layer_norm import layer_norm_definition

ALL = (True, True, True)


@pytest.mark.parametrize("piece", [None, 1, 4, 7])
@pytest.mark.parametrize("shape", [(5, 3), (1, 6), (7, 1)])
def test_layer_norm(shape, piece, rng, set_pieces):
    set_pieces(layer_norm, "PIECE", piece)
    x, dy = (layouts(rng, rng.normal(size=shape) + 2) for _ in range(2))
    given = [x, *rng.normal(size=(2, shape[1]))]
    y, m, r = kernels.layer_norm_forward(*given, 0.1)
    np.testing.assert_allclose(y, layer_norm_definition(*given, 0.1), rtol=1e-11, atol=1e-12)
    gradients = kernels.layer_norm_backward(dy, x, given[1], m, r, ALL)
    for i, gradient in enumerate(gradients):

        def moving(a, i=i):
            return layer_norm_definition(*given[:i], a, *given[i + 1 :], 0.1)

        expected = oracles.derivative(moving, given[i], dy)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    for needs in ((True, False, False), (False, True, False), (False, False, True)):
        some = kernels.layer_norm_backward(dy, x, given[1], m, r, needs)
        assert tuple(g is not None for g in some) == needs
        for a, b in zip(some, gradients, strict=True):
            assert a is None or np.array_equal(a, b)


def test_the_same_bits_for_any_threads_and_layout(rng, set_pieces):
    set_pieces(layer_norm, "PIECE", 64)
    x, dy = rng.normal(size=(2, 50, 16)).astype(np.float32)
    w, b = rng.normal(size=(2, 16)).astype(np.float32)
    before, found = tinynet.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            tinynet.set_num_threads(threads)
            y, m, r = kernels.layer_norm_forward(layouts(rng, x), w, b, 0.1)
            found.append([y, *kernels.layer_norm_backward(layouts(rng, dy), x, w, m, r, ALL)])
    finally:
        tinynet.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_far_from_zero_nothing_cancels(rng):
    x = (rng.normal(size=(3, 500)) + 1000).astype(np.float32)
    y = F.layer_norm(tinynet.tensor(x), 500).numpy()
    exact = x - x.mean(axis=1, keepdims=True, dtype=np.float64)
    exact /= exact.std(axis=1, keepdims=True)
    np.testing.assert_allclose(y, exact, atol=1e-3)


def test_the_layer(rng):
    layer = nn.LayerNorm((2, 3), eps=0.1)
    assert repr(layer) == "LayerNorm((2, 3), eps 0.1, 12 parameters)"
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    assert not list(nn.LayerNorm(3, affine=False).parameters())
    layer.weight.data[...], layer.bias.data[...] = rng.normal(size=(2, 2, 3)).astype(np.float32)
    x = tinynet.tensor(rng.normal(size=(4, 2, 3)).astype(np.float32))
    expected = F.layer_norm(x, (2, 3), layer.weight, layer.bias, 0.1)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    with pytest.raises(ValueError, match=r"layer_norm: expected x of shape \(\.\.\., 2, 3\), got"):
        layer(tinynet.tensor(np.zeros((4, 3), np.float32)))
