"""Function: one differentiable operation, its forward and its backward on plain arrays. Yours look
like ours:

class Square(tinynet.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return 2 * x * dy

y = Square.apply(tensor)
"""

from __future__ import annotations

import zlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet import profiler
from tinynet.devices import Device
from tinynet.errors import DeviceMismatchError
from tinynet.tensor import Node, Tensor, is_grad_enabled
from tinynet.tracer import active, current

SAMPLES = 1024  # elements looked at, of an array saved for backward, to see whether it was changed


class Context:
    """What forward leaves for backward. Numbers and shapes may be set as attributes; arrays go
    through `save_for_backward`, so that they are freed in time and a change of them is noticed.
    """

    def __init__(self, device: Device, needs_input_grad: tuple[bool, ...]):
        self.device = device
        self.output_device = device  # Copy alone sets another
        self.needs_input_grad = needs_input_grad  # for each argument of forward
        self.saved: tuple[Any, ...] = ()  # see saved_tensors, which also looks for changes
        self._marks: tuple[int | None, ...] = ()
        self.arguments: list[Any] = []  # of forward: (shape, dtype) of a tensor, else None

    if TYPE_CHECKING:  # what forward sets is there, of any type

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    @property
    def xp(self) -> ModuleType:
        """The array module: numpy or cupy."""
        return self.device.xp

    @property
    def kernels(self) -> ModuleType:
        """The kernels of the device."""
        return self.device.kernels

    def save_for_backward(self, *arrays: Any) -> None:
        """Keep these arrays (or None) until backward."""
        if any(self.needs_input_grad):
            self.saved = arrays
            self._marks = tuple(_mark(array) for array in arrays)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The arrays of `save_for_backward`. RuntimeError if one was changed in place since."""
        for i, (array, mark) in enumerate(zip(self.saved, self._marks, strict=True)):
            if _mark(array) != mark:
                raise RuntimeError(
                    f"an array that backward needs (saved array {i}, shape {array.shape}) was "
                    f"changed in place "
                    "after forward; change a copy instead, or call backward before the change"
                )
        return self.saved


def _mark(array: Any) -> int | None:
    """A checksum of up to 2 * SAMPLES elements, spread evenly: all of a small array (2 us), some of
    a large one (20 us).

    So a change of a whole array is always noticed; a change of a few elements in a large one may
    pass. Not on a GPU, where reading would wait for the device.
    """
    if not isinstance(array, np.ndarray):
        return None
    return zlib.crc32(array.flat[:: max(1, array.size // SAMPLES)].tobytes())


class Function:
    """A differentiable operation. Subclasses give static `forward` and `backward`; call it by
    `.apply(...)`.

    forward(ctx, *arguments, **options): tensors arrive as plain arrays; returns an array, or a
    tuple of arrays. backward(ctx, *grads): a gradient for each output; returns one for each
    argument of forward (or each tensor among them), None where there is none. Gradients must have
    the shape of their argument.
    """

    @staticmethod
    def forward(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function needs a static forward(ctx, *arrays)")

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        raise NotImplementedError("this Function has no backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and record the operation. DeviceMismatchError if tensors live on different
        devices.
        """
        device = common_device(cls.__name__, args)
        recording = is_grad_enabled()
        needs = tuple(recording and isinstance(a, Tensor) and a._requires_grad for a in args)
        ctx = Context(device, needs)
        arrays = [a._data if isinstance(a, Tensor) else a for a in args]
        trace = current() if active and any(needs) else None
        seen = trace.look(cls, args, kwargs) if trace else None  # forward may overwrite its inputs
        with (
            device.activate(cls.__name__, arrays),
            profiler.record(cls.__name__, "forward", device) as record,
        ):
            outputs = cls.forward(ctx, *arrays, **kwargs)
            several = isinstance(outputs, tuple)
            outputs = outputs if several else (outputs,)
            xp = (
                ctx.output_device.xp
            )  # a sum is a NumPy scalar; and CuPy's asarray copies to the current GPU
            outputs = [o if isinstance(o, xp.ndarray) else xp.asarray(o) for o in outputs]
            record(arrays, outputs)
        node = None
        if any(needs):
            sources = [(a.node or a) if need else None for a, need in zip(args, needs, strict=True)]
            ctx.arguments = [
                (array.shape, array.dtype) if isinstance(a, Tensor) else None
                for a, array in zip(args, arrays, strict=True)
            ]
            node = Node(cls, ctx, sources, [(o.shape, o.dtype) for o in outputs])
        device = ctx.output_device
        tensors = tuple(
            Tensor(o, device, True, (node, i))
            if node and o.dtype.kind == "f"
            else Tensor(o, device)
            for i, o in enumerate(outputs)
        )
        if trace:
            node.note = trace.note(seen, tensors)
        return tensors if several else tensors[0]

    @classmethod
    def run_backward(cls, node: Node, grads: list) -> list:
        """Gradients of the outputs -> gradients of all arguments, their shape and dtype checked.

        An output that no gradient reached gets zeros, in `grads` as well.
        """
        ctx = node.context
        with (
            ctx.device.activate(cls.__name__, grads),
            profiler.record(cls.__name__, "backward", ctx.device) as record,
        ):
            for i, (shape, dtype) in enumerate(node.outputs):
                if grads[i] is None:
                    grads[i] = ctx.xp.zeros(shape, dtype)
            given = cls.backward(ctx, *grads)
            given = list(given) if isinstance(given, (tuple, list)) else [given]
            record(grads, given)
            return _one_for_each_argument(cls.__name__, given, ctx)


def common_device(operation: str, args: Any) -> Device:
    """The one device of all tensors among `args`."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    if not tensors:
        came = ", ".join(type(a).__name__ for a in args) or "no argument"
        raise TypeError(f"{operation}: expected a tensor among its arguments, got {came}")
    device = tensors[0].device
    if any(t.device is not device for t in tensors):
        places = ", ".join(f"{t.shape} on {t.device}" for t in tensors)
        raise DeviceMismatchError(
            f"{operation}: expected all tensors on one device, got {places}; move them with "
            f".to(device)"
        )
    return device


def _one_for_each_argument(name: str, given: list, ctx: Context) -> list:
    tensors = [i for i, argument in enumerate(ctx.arguments) if argument is not None]
    if len(given) == len(ctx.arguments):
        grads = given
    elif len(given) == len(tensors):
        grads = [None] * len(ctx.arguments)
        for i, g in zip(tensors, given, strict=True):
            grads[i] = g
    else:
        raise RuntimeError(
            f"{name}.backward: expected {len(ctx.arguments)} gradients, one for each argument of "
            f"forward "
            f"(None where there is none), got {len(given)}"
        )
    for i, g in enumerate(grads):
        if g is None or not ctx.needs_input_grad[i]:
            continue
        shape, dtype = ctx.arguments[i]
        if g.shape != shape:
            raise RuntimeError(
                f"{name}.backward: expected a gradient of shape {shape} for argument {i}, got "
                f"{g.shape}"
            )
        grads[i] = g.astype(dtype, copy=False)
    return grads
