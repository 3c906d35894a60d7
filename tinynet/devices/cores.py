"""How many cores there are for us."""

from __future__ import annotations

import os


def available_cores() -> int:
    """The cores that this process may use: fewer than the machine has, where an affinity is set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
