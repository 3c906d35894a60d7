"""What a step costs, counted: calls of Python functions, hand-overs to threads, allocations.

A clock lies on a machine that others use; counts do not. Each limit is some 10 % above what was
reached (November 2026): who needs more raises it with a reason, who needs less lowers it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.devices import memory, threads
from tinynet.optim import SGD

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alexnet import AlexNet  # noqa: E402


def calls(work: Callable[[], object]) -> int:
    """How many Python functions are called; those of C do not count."""
    count = -1  # work itself

    def trace(frame, event, _):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def training(net: nn.Module, shape: tuple[int, ...]) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=shape).astype(np.float32), rng.integers(0, 10, shape[0])
    x, optimizer = tinynet.tensor(x), SGD(net.parameters(), 0.01, 0.9, 5e-4)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()

    step()  # scratch memory and threads are there
    return step


def lenet() -> Callable[[], None]:
    layers = [
        nn.Conv2d(1, 6, 5, padding=2, relu=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, relu=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120, relu=True),
        nn.Linear(120, 84, relu=True),
        nn.Linear(84, 10),
    ]
    return training(nn.Sequential(*layers), (16, 1, 28, 28))


def mlp() -> Callable[[], None]:
    return training(nn.Sequential(nn.Linear(784, 128, relu=True), nn.Linear(128, 10)), (64, 784))


def mini() -> Callable[[], None]:
    return training(AlexNet(10, "mini", in_channels=1).train(), (64, 1, 28, 28))


@pytest.fixture(autouse=True)
def number_of_threads():
    before = tinynet.get_num_threads()
    tinynet.set_num_threads(2)
    yield
    tinynet.set_num_threads(before)


def test_calls_of_a_recorded_addition():
    a = tinynet.tensor(np.ones(4, np.float32), requires_grad=True)
    assert calls(lambda: a + a) <= LIMITS["a + a"]


def test_calls_of_a_chain_forward_and_backward():
    x = tinynet.tensor(np.ones(4, np.float32), requires_grad=True)

    def chain():
        y = x
        for _ in range(400):
            y = y * x
        y.sum().backward()

    assert calls(chain) <= LIMITS["chain of 400"]


STEPS = {"LeNet-5, 16": lenet, "MLP, 64": mlp, "mini, 64": mini}
LIMITS = {"a + a": 12, "chain of 400": 12_800}
# of a step: calls with one thread, hand-overs with two, allocations of 64 KB and more
OF_A_STEP = {
    "LeNet-5, 16": (1_860, 0, 10),
    "MLP, 64": (585, 0, 3),
    "mini, 64": (10_900, 48, 104),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_a_step_costs(name, monkeypatch):
    step, counts = STEPS[name](), [0, 0, 0]
    tinynet.set_num_threads(1)  # or helpers take some of the calls
    counts[0] = calls(step)
    tinynet.set_num_threads(2)
    help, leases = threads._Team.help, memory._Lease.__init__

    def counted_help(team, work):
        counts[1] += len(work.places)
        help(team, work)

    def counted_lease(lease, *arguments):
        counts[2] += 1
        leases(lease, *arguments)

    monkeypatch.setattr(threads._Team, "help", counted_help)
    monkeypatch.setattr(memory._Lease, "__init__", counted_lease)
    step()
    reached = dict(zip(("calls", "hand-overs", "allocations"), counts, strict=True))
    assert all(n <= limit for n, limit in zip(counts, OF_A_STEP[name], strict=True)), reached
