"""What tests of data share."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from small_tree import InThread


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forked: they start at once, and are the same otherwise."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork")
    context = multiprocessing.get_context("fork")
    monkeypatch.setattr("tinynet.data.workers.multiprocessing.get_context", lambda kind: context)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are written by threads of this process, and no disk is waited for: quicker, and what
    is patched here holds there. A thread may not say how it takes signals.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("tinynet.data.prepare.Process", InThread)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
