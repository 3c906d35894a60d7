"""What running a node takes at most, known before it runs: from shapes and options alone.

A file of 150 bytes can ask for terabytes, or for years. Whoever runs a stranger's net gives `run` a
limit; its unit is one multiplication in a product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from tinynet.onnx.operators import Node
from tinynet.onnx.reading import COMPARED, SEVERAL, TWO, borders
from tinynet.onnx.windows import geometry
from tinynet.tensors import Tensor

NUMBER = 256  # multiplications that cost what it costs to make or to move one number elsewhere


def work(node: Node, given: Sequence[Tensor | None]) -> int:
    """Multiplications, at most, of a node that gets these inputs. What its options get wrong raises
    one of loading.WRONG, as the node itself does.
    """
    found = WORK.get(node.op)
    if found is not None:
        return found(node, *given)
    return NUMBER * max((t.size for t in given if t is not None), default=0)


def stretched(*shapes: Sequence[int]) -> int:
    """Numbers, at most, of arrays that are stretched to one shape."""
    return math.prod(max(n) for n in zip_longest(*(s[::-1] for s in shapes), fillvalue=1))


def pointwise(node: Node, *tensors: Tensor) -> int:
    return NUMBER * stretched(*(t.shape for t in tensors))


def products(node: Node, a: Tensor, b: Tensor, *_: Any) -> int:
    """m k n, and m n numbers, of each pair of matrices."""
    left = a.shape[-2:][:: -1 if node.get("transA", 0) else 1]
    columns = b.shape[-2 if node.get("transB", 0) else -1]
    made = stretched(a.shape[:-2], b.shape[:-2]) * left[0] * columns
    return made * (left[-1] + NUMBER)


def places(node: Node, x: Tensor, kernel: Sequence[int] | None) -> tuple[int, int]:
    """Windows on all maps of a channel, one from each place where it can begin, and numbers in a
    window.
    """
    (kh, kw), stride, widths = geometry(node, x, kernel)
    sizes = [n + before + after for n, (before, after) in zip(x.shape[2:], widths, strict=True)]
    steps = zip(sizes, stride, strict=True)
    return x.shape[0] * math.prod(-(-n // s) for n, s in steps), kh * kw


def conv(node: Node, x: Tensor, w: Tensor, *_: Any) -> int:
    return places(node, x, w.shape[2:])[0] * (w.size + NUMBER * w.shape[0])


def conv_transpose(node: Node, x: Tensor, w: Tensor, *_: Any) -> int:
    """A kernel for each number of x, spread over a result of s n + k."""
    kernel, stride = geometry(node, x, w.shape[2:])[:2]
    sizes = zip(x.shape[2:], stride, kernel, strict=True)
    made = (
        x.shape[0] * w.shape[1] * node.get("group", 1) * math.prod(n * s + k for n, s, k in sizes)
    )
    return x.size * w.size // max(1, w.shape[0]) + NUMBER * made


def pool(node: Node, x: Tensor) -> int:
    count, window = places(node, x, None)
    return NUMBER * x.shape[1] * count * window


def gather(node: Node, x: Tensor, indices: Tensor) -> int:
    return NUMBER * indices.size * x.size // max(1, x.shape[node.axis(0, x.ndim)])


def concat(node: Node, *tensors: Tensor) -> int:
    return NUMBER * sum(t.size for t in tensors)


def pad(
    node: Node,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> int:
    wider = borders(node, x, pads, axes)
    return NUMBER * math.prod(n + sum(wider.get(i, (0, 0))) for i, n in enumerate(x.shape))


def resize(node: Node, x: Tensor, roi: Any = None, scales: Tensor | None = None) -> int:
    found = [] if scales is None else scales.numpy().reshape(-1).tolist()
    return NUMBER * x.size * math.prod(max(1, math.ceil(s)) for s in found)


WORK: dict[str, Callable[..., int]] = dict.fromkeys(
    (*TWO, *COMPARED, *SEVERAL, "Where", "Pow"), pointwise
) | dict(
    MatMul=products, Gemm=products, Conv=conv, ConvTranspose=conv_transpose, MaxPool=pool,
    AveragePool=pool, Gather=gather, Concat=concat, Pad=pad, Resize=resize,
)  # fmt: skip
