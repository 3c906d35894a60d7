"""The operators and methods of a tensor.

Each calls the operation of its name: what it does, forward and backward, stands there, in
tinynet/arithmetic. Names and arguments are torch's, and NumPy's where they differ: `dim` and
`axis`, `keepdim` and `keepdims` mean the same, and one of both may be given.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, overload

import numpy as np

from tinynet.holder import Holder, Result
from tinynet.operations import call

Number = float | int  # in the class, `float` is a method
Comparable = (Holder, bool, int, float, complex, np.ndarray, np.generic, list, tuple)
Axes = int | tuple[int, ...] | list[int] | None  # one axis, several, or all


def axis_or_dim(name: str, axis: Any, dim: Any) -> Any:
    """The one of the two that was given."""
    if dim is None:
        return axis
    if axis is not None:
        raise TypeError(f"{name}: expected axis or dim, got both: {axis} and {dim}")
    return dim


class Operators(Holder[Result]):
    """What can be written with tensors: Result is Tensor, which is defined above this file."""

    __slots__ = ()
    __hash__ = object.__hash__  # by identity, although == goes element by element

    # Operators. The other operand may be a tensor, a number, an array or a list.

    def __add__(self, other: Any) -> Result:
        return call.add(self, other)

    def __radd__(self, other: Any) -> Result:
        return call.add(other, self)

    def __sub__(self, other: Any) -> Result:
        return call.sub(self, other)

    def __rsub__(self, other: Any) -> Result:
        return call.sub(other, self)

    def __mul__(self, other: Any) -> Result:
        return call.mul(self, other)

    def __rmul__(self, other: Any) -> Result:
        return call.mul(other, self)

    def __truediv__(self, other: Any) -> Result:
        return call.div(self, other)

    def __rtruediv__(self, other: Any) -> Result:
        return call.div(other, self)

    def __matmul__(self, other: Any) -> Result:
        return call.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Result:
        return call.matmul(other, self)

    def __pow__(self, other: Any) -> Result:
        return call.pow(self, other)

    def __rpow__(self, other: Any) -> Result:
        return call.pow(other, self)

    def __mod__(self, other: Any) -> Result:
        return call.remainder(self, other)

    def __floordiv__(self, other: Any) -> Result:
        return call.floor_divide(self, other)

    def __neg__(self) -> Result:
        return call.neg(self)

    def __pos__(self) -> Operators[Result]:
        return self

    def __abs__(self) -> Result:
        return call.abs(self)

    def __getitem__(self, key: Any) -> Result:
        return call.index(self, key)

    def __iter__(self) -> Iterator[Result]:
        return (self[i] for i in range(len(self)))

    # Comparisons go element by element. With what is no number, such as None, == is False.

    def __eq__(self, other: object) -> Result:  # type: ignore[override]
        return call.eq(self, other) if isinstance(other, Comparable) else NotImplemented

    def __ne__(self, other: object) -> Result:  # type: ignore[override]
        return call.ne(self, other) if isinstance(other, Comparable) else NotImplemented

    def __lt__(self, other: Any) -> Result:
        return call.lt(self, other)

    def __le__(self, other: Any) -> Result:
        return call.le(self, other)

    def __gt__(self, other: Any) -> Result:
        return call.gt(self, other)

    def __ge__(self, other: Any) -> Result:
        return call.ge(self, other)

    def __and__(self, other: Any) -> Result:
        return call.logical_and(self, other)

    def __or__(self, other: Any) -> Result:
        return call.logical_or(self, other)

    def __invert__(self) -> Result:
        return call.logical_not(self)

    # Nothing changes in place: the tape needs the values as they were.

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError(
            "x[key] = value: expected no change in place, as the tape needs the old values; write "
            "x = tinynet.where(mask, value, x), or off the tape x.data[key] = value"
        )

    def _new(self, sign: str) -> Operators[Result]:
        """self, of which `x += y` makes a new tensor x. RuntimeError for a leaf that is learned."""
        if self._requires_grad and self.node is None:
            raise RuntimeError(
                f"w {sign}= ...: expected no leaf that requires a gradient: w would become a new "
                f"tensor, and w.grad would stay with the old one; write w.data {sign}= ..., as in "
                f"w.data -= rate * w.grad"
            )
        return self

    def __iadd__(self, other: Any) -> Result:
        return self._new("+") + other

    def __isub__(self, other: Any) -> Result:
        return self._new("-") - other

    def __imul__(self, other: Any) -> Result:
        return self._new("*") * other

    def __itruediv__(self, other: Any) -> Result:
        return self._new("/") / other

    def __ipow__(self, other: Any) -> Result:
        return self._new("**") ** other

    def __imatmul__(self, other: Any) -> Result:
        return self._new("@") @ other

    # Element by element.

    def exp(self) -> Result:
        """e^x"""
        return call.exp(self)

    def log(self) -> Result:
        """The natural logarithm."""
        return call.log(self)

    def sqrt(self) -> Result:
        """The square root."""
        return call.sqrt(self)

    def sin(self) -> Result:
        """The sine."""
        return call.sin(self)

    def cos(self) -> Result:
        """The cosine."""
        return call.cos(self)

    def erf(self) -> Result:
        """The error function."""
        return call.erf(self)

    def abs(self) -> Result:
        """The absolute value."""
        return call.abs(self)

    def pow(self, exponent: Any) -> Result:
        """x^exponent, a number or a tensor."""
        return call.pow(self, exponent)

    def clip(self, min: Number | None = None, max: Number | None = None) -> Result:
        """x, but `min` where it is smaller and `max` where it is larger."""
        return call.clip(self, min, max)

    # Over an axis, several, or all.

    def sum(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Result:
        """The sum."""
        return call.sum(self, axis_or_dim("sum", axis, dim), keepdims or keepdim)

    def mean(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Result:
        """The mean."""
        return call.mean(self, axis_or_dim("mean", axis, dim), keepdims or keepdim)

    def prod(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Result:
        """The product."""
        return call.prod(self, axis_or_dim("prod", axis, dim), keepdims or keepdim)

    def var(
        self,
        axis: Axes = None,
        *,
        correction: int = 1,
        keepdims: bool = False,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Result:
        """The sum of (x - mean)^2, divided by n - correction."""
        return call.var(self, axis_or_dim("var", axis, dim), correction, keepdims or keepdim)

    def std(
        self,
        axis: Axes = None,
        *,
        correction: int = 1,
        keepdims: bool = False,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Result:
        """The square root of var."""
        return call.std(self, axis_or_dim("std", axis, dim), correction, keepdims or keepdim)

    def norm(
        self,
        p: Number = 2,
        axis: Axes = None,
        keepdims: bool = False,
        *,
        dim: Axes = None,
        keepdim: bool = False,
    ) -> Result:
        """(sum of |x|^p)^(1/p); the largest |x| for p = inf."""
        return call.norm(self, p, axis_or_dim("norm", axis, dim), keepdims or keepdim)

    @overload
    def max(self, axis: Axes = None, keepdims: bool = False) -> Result: ...
    @overload
    def max(self, *, dim: int, keepdim: bool = False) -> tuple[Result, Result]: ...
    def max(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
    ) -> Any:
        """The largest. max(dim=1), as in torch, gives two tensors: (values, indices)."""
        if dim is None:
            return call.max(self, axis, keepdims or keepdim)
        return call.max_along(self, axis_or_dim("max", axis, dim), keepdims or keepdim)

    @overload
    def min(self, axis: Axes = None, keepdims: bool = False) -> Result: ...
    @overload
    def min(self, *, dim: int, keepdim: bool = False) -> tuple[Result, Result]: ...
    def min(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
    ) -> Any:
        """The smallest. min(dim=1), as in torch, gives two tensors: (values, indices)."""
        if dim is None:
            return call.min(self, axis, keepdims or keepdim)
        return call.min_along(self, axis_or_dim("min", axis, dim), keepdims or keepdim)

    def argmax(
        self,
        axis: int | None = None,
        keepdims: bool = False,
        *,
        dim: int | None = None,
        keepdim: bool = False,
    ) -> Result:
        """The index of the largest, of equals the first: along an axis, or in x.flatten()."""
        return call.argmax(self, axis_or_dim("argmax", axis, dim), keepdims or keepdim)

    def argmin(
        self,
        axis: int | None = None,
        keepdims: bool = False,
        *,
        dim: int | None = None,
        keepdim: bool = False,
    ) -> Result:
        """The index of the smallest, of equals the first: along an axis, or in x.flatten()."""
        return call.argmin(self, axis_or_dim("argmin", axis, dim), keepdims or keepdim)

    def all(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Result:
        """Whether nothing is 0 or False."""
        return call.all(self, axis_or_dim("all", axis, dim), keepdims or keepdim)

    def any(
        self, axis: Axes = None, keepdims: bool = False, *, dim: Axes = None, keepdim: bool = False
    ) -> Result:
        """Whether something is neither 0 nor False."""
        return call.any(self, axis_or_dim("any", axis, dim), keepdims or keepdim)

    def cumsum(self, axis: int | None = None, *, dim: int | None = None) -> Result:
        """The running sum along an axis."""
        return call.cumsum(self, axis_or_dim("cumsum", axis, dim))

    # Shapes.

    def reshape(self, *shape: Any) -> Result:
        """The same elements in another shape; one -1 stands for what is left."""
        return call.reshape(self, *shape)

    def view(self, *shape: Any) -> Result:
        """torch's name for `reshape`."""
        return call.reshape(self, *shape)

    def flatten(self, start_axis: int | None = None, *, start_dim: int | None = None) -> Result:
        """All axes from `start_axis` (the first) on as one."""
        return call.flatten(self, axis_or_dim("flatten", start_axis, start_dim) or 0)

    def transpose(self, *axes: Any) -> Result:
        """The axes in another order, as in NumPy; reversed if none is given.

        torch's exchange of two axes is `tinynet.transpose(x, 0, 1)`.
        """
        if self.ndim == len(axes) == 2 and axes[0] in (0, -2) and axes[1] in (1, -1):
            warnings.warn(
                f"transpose{axes}: the axes stay as they are, since the arguments are their new "
                f"order, as in NumPy; to exchange them write x.T",
                stacklevel=2,
            )
        return call.transpose(self, *axes)

    def permute(self, *dims: Any) -> Result:
        """torch's name for `transpose` with every axis named."""
        return call.transpose(self, *dims)

    @property
    def T(self) -> Result:
        """The axes reversed."""
        return call.transpose(self)

    def squeeze(self, axis: Axes = None, *, dim: Axes = None) -> Result:
        """Without its axes of length 1: all of them, or those given."""
        return call.squeeze(self, axis_or_dim("squeeze", axis, dim))

    def unsqueeze(self, axis: int | None = None, *, dim: int | None = None) -> Result:
        """With a new axis of length 1 at this place."""
        return call.unsqueeze(self, axis_or_dim("unsqueeze", axis, dim))

    def split(
        self, sizes: int | Sequence[int], axis: int | None = None, *, dim: int | None = None
    ) -> tuple[Result, ...]:
        """The parts along an axis (the first): of the sizes in a list, or each of one size."""
        place = axis_or_dim("split", axis, dim)
        return call.split(self, sizes, 0 if place is None else place)

    # Types and places.

    def astype(self, dtype: Any) -> Result:
        """A copy in another dtype."""
        return call.astype(self, dtype)

    def float(self) -> Result:
        """In float32; itself if it is."""
        return self.to("float32")

    def long(self) -> Result:
        """In int64; itself if it is."""
        return self.to("int64")

    def to(self, *targets: Any, device: Any = None, dtype: Any = None) -> Any:
        """On another device, in another dtype, or both; itself if it is so already."""
        x: Any = self
        for target in (*targets, device, dtype):
            x = x if target is None else call.to(x, target)
        return x

    def cpu(self) -> Result:
        """On the CPU; itself if it is there."""
        return call.to(self, "cpu")

    def cuda(self, index: int = 0) -> Result:
        """On a GPU; itself if it is there."""
        return call.to(self, f"cuda:{index}")

    def clone(self) -> Result:
        """A copy on the tape: its gradient goes to the original."""
        return call.astype(self, self.dtype)
