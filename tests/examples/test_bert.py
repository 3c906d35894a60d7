"""examples/history/bert.py: against PyTorch, resumed, asked."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, losses_of_both, resumed_to_the_same_bits

import tinynet
from tinynet.data import Masked, SequenceLoader, Vocabulary, shakespeare
from tinynet.training.language import LanguageModel

import bert  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def small(text, count):
    """A net, its task and batches of `text`."""
    vocabulary = Vocabulary(sorted(set(text)))
    loader = SequenceLoader(Masked(text, vocabulary, 16), 16, train=True, seed=1)
    batches = [batch for batch, _ in zip(loader.epoch(0), range(count), strict=False)]
    net = bert.BERT(len(vocabulary), 16, 32, 4, 2, CPU)
    return net, LanguageModel(CPU, len(vocabulary)), batches


def test_first_losses_are_those_of_pytorch():
    net, task, batches = small(shakespeare()[:3000], 6)
    assert_first_losses_agree("bert", net, partial(bert.adam, lr=1e-3), task, batches)


@pytest.mark.slow
def test_attention_finds_the_neighbours_as_in_pytorch():
    """Words in any order: what stands beside a hidden character tells it. A net that looks
    everywhere alike comes to 2.0 in so many steps, one that looks nowhere to 2.5.
    """
    words = "my lord the king shall speak with thee".split()
    text = " ".join(np.random.default_rng(0).choice(words, 30_000))
    tinynet.manual_seed(0)
    net, task, batches = small(text, 500)
    ours, theirs = losses_of_both("bert", net, bert.adam(net, 3e-3), task, batches)
    assert np.mean(ours[-50:]) == pytest.approx(np.mean(theirs[-50:]), rel=0.01)
    assert np.mean(ours[-50:]) < 1.7


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(tmp_path, capsys):
    path, out = tmp_path / "play.txt", tmp_path / "run"
    path.write_text("Good " + shakespeare()[:8000])  # all characters of the prompts
    start = ("--preset", "bert-mini", "--data", path, "--epochs", 2, "--batch-size", 50)
    resumed_to_the_same_bits(bert.main, out, start, 4)
    texts = json.loads((out / "evaluation.json").read_text())["texts"]
    assert len(texts) == 2
    for prompt, (_, said) in zip(bert.PROMPTS, texts, strict=True):
        assert len(said) == len(prompt) and "_" not in said
        assert all(a == b for a, b in zip(prompt, said, strict=True) if a != "_")
    capsys.readouterr()
    assert bert.main(["--eval", str(out)]) == 0
    assert "perplexity" in capsys.readouterr().out
    assert bert.main(["--predict", str(out), "the k_ng"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the k") and said.endswith("ng\n") and len(said) == 9
    for wrong in ("no gap", "_" * 65):
        assert bert.main(["--predict", str(out), wrong]) == 2
        assert "at most 64 characters, _ for a hidden one" in capsys.readouterr().err


def test_every_place_sees_all_others(rng):
    net = bert.BERT(11, 9, 8, 2, 2, CPU)
    tokens = rng.integers(0, 11, (1, 9))
    before = net(tokens).numpy()
    tokens[:, 5] = (tokens[:, 5] + 1) % 11
    assert (before != net(tokens).numpy()).any(axis=(0, 2)).all()
