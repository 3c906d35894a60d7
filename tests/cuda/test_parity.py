"""Every operation of the table on the CPU and on a GPU: the same values, the same gradients.

So a fault in the sign or the factor of any kernel of either backend fails here. That it does is
tested as well: each kernel in turn is made wrong.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinynet import kernels, random
from tinynet.devices import Device, find_device
from tinynet.gradcheck.cases import CASES, has_gradient
from tinynet.gradcheck.cases.table import Case
from tinynet.operations import OPERATIONS
from tinynet.tensors import Tensor

TOLERANCE = {np.float64: 1e-12, np.float32: 1e-4}


def cases_of(name: str) -> Iterator[Case]:
    yield from CASES[name].make(np.random.default_rng(zlib.crc32(name.encode())))


def results(name: str, case: Case, where: Device, dtype: Any) -> list[np.ndarray]:
    """The outputs of a case on a device, and the gradients of all its arguments. Arrays lie in C
    order, those of float32 in Fortran's.
    """
    lay = np.asfortranarray if dtype is np.float32 else np.ascontiguousarray
    fn, inputs = case
    random.manual_seed(0)
    rng = np.random.default_rng(1)
    arguments = [
        Tensor(where.upload(lay(x.astype(dtype)).reshape(x.shape)), where, True)
        if isinstance(x, np.ndarray)
        else x
        for x in inputs
    ]
    y = fn(*arguments)
    outputs = y if isinstance(y, tuple) else (y,)
    if not has_gradient(name):
        return [output.numpy() for output in outputs]
    for y in outputs:
        seed = lay(rng.standard_normal(y.shape).astype(dtype)).reshape(y.shape)
        y.backward(Tensor(y.device.upload(seed), y.device), retain_graph=len(outputs) > 1)
    grads = [a.grad for a in arguments if isinstance(a, Tensor)]
    assert all(grad is not None for grad in grads)
    return [tensor.numpy() for tensor in (*outputs, *grads)]


def compare(name: str, gpu: Device, dtype: Any) -> None:
    for number, case in enumerate(cases_of(name)):
        expected, got = (results(name, case, where, dtype) for where in (find_device("cpu"), gpu))
        for part, (e, g) in enumerate(zip(expected, got, strict=True)):
            what = f"{name}, case {number}, {f'gradient {part - 1}' if part else 'result'}"
            assert (g.shape, g.dtype) == (e.shape, e.dtype), what
            scale = max(1.0, np.abs(e).max(initial=0))
            np.testing.assert_allclose(g, e, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=what)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", CASES)
def test_the_same_on_both(gpu: Device, name: str, dtype: Any) -> None:
    compare(name, gpu, dtype)


KERNELS = sorted(name for name, f in vars(kernels).items() if inspect.isfunction(f))


def operation_of(kernel: str) -> str | None:
    """The operation whose name the kernel's begins with; None if it serves no operation."""
    found = [name for name in OPERATIONS if f"{kernel}_".startswith(f"{name}_")]
    return max(found, key=len) if found else None


def test_a_kernel_of_no_operation_is_compared_by_hand() -> None:
    text = (Path(__file__).parent / "test_kernels.py").read_text()
    for kernel in KERNELS:
        if operation_of(kernel) is None and not kernel.endswith(
            ("_step", "_steps")
        ):  # test_steps.py
            assert f'"{kernel}"' in text or f"kernels.{kernel}(" in text, kernel


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
@pytest.mark.parametrize("kernel", [k for k in KERNELS if operation_of(k)])
@pytest.mark.parametrize("gpu", ["stand-in"], indirect=True)
def test_a_wrong_kernel_is_noticed(
    gpu: Device, monkeypatch: pytest.MonkeyPatch, kernel: str, backend: str
) -> None:
    """Its results 0.1 % too large."""
    where = gpu if backend == "cuda" else find_device("cpu")
    right = getattr(where.kernels, kernel)

    def too_large(y: Any) -> Any:
        if isinstance(y, (tuple, list)):
            return type(y)(too_large(part) for part in y)
        return y * 1.001 if hasattr(y, "dtype") and y.dtype.kind == "f" else y

    monkeypatch.setattr(
        where.kernels, kernel, lambda *args, **kwargs: too_large(right(*args, **kwargs))
    )
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare(operation_of(kernel), gpu, np.float64)
