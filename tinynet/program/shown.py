"""What data rooms share whose tests end in figures, texts and pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.errors import CheckpointError
from tinynet.nn import Module
from tinynet.recording import no_grad
from tinynet.training.checkpoint import write_whole
from tinynet.training.drawings import stacked
from tinynet.training.objective import GLIMPSES, same_luck

ROWS = 6  # glimpses in one picture
NAME = r"\w+"  # of a picture's file: the first word of its title


class Shown:
    """The part of a data room that comes after training. Subclasses write `samples`."""

    def samples(self, model: Module, task: Any, tests: Any) -> dict[str, Any]:
        """What a report shows of a net and of test batches: "texts", by title; "pictures", bytes of
        PNG by title, whose first word is the name of its file; "words", more to say beside the
        figures.
        """
        raise NotImplementedError

    def figures(self, models: Sequence[Module], task: Any, tests: Any) -> dict[str, float]:
        """What `task.test` says. A mean of several nets makes no sense here: CheckpointError."""
        if len(models) > 1:
            raise CheckpointError(f"expected one run, got {len(models)}: they have no mean here")
        return task.test(models[0], tests.epoch(0))

    def evaluate(
        self, models: Sequence[Module], task: Any, tests: Any, full: bool
    ) -> dict[str, Any]:
        """The task's figures; and samples, of the first net."""
        figures = self.figures(models, task, tests)
        measures = task.measures.items()
        words = [measure.words(figures[name]) for name, measure in measures if name in figures]
        if task.steps.ranks.rank:  # which writes nothing
            return {"figures": figures, "words": words}
        with no_grad(), same_luck():
            shown = self.samples(models[0], task, tests)
        return {"figures": figures, **shown, "words": words + shown.get("words", [])}

    def tell(self, result: dict[str, Any]) -> Iterator[str]:
        yield ", ".join([f"test loss {result['figures']['loss']:.4f}", *result["words"]])
        for title, text in result.get("texts", {}).items():
            yield f"{title}:\n{text}"

    def save(self, result: dict[str, Any], folder: Path) -> None:
        pictures = []
        for title, png in {**result.get("pictures", {}), **growth(folder)}.items():
            pictures.append((title, f"{re.findall(NAME, title)[0]}.png"))
            (folder / pictures[-1][1]).write_bytes(png)
        found = result | {"texts": list(result.get("texts", {}).items()), "pictures": pictures}
        write_whole(folder / "evaluation.json", json.dumps(found))

    def reached(self, result: dict[str, Any]) -> str:
        return "has " + ", ".join([f"test loss {result['figures']['loss']:.4f}", *result["words"]])

    def files(self, what: str) -> list[str]:
        """An argument of --predict stands for itself."""
        return [what]


def growth(folder: Path) -> dict[str, bytes]:
    """A picture, by its title: glimpses of a run one under the other, early epochs more densely,
    since most happens there. None if the run has no glimpses.
    """
    found = sorted(folder.glob(GLIMPSES.replace("{:03}", "*")), key=lambda p: (len(p.name), p))
    if not found:
        return {}
    places = sorted({round(place) - 1 for place in np.geomspace(1, len(found), ROWS)})
    chosen = [found[place] for place in places]
    epochs = ", ".join(str(int(path.stem.split("-")[1])) for path in chosen)
    return {f"epochs {epochs}, from above": stacked([path.read_bytes() for path in chosen])}
