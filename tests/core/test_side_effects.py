"""What an operation must leave behind: the random state, the pool's memory, no thread still at
work.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn, random
from tinynet.devices import memory
from tinynet.devices.memory import ALIGN, SMALL, Pool
from tinynet.devices.threads import parallel_for


def test_dropout_draws_in_training_alone():
    """A draw in use would move every later draw: a test between two epochs would change a run."""
    x, layer = tinynet.tensor(np.ones((40, 30), np.float32)), nn.Dropout(0.5)
    tinynet.manual_seed(3)
    expected = [layer(x).numpy() for _ in range(3)]
    tinynet.manual_seed(3)
    found = []
    for _ in range(3):
        found.append(layer(x).numpy())
        state = random.get_state()
        layer.eval()
        assert (layer(x).numpy() == 1).all()
        F.dropout(x, 0.5, training=False)
        F.dropout(x, 0.0)  # nothing to draw
        layer.train()
        assert random.get_state() == state
    np.testing.assert_array_equal(found, expected)
    assert (expected[0] != expected[1]).any()


@pytest.mark.parametrize("segment", [memory.SEGMENT, 8 * SMALL])  # one of them, or many
def test_the_pool_loses_no_range_and_gives_none_twice(rng, monkeypatch, segment):
    """After any number of requests: what is free and what is used is what was taken."""
    monkeypatch.setattr(memory, "SEGMENT", segment)
    pool, alive = Pool(), {}
    for step in range(400):
        if alive and rng.random() < 0.48:
            array = alive.pop(rng.choice(list(alive)))
            assert (array == array[0]).all()  # nobody wrote here
            del array
        else:
            array = pool.empty((int(rng.integers(SMALL, 20 * SMALL)),), np.uint8)
            array[:] = step % 251
            alive[step] = array
            del array
        stats = pool.stats()
        free = sum(stop - start for start, stop in pool.free)
        assert stats.used + free == stats.held - ALIGN * len(pool.segments)
        assert stats.used == sum(-(-a.nbytes // ALIGN) * ALIGN for a in alive.values())
        assert stats.held == sum(segment.nbytes for segment in pool.segments)
        ends = sorted(pool.free)
        assert ends == pool.free
        assert all(a[1] < b[0] for a, b in zip(ends, ends[1:], strict=False))  # joined, apart
    assert stats.peak >= stats.used
    alive.clear()
    assert pool.stats().used == 0 and len(pool.free) == len(pool.segments)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_when_a_piece_fails_no_other_is_still_writing(threads):
    """Else a caller that goes on would see its arrays change, or the memory of a freed one."""
    before, running, begun = tinynet.get_num_threads(), set(), threading.Event()

    def piece(number):
        if number == 0:
            begun.wait(5 if threads > 1 else 0)
            raise ValueError("piece 0")
        running.add(number)
        begun.set()
        time.sleep(0.05)
        running.discard(number)

    try:
        tinynet.set_num_threads(threads)
        with pytest.raises(ValueError, match="piece 0"):
            parallel_for(piece, range(8))
        assert not running
    finally:
        tinynet.set_num_threads(before)


@pytest.mark.parametrize("large", [1e3, 1e5])
def test_response_norm_adds_its_windows_afresh(large):
    """A window's sum as the difference of two running sums would keep the rounding errors of a
    large value in all channels after it.
    """
    x = np.full((2, 12, 3, 3), 0.1, np.float32)
    x[:, 0] = large
    options = 3, 1.0, 0.75, 1e-3
    for forward in (kernels.local_response_norm_forward, kernels.spatial_response_norm_forward):
        moved = x if forward is kernels.local_response_norm_forward else np.swapaxes(x, 1, 3)
        y = forward(np.ascontiguousarray(moved), *options)
        exact = forward(np.ascontiguousarray(moved).astype(np.float64), *options)
        np.testing.assert_allclose(y, exact, rtol=2e-6)
    dy = np.ones_like(x)
    dx, exact = (
        kernels.local_response_norm_backward(dy.astype(t), x.astype(t), *options)[:, 3:]
        for t in (np.float32, np.float64)
    )
    np.testing.assert_allclose(dx, exact, rtol=1e-4)
