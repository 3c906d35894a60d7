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

import functools
import operator
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet import profiler
from tinynet.devices import Device
from tinynet.errors import DeviceMismatchError
from tinynet.kernels.order import along_memory
from tinynet.marks import mark
from tinynet.recording import this_thread
from tinynet.tape import Node, clock
from tinynet.tensors import Tensor
from tinynet.tracer import active, current


class Context(Node):
    """What forward leaves for backward: the node of this operation on the tape. Numbers and shapes
    may be set as attributes; arrays go through `save_for_backward`, so that they are freed in time
    and a change of them is noticed.
    """

    saved: tuple[Any, ...] = ()  # see saved_tensors, which also looks for changes
    _marks: tuple[bytes | None, ...] = ()

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
        if True in self.needs_input_grad:
            self.saved, self._marks = arrays, tuple(map(mark, arrays))

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The arrays of `save_for_backward`. torch's name for it: there they are tensors.

        RuntimeError if one was changed in place since.
        """
        marks = tuple(map(mark, self.saved))
        if marks != self._marks:
            i = [a == b for a, b in zip(marks, self._marks, strict=True)].index(False)
            raise RuntimeError(
                f"an array that backward needs (saved array {i}, shape {self.saved[i].shape}) was "
                f"changed in place after forward; change a copy instead, or call backward before "
                f"the change"
            )
        return self.saved

    def free(self) -> None:
        self.inputs = None
        self.__dict__.clear()  # saved arrays, and what forward set


class Function:
    """A differentiable operation. Subclasses give static `forward` and `backward`; call it by
    `.apply(...)`.

    forward(ctx, *arguments, **options): tensors are given by position, and arrive as plain arrays;
    returns an array, or a tuple of arrays. backward(ctx, *grads): a gradient for each output;
    returns one for each positional argument of apply (or each tensor among them), None where there
    is none. Gradients must have the shape of their argument.
    """

    ours = True  # not a user's: its backward gives no array that is kept, or written to again

    def __init_subclass__(cls) -> None:
        cls.ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]

    def __init__(self, *_: Any, **__: Any):
        name = type(self).__name__
        raise TypeError(f"{name}: expected {name}.apply(...), got {name}(...): it has no objects")

    @staticmethod
    def forward(ctx: Context, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{ctx.function.__name__} has no static forward(ctx, *arrays)")

    @staticmethod
    def backward(ctx: Context, *grads: Any) -> Any:
        raise NotImplementedError(f"{ctx.function.__name__} has no static backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run forward and record the operation. DeviceMismatchError if tensors live on different
        devices.
        """
        if not cls.ours:
            by_position(cls.__name__, args, kwargs)
        device, recording = None, not this_thread.paused
        arrays, sources, needs, are_tensors = [], [], [], []
        for a in args:
            is_tensor = isinstance(a, Tensor)
            if is_tensor and a.device is not device:
                device = a.device if device is None else common_device(cls.__name__, args)
            need = is_tensor and recording and a._requires_grad
            arrays.append(a._data if is_tensor else a)
            sources.append((a.node or a) if need else None)
            needs.append(need)
            are_tensors.append(is_tensor)
        ctx = Context(cls, device or common_device(cls.__name__, args), tuple(needs))
        recorded = True in needs
        trace = current() if active else None
        if trace and not (recorded or trace.whole):
            trace = None
        seen = trace.look(cls, args, kwargs) if trace else None  # forward may overwrite its inputs
        forward = functools.partial(cls.forward, **kwargs) if kwargs else cls.forward
        given = _run(ctx, "forward", forward, arrays)
        where = ctx.output_device
        outputs = _arrays(cls.__name__, given, where)
        if recorded:
            ctx.inputs, ctx.are_tensors, ctx.number = sources, are_tensors, next(clock)
            ctx.outputs = [(o.shape, o.dtype) for o in outputs]
        tensors = []
        for i, o in enumerate(outputs):
            differentiable = recorded and o.dtype.kind == "f"
            tensors.append(Tensor(o, where, True, (ctx, i)) if differentiable else Tensor(o, where))
        if trace and seen is not None:
            ctx.note = trace.note(seen, tuple(tensors))
        return tuple(tensors) if isinstance(given, tuple) else tensors[0]

    @classmethod
    def run_backward(cls, node: Context, grads: list) -> list:
        """Gradients of the outputs -> gradients of all arguments, of their shape and dtype; None
        for those that need none. RuntimeError if backward gives anything else.
        """
        given = _run(node, "backward", cls.backward, grads)
        if given is None:
            raise RuntimeError(
                f"{cls.__name__}.backward: expected a gradient, got None; return it, or (None,) "
                f"where there is none"
            )
        given = list(given) if isinstance(given, (tuple, list)) else [given]
        inputs, array = node.inputs, (node.device.xp.ndarray, np.generic)
        if len(given) != len(inputs):
            given = _one_for_each_argument(cls.__name__, given, node)
        for i, source in enumerate(inputs):
            if source is None:
                given[i] = None
            g = given[i]
            if g is None:
                continue
            if type(source) is tuple:
                shape, dtype = source[0].outputs[source[1]]
            else:
                shape, dtype = source._data.shape, source._data.dtype
            is_array = isinstance(g, array)
            if not is_array or g.shape != shape:
                raise RuntimeError(
                    f"{cls.__name__}.backward: expected an array of shape {shape} for argument "
                    f"{i}, got {g.shape if is_array else type(g).__name__}"
                )
            if not cls.ours or (g.dtype is not dtype and g.dtype != dtype):
                # A copy of a user's, too: it may be an array that is kept, or written to again.
                with node.device.activate(cls.__name__):
                    copy = operator.methodcaller("astype", dtype)
                    given[i] = along_memory(node.device, copy, g)
        return given


def by_position(name: str, args: tuple, kwargs: dict[str, Any], kind: type = Tensor) -> None:
    """TypeError for a tensor that forward would get as it is, and that would get no gradient."""
    came = write = ""
    for several in (*args, *kwargs.values()):
        if isinstance(several, (list, tuple)) and any(isinstance(part, kind) for part in several):
            came, write = f"one in a {type(several).__name__}", "*tensors, not tensors"
    for key, value in kwargs.items():
        if isinstance(value, kind):
            came, write = f"{key} by keyword", f"{key}, not {key}={key}"
    if came:
        raise TypeError(
            f"{name}: expected tensors by position, each an argument of its own, got {came}; write "
            f"{write}"
        )


def _run(ctx: Context, phase: str, work: Callable, arrays: list) -> Any:
    """work(ctx, *arrays) on the context's device, recorded if a profile is."""
    device = ctx.device
    if device.always_active and profiler.active is None:  # saves 0.8 us of an operation's 3
        return work(ctx, *arrays)
    name = ctx.function.__name__
    with device.activate(name, arrays), profiler.record(name, phase, device) as record:
        results = work(ctx, *arrays)
        record(arrays, results if isinstance(results, (tuple, list)) else [results])
        return results


def _arrays(name: str, given: Any, device: Device) -> list:
    """What forward returned, as a list of arrays: a sum is a NumPy scalar."""
    outputs = list(given) if isinstance(given, tuple) else [given]
    for i, output in enumerate(outputs):
        if not isinstance(output, device.xp.ndarray):
            if not isinstance(output, (np.ndarray, np.generic, int, float, complex)):
                raise TypeError(
                    f"{name}.forward: expected an array or a tuple of arrays, got "
                    f"{type(output).__name__}{' in a tuple' * isinstance(given, tuple)}"
                    f"{'; return the result' * (given is None)}"
                )
            with device.activate():  # or CuPy would copy to the current GPU
                outputs[i] = device.xp.asarray(output)
    return outputs


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


def _one_for_each_argument(name: str, given: list, node: Context) -> list:
    """Gradients that a backward gave for the tensors alone, with None for the other arguments."""
    if len(given) != sum(node.are_tensors):
        raise RuntimeError(
            f"{name}.backward: expected a gradient for each positional argument that apply was "
            f"given (None where there is none), {len(node.inputs)} in all, got {len(given)}"
        )
    gradients = iter(given)
    return [next(gradients) if is_tensor else None for is_tensor in node.are_tensors]
