"""Counts that the tests here print at the end of a run."""

from __future__ import annotations

import pytest

COUNTS = pytest.StashKey[dict]()


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> dict[str, int]:
    """name -> number; printed when all tests are over."""
    return request.config.stash.setdefault(COUNTS, {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for name, number in config.stash.get(COUNTS, {}).items():
        terminalreporter.write_line(f"{name}: {number}")
