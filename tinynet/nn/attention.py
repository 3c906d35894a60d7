"""Layers for sequences of words."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.devices import Device
from tinynet.functional import checks
from tinynet.nn import init
from tinynet.nn.init import Initialiser
from tinynet.nn.layers import Linear
from tinynet.nn.module import Module, Parameter
from tinynet.tensors import Tensor, tensor


class Embedding(Module):
    """A vector for each token: integers (...) -> (..., embedding_dim); see functional.embedding.

    weight (num_embeddings, embedding_dim), from a normal distribution of deviation 1 if not said
    otherwise.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        weight_init: Initialiser | None = None,
        device: str | Device = "cpu",
    ):
        count = checks.integer("Embedding", "num_embeddings", num_embeddings, 1)
        dim = checks.integer("Embedding", "embedding_dim", embedding_dim, 1)
        start = weight_init or init.normal(1.0)
        self.weight = Parameter(start((count, dim)), device)

    def forward(self, tokens: Any) -> Tensor:
        return F.embedding(tokens, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]} -> {self.weight.shape[1]}"


class MultiHeadAttention(Module):
    """Attention of num_heads heads, between linear maps: (N, T, embed_dim) -> the same shape.

    queries, keys and values are maps of query, key and value (N, S, embed_dim). If left out, key is
    query (self-attention) and value is key. mask and causal: see functional.attention. Source:
    Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        weight_init: Initialiser | None = None,
        device: str | Device = "cpu",
    ):
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiHeadAttention: expected embed_dim divisible by num_heads, got {embed_dim} "
                f"and {num_heads}"
            )
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (
            Linear(embed_dim, embed_dim, bias=bias, weight_init=weight_init, device=device)
            for _ in range(4)
        )

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Any = None,
        causal: bool = False,
    ) -> Tensor:
        key = query if key is None else key
        value = key if value is None else value
        parts = self.query(query), self.key(key), self.value(value)
        return self.out(F.attention(*parts, self.num_heads, mask, causal))

    def shares(
        self, query: Tensor, key: Tensor | None = None, mask: Any = None, causal: bool = False
    ) -> Tensor:
        """How much each head looks from each query at each key: (N, num_heads, T, S). The shares
        of a query sum to 1.

        The values are unit vectors here: the mean of them, weighted by shares, is the shares.
        """
        key = query if key is None else key
        queries, keys = self.query(query), self.key(key)
        (N, T, _), S = queries.shape, keys.shape[1]
        units = np.tile(np.eye(S, dtype=query.dtype), (N, 1, self.num_heads))
        values = tensor(units, device=query.device)
        y = F.attention(queries, keys, values, self.num_heads, mask, causal)
        return y.reshape(N, T, self.num_heads, S).transpose(0, 2, 1, 3)

    def extra_repr(self) -> str:
        return f"{self.num_heads} heads"
