"""What leaves a rank in a step, in bytes: what the formulas of benchmarks/weird_trick.py say."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same import Done, Same

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.parallel import steps
from tinynet.parallel.ranks import ALONE, Ranks

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import weird_trick

BATCH = 6
LAYERS = ((64, 40), (40, 30), (30, 11))  # the last one does not gain with batches of 6 x 3
CLASSES = LAYERS[-1][1]


class Small(nn.Module):
    """AlexNet's kind: convolution, then fully connected layers."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(2, 4, 3, padding=1, relu=True)
        for name, (inputs, outputs) in zip(("fc6", "fc7", "fc8"), LAYERS, strict=True):
            setattr(self, name, nn.Linear(inputs, outputs, relu=name != "fc8"))

    def forward(self, x: Any) -> Any:
        return self.fc8(self.fc7(self.fc6(self.conv(x).flatten(1))))


def step(ranks: Ranks, factors: bool = False, net: Any = None) -> tuple[list[np.ndarray], Any]:
    """The gradients of a step, and the steps."""
    tinynet.manual_seed(2)
    net = net or Small()
    rng = np.random.default_rng(0)
    x = tinynet.tensor(rng.normal(size=(BATCH, 2, 4, 4)).astype(np.float32))
    labels = rng.integers(0, CLASSES, BATCH)
    how: Any = steps.steps_of(ranks, net.parameters(), factors)
    for _ in range(2):  # of which the second one has found its buckets
        how.sent = 0
        with how.share(BATCH, BATCH):
            loss = F.cross_entropy(net(x), labels)
            net.zero_grad()
            (mean,) = how.backward(loss, [loss.data])
        assert float(mean) == pytest.approx(loss.item(), rel=1e-6)
    return [p.grad.numpy() for p in net.parameters()], how


@pytest.mark.parametrize("K", [2, 3, 8])
@pytest.mark.parametrize("exchange", ["gradients", "factors"])
def test_bytes_are_those_of_the_formula(exchange, K, monkeypatch):
    alone, _ = step(ALONE)
    found, how = step(Same(K), exchange == "factors")
    for mine, its in zip(found, alone, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-7)
    net = Small()
    counted = sum(p.size for p in net.parameters())
    numbers = len(list(net.parameters()))  # one beside each gradient: how many ranks have it
    expected = 0.0
    if exchange == "factors":
        gain = [(i, o) for i, o in LAYERS if BATCH * K * (i + o) < 2 * i * o]
        assert 0 < len(gain) <= 3 and (K < 3 or len(gain) < 3)
        monkeypatch.setattr(weird_trick, "LAYERS", gain)
        expected += weird_trick.factors_sent(K, BATCH)
        counted -= sum(i * o for i, o in gain)
        numbers -= len(gain)
    expected += weird_trick.summed(counted + numbers, K)
    expected += weird_trick.summed(2, K)  # the loss, of 8 bytes
    assert how.sent == pytest.approx(expected, rel=1e-12)


def test_the_model_chooses_by_links():
    """Data parallel where links are fast; factors where they are slow and devices few."""
    ethernet, _, nvlink = weird_trick.LINKS
    best = {
        (K, link.name): max(
            weird_trick.SCHEMES,
            key=lambda s: weird_trick.share(s, weird_trick.Case(K, 128, 3861, link)),
        )
        for K in (2, 8, 1024)
        for link in (ethernet, nvlink)
    }
    assert [best[K, nvlink.name] for K in (2, 8, 1024)] == ["data"] * 3
    assert [best[K, ethernet.name] for K in (2, 8)] == ["factors"] * 2
    assert best[1024, ethernet.name] == "data"


def test_the_formulas_are_those_of_the_layers():
    """Against numbers written out: AlexNet's weights, and two devices with a batch of one."""
    assert weird_trick.CONV + weird_trick.FC == 60_965_224
    assert weird_trick.summed(60_965_224, 2) == 4 * 60_965_224
    assert weird_trick.exchanged(2, 1) == 4 * (2 * 9216 + 4 * 4096 + 1000)
    assert weird_trick.factors_sent(2, 1) == 4 * (9216 + 4096 + 4096 + 4096 + 4096 + 1000)


class Twice(Small):
    def forward(self, x: Any) -> Any:
        h = self.fc6(self.conv(x).flatten(1))
        return self.fc8(self.fc7(h)) + self.fc8(self.fc7(2 * h))


class Table(Small):
    def forward(self, x: Any) -> Any:
        table = self.fc6(tinynet.tensor(np.ones((5, 64), np.float32)))  # rows of no example
        return self.fc8(self.fc7(self.conv(x).flatten(1)[:, :40] + table.sum(0)))


@pytest.mark.parametrize("kind, chosen", [(Twice, ["fc6"]), (Table, ["fc7", "fc8"])])
def test_a_layer_used_twice_or_of_no_batch_keeps_its_gradient(kind, chosen):
    net = kind()
    alone, _ = step(ALONE, net=net)
    found, how = step(Same(2), True, net=net)
    for mine, its in zip(found, alone, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-6)
    assert how.factors.weights == {getattr(net, name).weight for name in chosen}


def test_each_dw_is_computed_once(monkeypatch):
    """That of a layer that exchanges factors, of all rows alone; and nothing else beside it."""
    kernels, asked = tinynet.device("cpu").kernels, []
    backward = kernels.linear_backward

    def spy(dy: Any, x: Any, weight: Any, needs: Any, y: Any) -> Any:
        asked.append(needs)
        return backward(dy, x, weight, needs, y)

    monkeypatch.setattr(kernels, "linear_backward", spy)
    _, how = step(Same(2), True)
    assert len(how.factors.weights) > 1
    assert np.sum(asked, axis=0).tolist() == [2 * len(LAYERS)] * 3  # of dx, dw, db, in two steps


def test_a_bucket_holds_zeros_where_nothing_came():
    """And says so behind them; of the step before nothing is left."""
    p, q = (nn.Parameter(np.ones(n, np.float32)) for n in (2, 3))
    bucket = steps.Bucket([p, q])
    for mine, expected in ((p, [5, 5, 0, 0, 0, 1, 0]), (q, [0, 0, 5, 5, 5, 0, 1])):
        bucket.flat[:] = 7
        bucket.put(mine, np.full(mine.shape, 5, np.float32))
        assert not bucket.full and bucket.close().tolist() == expected
        p.grad = q.grad = None
        bucket.hand_out()
        assert [p.grad is None, q.grad is None] == [mine is q, mine is p]


def test_another_graph_is_refused_where_factors_are_exchanged():
    net = Small()
    _, how = step(Same(2), True, net=net)
    x = tinynet.tensor(np.ones((BATCH, 64), np.float32))
    with how.share(BATCH, BATCH):
        loss = net.fc6(x).sum()
        with pytest.raises(RuntimeError, match="exchange gradients"):
            how.backward(loss)


def test_a_parameter_without_a_gradient_keeps_none():
    class Less(Small):
        def forward(self, x: Any) -> Any:
            return F.linear(self.conv(x).flatten(1), self.fc6.weight)[:, :CLASSES]

    net = Less()
    how: Any = steps.steps_of(Same(2), net.parameters())
    x = tinynet.tensor(np.ones((2, 2, 4, 4), np.float32))
    with how.share(2, 2):
        how.backward(net(x).sum())
    assert net.fc7.weight.grad is None and net.fc6.weight.grad is not None


def test_buckets_begin_in_the_order_in_which_they_are_full():
    """The one that is opened last, of the middle layer's device, is full first."""
    places = [tinynet.device(name) for name in ("cpu", "cpu:1", "cpu")]
    layers = [nn.Linear(3, 3, device=place) for place in places]
    parameters = [p for layer in layers for p in layer.parameters()]
    how: Any = steps.steps_of(Same(2), parameters)
    x = tinynet.tensor(np.ones((2, 3), np.float32))
    with how.share(2, 2):
        for layer, place in zip(layers, places, strict=True):
            x = layer(x.to(place))
        how.backward(x.sum())
    assert [bucket.device.name for bucket in how.buckets] == ["cpu:1", "cpu"]
    assert all(p.grad is not None for p in parameters)


def test_sums_begin_while_backward_goes_on(monkeypatch):
    """Each layer's as soon as it has been visited, not all of them at the end. MPI moves bytes
    while it is asked: at every visit.
    """
    visits, began, asked, walk = [], [], set(), steps.walk

    def counted(*given: Any) -> Any:
        for visit in walk(*given):
            visits.append(visit[0].function.__name__)
            yield visit

    class Asked(Done):
        def Test(self) -> bool:
            asked.add((self, len(visits)))
            return False

    class Spy(Same):
        def begin_sum(self, array: np.ndarray) -> Any:
            began.append(len(visits))
            super().begin_sum(array)
            return Asked()

    monkeypatch.setattr(steps, "walk", counted)
    monkeypatch.setattr(steps, "BUCKET", 1)
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))
    how: Any = steps.steps_of(Spy(2), net.parameters())
    for _ in range(2):
        for told in (visits, began, asked):
            told.clear()
        with how.share(2, 2):
            how.backward(net(tinynet.tensor(np.ones((2, 3), np.float32))).sum())
    layers = [number for number, name in enumerate(visits, 1) if name == "Linear"]
    assert len(layers) == 6 and began == [number for number in layers for _ in range(2)]
    assert len(asked) == sum(len(visits) + 1 - number for number in began)


def test_the_gradients_of_a_visit_are_gone_while_the_next_operation_works():
    """As without ranks: their memory is free for it."""
    arrived: list[Any] = []

    class Seen(tinynet.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            assert [gradient() for gradient in arrived] == [None] * len(arrived)
            arrived.append(weakref.ref(dy))
            return 2 * dy

    Seen.ours = True  # no copy is made of what it gives
    p = nn.Parameter(np.ones(3, np.float32))
    how: Any = steps.steps_of(Same(2), [p])
    with how.share(1, 1):
        how.backward(Seen.apply(Seen.apply(Seen.apply(p))).sum())
    assert len(arrived) == 3 and p.grad.tolist() == [8, 8, 8]
