"""Steps of several ranks, each with rows of its own, against one process with all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from team import Member, Team

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.optim import SGD
from tinynet.parallel import steps
from tinynet.parallel.ranks import ALONE


class Net(nn.Module):
    """Layers of every kind that steps know: with ReLU and without, of rows and of sequences, used
    once, twice, by some ranks alone, by none; on two devices; in two types.
    """

    def __init__(self) -> None:
        tinynet.manual_seed(5)
        self.wide = nn.Linear(40, 30, relu=True)
        self.sequences = nn.Linear(10, 40, relu=True)
        self.there = nn.Linear(30, 30, device="cpu:1")
        self.twice = nn.Linear(30, 30)
        self.single = nn.Linear(3, 3)
        self.rarely = nn.Parameter(np.ones(30, np.float32))
        self.never = nn.Linear(4, 4)
        self.last = nn.Linear(30, 7)
        for p in self.parameters():
            p.data = p.data.astype(np.float64)
        for p in self.single.parameters():
            p.data = p.data.astype(np.float32)

    def forward(self, x: Any, marked: bool) -> Any:
        """x (N, 4, 10). marked: whether one of these rows is marked."""
        h = self.sequences(x).reshape(len(x), 4, 40).mean(1)
        h = self.wide(h)
        h = self.there(h.to("cpu:1")).to("cpu") + h
        h = self.twice(F.relu(self.twice(h)))
        small = self.single(x[:, 0, :3].astype(np.float32)).astype(np.float64)
        h = h + small.sum(1, keepdims=True)
        return self.last(h * self.rarely if marked else h)


def batch(number: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([7, number])
    return rng.normal(size=(count, 4, 10)), rng.integers(0, 7, count)


def train(
    ranks: Any, steps_counts: list[list[int]], factors: bool, marked: int | None, lr: float = 0.05
) -> Any:
    """Gradients and losses of some steps, the weights after them. For each step the rows of each
    rank.
    """
    net = Net()
    optimizer = SGD(net.parameters(), lr, momentum=0.9)
    how: Any = steps.steps_of(ranks, net.parameters(), factors)
    told = []
    for number, counts in enumerate(steps_counts):
        first, mine = sum(counts[: ranks.rank]), counts[ranks.rank]
        x, labels = (part[first : first + mine] for part in batch(number, sum(counts)))
        with how.share(mine, mine) as total:
            assert total == sum(counts)
            noise = tinynet.randn(mine, 4, 10, dtype=np.float64)
            is_marked = marked is not None and first <= marked < first + mine
            given = tinynet.tensor(x, requires_grad=True)  # a leaf that nobody learns
            logits = net(given + 0.1 * noise, is_marked)
            loss = F.cross_entropy(logits, labels)
            wrong = tinynet.tensor((logits.data.argmax(1) != labels).mean())
            net.zero_grad()
            means = how.backward(loss, [loss.data, wrong.data])
        gradients = {
            name: None if p.grad is None else p.grad.numpy().copy()
            for name, p in net.named_parameters()
        }
        told.append((gradients, [float(m) for m in means]))
        optimizer.step()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in net.parameters())
    return told, {name: p.numpy() for name, p in net.named_parameters()}, how


def alike(ours: Any, expected: Any) -> None:
    (told, weights, _), (its_told, its_weights, _) = ours, expected
    for (gradients, means), (its, its_means) in zip(told, its_told, strict=True):
        np.testing.assert_allclose(means, its_means, rtol=1e-6)  # a layer of it is float32
        for name, g in its.items():
            assert (gradients[name] is None) == (g is None), name
            if g is not None:
                close = 1e-5 * np.abs(g).max()
                np.testing.assert_allclose(gradients[name], g, rtol=0, atol=close, err_msg=name)
    for name, w in its_weights.items():
        np.testing.assert_allclose(weights[name], w, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "counts, factors, bucket",
    [
        ([4, 4], False, 1), ([4, 4], True, 16 << 20), ([1, 5], True, 3000),
        ([3, 2, 2], False, 3000), ([3, 2, 2], True, 1), ([2, 1, 4, 1], False, 16 << 20),
    ],
)  # fmt: skip
def test_ranks_take_the_steps_of_one_process(counts, factors, bucket, monkeypatch):
    monkeypatch.setattr(steps, "BUCKET", bucket)
    tinynet.manual_seed(9)
    state = tinynet.random.get_state()
    rows = [counts, [1, *counts[:-1]], counts]  # a smaller batch, in which others have most
    expected = train(ALONE, [[sum(each)] for each in rows], False, None)
    tinynet.random.set_state(state)
    found = Team(len(counts)).run(lambda member: train(member, rows, factors, None))
    for ours in found:
        alike(ours, expected)
        for name, w in ours[1].items():  # the same bits on all ranks
            assert w.tobytes() == found[0][1][name].tobytes(), name
    how = found[0][2]
    told = [p for bucket in how.buckets for p in bucket.parameters]
    left = set() if how.factors is None else how.factors.weights
    assert len(told) == len(set(told)) and set(told) | left == set(how.parameters)
    for b in how.buckets:
        assert len(b.parameters) == 1 or sum(p.data.nbytes for p in b.parameters) <= bucket
    kinds = {(b.device, b.flat.dtype) for b in how.buckets}
    assert len(kinds) == 3 and (bucket > 1 or len(how.buckets) == len(how.place))
    if factors:
        names = {p: name for name, p in zip(expected[1], how.parameters, strict=True)}
        # what gains by the whole batch: N (I + O) < 2 I O; sequences have four rows an example
        total = sum(counts)
        gain = {n for n, i, o, k in (("wide", 40, 30, 1), ("sequences", 10, 40, 4),
                                     ("there", 30, 30, 1), ("last", 30, 7, 1))
                if total * k * (i + o) < 2 * i * o}  # fmt: skip
        assert {names[w] for w in how.factors.weights} - {"single.weight"} == {
            f"{n}.weight" for n in gain
        }


def test_a_parameter_that_one_rank_uses(monkeypatch):
    """Its gradient is that rank's, weighted, on all of them; of the others it is zeros, of none
    None."""
    counts = [[2, 3]] * 3
    for row, name in ((1, "rarely"), (4, "rarely"), (None, None)):
        found = Team(2).run(lambda member, row=row: train(member, counts, False, row, lr=0.0))
        for gradients in (told[0] for ours in found for told in ours[0]):
            assert (gradients["rarely"] is not None) == (name is not None)
            assert gradients["never.weight"] is None
        how = found[0][2]
        assert sum(len(b.parameters) for b in how.buckets) == len(how.place) == len(how.parameters)
        if name:
            one, two = (ours[0][0][0][name] for ours in found)
            assert one.any() and one.tobytes() == two.tobytes()


def test_a_mean_over_values_that_are_no_rows():
    """weight: of how many values a rank's loss is a mean, tokens say, whatever its examples."""
    w = np.arange(1.0, 4)
    x = np.arange(12.0).reshape(4, 3)
    values = [1, 5, 2, 4]  # of each row

    def life(member: Member) -> Any:
        p = nn.Parameter(w.astype(np.float32))
        p.data = w.copy()
        how: Any = steps.steps_of(member, [p])
        mine = slice(0, 1) if member.rank == 0 else slice(1, 4)
        count = np.array(values[mine], float)
        with how.share(len(count), count.sum()) as total:
            assert total == 4
            terms = tinynet.tensor(x[mine] * count[:, None]) * p
            (mean,) = how.backward(terms.sum() / count.sum(), [tinynet.tensor(count.mean()).data])
        return p.grad.numpy(), float(mean)

    for gradient, mean in Team(2).run(life):
        np.testing.assert_allclose(gradient, (x * np.array(values)[:, None]).sum(0) / 12)
        assert mean == pytest.approx(1 / 12 * 1 + 11 / 12 * (11 / 3))


def test_steps_go_on_where_no_figure_is_asked_for_and_before_any_backward():
    def life(member: Member) -> Any:
        p = nn.Parameter(np.ones(3, np.float32))
        how: Any = steps.steps_of(member, [p])
        with how.share(1, 1):
            assert how.backward((p * float(member.rank)).sum()) == []
        return p.grad.numpy().tolist()

    assert Team(2).run(life) == [[0.5] * 3] * 2


def test_layers_are_chosen_once():
    """By the first batch; a last one of fewer rows, for which more layers would gain, exchanges the
    same."""

    def life(member: Member) -> Any:
        tinynet.manual_seed(1)
        net = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 4))
        how: Any = steps.steps_of(member, net.parameters(), True)
        chosen = []
        for rows in (6, 1):
            with how.share(rows, rows):
                x = tinynet.tensor(np.ones((rows, 30), np.float32) * (1 + member.rank))
                net.zero_grad()
                how.backward((net(x) ** 2).mean())
            chosen.append(set(how.factors.weights))
            assert all(p.grad is not None for p in net.parameters())
        assert chosen[0] == chosen[1] == {net.layers[0].weight}
        return [p.grad.numpy() for p in net.parameters()]

    one, two = Team(2).run(life)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
