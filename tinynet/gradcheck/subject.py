"""The function under test, as a function of NumPy arrays that can be run forward and backward."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinynet import random
from tinynet.devices import find_device
from tinynet.errors import GradcheckError
from tinynet.function import Context, Function
from tinynet.gradcheck.layouts import like
from tinynet.recording import no_grad
from tinynet.tensors import Tensor


class Variable(NamedTuple):
    """An argument or a parameter that is an array of floats."""

    name: str
    tensor: Tensor
    position: int | None  # among the arguments; None for a parameter
    value: np.ndarray  # float64 on the host, in the layout of the tensor
    checked: bool


class _Loss(Function):
    """A number L whose gradient with respect to each y_k is the given v_k."""

    @staticmethod
    def forward(ctx: Context, *outputs: Any, upstream: list) -> Any:
        ctx.upstream = upstream
        return ctx.xp.zeros(())

    @staticmethod
    def backward(ctx: Context, dL: Any) -> Any:
        return ctx.upstream


class Subject:
    """fn with its inputs. Made by `borrowed`.

    variables: what it depends on; values: theirs, float64. outputs: y at these values, the arrays
    one after another in one vector; shapes: theirs. strangers: leaves that fn reaches and that are
    no variables, such as the weights of a layer in a lambda. GradcheckError if fn is not
    deterministic, changes an input, or gives what has no derivative.
    """

    def __init__(self, fn: Callable, inputs: list, variables: list[Variable], buffers: list):
        self.fn, self.inputs, self.variables = fn, inputs, variables
        self.buffers = [(b, _float64(b)) for b in buffers]
        self.state = random.get_state()
        self.values = [v.value for v in variables]
        taken = {v.position for v in variables}
        arrays = {i: x for i, x in enumerate(inputs) if i not in taken and hasattr(x, "dtype")}
        self.others = {i: _copied(x) for i, x in arrays.items()}
        before = [value.copy() for value in self.values]
        with no_grad():
            found = [y.numpy() for y in self.run(self.values)[1]]
        if not found:
            raise GradcheckError("gradcheck: expected an output of floats, got none")
        if any(y.dtype != np.float64 for y in found):
            advice = (
                "return the real and the imaginary part as two outputs"
                if any(y.dtype.kind == "c" for y in found)
                else "do not round within, and pass a Module itself as fn, or weights as inputs: "
                "they become float64 too"
            )
            raise GradcheckError(
                f"gradcheck: expected outputs of dtype float64 for inputs of that dtype, got "
                f"{', '.join(str(y.dtype) for y in found)}; {advice}"
            )
        self.shapes = [y.shape for y in found]
        self.outputs = in_a_row(found)
        self._expect_unchanged(self.values, before)
        if not np.array_equal(self.outputs, self.forward(self.values), equal_nan=True):
            raise GradcheckError(
                "gradcheck: the function is not deterministic: two calls gave different values"
            )
        if not np.isfinite(self.outputs).all():
            n = int(np.argmin(np.isfinite(self.outputs)))
            raise GradcheckError(
                f"gradcheck: the function gives {self.outputs[n]} (element {n} of "
                f"{self.outputs.size}), where there is no derivative; choose other inputs"
            )
        self.strangers = self._strangers()

    def forward(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """All outputs in one vector on the host, nothing recorded."""
        with no_grad():
            return in_a_row([y.numpy() for y in self.run(values)[1]])

    def at(self, values: list[np.ndarray]) -> Subject:
        """The same function at other values."""
        twin = copy(self)
        twin.values, twin.outputs = values, self.forward(values)
        return twin

    def apart(self, vector: np.ndarray) -> list[np.ndarray]:
        """One vector -> an array for each output."""
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in self.shapes])
        parts = np.split(vector, ends[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def run(
        self, values: Sequence[np.ndarray], needs: Sequence[bool] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Leaves and outputs. needs: which variables require a gradient (all that are checked)."""
        random.set_state(self.state)
        dtype = values[0].real.dtype
        for b, value in self.buffers:  # fn may write into them: a fresh copy for each call
            b.data = b.device.upload(value.astype(dtype) if value.dtype.kind == "f" else value)
        arguments, leaves = list(self.inputs), []
        for i, (v, value) in enumerate(zip(self.variables, values, strict=True)):
            array = value if v.tensor.device.kind == "cpu" else v.tensor.device.upload(value)
            needed = v.checked if needs is None else needs[i]
            if v.position is None:
                v.tensor.data, v.tensor.grad, v.tensor.requires_grad = array, None, needed
                leaves.append(v.tensor)
            else:
                leaf = arguments[v.position] = Tensor(array, v.tensor.device, needed)
                leaves.append(leaf)
        outputs = self.fn(*arguments)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if not outputs or not all(isinstance(y, Tensor) for y in outputs):
            got = ", ".join(type(y).__name__ for y in outputs) or "nothing"
            raise TypeError(f"gradcheck: expected fn to return a tensor or several, got {got}")
        return leaves, [y for y in outputs if y.dtype.kind in "fc"]

    def backward(
        self, outputs: list[Tensor], upstream: Sequence[np.ndarray | None], retain: bool = False
    ) -> None:
        """`backward()` from L = sum of <v_k, y_k>. upstream: v_k, None for an output that L does
        not use. GradcheckError if one is changed in place on the way.
        """
        used = [(k, y) for k, y in enumerate(outputs) if upstream[k] is not None]
        where = used[0][1].device
        wanted: list[Any] = [upstream[k] for k, _ in used]
        before = [v.copy() for v in wanted]
        given = [v if where.kind == "cpu" else where.upload(v) for v in wanted]
        loss = _Loss.apply(*(y.to(where) for _, y in used), upstream=list(given))
        if loss.requires_grad:
            loss.backward(retain_graph=retain)
        for (k, _), v, sent in zip(used, given, before, strict=True):
            if not np.array_equal(where.download(v), sent):
                raise GradcheckError(
                    f"gradcheck: backward changed in place the gradient of output {k} it was given"
                )

    def gradients(
        self,
        upstream: Sequence[np.ndarray | None],
        values: Sequence[np.ndarray] | None = None,
        needs: Sequence[bool] | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """dL/dx of every variable, and y as forward gave it. values left out: its own."""
        values = self.values if values is None else values
        before = [value.copy() for value in values]
        leaves, outputs = self.run(values, needs)
        if needs is None and not any(y.requires_grad for y in outputs):
            raise GradcheckError(
                "gradcheck: no output requires a gradient: the tape does not reach the inputs"
            )
        y = in_a_row([y.numpy() for y in outputs])
        self.backward(outputs, upstream)
        self._expect_unchanged([leaf.numpy() for leaf in leaves], before)
        self._expect_arguments_unchanged()
        if not np.array_equal(y, in_a_row([y.numpy() for y in outputs]), equal_nan=True):
            raise GradcheckError("gradcheck: backward changed in place an output of the function")
        return read(leaves), y

    def _strangers(self) -> list[Tensor]:
        leaves, outputs = self.run(self.values)
        nodes = [y.node[0] for y in outputs if y.node]
        seen, found = set(nodes), {}
        while nodes:
            for source in nodes.pop().inputs:
                if isinstance(source, Tensor):
                    found[id(source)] = source
                elif source and source[0] not in seen:
                    seen.add(source[0])
                    nodes.append(source[0])
        return [x for x in found.values() if not any(x is leaf for leaf in leaves)]

    def _expect_unchanged(self, values: list[np.ndarray], before: list[np.ndarray]) -> None:
        for variable, value, old in zip(self.variables, values, before, strict=True):
            if not np.array_equal(value, old, equal_nan=True):
                raise GradcheckError(_changed(variable.name))

    def _expect_arguments_unchanged(self) -> None:
        """Labels and indices, which are no variables."""
        for i, before in self.others.items():
            if not np.array_equal(before, _copied(self.inputs[i])):
                raise GradcheckError(_changed(_argument_names(self.fn, len(self.inputs))[i]))


def _changed(name: str) -> str:
    return (
        f"gradcheck: expected {name} as it was given, got it changed in place by the function; "
        f"change a copy"
    )


def read(leaves: list[Tensor]) -> list[np.ndarray]:
    """The gradients that arrived, on the host; zeros where none did."""
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]


@contextmanager
def borrowed(fn: Callable, inputs: Sequence[Any]) -> Iterator[Subject]:
    """A Subject. Parameters, buffers and randomness change while it runs; in the end they get back
    what they had.
    """
    state, variables = random.get_state(), _variables(fn, list(inputs))
    buffers = [b for _, b in getattr(fn, "named_buffers", lambda: ())()]
    tensors = [v.tensor for v in variables if v.position is None] + buffers
    before = [(x.data, x.grad, x.requires_grad) for x in tensors]
    try:
        subject = Subject(fn, list(inputs), variables, buffers)
        for x in subject.strangers:  # gradients reach them too
            tensors.append(x)
            before.append((x.data, x.grad, x.requires_grad))
        yield subject
    finally:
        for x, (data, grad, requires_grad) in zip(tensors, before, strict=True):
            x.data, x.grad, x.requires_grad = data, grad, requires_grad
        random.set_state(state)


def _variables(fn: Any, inputs: list) -> list[Variable]:
    if isinstance(fn, type) or not callable(fn):
        got = f"the class {fn.__name__}" if isinstance(fn, type) else type(fn).__name__
        raise TypeError(
            f"gradcheck: expected a function of tensors or a Module, got {got}; write "
            f"MyFunction.apply, or MyModule()"
        )
    names = _argument_names(fn, len(inputs))
    found = []
    for i, x in enumerate(inputs):
        if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f":
            x = Tensor(np.asarray(x), find_device("cpu"), requires_grad=True)
        if isinstance(x, Tensor) and x.dtype.kind == "f":
            found.append(Variable(names[i], x, i, _float64(x), x.requires_grad))
    for name, p in getattr(fn, "named_parameters", lambda: ())():
        found.append(Variable(name, p, None, _float64(p), p.requires_grad))
    if not any(v.checked and v.value.size for v in found):
        got = ", ".join(
            type(x).__name__ + (f" of {x.dtype} {x.shape}" if hasattr(x, "dtype") else "")
            for x in inputs
        )
        raise ValueError(
            "gradcheck: expected at least one input that requires a gradient (a tensor with "
            "requires_grad=True or a NumPy array of floats, of one element or more) or a module "
            f"with parameters, got {got or 'none'}"
        )
    return found


def _argument_names(fn: Any, count: int) -> list[str]:
    called = getattr(fn, "forward", fn)
    owner = getattr(fn, "__self__", None)  # of MyFunction.apply
    if isinstance(owner, type) and issubclass(owner, Function):
        called = partial(fn.__self__.forward, None)
    try:
        named = list(inspect.signature(called).parameters.values())
    except (TypeError, ValueError):
        named = []
    names = [p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"input {i}" for i in range(count)]


def _copied(x: Any) -> np.ndarray:
    """The values of an array or tensor, on the host."""
    return np.array(x.numpy() if isinstance(x, Tensor) else x)


def _float64(x: Tensor) -> np.ndarray:
    """A copy on the host; whole numbers stay what they are."""
    array = x.data if x.device.kind == "cpu" else x.numpy()
    return like(array, array.astype(np.float64 if array.dtype.kind == "f" else array.dtype))


def in_a_row(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """One vector of all of them."""
    return np.concatenate([x.ravel() for x in arrays])
