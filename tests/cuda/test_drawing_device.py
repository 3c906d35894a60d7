"""tinynet.draw of a tape on a GPU, and over two of them: the numbers are those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn


def drawn(first, second):
    tinynet.manual_seed(2)
    conv, linear = nn.Conv2d(2, 3, 3, device=first), nn.Linear(12, 3, device=second)
    rng = np.random.default_rng(2)
    x = tinynet.tensor(rng.normal(size=(2, 2, 4, 4)).astype(np.float32), device=first)
    with tinynet.tracing():
        h = F.relu(conv(x), inplace=True).to(second).flatten(1)
        loss = F.cross_entropy(linear(h), [0, 2])
    graph = tinynet.draw(loss).graph
    assert conv.weight.grad is None
    return graph


@pytest.mark.parametrize("second", ["cuda:0", "cuda:1"])
def test_a_tape_on_gpus_is_drawn_with_the_numbers_of_the_cpu(machine, second):
    ours, theirs = drawn("cuda:0", second), drawn("cpu", "cpu" if second == "cuda:0" else "cpu:1")
    assert ours.devices == sorted({"cuda:0", second})
    assert [b.title for b in ours.boxes] == [b.title for b in theirs.boxes]
    assert [b.is_copy for b in ours.boxes] == [b.is_copy for b in theirs.boxes]
    assert any(b.is_copy for b in ours.boxes) == (second == "cuda:1")
    assert ours.shared == theirs.shared > 0 and ours.kept > 0
    for a, b in zip(ours.edges, theirs.edges, strict=True):
        assert (a.gradient is None) == (b.gradient is None)
        if a.gradient and b.gradient:
            np.testing.assert_allclose(a.gradient.values, b.gradient.values, atol=1e-5)
        if b.local is not None:
            np.testing.assert_allclose(a.local, b.local, atol=1e-5)
