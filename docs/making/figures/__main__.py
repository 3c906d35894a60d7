"""Writes the still pictures."""

from making.figures import FIGURES, FOLDER

for name, draw in FIGURES.items():
    (FOLDER / f"{name}.svg").write_text(draw().svg() + "\n", encoding="utf-8")
