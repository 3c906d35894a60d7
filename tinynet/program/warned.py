"""Warnings of the libraries below, told in words that fit the program, each once."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator

from tqdm import tqdm

# (what the library says, what the program says of it)
WORDS = [
    (
        r"could be decompression bomb",
        "a picture of some hundred million pixels is read: that takes long, and memory",
    ),
    (
        r"Glyph .* missing from",
        "the font has no signs for some names in the pictures of this run; boxes stand for them",
    ),
    (
        r"overflow|invalid value|divide by zero",
        "numbers have become too large, or NaN; a loss that is NaN ends the run",
    ),
]


@contextlib.contextmanager
def warnings_in_words(prog: str) -> Iterator[None]:
    """While entered, a warning is one line on stderr, and a second one in the same words none.

    Those of WORDS are told under `python -W error`, too: the program itself deals with their cause.
    """
    told: set[str] = set()

    def show(message: Warning | str, *where: object) -> None:
        said = str(message)
        words = next((ours for theirs, ours in WORDS if re.search(theirs, said)), said)
        if words not in told:
            told.add(words)
            with contextlib.suppress(OSError):
                tqdm.write(f"{prog}: warning: {words}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]  # its other arguments are not used
        for theirs, _ in WORDS:
            warnings.filterwarnings("default", f".*({theirs})")
        yield
