"""New tensors: of one value, of random values, and around arrays that others made.

Shapes are given as numbers or as one tuple: zeros(2, 3) or zeros((2, 3)). dtype: float32 if left
out. device: "cpu" if left out. Random values depend on `tinynet.manual_seed` and on how many draws
came before.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet import random, sharing
from tinynet.devices import Device, find_device
from tinynet.tensors import Tensor, tensor

__all__ = [
    "arange", "eye", "from_dlpack", "from_numpy", "full", "linspace", "ones", "ones_like", "rand",
    "randint", "randn", "randperm", "zeros", "zeros_like",
]  # fmt: skip


def _made(array: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    """The array as a leaf; `tensor` checks it."""
    return tensor(np.asarray(array), dtype, device, requires_grad)


def _shape(name: str, given: tuple[Any, ...]) -> tuple[int, ...]:
    shape = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        sizes = tuple(operator.index(n) for n in shape)
    except TypeError:
        sizes = (-1,)
    if any(n < 0 for n in sizes):
        raise ValueError(f"{name}: expected a shape of whole numbers from 0 on, got {given}")
    return sizes


def zeros(
    *shape: Any, dtype: Any = None, device: str | Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """Zeros."""
    return _made(np.zeros(_shape("zeros", shape), dtype or np.float32), None, device, requires_grad)


def ones(
    *shape: Any, dtype: Any = None, device: str | Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """Ones."""
    return _made(np.ones(_shape("ones", shape), dtype or np.float32), None, device, requires_grad)


def full(
    shape: Any,
    value: float,
    dtype: Any = None,
    device: str | Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """The same value everywhere: float32, int64 or bool as the value is, unless dtype says."""
    kind = tensor(value, dtype).dtype
    return _made(np.full(_shape("full", (shape,)), value, kind), None, device, requires_grad)


def eye(
    n: int,
    m: int | None = None,
    dtype: Any = None,
    device: str | Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """(n, m), m = n if left out: ones on the diagonal, zeros elsewhere."""
    rows, columns = _shape("eye", (n, n if m is None else m))
    return _made(np.eye(rows, columns, dtype=dtype or np.float32), None, device, requires_grad)


def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    device: str | Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """start, start + step ... without the end; arange(n) begins at 0. int64 if all are whole."""
    if end is None:
        start, end = 0, start
    whole = all(isinstance(number, (int, np.integer)) for number in (start, end, step))
    if step == 0:
        raise ValueError("arange: expected a step that is not 0, got 0")
    kind = dtype or (np.int64 if whole else np.float32)
    return _made(np.arange(start, end, step).astype(kind), None, device, requires_grad)


def linspace(
    start: float,
    end: float,
    steps: int,
    dtype: Any = None,
    device: str | Device = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    """`steps` values at equal distances, the first `start`, the last `end`."""
    values = np.linspace(start, end, _shape("linspace", (steps,))[0])
    return _made(values.astype(dtype or np.float32), None, device, requires_grad)


def rand(
    *shape: Any, dtype: Any = None, device: str | Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """Random numbers, uniform from 0 to 1 (without 1)."""
    return _drawn(
        lambda size: random.generator().random(size, np.float32),
        _shape("rand", shape), dtype, device, requires_grad,
    )  # fmt: skip


def randn(
    *shape: Any, dtype: Any = None, device: str | Device = "cpu", requires_grad: bool = False
) -> Tensor:
    """Random numbers of the normal distribution with mean 0 and variance 1."""
    return _drawn(
        lambda size: random.generator().standard_normal(size, np.float32),
        _shape("randn", shape), dtype, device, requires_grad,
    )  # fmt: skip


def _drawn(
    draw: Callable[[tuple[int, ...]], np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
    device: str | Device,
    requires_grad: bool,
) -> Tensor:
    share = sharing.current()
    if share and shape and shape[0] == share.count:  # those of this rank, of the whole batch's
        rows, total = share.rows("random numbers", shape[0])
        return _made(draw((total, *shape[1:]))[rows], dtype, device, requires_grad)
    return _made(draw(shape), dtype, device, requires_grad)


def randint(
    low: int, high: Any, size: Any = None, dtype: Any = None, device: str | Device = "cpu"
) -> Tensor:
    """Random whole numbers, low ... high - 1; randint(high, size) begins at 0."""
    if size is None:
        low, high, size = 0, low, high
    if not low < high:
        raise ValueError(f"randint: expected low < high, got {low} and {high}")
    values = random.generator().integers(low, high, _shape("randint", (size,)))
    return _made(values, dtype, device, False)


def randperm(n: int, device: str | Device = "cpu") -> Tensor:
    """0 ... n - 1 in random order."""
    return _made(random.generator().permutation(*_shape("randperm", (n,))), None, device, False)


def zeros_like(x: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape, dtype and device."""
    return _like("zeros_like", x, 0, dtype, requires_grad)


def ones_like(x: Tensor, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape, dtype and device."""
    return _like("ones_like", x, 1, dtype, requires_grad)


def _like(name: str, x: Tensor, value: int, dtype: Any, requires_grad: bool) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}")
    return full(x.shape, value, dtype or x.dtype, x.device, requires_grad)


def from_numpy(array: np.ndarray) -> Tensor:
    """The array as a tensor, without a copy: a change of one is a change of the other."""
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"from_numpy: expected a NumPy array, got {type(array).__name__}; write "
            f"tinynet.tensor(...)"
        )
    if array.dtype.kind not in "biufc":
        raise ValueError(f"from_numpy: expected an array of numbers, got {array.dtype}")
    return Tensor(array, find_device("cpu"))


CPU, CUDA = 1, 2  # DLPack's numbers for kinds of devices


def from_dlpack(x: Any) -> Tensor:
    """An array of another library as a tensor, without a copy: torch's, JAX's, NumPy's, CuPy's.

    It stays where it is. What is read-only there is read-only here. TypeError for what speaks no
    DLPack, ValueError for a device or a dtype that tinynet has not, and for read-only arrays of
    NumPy 2.0, which cannot say that they are.
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"from_dlpack: expected an array with __dlpack__, got {type(x).__name__}; write "
            f"tinynet.tensor(...)"
        )
    kind, index = (int(number) for number in x.__dlpack_device__())
    if kind not in (CPU, CUDA):
        raise ValueError(
            f"from_dlpack: expected an array on the CPU or a CUDA GPU, got kind {kind}"
        )
    device = find_device("cpu" if kind == CPU else f"cuda:{index}")
    with device.activate("from_dlpack"):  # a GPU: this stream waits for the other library's
        try:
            array = device.xp.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise ValueError(f"from_dlpack: {type(x).__name__} cannot be read: {error}") from None
    if array.dtype.kind not in "biufc":
        raise ValueError(f"from_dlpack: expected numbers, got {array.dtype}")
    return Tensor(array, device)
