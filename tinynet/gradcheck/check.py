"""gradcheck: is backward the derivative of forward?

Outputs y_k = fn(x, ...) are made one number by random upstream gradients v_k:

    L = sum over k of <v_k, y_k>        backward gives dL/dx (analytical)

Random, because all ones would be blind: the softmax's outputs always sum to 1, so with ones its
true gradient is 0. The numerical gradient along a direction u is one of

    complex step          Im L(x + i h u) / h                       h = 1e-20: exact
    central differences   (L(x + eps u) - L(x - eps u)) / (2 eps)   error: eps^2 + 1e-16 / eps

The first where fn can take complex numbers and is smooth, which is tried out; the second everywhere
else. u runs over all elements of a small input, and over random unit vectors for a large one.

A kink (ReLU at 0, two equal maxima) shows in one-sided differences that disagree however small the
step: there is no derivative to compare with, so such elements are left out and named in a
KinkWarning.

Sources: Squire and Trapp, SIAM Review 40 (1998) 110 for the complex step.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinynet import random
from tinynet.devices import device as find_device
from tinynet.errors import GradcheckError
from tinynet.function import Context, Function
from tinynet.recording import no_grad
from tinynet.tensor import Tensor

SMALL = 256  # elements of an input up to which each of them is checked
DIRECTIONS = 16  # random unit vectors for a larger one
WORST = 10  # lines of the table in an error
H = 1e-20  # the complex step


class KinkWarning(UserWarning):
    """Some elements lie where the function has no derivative; they were not checked."""


def gradcheck(
    fn: Callable[..., Any], inputs: Any, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3
) -> bool:
    """True if fn's backward gives the derivative of its forward; raises GradcheckError with the
    details if not.

    fn: a function of tensors that returns a tensor or several, or a Module, whose parameters are
    checked as well. Its buffers are the same at the start of each call, as float64, and are in the
    end what they were. inputs: its arguments, one or a sequence. Checked are tensors that require a
    gradient and NumPy arrays of floats; all floats are taken as float64, in their memory layout
    (strides of any sign, broadcast views). Other arguments are handed on. Randomness from tinynet
    (dropout) is the same in each call of fn. eps: the step of central differences. Allowed is
    |analytical - numerical| <= atol + rtol |numerical|.

    GradcheckError also if fn is not deterministic, changes an input or the gradient it is given in
    place, or if no element of an input could be checked. Elements near a kink are left out, with a
    KinkWarning. ValueError if there is nothing to check.
    """
    worst_error(fn, inputs, eps, atol, rtol)
    return True


def worst_error(fn: Callable[..., Any], inputs: Any, eps: float, atol: float, rtol: float) -> float:
    """As gradcheck; returns the largest error, relative to the input's largest gradient."""
    if not eps > 0 or not atol >= 0 or not rtol >= 0:
        raise ValueError(
            f"gradcheck: expected eps > 0, atol >= 0, rtol >= 0, got {eps}, {atol}, {rtol}"
        )
    inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    rng = np.random.default_rng(0)
    buffers = [(b, _float64(b)) for _, b in getattr(fn, "named_buffers", lambda: ())()]
    with _borrowed(_variables(fn, inputs), [b for b, _ in buffers]) as variables:
        function = _Function(fn, inputs, variables, buffers, rng)
        gradients = function.analytical_gradients()
        numerical = _Numerical(function, eps, atol, rtol, rng)
        comparisons = [
            _compare(numerical, i, gradients[i], rng) for i, v in enumerate(variables) if v.checked
        ]
        return _verdict(comparisons, numerical)


# The function and what it depends on


class _Variable(NamedTuple):
    """An argument or a parameter that is an array of floats."""

    name: str
    tensor: Tensor
    position: int | None  # among the arguments; None for a parameter
    value: np.ndarray  # float64 on the host, in the layout of the tensor
    checked: bool


def _variables(fn: Any, inputs: list) -> list[_Variable]:
    names = _argument_names(fn, len(inputs))
    found = []
    for i, x in enumerate(inputs):
        if isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f":
            x = Tensor(np.asarray(x), find_device("cpu"), requires_grad=True)
        if isinstance(x, Tensor) and x.dtype.kind == "f":
            found.append(_Variable(names[i], x, i, _float64(x), x.requires_grad))
    for name, p in getattr(fn, "named_parameters", lambda: ())():
        found.append(_Variable(name, p, None, _float64(p), p.requires_grad))
    if not any(v.checked and v.value.size for v in found):
        raise ValueError(
            "gradcheck: expected at least one input that requires a gradient (a tensor with "
            "requires_grad=True or a "
            "NumPy array of floats) or a module with parameters, got none"
        )
    return found


def _argument_names(fn: Any, count: int) -> list[str]:
    try:
        named = inspect.signature(getattr(fn, "forward", fn)).parameters.values()
    except (TypeError, ValueError):
        named = []
    names = [p.name for p in named if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"input {i}" for i in range(count)]


def _float64(x: Tensor) -> np.ndarray:
    """A copy on the host; whole numbers stay what they are."""
    array = x.data if x.device.kind == "cpu" else x.numpy()
    return _in_layout_of(
        array, array.astype(np.float64 if array.dtype.kind == "f" else array.dtype)
    )


def _in_layout_of(template: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` in memory that is strided like the template's; densely if elements of the template
    share memory.
    """
    strides = [s // template.itemsize * values.itemsize for s in template.strides]
    reach = [s * (n - 1) for s, n in zip(strides, values.shape, strict=True)]
    start, stop = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
    memory = np.empty((stop - start) // values.itemsize + 1, values.dtype)
    copy = np.ndarray(values.shape, values.dtype, memory, -start, strides)
    copy[...] = values
    return copy if np.array_equal(copy, values, equal_nan=True) else values.copy()


@contextmanager
def _borrowed(variables: list[_Variable], buffers: list[Tensor]) -> Iterator[list[_Variable]]:
    """Parameters, buffers and randomness change while fn runs; here they get back what they had."""
    state = random.get_state()
    borrowed = [v.tensor for v in variables if v.position is None] + buffers
    before = [(x.data, x.grad) for x in borrowed]
    try:
        yield variables
    finally:
        for x, (data, grad) in zip(borrowed, before, strict=True):
            x.data, x.grad = data, grad
        random.set_state(state)


class _Upstream(Function):
    """A number whose gradient with respect to each y_k is the given v_k."""

    @staticmethod
    def forward(ctx: Context, *outputs: Any, upstream: list) -> Any:
        ctx.upstream = upstream
        return ctx.xp.zeros(())

    @staticmethod
    def backward(ctx: Context, dL: Any) -> Any:
        return ctx.upstream


class _Function:
    """fn as a function of NumPy arrays, one for each variable."""

    def __init__(
        self,
        fn: Callable,
        inputs: list,
        variables: list[_Variable],
        buffers: list[tuple[Tensor, np.ndarray]],
        rng: np.random.Generator,
    ):
        self.fn, self.inputs, self.variables, self.buffers = fn, inputs, variables, buffers
        self.state = random.get_state()
        self.values = [v.value for v in variables]
        self.outputs = self(self.values)
        if not all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(self.outputs, self(self.values), strict=True)
        ):
            raise GradcheckError(
                "gradcheck: the function is not deterministic: two calls gave different values"
            )
        if any(y.dtype != np.float64 for y in self.outputs):
            raise GradcheckError(
                f"gradcheck: expected outputs of dtype float64 for inputs of that dtype, got "
                f"{', '.join(str(y.dtype) for y in self.outputs)}"
            )
        self.upstream = [_unusual_layout(rng.standard_normal(y.shape)) for y in self.outputs]

    def __call__(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs on the host, nothing recorded."""
        with no_grad():
            return [y.numpy() for y in self._run(values)[1]]

    def _run(self, values: Sequence[np.ndarray]) -> tuple[list[Tensor], list[Tensor]]:
        """Leaves and outputs."""
        random.set_state(self.state)
        for b, value in self.buffers:  # fn may write into them: a fresh copy for each call
            b.data = b.device.upload(value)
        arguments, leaves = list(self.inputs), []
        for v, value in zip(self.variables, values, strict=True):
            array = value if v.tensor.device.kind == "cpu" else v.tensor.device.upload(value)
            if v.position is None:
                v.tensor.data, v.tensor.grad = array, None
                leaves.append(v.tensor)
            else:
                leaf = arguments[v.position] = Tensor(array, v.tensor.device, v.checked)
                leaves.append(leaf)
        outputs = self.fn(*arguments)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if not outputs or not all(isinstance(y, Tensor) for y in outputs):
            raise TypeError("gradcheck: expected the function to return a tensor or several")
        return leaves, [y for y in outputs if y.dtype.kind in "fc"]

    def analytical_gradients(self) -> list[np.ndarray]:
        """dL/dx of every variable."""
        leaves, outputs = self._run(self.values)
        if not any(y.requires_grad for y in outputs):
            raise GradcheckError(
                "gradcheck: no output requires a gradient: the tape does not reach the inputs"
            )
        where = outputs[0].device
        upstream = [v if where.kind == "cpu" else where.upload(v) for v in self.upstream]
        before = [v.copy() for v in upstream]
        arrays = [leaf.data.copy() for leaf in leaves]
        _Upstream.apply(*(y.to(where) for y in outputs), upstream=list(upstream)).backward()
        for k, (v, copy) in enumerate(zip(upstream, before, strict=True)):
            if not where.xp.array_equal(v, copy):
                raise GradcheckError(
                    f"gradcheck: backward changed in place the gradient of output {k} it was given"
                )
        for variable, leaf, copy in zip(self.variables, leaves, arrays, strict=True):
            if not _same(leaf.data, copy) or not _same(leaf.numpy(), variable.value):
                raise GradcheckError(
                    f"gradcheck: the function changed its input {variable.name} in place"
                )
        return [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]


def _same(a: Any, b: Any) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _unusual_layout(v: np.ndarray) -> np.ndarray:
    """The same values, axes reversed in memory and every axis backwards: no kernel may count on C
    order.
    """
    back = tuple(slice(None, None, -1) for _ in v.shape)
    return np.asarray(np.array(v[back].T, order="C").T[back])


# Numerical derivatives


class _Kink(NamedTuple):
    left: float
    right: float


class _Numerical:
    """Derivatives of L along directions."""

    def __init__(
        self, function: _Function, eps: float, atol: float, rtol: float, rng: np.random.Generator
    ):
        self.function, self.eps, self.atol, self.rtol = function, eps, atol, rtol
        self.noise = 1e-15 * sum(
            np.abs(v * y).sum() for v, y in zip(function.upstream, function.outputs, strict=True)
        )
        self.is_complex = self._takes_complex(rng)
        self.method = "complex step" if self.is_complex else f"central differences, eps {eps:g}"

    def derivative(self, i: int, u: np.ndarray) -> tuple[float, _Kink | None]:
        """dL/dt at x_i + t u, t = 0."""
        moved = self._moved(i, u)
        return (self._complex_step(moved), None) if self.is_complex else self.central(moved)

    def kink(self, i: int, u: np.ndarray) -> _Kink | None:
        """The two one-sided derivatives, if there are two."""
        return self.central(self._moved(i, u))[1]

    def central(self, moved: Callable[[Any], list[np.ndarray]]) -> tuple[float, _Kink | None]:
        """Smaller steps where the one-sided differences disagree: past a kink nearby, or where L
        bends strongly.
        """
        function = self.function
        for step in (self.eps, self.eps / 10, self.eps / 100):
            right = self._dot(function(moved(step)), function.outputs) / step
            left = self._dot(function.outputs, function(moved(-step))) / step
            if abs(right - left) <= 1e-5 + 1e-3 * max(abs(left), abs(right)) + self.noise / step:
                return (left + right) / 2, None
        return (left + right) / 2, _Kink(left, right)

    def _dot(self, after: list[np.ndarray], before: list[np.ndarray]) -> float:
        """<v, after - before>"""
        triples = zip(self.function.upstream, after, before, strict=True)
        return sum(float((v * (a - b)).sum()) for v, a, b in triples)

    def _moved(self, i: int, u: np.ndarray) -> Callable[[Any], list[np.ndarray]]:
        """t -> the values of all variables, number i moved by t u."""

        def moved(t: Any) -> list[np.ndarray]:
            dtype = np.result_type(np.float64, type(t))
            values = [
                _in_layout_of(v, v.astype(dtype)) if dtype != v.dtype else v
                for v in self.function.values
            ]
            values[i] = _in_layout_of(values[i], values[i] + t * u)
            return values

        return moved

    def _complex_step(self, moved: Callable[[Any], list[np.ndarray]]) -> float:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter(
                "error", np.exceptions.ComplexWarning
            )  # an imaginary part that got lost
            outputs = self.function(moved(1j * H))
        return (
            sum(
                float((v * y.imag).sum())
                for v, y in zip(self.function.upstream, outputs, strict=True)
            )
            / H
        )

    def _takes_complex(self, rng: np.random.Generator) -> bool:
        """Whether the complex step gives what central differences give, along a random direction in
        every variable.
        """
        for i, value in enumerate(self.function.values):
            moved = self._moved(i, rng.standard_normal(value.shape) / max(1, value.size) ** 0.5)
            try:
                slope = self._complex_step(moved)
            except Exception:  # whatever fn raises: complex numbers are not for it
                return False
            central, kink = self.central(moved)
            if (
                kink
                or not abs(slope - central) <= 1e-5 + 1e-3 * abs(central) + self.noise / self.eps
            ):
                return False
        return True


# The comparison


class _Comparison(NamedTuple):
    variable: _Variable
    labels: list[str]
    analytical: np.ndarray
    numerical: np.ndarray
    wrong: np.ndarray  # bool
    kinks: dict[str, _Kink]


def _compare(
    numerical: _Numerical, i: int, gradient: np.ndarray, rng: np.random.Generator
) -> _Comparison:
    indices = list(np.ndindex(gradient.shape))
    if gradient.size <= SMALL:
        return _along(
            numerical, i, gradient, [(str(list(ix)), _unit(gradient.shape, ix)) for ix in indices]
        )
    directions = rng.standard_normal((DIRECTIONS, *gradient.shape))
    directions /= np.sqrt((directions**2).reshape(DIRECTIONS, -1).sum(axis=1)).reshape(
        -1, *[1] * gradient.ndim
    )
    whole = _along(
        numerical,
        i,
        gradient,
        [(f" along random direction {d}", u) for d, u in enumerate(directions)],
    )
    if not whole.wrong.any():
        return whole
    # Some element is wrong: find it among the largest gradients and a random choice of the others.
    largest = np.argsort(-np.abs(gradient), axis=None, kind="stable")[: SMALL // 2]
    chosen = np.unique(
        np.concatenate([largest, rng.choice(gradient.size, SMALL // 2, replace=False)])
    )
    some = [indices[n] for n in chosen]
    elements = _along(
        numerical, i, gradient, [(str(list(ix)), _unit(gradient.shape, ix)) for ix in some]
    )
    return elements if elements.wrong.any() else whole


def _unit(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    u = np.zeros(shape)
    u[index] = 1
    return u


def _along(
    numerical: _Numerical, i: int, gradient: np.ndarray, directions: list[tuple[str, np.ndarray]]
) -> _Comparison:
    analytical = np.array([(gradient[u != 0] * u[u != 0]).sum() for _, u in directions])
    found = [numerical.derivative(i, u) for _, u in directions]
    derivatives = np.array([derivative for derivative, _ in found])
    wrong = ~(
        np.abs(analytical - derivatives) <= numerical.atol + numerical.rtol * np.abs(derivatives)
    )
    kinks = {}
    for n, (label, u) in enumerate(directions):
        # Central differences look at both sides anyhow; after a complex step, only where it
        # disagrees.
        kink = numerical.kink(i, u) if wrong[n] and numerical.is_complex else found[n][1]
        if kink:
            kinks[label], wrong[n] = kink, False
    variable = numerical.function.variables[i]
    return _Comparison(
        variable, [label for label, _ in directions], analytical, derivatives, wrong, kinks
    )


def _verdict(comparisons: list[_Comparison], numerical: _Numerical) -> float:
    wrong = [c for c in comparisons if c.wrong.any()]
    if wrong:
        raise GradcheckError(_report(wrong, numerical))
    for c in comparisons:
        if c.kinks:
            (label, kink), name = next(iter(c.kinks.items())), c.variable.name
            text = (
                f"gradcheck: {len(c.kinks)} of {len(c.labels)} elements of {name} lie at a kink, "
                f"where there is no "
                f"derivative: {name}{label} has slope {kink.left:.6g} on the left and "
                f"{kink.right:.6g} on the right"
            )
            if len(c.kinks) == len(c.labels):
                raise GradcheckError(f"{text}; nothing is left to check, choose other inputs")
            warnings.warn(KinkWarning(f"{text}; they were not checked"), stacklevel=4)
    return max(_relative(c) for c in comparisons)


def _relative(c: _Comparison) -> float:
    kept = np.array([label not in c.kinks for label in c.labels], bool)
    if not kept.any():
        return 0.0  # an input without elements
    largest = np.abs(c.numerical[kept]).max()
    return float(np.abs(c.analytical - c.numerical)[kept].max() / (largest or 1))


def _report(wrong: list[_Comparison], numerical: _Numerical) -> str:
    c = wrong[0]
    error = np.abs(c.analytical - c.numerical)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = error / np.abs(c.numerical)
    order = np.argsort(np.where(c.wrong, -np.nan_to_num(error, nan=np.inf), np.inf), kind="stable")
    n, name = order[0], c.variable.name
    width = max(len(c.labels[m]) for m in order[:WORST])
    counts = (
        f"{w.wrong.sum()} of {len(w.labels)} of {w.variable.name} {w.variable.value.shape}"
        for w in wrong
    )
    lines = [
        f"gradcheck: the gradient of {name}{c.labels[n]} is wrong: analytical "
        f"{c.analytical[n]:.9g}, numerical "
        f"{c.numerical[n]:.9g}; absolute error {error[n]:.3g}, relative {relative[n]:.3g}; "
        f"allowed: "
        f"{numerical.atol:g} + {numerical.rtol:g} |numerical| ({numerical.method})",
        f"  wrong: {', '.join(counts)}; the worst of {name}:",
        f"  {'':<{width}}  {'analytical':>16}  {'numerical':>16}  {'absolute':>9}  {'relative':>9}",
    ]
    for m in order[: min(WORST, int(c.wrong.sum()))]:
        lines.append(
            f"  {c.labels[m]:<{width}}  {c.analytical[m]:>16.9g}  {c.numerical[m]:>16.9g}  "
            f"{error[m]:>9.2e}  "
            f"{relative[m]:>9.2e}"
        )
    return "\n".join(lines)
