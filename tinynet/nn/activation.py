"""Activations as layers: each calls the operation of its name in tinynet.functional."""

from __future__ import annotations

import tinynet.functional as F
from tinynet.nn.module import Module, listed
from tinynet.tensors import Tensor


class ReLU(Module):
    """max(x, 0). inplace: the result takes x's place in memory (safe after layers that do not need
    their own output for backward: convolution and linear are such).
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x, self.inplace)

    def extra_repr(self) -> str:
        return listed(inplace=self.inplace)


class LeakyReLU(Module):
    """x above 0, else negative_slope * x; see functional.leaky_relu."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return listed(slope=self.negative_slope)


class ELU(Module):
    """x above 0, else alpha (e^x - 1); see functional.elu."""

    def __init__(self, alpha: float = 1.0):
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return listed(alpha=self.alpha)


class Softmax(Module):
    """exp(x) / sum of exp(x) along axis `dim`; see functional.softmax."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim {self.dim}"


class GELU(Module):
    """x Phi(x), Phi the normal distribution; see functional.gelu."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return "" if self.approximate == "none" else self.approximate


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)
