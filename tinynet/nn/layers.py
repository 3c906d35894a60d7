"""Layers: each holds its options and parameters, and calls the operation of that name in
tinynet.functional.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.devices import Device
from tinynet.functional import checks
from tinynet.nn import init
from tinynet.nn.init import Initialiser
from tinynet.nn.module import Buffer, Module, Parameter, listed
from tinynet.tensors import Tensor

Size = int | tuple[int, int]


class Sequential(Module):
    """Layers one after another."""

    def __init__(self, *layers: Module):
        for i, layer in enumerate(layers):
            if isinstance(layer, type):
                raise TypeError(
                    f"Sequential: expected layers, got the class {layer.__name__} as number {i}; "
                    f"write nn.{layer.__name__}()"
                )
            if not isinstance(layer, Module):
                raise TypeError(
                    f"Sequential: expected layers, got {type(layer).__name__} as number {i}; write "
                    f"Sequential(*layers) for a list, nn.ReLU() for a function"
                )
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def __getitem__(self, i: int | slice) -> Module:
        return Sequential(*self.layers[i]) if isinstance(i, slice) else self.layers[i]

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
        dilation: Size = 1,
    ):
        in_channels = checks.integer("Conv2d", "in_channels", in_channels, 1)
        out_channels = checks.integer("Conv2d", "out_channels", out_channels, 1)
        groups = checks.integer("Conv2d", "groups", groups, 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: expected in_channels and out_channels divisible by groups, got "
                f"{in_channels}, {out_channels} and groups={groups}"
            )
        kernel = checks.pair("Conv2d", "kernel_size", kernel_size, 1)
        checks.pair("Conv2d", "stride", stride, 1)
        spread = checks.pair("Conv2d", "dilation", dilation, 1)
        if isinstance(padding, str):
            lost = [(k - 1) * d for k, d in zip(kernel, spread, strict=True)]  # without padding
            ph, pw = (n // 2 for n in lost)
            same = f"padding={ph if ph == pw else (ph, pw)}"
            odd = any(n % 2 for n in lost)
            write = "" if odd else f"'same' for this kernel and stride 1 is {same}, "
            raise ValueError(
                f"Conv2d: expected padding to be an integer or a pair of them, got {padding!r}; "
                f"{write}'valid' is padding=0"
            )
        checks.pair("Conv2d", "padding", padding, 0)
        self.stride, self.padding, self.groups, self.relu = stride, padding, groups, relu
        self.dilation = dilation
        shape = (out_channels, in_channels // groups, *kernel)
        self.weight = Parameter((weight_init or init.he())(shape), device)
        self.bias = (
            Parameter((bias_init or init.constant(0))((out_channels,)), device) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.groups, self.relu,
            self.dilation,
        )  # fmt: skip

    @staticmethod
    def each(layers: Sequence[Conv2d], x: Tensor) -> tuple[Tensor, ...]:
        """[layer(x) for layer in layers] in one operation: functional.conv2d_each.

        ValueError unless all have kernels of one size and the same options, and no dilation.
        """
        options = [(a.stride, a.padding, a.groups, a.relu, a.dilation) for a in layers]
        if not layers or any(o != options[0] or o[-1] not in (1, (1, 1)) for o in options):
            raise ValueError(
                f"Conv2d.each: expected layers of one stride, padding, groups and relu, without "
                f"dilation, got {'; '.join(a.extra_repr() for a in layers) or 'none'}"
            )
        weights, biases = [a.weight for a in layers], [a.bias for a in layers]
        return F.conv2d_each(x, weights, biases, *options[0][:-1])

    def extra_repr(self) -> str:
        out_channels, in_channels, kh, kw = self.weight.shape
        several = self.groups if self.groups > 1 else None
        spread = None if self.dilation in (1, (1, 1)) else self.dilation
        return f"{in_channels * self.groups} -> {out_channels}, kernel {kh}x{kw}, " + listed(
            stride=self.stride, padding=self.padding, dilation=spread, groups=several,
            relu=self.relu,
        )  # fmt: skip


class ConvTranspose2d(Module):
    """The transpose of a convolution (N, in_channels, H, W) -> (N, out_channels, OH, OW); see
    functional.conv_transpose2d.

    weight (in_channels, out_channels/groups, kh, kw), by He's rule if not said otherwise; bias
    (out_channels,), zeros.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        weight_init: Initialiser | None = None,
        bias_init: Initialiser | None = None,
        device: str | Device = "cpu",
    ):
        sizes = dict(in_channels=in_channels, out_channels=out_channels, groups=groups)
        for name, size in sizes.items():
            checks.integer("ConvTranspose2d", name, size, 1)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"ConvTranspose2d: expected in_channels and out_channels divisible by groups, got "
                f"{in_channels}, {out_channels} and groups={groups}"
            )
        kernel = checks.pair("ConvTranspose2d", "kernel_size", kernel_size, 1)
        checks.pair("ConvTranspose2d", "stride", stride, 1)
        checks.pair("ConvTranspose2d", "padding", padding, 0)
        checks.pair("ConvTranspose2d", "output_padding", output_padding, 0)
        shape = in_channels, out_channels // groups, *kernel
        self.options: dict[str, Any] = dict(
            stride=stride, padding=padding, output_padding=output_padding, groups=groups
        )
        self.weight = Parameter((weight_init or init.he())(shape), device)
        start = bias_init or init.constant(0)
        self.bias = Parameter(start((out_channels,)), device) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, **self.options)

    def extra_repr(self) -> str:
        C, O_group, kh, kw = self.weight.shape
        O = O_group * self.options["groups"]
        return f"{C} -> {O}, kernel {kh}x{kw}, {listed(**self.options)}"


class Linear(Module):
    """x w^T + b: (..., in_features) -> (..., out_features), and a ReLU if relu=True.

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
        in_features = checks.integer("Linear", "in_features", in_features, 1)
        out_features = checks.integer("Linear", "out_features", out_features, 1)
        self.relu = relu
        self.weight = Parameter((weight_init or init.he())((out_features, in_features)), device)
        self.bias = (
            Parameter((bias_init or init.constant(0))((out_features,)), device) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias, self.relu)

    def extra_repr(self) -> str:
        out_features, in_features = self.weight.shape
        return ", ".join([f"{in_features} -> {out_features}", *["relu"] * self.relu])


def _check_window(layer: str, kernel_size: Size, stride: Size | None, padding: Size) -> None:
    checks.pair(layer, "kernel_size", kernel_size, 1)
    checks.pair(layer, "stride", kernel_size if stride is None else stride, 1)
    checks.pair(layer, "padding", padding, 0)


class MaxPool2d(Module):
    """See functional.max_pool2d."""

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
    ):
        _check_window("MaxPool2d", kernel_size, stride, padding)
        self.options: dict[str, Any] = dict(
            kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, **self.options)

    def extra_repr(self) -> str:
        return listed(**self.options)


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
        _check_window("AvgPool2d", kernel_size, stride, padding)
        self.options: dict[str, Any] = dict(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, **self.options)

    def extra_repr(self) -> str:
        return listed(**self.options)


class AdaptiveAvgPool2d(Module):
    """See functional.adaptive_avg_pool2d."""

    def __init__(self, output_size: Size):
        checks.pair("AdaptiveAvgPool2d", "output_size", output_size, 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return listed(output_size=self.output_size)


class Upsample(Module):
    """Each pixel as a block of equal ones, scale_factor a side; see functional.interpolate."""

    def __init__(self, scale_factor: Size):
        checks.pair("Upsample", "scale_factor", scale_factor, 1)
        self.scale_factor = scale_factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.scale_factor)

    def extra_repr(self) -> str:
        return listed(scale=self.scale_factor)


class BatchNorm1d(Module):
    """Batch normalisation of x (N, C) or (N, C, L), C = num_features, and a ReLU if relu=True; see
    functional.batch_norm.

    weight ones, bias zeros; none of both if affine=False. Each training batch moves running_mean
    (zeros at first) and running_var (ones) by a share of momentum; eval mode takes these.
    """

    forms: tuple[str, ...] = "(N, C)", "(N, C, L)"  # of x

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        device: str | Device = "cpu",
        relu: bool = False,
    ):
        num_features = checks.integer(type(self).__name__, "num_features", num_features, 1)
        ones, zeros = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        self.eps, self.momentum, self.relu = eps, momentum, relu
        self.weight = Parameter(ones, device) if affine else None
        self.bias = Parameter(zeros, device) if affine else None
        self.running_mean, self.running_var = Buffer(zeros, device), Buffer(ones, device)

    def forward(self, x: Tensor) -> Tensor:
        checks.tensor(type(self).__name__, "x", x)
        if x.ndim not in [form.count(",") + 1 for form in self.forms]:
            raise ValueError(
                f"{type(self).__name__}: expected x of shape {' or '.join(self.forms)}, got "
                f"{x.shape}"
            )
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
            self.relu,
        )

    def extra_repr(self) -> str:
        options = listed(eps=self.eps, momentum=self.momentum, relu=self.relu)
        return f"{self.running_mean.size} channels, {options}"


class BatchNorm2d(BatchNorm1d):
    """Batch normalisation of x (N, C, H, W): as BatchNorm1d, each map a channel."""

    forms = ("(N, C, H, W)",)


class LayerNorm(Module):
    """Normalisation of each row by itself: x (..., *normalized_shape); see functional.layer_norm.

    weight ones, bias zeros; none of both if affine=False.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        affine: bool = True,
        device: str | Device = "cpu",
    ):
        shape = normalized_shape
        self.normalized_shape = tuple(
            checks.integer("LayerNorm", "normalized_shape", n, 1)
            for n in (shape if isinstance(shape, (tuple, list)) else [shape])
        )
        self.eps = eps
        ones = np.ones(self.normalized_shape, np.float32)
        self.weight = Parameter(ones, device) if affine else None
        self.bias = Parameter(np.zeros_like(ones), device) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, {listed(eps=self.eps)}"


class LocalResponseNorm(Module):
    """Normalisation across channels, alpha divided by size; see functional.local_response_norm."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        checks.integer("LocalResponseNorm", "size", size, 1)
        self.options: dict[str, Any] = dict(size=size, alpha=alpha, beta=beta, k=k)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x, **self.options)

    def extra_repr(self) -> str:
        return listed(**self.options)


class SpatialResponseNorm(Module):
    """Normalisation over a patch of the same map; see functional.spatial_response_norm."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        checks.integer("SpatialResponseNorm", "size", size, 1)
        self.options: dict[str, Any] = dict(size=size, alpha=alpha, beta=beta, k=k)

    def forward(self, x: Tensor) -> Tensor:
        return F.spatial_response_norm(x, **self.options)

    def extra_repr(self) -> str:
        return listed(**self.options)


class Dropout(Module):
    """In training, zeros with probability p and scales the rest by 1 / (1 - p); inverted=False: the
    rest stays, and in use all is scaled by 1 - p, as in 2012. See functional.dropout.
    """

    def __init__(self, p: float = 0.5, inverted: bool = True):
        self.p, self.inverted = checks.probability("Dropout", p), inverted

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training, self.inverted)

    def extra_repr(self) -> str:
        return listed(p=self.p) if self.inverted else f"{listed(p=self.p)}, scaled in use"


class Identity(Module):
    """x itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """(N, ...) -> (N, all the rest)."""

    def forward(self, x: Tensor) -> Tensor:
        checks.tensor("Flatten", "x", x)
        return x.flatten(1)


class CrossEntropyLoss(Module):
    """The mean (or sum, or none) of -log softmax(logits)[target]; see functional.cross_entropy."""

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0):
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        return F.cross_entropy(logits, target, self.reduction, self.label_smoothing)

    def extra_repr(self) -> str:
        smoothing = listed(label_smoothing=self.label_smoothing or None)
        return ", ".join(filter(None, [self.reduction, smoothing]))


class NLLLoss(Module):
    """The mean (or sum, or none) of -log_probabilities[target]; see functional.nll_loss."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, log_probabilities: Tensor, target: Any) -> Tensor:
        return F.nll_loss(log_probabilities, target, self.reduction)

    def extra_repr(self) -> str:
        return self.reduction


class MSELoss(Module):
    """The mean (or sum, or none) of (input - target)^2; see functional.mse_loss."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, self.reduction)

    def extra_repr(self) -> str:
        return self.reduction


class BCEWithLogitsLoss(Module):
    """The mean (or sum, or none) of the binary cross-entropy; see functional.bce_with_logits."""

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.bce_with_logits(logits, target, self.reduction)

    def extra_repr(self) -> str:
        return self.reduction
