"""How many cores there are for us."""

from __future__ import annotations

import os

_sharers = 1


def cores() -> list[int]:
    """The cores that this process may use: fewer than the machine has, where an affinity is set."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share(processes: int) -> None:
    """From here on, these cores are for so many processes like this one."""
    global _sharers
    _sharers = processes


def available_cores() -> int:
    """How many cores are for this process, at least one."""
    return max(1, len(cores()) // _sharers)
