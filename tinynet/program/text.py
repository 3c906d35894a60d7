"""Sequences of tokens: the data of a program that learns a language."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.data import (
    Pairs,
    SequenceLoader,
    Sequences,
    Vocabulary,
    Windows,
    read_text,
    shakespeare,
)
from tinynet.data.text import BEGIN, END, PAD, SPECIAL, Words, padded, read_pairs
from tinynet.devices import Device
from tinynet.errors import CheckpointError, DataError
from tinynet.nn import Module, MultiHeadAttention
from tinynet.program.options import Parser
from tinynet.program.recipe import Feeding
from tinynet.program.shown import Shown
from tinynet.tensors import Tensor
from tinynet.training.language import LanguageModel, Translation
from tinynet.training.plots import share_pictures

TEST = 0.1  # this share of a text, its end, is tested on


class Language(Shown):
    """The base of data rooms whose examples are sequences.

    Subclasses write `open`, `describe` with the tokens as "vocabulary", `zeros`, `tokens`,
    `samples` and `predict`.
    """

    changeable: set[str] = set()

    def settings(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, Any]:
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

    def figures(
        self, models: Sequence[Module], task: LanguageModel, tests: SequenceLoader
    ) -> dict[str, float]:
        return task.measure(models, tests.epoch(0))

    def reached(self, result: dict[str, Any]) -> str:
        figures = result["figures"]
        exact = f"translates {figures['exact']:.2f} % exactly, " if "exact" in figures else ""
        return (
            f"{exact}names {figures['right']:.2f} % of the tokens right: loss {figures['loss']:.4f}"
        )

    def tokens(self, about: dict) -> tuple[np.ndarray, ...]:
        """Numbers of words (1, T), as the net takes them, for `feeding`."""
        raise NotImplementedError

    def feeding(self, model: Module, task: LanguageModel, about: dict, raw: bool) -> Feeding:
        """Numbers of words."""
        if raw:
            raise ValueError("--raw is for pictures: leave it out")
        example = self.tokens(about)
        metadata = {name: about[name] for name in ("source", "vocabulary") if name in about}
        words = "numbers of the vocabulary, int64 " + " and ".join(
            f"(N, {tokens.shape[1]})" for tokens in example
        )
        return Feeding(example, None, words, "logits", metadata)


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

    @property
    def asks(self) -> tuple[str, str]:
        return "TEXT", f"what the net makes of a text, such as {self.prompts[-1]!r}"

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

    def tokens(self, about: dict) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(0)
        return (rng.integers(0, len(about["vocabulary"]), (1, self.length)),)

    def samples(
        self, model: Module, task: LanguageModel, tests: SequenceLoader[Windows]
    ) -> dict[str, Any]:
        texts, vocabulary = {}, tests.dataset.vocabulary
        for prompt in self.prompts:
            try:
                texts[f"from {prompt!r}"] = self.speak(model, vocabulary, prompt)
            except DataError as error:  # a text of one's own may lack a prompt's characters
                texts[f"from {prompt!r}"] = f"({error})"
        return {"texts": texts}

    def predict(
        self, models: Sequence[Module], task: LanguageModel, about: dict, what: str
    ) -> list[str]:
        return [self.speak(models[0], Vocabulary(about["vocabulary"]), what)]


@dataclass(frozen=True)
class Translations(Language):
    """Sentences and their translations: those of a file, or others that the program makes.

    pairs      () -> those to train on, those to test on
    translate  (net, words (N, S)) -> for each the numbers of its translation
    look       net -> the attention layer that the report draws: a translation looks at a sentence
    examples   texts that the report shows, the first with its picture
    read       a text as words
    """

    pairs: Callable[[], tuple[list[tuple[Words, Words]], list[tuple[Words, Words]]]]
    translate: Callable[[Any, np.ndarray], list[list[int]]]
    look: Callable[[Any], MultiHeadAttention]
    examples: tuple[str, ...]
    read: Callable[[str], Words]

    @property
    def asks(self) -> tuple[str, str]:
        return "TEXT", f"the translation of a text, such as {self.examples[0]!r}"

    def add_options(self, parser: Parser, defaults: Callable[[str], str]) -> None:
        add = parser.group("the sentences")
        add(
            "--data",
            "a file of UTF-8: in each line a sentence, a TAB, its translation; the last "
            f"{TEST:.0%} of the lines are tested on (default: made by the program)",
            metavar="FILE",
        )

    def open(self, settings: dict) -> tuple[Pairs, Pairs]:
        source = settings["data"] or "sentences made by the program"
        if settings["data"]:
            pairs = read_pairs(Path(settings["data"]))
            end = math.ceil((1 - TEST) * len(pairs))
            parts = pairs[:end], pairs[end:]
        else:
            parts = self.pairs()
        languages = [
            Vocabulary([*SPECIAL, *sorted({w for part in parts for pair in part for w in pair[k]})])
            for k in (0, 1)
        ]
        train, test = (Pairs(part, (languages[0], languages[1]), source) for part in parts)
        return train, test

    def describe(self, settings: dict, train: Pairs) -> dict[str, Any]:
        source, target = train.languages
        return {"source": source.symbols, "vocabulary": target.symbols}

    def loader(self, settings: dict, about: dict, dataset: Any, train: bool) -> SequenceLoader:
        """A net that translates other sentences reads them with its own vocabularies."""
        known = Vocabulary(about["source"]), Vocabulary(about["vocabulary"])
        if [language.symbols for language in dataset.languages] != [k.symbols for k in known]:
            dataset = Pairs(dataset.pairs, known, dataset.source)
        return super().loader(settings, about, dataset, train)

    def task(
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> Translation:
        return Translation(devices[0], len(about["vocabulary"]), self.translate)

    def zeros(self, about: dict, count: int, device: Device) -> tuple[np.ndarray, ...]:
        """A batch of long sentences: 16 words."""
        return tuple(np.ones((count, 16), np.int64) for _ in range(3))

    def tokens(self, about: dict) -> tuple[np.ndarray, ...]:
        """A sentence and its translation so far, 16 words each; a file holds one length."""
        rng = np.random.default_rng(0)
        sizes = len(about["source"]), len(about["vocabulary"])
        source, said = (rng.integers(size, size=(1, 16)) for size in sizes)
        source[0, -1] = PAD
        return source, said

    def samples(
        self, model: Module, task: Translation, tests: SequenceLoader[Pairs]
    ) -> dict[str, Any]:
        source, target = tests.dataset.languages
        own = tests.dataset.pairs[0][0]  # sentences of a file have other words than the examples
        known = all(word in source.symbols for each in self.examples for word in self.read(each))
        asked = [self.read(each) for each in self.examples] if known else [own]
        rows = padded([source.encode(words) for words in asked], PAD)
        said = self.translate(model, rows)
        title = f"attention when {' '.join(asked[0])} is translated"
        shares = self.shares(model, rows[:1, : len(asked[0])], np.array([[BEGIN, *said[0]]]))
        panels = [(f"head {number}", share) for number, share in enumerate(shares, 1)]
        spoken = [*target.decode(said[0]), SPECIAL[END]]
        return {
            "texts": {
                " ".join(words): " ".join(target.decode(numbers))
                for words, numbers in zip(asked, said, strict=True)
            },
            "pictures": {title: share_pictures(panels, spoken, asked[0])},
        }

    def shares(self, model: Module, words: np.ndarray, said: np.ndarray) -> np.ndarray:
        """(heads, T, S): how much each head of the layer looks at each word of (1, S), when the
        next word after each of (1, T) is said.
        """
        layer, seen = self.look(model), []

        def watched(*args: Any, **options: Any) -> Tensor:
            seen.append(layer.shares(*args, **options))
            return type(layer).forward(layer, *args, **options)

        layer.forward = watched  # type: ignore[method-assign]
        try:
            model(words, said)
        finally:
            del layer.forward  # the class's own is seen again
        return seen[0].numpy()[0]

    def predict(
        self, models: Sequence[Module], task: LanguageModel, about: dict, what: str
    ) -> list[str]:
        words = self.read(what)
        if not words:
            raise ValueError("expected at least one word to translate, got none")
        numbers = Vocabulary(about["source"]).encode(words, what)[None]
        said = self.translate(models[0], numbers)[0]
        return [f"{' '.join(words)}: {' '.join(Vocabulary(about['vocabulary']).decode(said))}"]
