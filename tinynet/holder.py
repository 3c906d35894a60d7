"""What a tensor holds, each thing checked when it is set; and how others read it.

Others are Python's own functions (`len`, `float`, `format`), NumPy, and by DLPack and the CUDA
array interface PyTorch, JAX, CuPy and more: they see the tensor's own memory, without a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from tinynet.devices import Device
from tinynet.instead import TENSOR, missing
from tinynet.operations import call

Result = TypeVar("Result")  # Tensor, which is defined above this file

# NumPy's functions of tensors, by the names that the table of operations has for them.
UFUNCS = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg",
    "power": "pow", "matmul": "matmul", "maximum": "maximum", "minimum": "minimum",
    "exp": "exp", "log": "log", "sqrt": "sqrt", "sin": "sin", "cos": "cos", "tanh": "tanh",
    "absolute": "abs", "equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le",
    "greater": "gt", "greater_equal": "ge", "bitwise_and": "logical_and",
    "bitwise_or": "logical_or", "invert": "logical_not", "remainder": "remainder",
    "floor_divide": "floor_divide",
}  # fmt: skip


class Size(int):
    """The number of elements; called, the shape, or the length of one axis: torch's `x.size(0)`."""

    shape: tuple[int, ...]

    def __call__(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]


class Holder(Generic[Result]):
    """An array on a device, a gradient, and whether one is asked for."""

    __slots__ = ("__weakref__", "_data", "_grad", "_requires_grad", "device", "node")

    device: Device
    node: Any

    @property
    def data(self) -> Any:
        """The array: NumPy's, or CuPy's. What is set must be one, on the same device."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, np.generic):  # NumPy makes a bare number of an array without axes
            value = np.asarray(value)
        if not isinstance(value, self.device.xp.ndarray):
            kind = type(value).__name__
            write = "other.data" if isinstance(value, Holder) else "x.data[...] = value"
            raise TypeError(
                f"x.data: expected an array of {self.device}, got {kind}; write {write}"
            )
        if value.dtype.kind not in ("fc" if self._requires_grad else "biufc"):
            what = "floats, as x requires a gradient" if self._requires_grad else "numbers"
            raise ValueError(f"x.data: expected an array of {what}, got {value.dtype}")
        self._data = value

    @property
    def grad(self) -> Result | None:
        """The gradient, None before `backward`."""
        return self._grad

    @grad.setter
    def grad(self, value: Result | None) -> None:
        if value is not None:
            if not isinstance(value, Holder):
                raise TypeError(
                    f"x.grad: expected None or a tensor of shape {self.shape}, got "
                    f"{type(value).__name__}; write x.grad = None"
                )
            if value.shape != self.shape or value.device != self.device:
                raise ValueError(
                    f"x.grad: expected a tensor of shape {self.shape} on {self.device}, got "
                    f"{value.shape} on {value.device}"
                )
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it go on the tape. Only a leaf of floats can be told so."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None:
            raise RuntimeError(
                "x.requires_grad: expected a leaf, got the result of an operation; write "
                "y = x.detach() for a tensor that is off the tape"
            )
        if value and self.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"requires_grad: expected dtype float32 or float64, got {self.dtype}; write "
                f"x = x.float() first"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Set `requires_grad`, and give the tensor back."""
        self.requires_grad = requires_grad
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        return self._data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._data.ndim

    @property
    def size(self) -> Size:
        """The number of elements. `x.size(0)` is the length of an axis, `x.size()` the shape."""
        size = Size(self._data.size)
        size.shape = self._data.shape
        return size

    def dim(self) -> int:
        """The number of axes: torch's name for `ndim`."""
        return self._data.ndim

    def numel(self) -> int:
        """The number of elements: torch's name for `size`."""
        return int(self._data.size)

    def numpy(self) -> np.ndarray:
        """A copy of the data as a NumPy array."""
        return self.device.download(self._data)

    def tolist(self) -> Any:
        """The values as nested lists of Python's numbers."""
        return self.numpy().tolist()

    def item(self) -> int | float:
        """The value of a tensor that has one; waits for the device. ValueError if it has more."""
        if self._data.size != 1:
            raise ValueError(f"item(): expected a tensor of one element, got shape {self.shape}")
        return self.numpy().reshape(()).item()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len(): expected a tensor of at least one axis, got a scalar")
        return self.shape[0]

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ValueError(
                f"bool(): expected a tensor of one element, got shape {self.shape}; write "
                f"(a == b).all() or .any(), and `is` to compare two tensors themselves"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu" or self._data.size != 1:
            raise TypeError(
                f"index: expected one whole number, got {self.dtype} of shape {self.shape}"
            )
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """f"{loss:.3f}" formats the one value; without a format, as str()."""
        return format(self.item(), spec) if spec else str(self)

    if not TYPE_CHECKING:  # or a type checker would believe that every name is there

        def __getattr__(self, name: str) -> Any:
            """Python comes here for what there is not."""
            raise missing("a tensor", name, TENSOR, "(x.numpy())", self)

    # What others read: NumPy, then everyone.

    def _readable(self, what: str) -> Any:
        """The array, for others. TypeError if a gradient would be lost."""
        if self._requires_grad:
            raise TypeError(
                f"{what}: expected a tensor that requires no gradient, as what is done outside of "
                f"tinynet is not on the tape; write x.detach()"
            )
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """numpy.asarray(x): the tensor's own memory on the CPU; on a GPU write x.numpy()."""
        array = self._readable("numpy.asarray")
        if self.device.kind != "cpu":
            raise TypeError(
                f"numpy.asarray: expected a tensor on the CPU, got one on {self.device}; write "
                f"x.numpy()"
            )
        if copy is None:
            return np.asarray(array, dtype)
        return np.array(array, dtype, copy=copy)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        """numpy.exp(x) is tinynet's; so are array + x and all the others in UFUNCS.

        `array -= x` changes the array in place, if no tensor in it requires a gradient: the way in
        which `w.data -= rate * w.grad` works.
        """
        name = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or name is None or options:
            asked = ufunc.__name__ + ("" if method == "__call__" else f".{method}")
            raise TypeError(
                f"numpy.{asked}: expected arrays, got a tensor; tinynet has no such operation: "
                f"write numpy.{asked}(x.numpy())"
            )
        result = getattr(call, name)(*inputs)
        if out is None:
            return result
        np.copyto(out[0], result._readable(f"numpy.{ufunc.__name__}"))
        return out[0]

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """numpy.sum(x), numpy.stack([x, y]) and all that is no ufunc: NumPy's own, of the values.

        The result is NumPy's and not on the tape: TypeError for a tensor that requires a gradient.
        """
        return function(*_values(args), **_values(options))

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        """The array for another library, without a copy: `torch.from_dlpack(x)`."""
        array = self._readable("from_dlpack")
        with self.device.activate("from_dlpack"):  # a GPU: its consumer waits for this stream
            return array.__dlpack__(**options)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array on a GPU for another library. AttributeError on the CPU."""
        if self.device.kind != "cuda":
            raise AttributeError  # __getattr__ tells it
        array = self._readable("__cuda_array_interface__")
        with self.device.activate("__cuda_array_interface__"):
            return array.__cuda_array_interface__


def _values(given: Any) -> Any:
    """The same lists, tuples and dicts, with arrays in the place of tensors."""
    if isinstance(given, Holder):
        return np.asarray(given)
    if type(given) in (list, tuple):
        return type(given)(map(_values, given))
    return {key: _values(v) for key, v in given.items()} if type(given) is dict else given
