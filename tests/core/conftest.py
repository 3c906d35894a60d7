"""Kernels in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable
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
