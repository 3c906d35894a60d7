"""Tensor: an array on a device that remembers how it came about; and the tape, which sends
gradients back.

Every operation (a Function, see function.py) on tensors that require a gradient adds a Node to the
tape. A node knows the operation's context, and the nodes its inputs came from. `walk` visits the
nodes from the newest to the oldest: a node is always younger than those it was made from, so when
its turn comes all of its gradient has arrived. `backward` is such a walk that keeps the gradients
of the leaves.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import operator
import threading
from collections.abc import Iterator, Sequence
from contextlib import ContextDecorator
from copy import copy, deepcopy
from types import ModuleType
from typing import Any

import numpy as np

from tinynet.devices import Device
from tinynet.devices import device as find_device
from tinynet.kernels.order import along_memory
from tinynet.operators import Operators

_clock = itertools.count()
_local = threading.local()


class Node:
    """One operation on the tape."""

    __slots__ = ("context", "function", "inputs", "note", "number", "outputs")

    def __init__(self, function: Any, context: Any, inputs: list, outputs: list):
        self.function, self.context = function, context
        # for each argument: (its Node, which output), the Tensor if it is a leaf, or None
        self.inputs = inputs
        self.outputs = outputs  # for each output: (shape, dtype)
        self.number = next(_clock)
        self.note: Any = None  # what tracing recorded, if it was on


class Tensor(Operators["Tensor"]):
    """An n-dimensional array (NumPy's or CuPy's) on a device, with a gradient if asked for.

    data: the array. grad: a Tensor, the sum of all gradients that `backward` brought since it was
    last None. Made by `tinynet.tensor(...)` and by operations. Its operators and methods are in
    operators.py, what it holds and how others read it in holder.py.
    """

    __slots__ = ()

    def __init__(self, data: Any, device: Device, requires_grad: bool = False, node: Any = None):
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

    def backward(self, grad: Any = None, retain_graph: bool = False) -> None:
        """Add d self / d leaf to `leaf.grad` of every leaf that this tensor was computed from.

        grad: the gradient of this tensor, of its shape; left out, 1, for a scalar only.
        retain_graph: keep what the operations saved, so that backward can be called again.
        Otherwise each operation's arrays are freed as soon as its gradient is known. Raises
        RuntimeError if this tensor requires no gradient, if the graph was freed already, if a
        saved array has been changed since; ValueError if grad does not fit.
        """
        if self.node is None and self.requires_grad:
            _accumulate(self, _first_gradient(self, grad), own=False)
            return
        for visit in walk(self, grad, retain_graph):
            _keep_gradients_of_leaves(*visit)
            del visit  # or its memory would be held while the walk goes on


def walk(
    y: Tensor, grad: Any = None, retain_graph: bool = True
) -> Iterator[tuple[Node, list, list]]:
    """Visit the tape behind y, newest node first: yields (node, arrived, leaving).

    arrived: the gradient of each output of the node; leaving: of each argument, None where there
    is none. They are plain arrays, shared with others: do not change them. `.grad` is left alone.
    grad, retain_graph, errors: as in `Tensor.backward`; a node is freed when the walk goes on
    from it. No recursion: a chain may have any length.
    """
    if not y.requires_grad:
        raise RuntimeError(
            "backward(): this tensor requires no gradient; none of the tensors it was computed "
            "from has requires_grad=True (or it was computed under no_grad)"
        )
    grad = _first_gradient(y, grad)
    if y.node is None:
        return
    root, output = y.node
    # For each node to be visited and each of its outputs, the gradients in the order they came.
    # They are added at the visit, not before: a sum makes its device wait for the copies that are
    # under way to it, and so the next copy from it. Two towers would swap one after the other.
    pending: dict[Node, list[list | None]] = {root: [None] * len(root.outputs)}
    pending[root][output] = [grad]
    del grad
    queue = [(-root.number, root)]
    while queue:
        node = heapq.heappop(queue)[1]
        if node.context is None:
            raise RuntimeError(
                f"backward(): the graph behind {node.function.__name__} was freed by an earlier "
                f"backward; call that one with retain_graph=True, or compute forward again"
            )
        device = node.context.output_device
        arrived = [parts and _add_up(parts, device) for parts in pending.pop(node)]
        leaving = node.function.run_backward(node, arrived)
        _hand_on(node, leaving, pending, queue)
        yield node, arrived, leaving
        if not retain_graph:
            node.context, node.inputs = None, ()
        del arrived, leaving  # the last references: this memory can be used again at once


def _hand_on(node: Node, leaving: list, pending: dict, queue: list) -> None:
    """Lay the gradients that leave a node down at the nodes they go to."""
    for source, g in zip(node.inputs, leaving, strict=True):
        if g is None or not isinstance(source, tuple):
            continue
        source, index = source
        if source not in pending:
            pending[source] = [None] * len(source.outputs)
            heapq.heappush(queue, (-source.number, source))
        parts = pending[source]
        if parts[index] is None:
            parts[index] = [g]
            continue
        parts[index].append(g)
        context = source.context
        if context is not None and context.output_device != context.device:
            # Into a copy: added at once, so that the copy waits for none that goes the other way.
            parts[index] = [_add_up(parts[index], context.output_device)]


def _keep_gradients_of_leaves(node: Node, arrived: list, leaving: list) -> None:
    for i, (source, g) in enumerate(zip(node.inputs, leaving, strict=True)):
        if g is None or not isinstance(source, Tensor):
            continue
        if source.grad is not None:
            _accumulate(source, g, own=False)
            continue
        others = (*arrived, *leaving[:i], *leaving[i + 1 :], *node.context.saved)
        _accumulate(source, g, own=not _shares_memory(source.device.xp, g, others))


def _first_gradient(y: Tensor, grad: Any) -> Any:
    """The array with which backward begins: dy/dy, ones, or what the caller gave."""
    with y.device.activate("backward"):
        if grad is None:
            if y.size != 1:
                raise RuntimeError(
                    f"backward(): a gradient can be left out for a scalar only, and this tensor "
                    f"has shape {y.shape}; reduce it (.sum(), .mean()) or call "
                    f"backward(grad) with grad of that shape"
                )
            return y.device.xp.ones(y.shape, y.dtype)
        grad = tensor(grad, y.dtype, y.device).data
        if grad.shape != y.shape:
            raise ValueError(f"backward(grad): expected shape {y.shape}, got {grad.shape}")
        return grad


def _add_up(parts: list, device: Device) -> Any:
    """The sum, in the order of the list. A single part is itself, no copy."""
    if len(parts) == 1:
        return parts[0]
    with device.activate("backward"):
        return functools.reduce(functools.partial(along_memory, device, operator.add), parts)


def _shares_memory(xp: ModuleType, g: Any, others: tuple) -> bool:
    """Whether a change of g could change one of the arrays (or None) in `others`."""
    return any(
        g is other or (isinstance(other, xp.ndarray) and bool(xp.may_share_memory(g, other)))
        for other in others
    )


def _accumulate(leaf: Tensor, grad: Any, own: bool) -> None:
    """leaf.grad += grad; `own`: nobody else holds this array."""
    if leaf.grad is not None or not own:
        with leaf.device.activate("backward"):
            grads = [grad] if leaf.grad is None else [leaf.grad.data, grad]
            copy = operator.methodcaller("copy") if leaf.grad is None else operator.add
            grad = along_memory(leaf.device, copy, *grads)
    if isinstance(grad, np.generic):  # NumPy makes a bare number of a sum without axes
        grad = np.asarray(grad)
    leaf.grad = Tensor(grad, leaf.device)


class no_grad(ContextDecorator):
    """Within it (or in a function decorated with it) operations are not recorded: quicker, and
    nothing is saved.
    """

    def __enter__(self) -> None:
        self.before = is_grad_enabled()
        _local.grad_enabled = False

    def __exit__(self, *exception: object) -> None:
        _local.grad_enabled = self.before

    def _recreate_cm(self) -> no_grad:  # a decorated function may call itself
        return no_grad()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded on this thread."""
    return getattr(_local, "grad_enabled", True)


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
        raise ValueError(f"requires_grad: expected dtype float32 or float64, got {array.dtype}")
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
