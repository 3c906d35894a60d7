"""Gradients summed by NCCL on streams of their own; the stand-in knows what is ordered."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import fake_cupy
import fake_nccl
import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.optim import SGD
from tinynet.parallel import steps
from tinynet.parallel.ranks import Ranks, RanksError

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))


class Two(Ranks):
    """Rank 0 of two that hold the same."""

    size = 2

    def gather(self, value: Any) -> list[Any]:
        return [value, value]


class Net(nn.Module):
    """Two layers, the second on a device of its own, and a parameter that is not used."""

    def __init__(self, devices: Any):
        self.devices = devices
        self.one = nn.Linear(12, 16, relu=True, device=devices[0])
        self.two = nn.Linear(16, 3, device=devices[1])
        self.unused = nn.Linear(2, 2, device=devices[0])

    def forward(self, x: Any) -> Any:
        return self.two(self.one(x).to(self.devices[1]))


@pytest.fixture
def nccl(machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch) -> fake_nccl.Nccl:
    nccl = fake_nccl.Nccl()
    cuda = sys.modules["cupy"].cuda
    monkeypatch.setattr(cuda, "nccl", nccl, raising=False)
    monkeypatch.setattr(cuda, "Stream", nccl.Stream)
    monkeypatch.setattr(steps, "BUCKET", 200)
    monkeypatch.delitem(sys.modules, "tinynet.parallel.nccl", raising=False)
    return nccl


def train(
    devices: list[str], ranks: Ranks, batches: int = 3, factors: bool = False
) -> tuple[list[np.ndarray], Any]:
    """The weights after some steps, and the steps."""
    tinynet.manual_seed(1)
    rng = np.random.default_rng(0)
    places = [tinynet.device(name) for name in devices]
    net = Net(places)
    optimizer = SGD(net.parameters(), 0.1, momentum=0.9)
    how = steps.steps_of(ranks, net.parameters(), factors)
    for _ in range(batches):
        x = tinynet.tensor(rng.normal(size=(4, 12)).astype(np.float32), device=places[0])
        labels = rng.integers(0, 3, 4)
        with how.share(4, 4):
            loss = F.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            (mean,) = how.backward(loss, [loss.data])
        optimizer.step()
        with places[1].activate():
            np.testing.assert_allclose(float(mean), loss.item(), rtol=1e-6)
    return [parameter.numpy() for parameter in net.parameters()], how


@pytest.mark.parametrize("devices", [["cuda:0", "cuda:0"], ["cuda:0", "cuda:1"]])
def test_sums_give_the_whole_batchs_gradients(devices, nccl):
    one, _ = train(devices, Ranks())
    two, how = train(devices, Two())
    for mine, its in zip(one, two, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-6, atol=1e-7)
    assert {gpu for gpu, _, _ in nccl.calls} == {int(name[-1]) for name in devices}
    assert len(nccl.calls) == 3 * (len(how.buckets) + 1) and len(how.buckets) > 2
    numbers = sum(weight.size + 1 for weight in two)  # one beside each: how many ranks have it
    assert how.sent == 3 * (4 * numbers + 8)  # all but the loss in float32
    # one communicator and one stream a device
    assert len({(gpu, ptr) for gpu, ptr, _ in nccl.calls}) == len(how.gpus.known)
    lanes = {device._lane.stream.ptr for device in how.gpus.known}
    assert not lanes & {ptr for _, ptr, _ in nccl.calls}  # on streams of their own,
    assert all(nccl.streams[ptr].non_blocking for _, ptr, _ in nccl.calls)  # which hold up no other


@pytest.mark.parametrize("devices", [["cuda:0", "cuda:0"], ["cuda:0", "cuda:1"]])
def test_gathered_factors_give_the_whole_batchs_gradients(devices, nccl):
    one, _ = train(devices, Ranks())
    two, how = train(devices, Two(), factors=True)
    for mine, its in zip(one, two, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-6, atol=1e-7)
    assert len(how.factors.weights) == 1
    assert len(nccl.calls) == 3 * (len(how.buckets) + 1 + 2)  # x and dy of a layer
    numbers = sum(weight.size + 1 for weight in two if weight.shape != (16, 12))
    assert how.sent == 3 * (4 * (numbers + 4 * (12 + 16)) + 8)


def test_all_that_runs_in_a_step_has_its_name_and_its_batch(nccl, monkeypatch):
    """A message about too little memory says them."""
    gpu, told = type(tinynet.device("cuda:0")), []
    activate = gpu.activate

    def spy(self: Any, operation: str = "", arrays: Any = ()) -> Any:
        told.append((operation, *(getattr(array, "shape", None) for array in arrays)))
        return activate(self, operation, arrays)

    monkeypatch.setattr(gpu, "activate", spy)
    train(["cuda:0", "cuda:0"], Two(), batches=1, factors=True)
    assert {("factors", (4, 12), (4, 16)), ("factors", (8, 12), (8, 16))} < {*told}
    assert {("bucket", (16,)), ("bucket", (3, 16)), ("bucket", (3,)), ("backward",)} < {*told}


def test_what_is_summed_lives_as_long_as_its_sum(nccl):
    _, how = train(["cuda:0", "cuda:0"], Two(), batches=1)
    gpu = tinynet.device("cuda:0")
    for begin in (how.gpus.begin, lambda *given: how.gpus.begin_gather(*given)[0]):
        array = gpu.upload(np.ones((2, 3), np.float32))
        alive, request = weakref.ref(array), begin(array, gpu)
        del array
        assert alive() is not None
        request.Wait()
        del request
        assert alive() is None


def test_a_sum_begins_after_copies_that_nothing_has_waited_for_yet(nccl):
    """They stand in the lane's list until its next work; a sum is on another stream."""
    _, how = train(["cuda:0", "cuda:1"], Two(), batches=1)
    here, there = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    for begin in (how.gpus.begin, lambda *given: how.gpus.begin_gather(*given)[0]):
        array = tinynet.tensor(np.ones((2, 3), np.float32), device=here).to(there).data
        assert there._lane.waits
        begin(array, there).Wait()
        tinynet.ones(2, 3, device=there)


def test_the_first_bucket_goes_before_the_last_gradient(nccl, monkeypatch):
    """So that sums and backward overlap."""
    events: list[str] = []
    put, all_reduce = steps.Bucket.put, fake_nccl.Communicator.allReduce

    def noted(self: Any, parameter: Any, gradient: Any) -> None:
        events.append("gradient")
        put(self, parameter, gradient)

    def summed(*args: Any) -> None:
        events.append("sum")
        all_reduce(*args)

    monkeypatch.setattr(steps.Bucket, "put", noted)
    monkeypatch.setattr(fake_nccl.Communicator, "allReduce", summed)
    train(["cuda:0", "cuda:1"], Two(), batches=1)
    last = len(events) - events[::-1].index("gradient") - 1
    assert "sum" in events[events.index("gradient") : last]


@pytest.mark.parametrize("built", [True, False])  # whether CuPy was built with it
def test_missing_nccl_is_told(built, nccl, monkeypatch):
    nccl.available = False
    if not built:
        monkeypatch.delattr(sys.modules["cupy"].cuda, "nccl")
    with pytest.raises(RanksError, match="expected NCCL.*pip install nvidia-nccl"):
        train(["cuda:0", "cuda:0"], Two(), batches=1)


def test_shares_of_dropout_and_batch_norm_are_those_of_the_cpu(machine, rng):
    """Rows of the whole batch's mask; mean and variance of two ranks that hold the same."""
    from tinynet.sharing import Share, shared

    x = rng.normal(size=(3, 5, 4, 4)).astype(np.float32)
    dy = rng.normal(size=x.shape).astype(np.float32)
    weight, bias = rng.normal(size=(2, 5)).astype(np.float32)
    found = []
    for name in ("cpu", "cuda:0"):
        tinynet.manual_seed(6)
        values = [tinynet.tensor(a, device=name, requires_grad=True) for a in (x, weight, bias)]
        running = [tinynet.zeros(5, device=name), tinynet.ones(5, device=name)]
        with shared(Share(3, 3, 6, lambda value: [value, value])):
            y = F.batch_norm(values[0], *running, *values[1:], training=True, relu=True)
            y = F.dropout(y, 0.4)
        y.backward(tinynet.tensor(dy, device=name))
        found.append([y.numpy(), *(v.grad.numpy() for v in values), *(r.numpy() for r in running)])
    for on_cpu, on_gpu in zip(*found, strict=True):
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)
    assert (found[0][0] == 0).mean() > 0.3
