"""How far long work is: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LOG = 60.0  # seconds from the beginning to the first line in a log, and between two of them


class _Lines(tqdm):
    """The bar's states as lines of a log."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None:  # "" would wipe a bar
            print(self, file=sys.stderr)


def bar(
    iterable: Iterable[Any] | None = None, *, shown: bool, leave: bool = False, **options: Any
) -> tqdm:
    """tqdm(iterable, **options); nothing unless `shown`. leave: a terminal keeps its end."""
    kind = tqdm
    if not sys.stderr.isatty():
        kind = _Lines
        leave = False  # which would add an empty line
        options |= dict(delay=LOG, mininterval=LOG, maxinterval=LOG)
    return kind(iterable, disable=not shown, leave=leave, **options)
