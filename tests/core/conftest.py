"""Kernels in pieces of any size; warnings as errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest


@pytest.fixture
def set_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str, int | None], None]:
    """set_pieces(module, name, size): make a kernel's pieces of that size for this test; None
    leaves them as they are.
    """

    def set_pieces(module: ModuleType, name: str, size: int | None) -> None:
        usual = getattr(module, name)  # the size, or the least and the largest
        if size is not None:
            monkeypatch.setattr(module, name, (size, size) if isinstance(usual, tuple) else size)

    return set_pieces


@pytest.fixture
def warnings_are_errors() -> Iterator[None]:
    """All but one. OpenBLAS's product of a float32 matrix of 5 columns with a vector reads beside
    the 5 where AVX-512 is there: what lies there by chance may be told as invalid, and no value of
    the product is wrong.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "invalid value encountered in matmul", RuntimeWarning)
        yield
