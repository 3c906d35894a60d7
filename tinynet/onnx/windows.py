"""ONNX's operators with windows, and normalisation, as operations of tinynet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.onnx.operators import Node, need, reads
from tinynet.tensors import Tensor, tensor

WIDEST = 4096  # pixels of padding: a file that asks for more is damaged
Size = list[tuple[int, int]]  # (before, after) of rows, of columns
WINDOW: dict[str, type] = dict(
    auto_pad=str, dilations=list, kernel_shape=list, pads=list, strides=list
)


def geometry(
    node: Node, x: Tensor, kernel: Sequence[int] | None = None
) -> tuple[tuple[int, int], tuple[int, int], Size]:
    """kernel, stride, (before, after) of rows and of columns."""
    need(x.ndim == 4, "pictures (N, C, H, W)", x.shape)
    wanted = node.get("kernel_shape", kernel)
    need(wanted is not None, "kernel_shape", "none")
    strides, pads = node.get("strides", [1, 1]), node.get("pads", [0, 0, 0, 0])
    fits = len(wanted) == len(strides) == 2 and len(pads) == 4
    fits = fits and min(wanted) > 0 and min(strides) > 0 and 0 <= min(pads) <= max(pads) <= WIDEST
    need(fits, "two sides and strides above 0, four pads", f"{wanted}, {strides}, {pads}")
    need(kernel is None or list(wanted) == list(kernel), f"the weight's kernel {kernel}", wanted)
    dilations = node.get("dilations", [1, 1])
    need(node.op == "Conv" or set(dilations) <= {1}, "no dilation", dilations)
    need(len(dilations) == 2 and 0 < min(dilations) <= max(dilations) <= WIDEST, "two dilations",
         dilations)  # fmt: skip
    how = node.get("auto_pad", "NOTSET")
    need(how in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), "a known auto_pad", how)
    widths = [(pads[0], pads[2]), (pads[1], pads[3])] if how == "NOTSET" else [(0, 0)] * 2
    if how.startswith("SAME"):
        wide = [(k - 1) * d + 1 for k, d in zip(wanted, dilations, strict=True)]
        for i, (n, k, s) in enumerate(zip(x.shape[2:], wide, strides, strict=True)):
            total = max(0, (-(-n // s) - 1) * s + k - n)
            less, more = total // 2, total - total // 2
            widths[i] = (less, more) if how == "SAME_UPPER" else (more, less)
    return tuple(wanted), tuple(strides), widths


def bordered(x: Tensor, widths: Size, value: float = 0.0) -> Tensor:
    return F.pad(x, (*widths[1], *widths[0]), value)


@reads("Conv", group=int, **WINDOW)
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    need(w.ndim == 4, "a weight (O, C, h, w)", w.shape)
    _, stride, widths = geometry(node, x, w.shape[2:])
    (top, bottom), (left, right) = widths
    padding = (top, left)
    if (bottom, right) != padding:
        x, padding = bordered(x, widths), (0, 0)
    dilation = tuple(node.get("dilations", (1, 1)))
    return F.conv2d(x, w, b, stride, padding, node.get("group", 1), dilation=dilation)


@reads("ConvTranspose", group=int, output_padding=list, output_shape=list, **WINDOW)
def conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    need("output_shape" not in node.attributes, "output_padding", "output_shape")
    need(node.get("auto_pad", "NOTSET") == "NOTSET", "pads", "auto_pad")
    need(w.ndim == 4, "a weight (C, O, h, w)", w.shape)
    _, stride, ((top, bottom), (left, right)) = geometry(node, x, w.shape[2:])
    need((top, left) == (bottom, right), "equal pads on both sides", node.get("pads", None))
    extra = node.get("output_padding", [0, 0])
    need(len(extra) == 2, "an output_padding of two", extra)
    return F.conv_transpose2d(x, w, b, stride, (top, left), tuple(extra), node.get("group", 1))


# ---------------------------------------------------------------- windows


def hanging_over(x: Tensor, kernel: Any, stride: Any, widths: Size, ceil: bool) -> Size:
    """widths, with what the last windows hang over the end in ceil mode. A window that would begin
    behind the picture is left out.
    """
    if not ceil:
        return widths
    found = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, stride, widths, strict=True):
        last = -(-(n + before + after - k) // s)
        last -= last * s >= n + before
        found.append((before, max(after, last * s + k - n - before)))
    return found


def even(kernel: Any, widths: Size) -> bool:
    """Whether tinynet's own pools take this padding."""
    return all(b == a and 2 * b <= k for (b, a), k in zip(widths, kernel, strict=True))


@reads("MaxPool", ceil_mode=int, storage_order=int, **WINDOW)
def max_pool(node: Node, x: Tensor) -> Tensor:
    kernel, stride, widths = geometry(node, x)
    widths = hanging_over(x, kernel, stride, widths, bool(node.get("ceil_mode", 0)))
    if even(kernel, widths):
        (top, _), (left, _) = widths
        return F.max_pool2d(x, kernel, stride, (top, left))
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, stride, widths, strict=True):
        starts = range(0, n + before + after - k + 1, s)
        lonely = [i for i in (*starts[:1], *starts[-1:]) if i + k <= before or i >= n + before]
        need(not lonely, "windows that see the picture", f"pads {widths} for kernel {kernel}")
    return F.max_pool2d(bordered(x, widths, float("-inf")), kernel, stride)


@reads("AveragePool", ceil_mode=int, count_include_pad=int, **WINDOW)
def average_pool(node: Node, x: Tensor) -> Tensor:
    """Where padding does not count, the mean with it is divided by the share of what counts."""
    kernel, stride, widths = geometry(node, x)
    counts = bool(node.get("count_include_pad", 0))
    wider = hanging_over(x, kernel, stride, widths, bool(node.get("ceil_mode", 0)))
    if wider == widths and even(kernel, widths):
        (top, _), (left, _) = widths
        return F.avg_pool2d(x, kernel, stride, (top, left), count_include_pad=counts)
    y = F.avg_pool2d(bordered(x, wider), kernel, stride)
    ones = np.zeros([n + b + a for n, (b, a) in zip(x.shape[2:], wider, strict=True)], x.dtype)
    inner = [
        slice(0, n + b + a) if counts else slice(b, b + n)
        for n, (b, a) in zip(x.shape[2:], widths, strict=True)
    ]
    ones[tuple(inner)] = 1
    share = F.avg_pool2d(tensor(ones[None, None], device=x.device), kernel, stride)
    need(bool((share.numpy() > 0).all()), "windows that see the picture", f"pads {widths}")
    return y / share


@reads("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1) if x.ndim == 4 else x.mean(tuple(range(2, x.ndim)), True)


@reads("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return x.max(tuple(range(2, x.ndim)), keepdims=True)


@reads(
    "Resize", mode=str, nearest_mode=str, coordinate_transformation_mode=str, cubic_coeff_a=float,
    exclude_outside=int, extrapolation_value=float,
)  # fmt: skip
def resize(
    node: Node, x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None
) -> Tensor:
    """Each pixel as a block of equal ones; nothing else."""
    mode, place = (
        node.get("mode", "nearest"),
        node.get("coordinate_transformation_mode", "half_pixel"),
    )
    nearest = node.get("nearest_mode", "round_prefer_floor")
    found = [] if scales is None else scales.numpy().tolist()
    whole = len(found) == 4 and found[:2] == [1, 1] and all(s == int(s) > 0 for s in found)
    blocks = [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")]
    blocks.append(("half_pixel", "round_prefer_ceil"))
    need(mode == "nearest" and (place, nearest) in blocks, "mode nearest", (mode, place, nearest))
    need(whole, "whole scales of rows and columns", found)
    return F.interpolate(x, (int(found[2]), int(found[3])))


# ---------------------------------------------------------------- normalisation


@reads("LRN", alpha=float, beta=float, bias=float, size=int)
def lrn(node: Node, x: Tensor) -> Tensor:
    size = node.get("size", 0)
    need(size % 2 == 1, "an odd size (an even window lies a channel further than here)", size)
    alpha, beta, k = (node.get(n, d) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return F.local_response_norm(x, size, alpha, beta, k)


@reads(
    "BatchNormalization", epsilon=float, momentum=float, training_mode=int, spatial=int,
    is_test=int, consumed_inputs=list,
)  # fmt: skip
def batch_norm(node: Node, x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """ONNX's momentum is the share of the old, ours of the new."""
    need(not node.get("training_mode", 0), "the use of running means", "training_mode")
    need(node.get("spatial", 1) == 1, "a mean for each channel", "spatial=0")
    momentum = 1 - node.get("momentum", 0.9)
    return F.batch_norm(x, mean, var, w, b, node.training, momentum, node.get("epsilon", 1e-5))


@reads("LayerNormalization", axis=int, epsilon=float, stash_type=int)
def layer_norm(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    row = x.shape[node.axis(-1, x.ndim) :]
    b = None if b is None else b.reshape(row)
    return F.layer_norm(x, row, w.reshape(row), b, node.get("epsilon", 1e-5))
