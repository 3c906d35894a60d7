"""Still pictures of the chapters: name -> a function that draws it.

`cd docs && python -m making.figures` writes them into learn/pictures/; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from making.figures import crossings
from making.picture import Picture

FIGURES: dict[str, Callable[[], Picture]] = {
    "crossings": crossings.draw,
}
FOLDER = Path(__file__).parents[2] / "learn" / "pictures"
