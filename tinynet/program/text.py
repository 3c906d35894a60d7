"""Sequences of tokens: the data of a program that learns a language."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.data import SequenceLoader, Sequences, Vocabulary, Windows, read_text, shakespeare
from tinynet.devices import Device
from tinynet.errors import CheckpointError
from tinynet.nn import Module
from tinynet.program.options import Parser
from tinynet.training.checkpoint import write_whole
from tinynet.training.language import LanguageModel

TEST = 0.1  # this share of a text, its end, is tested on


class Language:
    """The base of data rooms whose examples are sequences.

    Subclasses write `open`, `describe` with the tokens as "vocabulary", `zeros`, `samples` and
    `predict`.
    """

    changeable: set[str] = set()

    def settings(self) -> dict[str, Any]:
        return {}

    def arrays(self, about: dict, train: Sequences) -> dict[str, np.ndarray]:
        return {}

    def loader(
        self, settings: dict, about: dict, dataset: Sequences, train: bool
    ) -> SequenceLoader:
        if settings["workers"]:
            raise ValueError("--workers: expected none, since text lies in memory; leave it out")
        return SequenceLoader(dataset, settings["batch_size"], train=train, seed=settings["seed"])

    def task(
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> LanguageModel:
        return LanguageModel(devices[0], len(about["vocabulary"]))

    def evaluate(
        self, models: Sequence[Module], task: LanguageModel, tests: SequenceLoader, full: bool
    ) -> dict[str, Any]:
        """The task's figures; and samples, of the first net."""
        figures = task.measure(models, tests.epoch(0))
        return {"figures": figures, **self.samples(models[0], tests.dataset)}

    def samples(self, model: Module, tests: Any) -> dict[str, Any]:
        """What a report shows: "texts", pairs of a title and a text; "pictures", of a title and
        bytes of PNG.
        """
        raise NotImplementedError

    def tell(self, result: dict[str, Any]) -> Iterator[str]:
        measures = LanguageModel.measures.items()
        words = [measure.words(result["figures"][name]) for name, measure in measures]
        yield f"test loss {result['figures']['loss']:.4f}, {', '.join(words)}"
        for title, text in result["texts"]:
            yield f"{title}:\n{text}"

    def save(self, result: dict[str, Any], folder: Path) -> None:
        write_whole(folder / "evaluation.json", json.dumps(result))

    def reached(self, result: dict[str, Any]) -> str:
        figures = result["figures"]
        return f"names {figures['right']:.2f} % of the tokens right: loss {figures['loss']:.4f}"

    def files(self, what: str) -> list[str]:
        """A text stands for itself."""
        return [what]


@dataclass(frozen=True)
class Text(Language):
    """A text by its characters, the embedded Shakespeare or one's own.

    length   characters that the net sees at once
    pieces   how examples are cut: Windows, whose targets are the next characters, or Masked
    speak    (net, vocabulary, text) -> what the net makes of a text
    prompts  the texts whose results the report shows
    """

    length: int
    pieces: type[Windows]
    speak: Callable[[Any, Vocabulary, str], str]
    prompts: tuple[str, ...]

    asks = ("TEXT", "what the net makes of a text")

    def add_options(self, parser: Parser, defaults: Callable[[str], str]) -> None:
        add = parser.group("the text")
        add(
            "--data",
            f"a file of UTF-8, plain or gzipped; its last {TEST:.0%} are tested on (default: "
            "embedded, plays of Shakespeare)",
            metavar="FILE",
        )

    def open(self, settings: dict) -> tuple[Windows, Windows]:
        source = settings["data"] or "plays of Shakespeare"
        text = read_text(Path(settings["data"])) if settings["data"] else shakespeare()
        vocabulary = Vocabulary(sorted(set(text)))
        end = math.ceil((1 - TEST) * len(text))
        train, test = (
            self.pieces(part, vocabulary, self.length, source) for part in (text[:end], text[end:])
        )
        return train, test

    def describe(self, settings: dict, train: Windows) -> dict[str, Any]:
        return {"vocabulary": train.vocabulary.symbols, "length": self.length}

    def loader(self, settings: dict, about: dict, dataset: Any, train: bool) -> SequenceLoader:
        """A net that reads another text reads it with its own vocabulary."""
        if dataset.vocabulary.symbols != about["vocabulary"]:
            known = Vocabulary(about["vocabulary"])
            dataset = self.pieces(dataset.text, known, self.length, dataset.source)
        return super().loader(settings, about, dataset, train)

    def task(
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> LanguageModel:
        if about["length"] != self.length:
            raise CheckpointError(
                f"expected a net that sees {self.length} characters, got one of {about['length']}"
            )
        return super().task(about, arrays, devices)

    def zeros(self, about: dict, count: int, device: Device) -> tuple[np.ndarray, ...]:
        return np.zeros((count, self.length), np.int64), np.zeros((count, self.length), np.int64)

    def samples(self, model: Module, tests: Windows) -> dict[str, Any]:
        texts = [(f"from {p!r}", self.speak(model, tests.vocabulary, p)) for p in self.prompts]
        return {"texts": texts}

    def predict(
        self, models: Sequence[Module], task: LanguageModel, about: dict, what: str
    ) -> list[str]:
        return [self.speak(models[0], Vocabulary(about["vocabulary"]), what)]
