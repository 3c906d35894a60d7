"""Language models: what a test counts, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet.parallel.ranks import Ranks
from tinynet.recording import is_grad_enabled
from tinynet.training.language import LanguageModel, Translation, asked

P = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]])
Q = P[:, ::-1]
TARGETS = np.array([[0, 1], [-1, 1]])  # the first of the second sequence is not asked for


def says(shares):
    def net(rows):
        assert len(rows)  # not every net takes a batch without rows
        return tinynet.tensor(np.log(shares)[rows])

    return net


def test_figures_are_means_over_the_tokens_asked_for():
    task = LanguageModel(tinynet.device("cpu"), 3)
    batches = [(np.array([k]), TARGETS[k : k + 1]) for k in (0, 1)]
    found = task.measure([says(P)], batches)
    assert found["loss"] == pytest.approx(-np.log(0.7 * 0.8 * 0.25) / 3)
    assert found["perplexity"] == pytest.approx((0.7 * 0.8 * 0.25) ** (-1 / 3))
    assert found["right"] == pytest.approx(200 / 3)
    assert task.chance == np.log(3) and [task.weight(b) for b in batches] == [2, 1]
    empty = np.zeros(0, int), np.zeros((0, 2), int)
    assert task.test(says(P), [*batches, empty]) == found
    assert task.test(says(P), batches[1:])["loss"] == pytest.approx(-np.log(0.25))  # one token
    assert task.test(says(P), []) == {"loss": 0, "perplexity": 1, "right": 0}
    both = task.measure([says(P), says(Q)], batches)
    mean = (P + Q) / 2
    right = mean[0, 0, 0] * mean[0, 1, 1] * mean[1, 1, 1]
    assert both["loss"] == pytest.approx(-np.log(right) / 3)
    assert both["right"] == pytest.approx(100 / 3)  # 1, 1 and 0 are said; Q alone names none right
    loss, (share,) = task.loss(says(P), np.array([0, 1]), TARGETS)
    assert loss.item() == pytest.approx(found["loss"]) and share == pytest.approx(200 / 3)


def test_sequences_are_counted_by_their_targets():
    """A net may see its tokens in another order of axes, such as (T, N)."""
    task = LanguageModel(tinynet.device("cpu"), 3)
    batch = np.array([[0, 1]]), TARGETS
    empty = np.zeros((1, 0), int), np.zeros((0, 2), int)
    assert [task.count(each) for each in (batch, empty)] == [2, 0]
    found = task.measure([lambda rows: says(P)(rows[0])], [batch, empty])
    assert found == task.measure([says(P)], [(np.arange(2), TARGETS)])


def test_what_language_models_are_measured_by():
    assert (LanguageModel.unit, Translation.unit) == ("sequences", "pairs")
    for task in (LanguageModel, Translation):
        assert (task.measured, task.best_by) == (("right",), "loss")


def test_a_mistake_of_which_the_net_is_sure_costs_what_it_costs_in_training():
    def sure(rows):
        assert not is_grad_enabled()  # a test needs no tape
        return tinynet.tensor(np.full((len(rows), 2, 3), (500.0, -500.0, -500.0)))

    task = LanguageModel(tinynet.device("cpu"), 3)
    found = task.measure([sure], [(np.array([0]), np.array([[0, 1]]))])
    assert found["loss"] == pytest.approx(1000 / 2)
    assert found["perplexity"] == pytest.approx(np.exp(500.0)) and found["right"] == 50
    found = task.measure([sure], [(np.array([0]), np.array([[1, 2]]))])
    assert found["loss"] == 1000 and 1e300 < found["perplexity"] < np.inf


def test_the_places_that_are_asked_for(rng):
    """Of logits (N, T, K) the rows whose target is a token, in their order."""
    logits = rng.normal(size=(3, 4, 5)).astype(np.float32)
    targets = np.array([[-1, 0, 3, -1], [-1] * 4, [2, -1, -1, 4]])
    found, tokens = asked(tinynet.tensor(logits), targets)
    expected = [logits[0, 1], logits[0, 2], logits[2, 0], logits[2, 3]]
    np.testing.assert_array_equal(found.numpy(), expected)
    assert tokens.tolist() == [0, 3, 2, 4]
    every = np.abs(targets)
    found, tokens = asked(tinynet.tensor(logits), every)
    np.testing.assert_array_equal(found.numpy(), logits.reshape(12, 5))
    assert tokens.tolist() == every.ravel().tolist()


def test_a_translation_is_exact_to_its_last_word():
    """Its end is not said; padding is not asked for; of several nets the first one translates."""
    END = 2
    targets = np.array([[0, 1, END, -1], [1, END, -1, -1], [0, 0, 1, END], [END, -1, -1, -1]])
    said = {0: [0, 1], 1: [0], 2: [0, 0], 3: []}  # right, another, one word short, right

    def translate(net, words):
        assert len(words)  # not every net takes a batch without rows
        return [said[int(row[0])] if net is first else [] for row in words]

    def first(words, before):
        return tinynet.tensor(np.zeros((*before.shape, 3), np.float32))

    def second(words, before):
        return first(words, before)

    task = Translation(tinynet.device("cpu"), 3, translate)
    words = np.arange(4)[:, None]
    batches = [(words[k], targets[k] * 0, targets[k]) for k in (slice(3), slice(3, 4), slice(0))]
    found = task.measure([first, second], batches)
    assert found["exact"] == 50 and found["loss"] == pytest.approx(np.log(3))
    assert task.test(first, batches) == pytest.approx(found)
    assert set(found) == {"loss", *task.measures} and task.count(batches[0]) == 3
    assert task.measure([first], batches[1:])["exact"] == 100
    assert task.measure([first], [])["exact"] == 0


def test_the_figures_of_a_test_are_those_of_all_ranks():
    """Sums over what is asked for, added over the ranks, divided once."""
    summed = []

    class Noting(Ranks):
        def sum(self, array):
            summed.append(list(array))
            return np.array([3.0, 2.0, 6.0][: len(array)])

    task = Translation(tinynet.device("cpu"), 3, lambda net, words: [[0]] * len(words))
    task.steps = SimpleNamespace(ranks=Noting())
    batches = [(np.arange(2), TARGETS)]
    found = task.measure([says(P)], batches)
    assert found == pytest.approx(
        {"loss": 0.5, "perplexity": np.exp(0.5), "right": 100 / 3, "exact": 150}
    )
    assert summed == [pytest.approx([-np.log(0.7 * 0.8 * 0.25), 2, 3]), [1, 2]]
    task.measure([says(P)], [])
    assert summed[2:] == [[0, 0, 0], [0, 0]]  # of a rank whose parts are all empty


def test_a_translation_for_each_sentence():
    task = Translation(tinynet.device("cpu"), 3, lambda net, words: [[0]])
    with pytest.raises(ValueError, match="zip"):
        task.measure([says(P)], [(np.arange(2), TARGETS)])
