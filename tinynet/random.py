"""Randomness that does not depend on where it is drawn: Philox, a counter-based generator.

Every draw (a layer's first weights, a dropout mask) is a call with a number of its own, and its
numbers are a function of (seed, call) alone: the same on every device, and however the work was
split. The state of it all is two integers.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x64-10,
NumPy's `Philox`).
"""

from __future__ import annotations

import numpy as np

_seed = 0
_calls = 0


def manual_seed(n: int) -> None:
    """Start again with seed `n` (0 <= n < 2**64): the same seed gives the same weights and the same
    masks.
    """
    global _seed, _calls
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 0 <= n < 2**64:
        raise ValueError(f"manual_seed: expected an integer in 0 ... 2**64 - 1, got {n!r}")
    _seed, _calls = int(n), 0


def get_state() -> dict[str, int]:
    """The seed and the number of draws since: all that `set_state` needs to go on from here."""
    return {"seed": _seed, "calls": _calls}


def set_state(state: dict[str, int]) -> None:
    """Go on from a state that `get_state` gave."""
    global _seed, _calls
    _seed, _calls = int(state["seed"]), int(state["calls"])


def next_call() -> tuple[int, int]:
    """(seed, call): the key of the next draw."""
    global _calls
    _calls += 1
    return _seed, _calls


def generator() -> np.random.Generator:
    """A NumPy generator for one draw of any length."""
    return np.random.Generator(np.random.Philox(key=np.array(next_call(), np.uint64)))
