"""Convolution, and its transpose."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.kernels.dilation import Apart, Axis, dilated_size
from tinynet.kernels.im2col import Pair, output_size
from tinynet.kernels.order import along_memory, inner_axes, order_of, reordered
from tinynet.operations import operation
from tinynet.tape import add_up
from tinynet.tensors import Tensor


class Conv2d(Function):
    """y = w * x + b, maximum with 0 if relu        dx = w^T * dy, dw = dy * x, db = sum of dy

    With dilation the picture falls apart into several, whose convolution has none.
    """

    @staticmethod
    def forward(
        ctx: Context, x: Any, weight: Any, bias: Any, relu: bool, dilation: Pair, **options: Any
    ) -> Any:
        ctx.apart = None
        if dilation != (1, 1):
            sizes = x.shape[2:], weight.shape[2:], options["stride"], options["padding"], dilation
            ctx.apart = Apart(ctx.device, *(Axis(*each) for each in zip(*sizes, strict=True)))
            x = ctx.apart.inputs(x)
            options.update(stride=ctx.apart.stride, padding=(0, 0))
        y = ctx.kernels.conv2d_forward(x, weight, bias, **options, relu=relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.options = options
        return ctx.apart.outputs(y) if ctx.apart else y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        if ctx.apart:
            dy = ctx.apart.outputs_backward(dy)
        dx, dw, db = ctx.kernels.conv2d_backward(
            dy, x, weight, **ctx.options, needs=ctx.needs_input_grad, y=y
        )
        return ctx.apart.inputs_backward(dx) if ctx.apart and dx is not None else dx, dw, db


@operation(Conv2d)
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    relu: bool = False,
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Convolution: y[n,o] = b[o] + sum over c,i,j of w[o,c,i,j] x[n,c, oh*stride + i*dilation -
    padding, ow*stride + j*dilation - padding].

    x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) -> (N, O, OH, OW), OH = (H + 2 padding -
    dilation (kh - 1) - 1) // stride + 1. Output channels of group g see the input channels of group
    g alone. relu=True gives max(y, 0) in the same operation, which saves a pass over memory.
    Kernel: tinynet/kernels/conv2d.py; of dilation, dilation.py.
    """
    options = _checked("conv2d", x, weight, bias, stride, padding, groups, dilation)
    return Conv2d.apply(x, weight, bias, relu=bool(relu), **options)


def _checked(
    where: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | tuple[int, int],
    padding: int | tuple[int, int],
    groups: int,
    dilation: int | tuple[int, int],
) -> dict[str, Any]:
    """The options of a convolution, in pairs. ValueError or TypeError if something does not fit."""
    checks.floats(where, ["bias"], x=x, weight=weight, bias=bias)
    checks.rank(where, "x", x, "(N, C, H, W)")
    checks.rank(where, "weight", weight, "(O, C/groups, kh, kw)")
    stride = checks.pair(where, "stride", stride, 1)
    padding = checks.pair(where, "padding", padding, 0)
    groups = checks.integer(where, "groups", groups, 1)
    dilation = checks.pair(where, "dilation", dilation, 1)
    (_, C, H, W), (O, C_group, kh, kw) = x.shape, weight.shape
    if C != C_group * groups:
        in_groups = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"{where}: x has {C} channels, the weight wants {C_group * groups}{in_groups}; x must "
            f"be (N, C, H, W), got x {x.shape} and weight {weight.shape}"
        )
    if O % groups:
        raise ValueError(
            f"{where}: expected weight (O, C/groups, kh, kw) with O divisible by groups = "
            f"{groups}, got weight {weight.shape}"
        )
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"{where}: expected bias of shape ({O},), got {bias.shape}")
    wide = dilated_size((kh, kw), dilation)
    if min(kh, kw) < 1 or min(output_size((H, W), wide, stride, padding)) < 1:
        spread = f" with dilation {dilation}" if dilation != (1, 1) else ""
        raise ValueError(
            f"{where}: expected a kernel of at least 1x1 that fits the padded picture, got kernel "
            f"{kh, kw}{spread} on {H}x{W} with padding {padding}"
        )
    return dict(stride=stride, padding=padding, groups=groups, dilation=dilation)


class Conv2dEach(Function):
    """y_k = w_k * x + b_k        dx = sum of w_k^T * dy_k, dw_k = dy_k * x, db_k = sum of dy_k

    The parts of dx are added as a tape adds up those of separate convolutions, the newest first: to
    the same bits.
    """

    @staticmethod
    def forward(ctx: Context, x: Any, *parameters: Any, relu: bool, **options: Any) -> Any:
        """parameters: all weights, then all biases."""
        ctx.count = len(parameters) // 2
        weights, biases = parameters[: ctx.count], parameters[ctx.count :]
        ys = ctx.kernels.conv2d_each_forward(x, weights, biases, **options, relu=relu)
        ctx.save_for_backward(x, *weights, *(ys if relu else [None] * ctx.count))
        ctx.options = options
        return tuple(ys)

    @staticmethod
    def backward(ctx: Context, *dys: Any) -> Any:
        x, *saved = ctx.saved_tensors
        weights, ys = saved[: ctx.count], saved[ctx.count :]
        of_x, *of_others = ctx.needs_input_grad
        pairs = zip(of_others[: ctx.count], of_others[ctx.count :], strict=True)
        needs = [(of_x, *pair) for pair in pairs]
        each = ctx.kernels.conv2d_each_backward(dys, x, weights, **ctx.options, needs=needs, ys=ys)
        dxs, dws, dbs = zip(*each, strict=True)
        return add_up([*dxs[::-1]], ctx.device) if of_x else None, *dws, *dbs


@operation(Conv2dEach)
def conv2d_each(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None] | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    relu: bool = False,
) -> tuple[Tensor, ...]:
    """Several convolutions of the same x: conv2d(x, w, b, stride, padding, groups, relu) for each
    pair of w and b, with the same bits.

    All kernels have one size kh x kw: on a GPU the columns of x serve all of them. AlexNet's towers
    meet so on one device. A result that nothing uses counts as one whose gradient is zeros.
    Kernel: tinynet/kernels/conv2d.py.
    """
    where = "conv2d_each"
    for name, several in (("weights", weights), ("biases", [] if biases is None else biases)):
        if not isinstance(several, (list, tuple)):
            came = type(several).__name__
            raise TypeError(f"{where}: expected {name} to be a list of tensors, got {came}")
    biases = [None] * len(weights) if biases is None else biases
    if not 0 < len(weights) == len(biases):
        raise ValueError(
            f"{where}: expected at least one weight, and a bias (or None) for each, got "
            f"{len(weights)} weights and {len(biases)} biases"
        )
    for weight, bias in zip(weights, biases, strict=True):
        options = _checked(where, x, weight, bias, stride, padding, groups, 1)
        if weight.shape[2:] != weights[0].shape[2:]:
            raise ValueError(
                f"{where}: expected kernels of one size, got {weights[0].shape} and {weight.shape}"
            )
    del options["dilation"]
    return Conv2dEach.apply(x, *weights, *biases, relu=bool(relu), **options)


class ConvTranspose2d(Function):
    """y = w^T * x + b: a convolution's dx        dx = w * dy, dw = x * dy, db = sum of dy

    Convolution is linear in its input, y = A x with a matrix A made of w; its gradient is dx = A^T
    dy. Here A^T goes forward and A backward: the kernels of conv2d with the roles exchanged. dw is
    that of a convolution which saw dy and whose result got the gradient x. So no kernel is needed.
    """

    @staticmethod
    def forward(
        ctx: Context, x: Any, weight: Any, bias: Any, size: tuple[int, int], **options: Any
    ) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.options = options
        shape = len(x), weight.shape[1] * options["groups"], *size
        larger = ctx.device.empty(shape, x.dtype)  # its shape counts; nothing reads its values
        needs = True, False, False
        y, _, _ = ctx.kernels.conv2d_backward(x, larger, weight, **options, needs=needs)
        if bias is None:
            return y
        return along_memory(ctx.device, operator.add, y, bias[:, None, None])

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight = ctx.saved_tensors
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = ctx.kernels.conv2d_forward(dy, weight, None, **ctx.options)
        if ctx.needs_input_grad[1]:
            needs = False, True, False
            _, dw, _ = ctx.kernels.conv2d_backward(x, dy, weight, **ctx.options, needs=needs)
        if ctx.needs_input_grad[2]:
            order = order_of(ctx.device, [dy])
            db = reordered(dy, order).sum(axis=inner_axes((0, 2, 3), order))
        return dx, dw, db


@operation(ConvTranspose2d)
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> Tensor:
    """The transpose of a convolution with these options: x (N, C, H, W) -> (N, O, OH, OW).

    y[n, o, oh, ow] = b[o] + the sum over c, i, j, h, w of w[c, o, i, j] x[n, c, h, w] where
    oh = h stride + i - padding and ow = w stride + j - padding: each value of x lays the kernel, so
    many times, down on y. weight (C, O/groups, kh, kw), bias (O,).

    OH = (H - 1) stride - 2 padding + kh + output_padding. The convolution would shrink several
    sizes to H; output_padding, below stride, chooses one. Source: Zeiler et al. 2010,
    "Deconvolutional networks", section 3.
    """
    where = "conv_transpose2d"
    checks.floats(where, ["bias"], x=x, weight=weight, bias=bias)
    checks.rank(where, "x", x, "(N, C, H, W)")
    checks.rank(where, "weight", weight, "(C, O/groups, kh, kw)")
    stride = checks.pair(where, "stride", stride, 1)
    padding = checks.pair(where, "padding", padding, 0)
    extra = checks.pair(where, "output_padding", output_padding, 0)
    groups = checks.integer(where, "groups", groups, 1)
    (_, C, *sides), (C_weight, O_group, *kernel) = x.shape, weight.shape
    if C != C_weight or C % groups:
        raise ValueError(
            f"{where}: expected weight (C, O/groups, kh, kw) with C = {C} channels of x, divisible "
            f"by groups = {groups}, got weight {weight.shape}"
        )
    if bias is not None and bias.shape != (O_group * groups,):
        raise ValueError(f"{where}: expected bias of shape ({O_group * groups},), got {bias.shape}")
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(f"{where}: expected output_padding below stride {stride}, got {extra}")
    size = tuple(
        (n - 1) * s - 2 * p + k + e
        for n, s, p, k, e in zip(sides, stride, padding, kernel, extra, strict=True)
    )
    if min(kernel) < 1 or min(sides) < 1 or min(size) < 1:
        raise ValueError(
            f"{where}: expected a picture and a kernel of at least 1x1, and a result of that size, "
            f"got x {x.shape}, kernel {tuple(kernel)}, and a result of {size}"
        )
    return ConvTranspose2d.apply(
        x, weight, bias, size=size, stride=stride, padding=padding, groups=groups
    )
