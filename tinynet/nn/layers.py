"""Layers: each holds its options and parameters, and calls the operation of that name in
tinynet.functional.
"""

from __future__ import annotations

from typing import Any

import tinynet.functional as F
from tinynet.device import Device
from tinynet.nn import init
from tinynet.nn.init import Initialiser
from tinynet.nn.module import Module, Parameter
from tinynet.tensor import Tensor

Size = int | tuple[int, int]


class Sequential(Module):
    """Layers one after another."""

    def __init__(self, *layers: Module):
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def __getitem__(self, i: int) -> Module:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)


class Conv2d(Module):
    """Convolution (N, in_channels, H, W) -> (N, out_channels, OH, OW), and a ReLU if relu=True; see
    functional.conv2d.

    weight (out_channels, in_channels/groups, kh, kw), by He's rule if not said otherwise; bias
    (out_channels,), zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        device: str | Device = "cpu",
        relu: bool = False,
    ):
        self.stride, self.padding, self.groups, self.relu = stride, padding, groups, relu
        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups
            or out_channels % groups
        ):
            raise ValueError(
                f"Conv2d: expected in_channels and out_channels divisible by groups, got "
                f"{in_channels}, "
                f"{out_channels} and groups={groups}"
            )
        kernel = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = Parameter((weight_init or init.he())(shape), device)
        self.bias = (
            Parameter((bias_init or init.constant(0))((out_channels,)), device) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.groups, self.relu
        )


class Linear(Module):
    """x w^T + b: (N, in_features) -> (N, out_features), and a ReLU if relu=True.

    weight (out, in) by He's rule if not said otherwise; bias zeros.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        device: str | Device = "cpu",
        relu: bool = False,
    ):
        self.relu = relu
        self.weight = Parameter((weight_init or init.he())((out_features, in_features)), device)
        self.bias = (
            Parameter((bias_init or init.constant(0))((out_features,)), device) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias, self.relu)


class MaxPool2d(Module):
    """See functional.max_pool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
    ):
        self.options = dict(
            kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, **self.options)


class AvgPool2d(Module):
    """See functional.avg_pool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        self.options = dict(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, **self.options)


class LocalResponseNorm(Module):
    """Normalisation across channels; see functional.local_response_norm (alpha is divided by size)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.options = dict(size=size, alpha=alpha, beta=beta, k=k)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, **self.options)


class SpatialResponseNorm(Module):
    """Normalisation over a patch of the same map; see functional.spatial_response_norm."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.options = dict(size=size, alpha=alpha, beta=beta, k=k)

    def forward(self, x: Tensor) -> Tensor:
        return F.spatial_response_norm(x, **self.options)


class ReLU(Module):
    """max(x, 0). inplace: the result takes x's place in memory (safe after layers that do not need
    their own output for backward: convolution and linear are such).
    """

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x, self.inplace)


class GELU(Module):
    """x Phi(x), Phi the normal distribution; see functional.gelu."""

    def __init__(self, approximate: str = "none"):
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, self.approximate)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Dropout(Module):
    """In training, zeros with probability p and scales the rest by 1 / (1 - p); see
    functional.dropout.
    """

    def __init__(self, p: float = 0.5):
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Flatten(Module):
    """(N, ...) -> (N, all the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class CrossEntropyLoss(Module):
    """The mean (or sum, or none) of -log softmax(logits)[target]; see functional.cross_entropy."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        return F.cross_entropy(logits, target, self.reduction)
