"""Runs without their pictures; and a program whose data are told beforehand."""

import pytest
from told_program import started


@pytest.fixture(autouse=True, scope="module")
def _quick(quick_pictures):
    pass


@pytest.fixture
def told(tmp_path, monkeypatch):
    """See told_program.py."""
    return started(tmp_path, monkeypatch)
