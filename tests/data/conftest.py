"""What tests of data share."""

from __future__ import annotations

import multiprocessing

import pytest


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forked: they start at once, and are the same otherwise."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr("tinynet.data.workers.multiprocessing.get_context", lambda kind: context)
