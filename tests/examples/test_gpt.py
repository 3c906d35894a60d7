"""examples/history/gpt.py: against PyTorch, resumed, asked."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, losses_of_both, resumed_to_the_same_bits

import tinynet
from tinynet.data import SequenceLoader, Vocabulary, Windows, shakespeare
from tinynet.training.language import LanguageModel

import gpt  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text(shakespeare()[:6000])
    return path


def batches_of(text, count):
    vocabulary = Vocabulary(sorted(set(text)))
    loader = SequenceLoader(Windows(text, vocabulary, 16), 8, train=True, seed=1)
    return vocabulary, [batch for batch, _ in zip(loader.epoch(0), range(count), strict=False)]


def test_first_losses_are_those_of_pytorch():
    tinynet.manual_seed(0)
    vocabulary, batches = batches_of(shakespeare()[:3000], 6)
    net = gpt.GPT(len(vocabulary), 16, 32, 4, 2, CPU)
    adam, task = partial(gpt.adam, lr=1e-3), LanguageModel(CPU, len(vocabulary))
    ours = assert_first_losses_agree("gpt", net, adam, task, batches)
    assert ours[-1] < ours[0] - 0.05


@pytest.mark.slow
def test_after_300_steps_within_a_hundredth_of_pytorch():
    vocabulary, batches = batches_of(shakespeare()[:60_000], 300)
    tinynet.manual_seed(0)
    net = gpt.GPT(len(vocabulary), 16, 32, 4, 2, CPU)
    task = LanguageModel(CPU, len(vocabulary))
    ours, theirs = losses_of_both("gpt", net, gpt.adam(net, 3e-3), task, batches)
    assert np.mean(ours[-50:]) == pytest.approx(np.mean(theirs[-50:]), rel=0.01)
    assert np.mean(ours[-50:]) < 2.7


def test_resumed_to_the_same_bits_then_asked(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpt.speak, "__defaults__", (30,))  # characters of a sample
    out = tmp_path / "run"
    start = ("--preset", "gpt-mini", "--data", text, "--epochs", 2, "--batch-size", 40)
    resumed_to_the_same_bits(gpt.main, out, start, 4)
    said = json.loads((out / "evaluation.json").read_text())
    assert [title for title, _ in said["texts"]] == [r"from 'ROMEO:\n'", "from 'The king'"]
    assert "The king" in (out / "report.html").read_text()
    capsys.readouterr()
    assert gpt.main(["--eval", str(out), str(out)]) == 0
    found = capsys.readouterr().out
    assert f"test loss {said['figures']['loss']:.4f}" in found and said["texts"][1][1] in found
    assert gpt.main(["--predict", str(out), "The king", "No\N{EURO SIGN}"]) == 2
    found = capsys.readouterr()
    assert found.out == said["texts"][1][1] + "\n" and len(found.out) == 8 + 30 + 1
    assert "got '\N{EURO SIGN}'" in found.err
    assert gpt.main(["--resume", "--out", str(out), "--workers", "2"]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_no_place_sees_what_comes_after_it(rng):
    net = gpt.GPT(11, 9, 8, 2, 2, CPU)
    tokens = rng.integers(0, 11, (2, 9))
    before = net(tokens).numpy()
    tokens[:, 5] = (tokens[:, 5] + 1) % 11
    after = net(tokens).numpy()
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(axis=(0, 2)).all()


def test_a_text_without_the_prompts_characters(tmp_path, monkeypatch):
    """It ends well all the same, and the report says why there is no sample."""
    monkeypatch.setattr(gpt.speak, "__defaults__", (3,))
    path, out = tmp_path / "numbers.txt", tmp_path / "run"
    path.write_text("0123456789\n" * 150)
    start = f"--preset gpt-mini --epochs 1 --batch-size 20 --data {path} --out {out}"
    assert gpt.main(start.split()) == 0
    assert "the 11 symbols that the net knows, got" in (out / "report.html").read_text()
    assert gpt.main(["--predict", str(out), "012"]) == 0
    path.write_text("0123")
    assert gpt.main(start.split()) == 2
