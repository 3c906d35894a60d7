"""Tensor: an array on a device that remembers how it came about (tape.py), and its gradient."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from copy import copy, deepcopy
from itertools import repeat
from typing import Any

import numpy as np

from tinynet.devices import Device, find_device
from tinynet.kernels.order import add
from tinynet.operators import Operators
from tinynet.tape import Node, gather, walk

_grads = threading.RLock()  # held to change the gradients of leaves, which threads may share


class Tensor(Operators["Tensor"]):
    """An n-dimensional array (NumPy's or CuPy's) on a device, with a gradient if asked for.

    data: the array. grad: a Tensor, the sum of all gradients that `backward` brought since it was
    last None. Made by `tinynet.tensor(...)` and by operations. Its operators and methods are in
    operators.py, what it holds and how others read it in holder.py.
    """

    __slots__ = ()

    def __init__(
        self, data: Any, device: Any = None, requires_grad: bool = False, node: Any = None
    ):
        if not isinstance(device, Device):  # torch.Tensor(2, 3), torch.Tensor([1, 2])
            raise TypeError("Tensor: made by tinynet.tensor([1, 2]), tinynet.zeros(2, 3), ...")
        # past the checks of holder.py, which are for what a user sets
        self._data, self._requires_grad = data, requires_grad
        self._grad: Tensor | None = None
        self.device = device
        self.node: tuple[Node, int] | None = (
            node  # the node it came from, and which of its outputs it is
        )

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=100)
        notes = [] if self.dtype == np.float32 else [f"dtype={self.dtype}"]
        notes += [] if str(self.device) == "cpu" else [f"device='{self.device}'"]
        notes += ["requires_grad=True"] if self.requires_grad else []
        return f"tensor({', '.join([values, *notes])})"

    def detach(self) -> Tensor:
        """The same data, off the tape: no gradient goes past it."""
        return Tensor(self.data, self.device)

    def move(self, device: Device) -> None:
        """Bring a leaf, and its gradient, to another device: itself, not a copy. RuntimeError for
        what is no leaf.
        """
        if self.node is not None:
            raise RuntimeError(
                "move(): expected a leaf, got the result of an operation; use .to(device)"
            )
        if self.grad is not None:
            self.grad.move(device)
        with device.activate("move"):
            self._data = device.copy_from(self.data, self.device)
        self.device = device

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise RuntimeError(
                "deepcopy: expected a leaf, got the result of an operation; use .detach() first"
            )
        twin = copy(self)
        with self.device.activate("deepcopy"):
            twin.data = self.data.copy()
        twin.grad = deepcopy(self.grad, memo)
        return twin

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def backward(
        self, grad: Any = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add d self / d leaf to `leaf.grad` of every leaf that this tensor was computed from.

        grad: the gradient of this tensor, of its shape; left out, 1, for a scalar only.
        retain_graph: keep what the operations saved, so that backward can be called again.
        Otherwise each operation's arrays are freed as soon as its gradient is known.
        create_graph: refused, there are no second derivatives. Raises RuntimeError if this tensor
        requires no gradient, if the graph was freed already, if a saved array has been changed
        since; ValueError if grad does not fit.

        All gradients are set at the end: if backward fails, none has changed. Several threads may
        call it for graphs that share leaves.
        """
        if create_graph:
            raise RuntimeError(
                "backward(create_graph=True): expected False; there are no second derivatives, "
                "since a backward works on plain arrays and is not recorded"
            )
        leaves: dict[Tensor, Any] = {}
        if self.node is None and self.requires_grad:
            leaves[self] = self._first_gradient(grad)
        else:
            for visit in walk(self, self._first_gradient(grad), retain_graph):
                gather(leaves, *visit)
                del visit  # or its memory would be held while the walk goes on
        with _grads:
            sums = [leaf._sum_of_gradients(g) for leaf, g in leaves.items()]
            # One call in C, and no Python code in it: an interrupt comes before all or after all.
            deque(map(setattr, leaves, repeat("_grad"), sums), maxlen=0)

    def _first_gradient(self, grad: Any) -> Any:
        """A new array with which backward begins: 1, or what the caller gave."""
        with self.device.activate("backward"):
            if grad is None:
                if self.data.size != 1 and self.requires_grad:
                    raise RuntimeError(
                        f"backward(): a gradient can be left out for a scalar only, and this "
                        f"tensor has shape {self.shape}; reduce it (.sum(), .mean()) or call "
                        f"backward(grad) with grad of that shape"
                    )
                return self.device.xp.ones(self.shape, self.dtype)
            grad = tensor(grad, self.dtype, self.device).data
            if grad.shape != self.shape:
                raise ValueError(f"backward(grad): expected shape {self.shape}, got {grad.shape}")
            return grad

    def _sum_of_gradients(self, grad: Any) -> Tensor:
        """self.grad + grad, in a new array if there is a self.grad."""
        if self.grad is not None:
            grad = add(self.device, self.grad.data, grad)
        # NumPy makes a bare number of a sum without axes
        return Tensor(np.asarray(grad) if isinstance(grad, np.generic) else grad, self.device)


def tensor(
    data: Any,
    dtype: Any = None,
    device: str | Device | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A new leaf from a number, nested lists, a NumPy array or a tensor; the data is copied.

    dtype: left out, that of an array; numbers and lists give float32 (or int64, bool). device:
    "cpu" if left out (a tensor's own for a tensor). Raises ValueError for what is no array of
    numbers, or a gradient of anything but floats.
    """
    if dtype is not None and np.dtype(dtype).kind not in "biufc":
        raise ValueError(f"tensor: expected a dtype of numbers, got {np.dtype(dtype)}")
    if isinstance(data, Tensor):
        where = data.device if device is None else find_device(device)
        with where.activate("tensor"):
            array = where.copy_from(data.data, data.device)
            array = array if dtype is None else array.astype(dtype)
    else:
        array = as_array("tensor", data, dtype)
        where = find_device("cpu" if device is None else device)
        with where.activate("tensor"):
            array = where.upload(array)
    if requires_grad and array.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"requires_grad: expected dtype float32 or float64, got {array.dtype}; write "
            f"dtype=tinynet.float32"
        )
    return Tensor(array, where, bool(requires_grad))


def as_array(where: str, data: Any, dtype: Any = None) -> np.ndarray:
    """Numbers, nested lists or arrays of them as a NumPy array, by the rules of `tensor`; not
    always a copy. ValueError for anything else; its message begins with `where`.
    """
    own = isinstance(data, (np.ndarray, np.generic))
    if isinstance(data, Sequence) and any(isinstance(part, Tensor) for part in data):
        data = [part.numpy() if isinstance(part, Tensor) else part for part in data]
    try:
        array = np.asarray(data)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: expected numbers or an array of them: {error}") from None
    if array.dtype.kind not in "biufc":
        raise ValueError(
            f"{where}: expected numbers, got {type(data).__name__} of dtype {array.dtype}"
        )
    if dtype is None and array.dtype == np.float64 and not own:
        dtype = np.float32
    return array if dtype is None else array.astype(dtype, copy=False)
