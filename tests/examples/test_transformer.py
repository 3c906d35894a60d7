"""examples/history/transformer.py: against PyTorch, resumed, asked; its numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, resumed_to_the_same_bits

import tinynet
from tinynet.data import Pairs, SequenceLoader, Vocabulary
from tinynet.data.text import PAD, SPECIAL
from tinynet.training.language import Translation

import transformer  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def adam(net):
    return transformer.RECIPE.optimizer(net, 2e-3)


def pairs_of(numbers):
    both = [
        (transformer.german(str(n)), transformer.spell(n, transformer.ENGLISH)) for n in numbers
    ]
    words = [sorted({w for pair in both for w in pair[k]}) for k in (0, 1)]
    return Pairs(both, tuple(Vocabulary([*SPECIAL, *each]) for each in words))


@pytest.mark.parametrize(
    "n, german, english",
    [
        (0, "null", "zero"),
        (1, "eins", "one"),
        (17, "siebzehn", "seventeen"),
        (30, "dreißig", "thirty"),
        (101, "ein hundert eins", "one hundred one"),
        (21_001, "ein und zwanzig tausend eins", "twenty one thousand one"),
        (
            345_678,
            "drei hundert fünf und vierzig tausend sechs hundert acht und siebzig",
            "three hundred forty five thousand six hundred seventy eight",
        ),
        (100_011, "ein hundert tausend elf", "one hundred thousand eleven"),
    ],
)
def test_numbers(n, german, english):
    assert transformer.german(str(n)) == german.split()
    assert transformer.spell(n, transformer.ENGLISH) == english.split()


def test_no_number_is_trained_on_and_tested_on():
    train, test = ({" ".join(german) for german, _ in part} for part in transformer.pairs())
    assert len(test) == 5000 and len(train) >= 20_000 and not train & test


def test_first_losses_are_those_of_pytorch():
    tinynet.manual_seed(0)
    data = pairs_of(range(7, 900_000, 17_011))
    batches = list(SequenceLoader(data, 8, train=True, seed=1).epoch(0))[:5]
    sizes = [len(language) for language in data.languages]
    net = transformer.Transformer(sizes, CPU, 32)
    task = Translation(CPU, sizes[1], transformer.translate)
    ours = assert_first_losses_agree("transformer", net, adam, task, batches)
    assert ours[-1] < ours[0] - 0.3


def test_padding_changes_nothing():
    data = pairs_of([3, 345_678])
    tinynet.manual_seed(0)  # of other nets one in some twenty says nothing at all
    net = transformer.Transformer([len(words) for words in data.languages], CPU, 32)
    alone, both = data.batch(np.array([0]), None), data.batch(np.array([0, 1]), None)
    T = alone[1].shape[1]
    np.testing.assert_allclose(
        net(*alone[:2]).numpy()[0], net(*both[:2]).numpy()[0, :T], rtol=1e-4, atol=1e-5
    )
    said, same = (transformer.translate(net, batch[0])[0] for batch in (alone, both))
    assert said and said == same[: len(said)]


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(tmp_path, capsys):
    path, out = tmp_path / "pairs.txt", tmp_path / "run"
    numbers = [*range(40), 345_678, 21_001]
    sides = (
        (transformer.german(str(n)), transformer.spell(n, transformer.ENGLISH)) for n in numbers
    )
    path.write_text("".join(f"{' '.join(a)}\t{' '.join(b)}\n" for a, b in sides))
    start = ("--data", path, "--epochs", 2, "--batch-size", 18)
    resumed_to_the_same_bits(transformer.main, out, start, 4)
    found = json.loads((out / "evaluation.json").read_text())
    assert set(found["figures"]) == {"loss", "perplexity", "right", "exact"}
    assert (out / "attention.png").stat().st_size > 2000
    assert "fünf und vierzig" in (out / "report.html").read_text()
    capsys.readouterr()
    assert transformer.main(["--predict", str(out), "21", "ein und zwanzig"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith("ein und zwanzig: ")
    for wrong, said in (("1000000", "below 1,000,000"), ("zwo", "got 'zwo'"), ("", "one word")):
        assert transformer.main(["--predict", str(out), wrong]) == 2
        assert said in capsys.readouterr().err
    path.write_text("ein one\n")
    assert transformer.main(["--eval", str(out), "--data", str(path)]) == 2
    assert "line 1: expected a sentence, a TAB" in capsys.readouterr().err


def test_exact_counts_whole_translations():
    """A translator that knows all but one word."""
    data = pairs_of([5, 21, 300, 301, 7])
    right = {tuple(a.tolist()): b.tolist() for a, b in data.numbers}

    def translate(net, source):
        said = [list(right[tuple(row[row != PAD].tolist())]) for row in source]
        return [words[:-1] + [0] if len(words) == 3 else words for words in said]

    sizes = [len(words) for words in data.languages]
    net = transformer.Transformer(sizes, CPU, 16)
    task = Translation(CPU, sizes[1], translate)
    assert task.test(net, SequenceLoader(data, 2, train=False).epoch(0))["exact"] == 80
