"""Counts that the tests here print at the end of a run; PyTorch on one thread."""

from __future__ import annotations

import sys

import pytest

COUNTS = pytest.StashKey[dict]()


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> dict[str, int]:
    """name -> number; printed when all tests are over."""
    return request.config.stash.setdefault(COUNTS, {})


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    """Of arrays this small several threads mostly wait for each other, and take the cores of the
    tests beside.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, number in config.stash.get(COUNTS, {}).items():
        terminalreporter.write_line(f"{name}: {number}")
