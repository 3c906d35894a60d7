"""Runs without their pictures."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _quick(quick_pictures):
    pass
