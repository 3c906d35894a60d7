"""Attention and embeddings: against their definitions, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels import attention
from tinynet.kernels.attention import attention_definition


@pytest.mark.parametrize("piece", [None, 1, 30])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention(heads, piece, rng, set_pieces):
    set_pieces(attention, "PIECE", piece)
    N, T, S = 3, 4, 5
    q, k, v = (layouts(rng, rng.normal(size=s)) for s in ((N, T, 4), (N, S, 4), (N, S, 6)))
    tensors = [tinynet.tensor(a) for a in (q, k, v)]
    full, below = np.ones((N, T, S), bool), np.tri(T, S, dtype=bool)
    chosen = rng.random((N, T, S)) < 0.5
    chosen[..., 0] = True
    for options, mask in [
        ({}, full),
        (dict(causal=True), full & below),
        (dict(mask=chosen), chosen),
        (dict(mask=chosen[1]), full & chosen[1]),
        (dict(mask=chosen, causal=True), chosen & below),
    ]:
        y = F.attention(*tensors, heads, **options)
        np.testing.assert_allclose(
            y.numpy(), attention_definition(q, k, v, heads, mask), rtol=1e-11, atol=1e-14
        )


def test_the_same_bits_for_any_threads(rng, set_pieces):
    set_pieces(attention, "PIECE", 100)
    q, k, v, dy = rng.normal(size=(4, 9, 6, 8)).astype(np.float32)
    before, found = tinynet.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            tinynet.set_num_threads(threads)
            y, p = kernels.attention_forward(q, k, v, 2, np.tri(6, dtype=bool))
            found.append([y, p, *kernels.attention_backward(dy, q, k, v, p)])
    finally:
        tinynet.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_large_products_do_not_overflow(rng):
    q = tinynet.tensor(rng.normal(size=(1, 3, 2)).astype(np.float32) * 1e3)
    assert np.isfinite(F.attention(q, q, q).numpy()).all()


def test_what_attention_refuses(rng):
    x, y = (tinynet.tensor(rng.normal(size=(2, 3, n))) for n in (4, 6))
    for wrong, message in [
        (lambda: F.attention(x, y, x), "expected q"),
        (lambda: F.attention(x, x, x[:1]), "expected q"),
        (lambda: F.attention(x[0], x, x), r"expected q of shape \(N, T, D\)"),
        (lambda: F.attention(x, x, x, 3), "divisible by heads=3, got 4 and 4"),
        (lambda: F.attention(x, x, x, mask=np.ones((3, 3))), "expected a mask of bool"),
        (lambda: F.attention(x, x, x, mask=np.ones((2, 3), bool)), r"got bool \(2, 3\)"),
        (lambda: F.attention(x, x, x, mask=np.tri(3, k=-1, dtype=bool)), "got a row without"),
        (lambda: nn.MultiHeadAttention(4, 3), "divisible by num_heads, got 4 and 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_embedding(rng):
    layer = nn.Embedding(5, 3)
    tokens = np.array([[1, 4], [1, 1]])
    y = layer(tokens)
    np.testing.assert_array_equal(y.numpy(), layer.weight.numpy()[tokens])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), np.outer([0, 3, 0, 0, 1], np.ones(3)))
    np.testing.assert_array_equal(layer(tinynet.tensor(tokens)).numpy(), y.numpy())
    assert repr(layer) == "Embedding(5 -> 3, 15 parameters)"
    with pytest.raises(ValueError, match="expected tokens from 0 to 4, got -1 to 2"):
        layer([2, -1])
    with pytest.raises(ValueError, match="expected tokens from 0 to 4, got 5 to 5"):
        layer([5])
    with pytest.raises(TypeError, match="expected tokens to be integers, got float64"):
        layer([0.5])


def test_multi_head_attention(rng):
    layer = nn.MultiHeadAttention(6, 2)
    x, other = (tinynet.tensor(rng.normal(size=(2, n, 6)).astype(np.float32)) for n in (3, 4))
    own = layer(x, causal=True)
    same = layer.out(F.attention(layer.query(x), layer.key(x), layer.value(x), 2, causal=True))
    np.testing.assert_array_equal(own.numpy(), same.numpy())
    across = layer(x, other, mask=np.ones((3, 4), bool))
    same = layer.out(F.attention(layer.query(x), layer.key(other), layer.value(other), 2))
    np.testing.assert_array_equal(across.numpy(), same.numpy())
    third = tinynet.tensor(rng.normal(size=(2, 4, 6)).astype(np.float32))
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]], bool)
    parts = layer.query(x), layer.key(other), layer.value(third)
    apart = layer(x, other, third, mask, True)
    same = layer.out(F.attention(*parts, 2, mask & np.tri(3, 4, dtype=bool)))
    np.testing.assert_allclose(apart.numpy(), same.numpy(), rtol=1e-5, atol=1e-6)
    assert sum(p.size for p in layer.parameters()) == 4 * (36 + 6)


def test_the_shares_of_attention_are_its_weights(rng):
    layer = nn.MultiHeadAttention(6, 2)
    x, other = (tinynet.tensor(rng.normal(size=(2, n, 6)).astype(np.float32)) for n in (3, 4))
    mask = np.array([[1, 1, 0, 1], [0, 1, 0, 0], [1, 1, 1, 1]], bool)
    shares = layer.shares(x, other, mask=mask).numpy()
    assert shares.shape == (2, 2, 3, 4) and not shares[:, :, ~mask].any()
    np.testing.assert_allclose(shares.sum(axis=3), 1, rtol=1e-6)
    values = layer.value(other).numpy().reshape(2, 4, 2, 3).transpose(0, 2, 1, 3)
    mean = (shares @ values).transpose(0, 2, 1, 3).reshape(2, 3, 6)
    np.testing.assert_allclose(
        layer.out(tinynet.tensor(mean)).numpy(), layer(x, other, mask=mask).numpy(), rtol=1e-4,
        atol=1e-6,
    )  # fmt: skip
    three = np.array([[1, 1, 1, 0]] * 3, bool)  # keys as many as queries, and others
    np.testing.assert_allclose(
        layer.shares(x, other[:, :3]).numpy(), layer.shares(x, other, three).numpy()[..., :3],
        rtol=1e-5,
    )  # fmt: skip
    assert not np.triu(layer.shares(x, causal=True).numpy()[0, 0], 1).any()


def test_masks_may_be_arrays_lists_or_tensors_of_any_device(rng):
    q = rng.normal(size=(2, 3, 4))
    chosen = rng.random((2, 3, 3)) < 0.5
    chosen |= np.eye(3, dtype=bool)
    for causal, seen in ((False, chosen), (True, chosen & np.tri(3, dtype=bool))):
        expected = attention_definition(q, q, q, 2, seen)
        for mask in (
            chosen, chosen.tolist(), tinynet.tensor(chosen), tinynet.tensor(chosen, device="cpu:1"),
        ):  # fmt: skip
            x = tinynet.tensor(q, requires_grad=True)
            y = F.attention(x, x, x, 2, mask=mask, causal=causal)
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-11, atol=1e-14)
            y.sum().backward()


def test_every_query_sees_a_key(rng):
    q = tinynet.tensor(rng.normal(size=(2, 3, 4)))
    blind = np.ones((2, 3, 3), bool)
    blind[1, 2] = False
    for mask, causal in ((blind, False), (blind[1], False), (~np.eye(3, dtype=bool), True)):
        with pytest.raises(ValueError, match="lets every query look at one key"):
            F.attention(q, q, q, mask=mask, causal=causal)


def test_words_on_another_device_are_brought_along():
    weight = tinynet.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    for tokens in ([2, 0], np.array([2, 0]), tinynet.tensor([2, 0]),
                   tinynet.tensor([2, 0], device="cpu:1")):  # fmt: skip
        weight.zero_grad()
        y = F.embedding(tokens, weight)
        assert y.device == "cpu" and y.tolist() == [[4, 5], [0, 1]]
        y.sum().backward()
        assert weight.grad.tolist() == [[1, 1], [0, 0], [1, 1]]
