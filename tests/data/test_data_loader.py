"""Order, crops, statistics; and that worker processes change nothing but the speed."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import Counter

import numpy as np
import pytest

from tinynet.data import (
    ArrayDataset,
    Dataset,
    Loader,
    PaddedDataset,
    colour_axes,
    mean_picture,
    ten_views,
)
from tinynet.data.loader import epoch_draws, normal
from tinynet.data.workers import _serve
from tinynet.errors import DataError


def make_dataset(rng, count=50, shape=(12, 10, 3)) -> ArrayDataset:
    pictures = rng.integers(0, 256, (count, *shape), np.uint8)
    return ArrayDataset(pictures, rng.integers(0, 4, count), list("abcd"))


def fields(batch) -> list[np.ndarray]:
    values = vars(batch).values()
    return [np.array(value) for value in values if value is not None]


def same(a, b) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(
        np.array_equal(x, y) for m, n in pairs for x, y in zip(fields(m), fields(n), strict=True)
    )


def test_training_batches_are_cut_where_they_say(rng):
    dataset = make_dataset(rng)
    loader = Loader(dataset, 8, crop=7, train=True, seed=3)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 6  # 50 pictures: the last 2 are dropped
    for batch in batches:
        for i in range(8):
            t, x = batch.top[i], batch.left[i]
            picture = dataset.pictures[batch.indices[i]]
            assert np.array_equal(batch.pictures[i], picture[t : t + 7, x : x + 7])
        assert np.array_equal(batch.labels, dataset.labels[batch.indices])
    seen = np.concatenate([batch.indices for batch in batches])
    assert len(set(seen.tolist())) == 48


def test_epochs_and_seeds_differ_and_repeat(rng):
    dataset = make_dataset(rng)
    loader = Loader(dataset, 8, crop=7, train=True, seed=3)
    assert same(loader.epoch(1), loader.epoch(1))
    assert not same(loader.epoch(1), loader.epoch(2))
    assert not same(loader.epoch(1), Loader(dataset, 8, crop=7, train=True, seed=4).epoch(1))
    assert same(list(loader.epoch(1))[4:], loader.epoch(1, start=4))


def test_draws_depend_on_seed_epoch_and_index_alone(rng):
    assert np.array_equal(epoch_draws(5, 2, 100)[:10], epoch_draws(5, 2, 10))
    assert (epoch_draws(5, 2, 100) == epoch_draws(5, 3, 100)).mean() < 0.01
    dataset = make_dataset(rng)
    chosen = {}
    for batch_size in (8, 13):
        for batch in Loader(dataset, batch_size, crop=7, train=True, seed=3).epoch(0):
            for key in zip(batch.indices, batch.top, batch.left, batch.flip, strict=True):
                assert chosen.setdefault(key[0], key) == key


def test_crops_and_flips_are_uniform(rng):
    dataset = make_dataset(rng, count=20_000, shape=(4, 3, 1))
    batches = list(Loader(dataset, 100, crop=2, train=True).epoch(0))
    top, left, flip = (
        np.concatenate([getattr(batch, name) for batch in batches])
        for name in ("top", "left", "flip")
    )
    for draws, ways in ((top, 3), (left, 2), (flip.astype(int), 2), (top * 2 + left, 6)):
        counts = np.bincount(draws, minlength=ways)
        assert len(counts) == ways
        # Five standard deviations of a binomial count.
        assert np.abs(counts - 20_000 / ways).max() < 5 * np.sqrt(20_000 / ways)


def test_crop_chunk_shares_crop_and_flip(rng):
    dataset = make_dataset(rng, count=400)
    for batch in Loader(dataset, 96, crop=3, train=True, crop_chunk=32).epoch(0):
        for name in ("top", "left", "flip"):
            rows = getattr(batch, name).reshape(3, 32)
            assert (rows == rows[:, :1]).all()


def test_test_batches_are_whole_and_in_order(rng):
    dataset = make_dataset(rng)
    batches = list(Loader(dataset, 16, crop=7, train=False).epoch(0))
    assert [len(batch.labels) for batch in batches] == [16, 16, 16, 2]
    assert np.array_equal(np.concatenate([b.indices for b in batches]), np.arange(50))
    assert np.array_equal(np.concatenate([b.pictures for b in batches]), dataset.pictures)
    assert (batches[0].top == 2).all() and (batches[0].left == 1).all()
    assert not batches[0].flip.any() and batches[0].colour is None


def test_colour_noise_has_the_pictures_covariance(rng):
    mixing = np.array([[30.0, 5, 0], [20, 10, 5], [25, -5, 10]])
    pixels = rng.normal(size=(3000, 4, 4, 3)) @ mixing.T + 128
    pictures = np.clip(pixels, 0, 255).astype(np.uint8)
    dataset = ArrayDataset(pictures, np.zeros(3000), ["a"])
    covariance = dataset.moments().covariance()
    assert np.allclose(covariance, np.cov(pictures.reshape(-1, 3).T, bias=True), rtol=1e-9)
    axes = colour_axes(covariance)
    assert np.allclose(axes @ axes.T, covariance, rtol=1e-4, atol=0.01)
    loader = Loader(dataset, 3000, crop=4, train=True, colour=axes, colour_sigma=0.1)
    noise = np.concatenate([next(loader.epoch(e)).colour for e in range(20)])
    assert noise.shape == (60_000, 3) and noise.dtype == np.float32
    assert np.allclose(np.cov(noise.T), 0.01 * covariance, rtol=0.05, atol=0.05)


def test_normal_is_normal(rng):
    values = normal(rng.integers(0, 2**32, (50_000, 4), np.uint32)).ravel()
    assert abs(values.mean()) < 0.012 and abs(values.std() - 1) < 0.008
    assert abs((np.abs(values) < 1).mean() - 0.6827) < 0.006


def test_moments_are_counted_once(rng, monkeypatch):
    dataset, seen = make_dataset(rng), Counter()

    def picture(self, i):
        seen[i] += 1
        return self.pictures[i]

    monkeypatch.setattr(ArrayDataset, "picture", picture)
    mean, covariance = mean_picture(dataset), dataset.moments().covariance()
    assert len(seen) == len(dataset) and set(seen.values()) == {1}
    assert mean.shape == dataset.shape and covariance.shape == (3, 3)


def test_a_border_of_zeros_and_its_moments(rng):
    dataset = make_dataset(rng)
    padded = PaddedDataset(dataset, 2)
    whole = np.pad(dataset.pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
    assert padded.shape == (16, 14, 3) and len(padded) == len(dataset)
    assert all(np.array_equal(padded.picture(i), whole[i]) for i in range(len(padded)))
    expected = ArrayDataset(whole, dataset.labels, dataset.classes).moments()
    assert np.array_equal(padded.moments().mean(), expected.mean())
    assert np.array_equal(padded.moments().covariance(), expected.covariance())


def test_a_loader_says_what_it_is(rng):
    dataset = make_dataset(rng)
    text = f"Loader({dataset}, 6 batches of 8, crop 7, train, 0 workers)"
    assert repr(Loader(dataset, 8, crop=7, train=True)) == text
    with Loader(dataset, 8, crop=7, train=False, workers=2) as loader:
        assert repr(loader) == f"Loader({dataset}, 7 batches of 8, crop 7, test, 2 workers)"


def test_mean_picture_is_exact(rng):
    dataset = make_dataset(rng, count=1000)
    expected = dataset.pictures.astype(np.float64).mean(axis=0).astype(np.float32)
    assert np.array_equal(mean_picture(dataset), expected)
    shuffled = ArrayDataset(dataset.pictures[::-1], dataset.labels[::-1], dataset.classes)
    assert np.array_equal(mean_picture(shuffled), mean_picture(dataset))


def test_ten_views():
    views = ten_views((256, 256, 3), 224)
    assert len(set(views)) == 10
    assert views[:5] == [(0, 0, False), (0, 32, False), (32, 0, False), (32, 32, False)] + [
        (16, 16, False)
    ]
    assert [(t, x) for t, x, _ in views[5:]] == [(t, x) for t, x, _ in views[:5]]
    assert all(flip for _, _, flip in views[5:])


def test_wrong_arguments_are_named(rng):
    dataset = make_dataset(rng)
    for batch_size, crop, word in ((0, 7, "batch size"), (8, 11, "crop"), (51, 7, "51")):
        with pytest.raises(DataError, match=word):
            Loader(dataset, batch_size, crop=crop, train=True)


# ---- worker processes


def test_workers_give_the_same_batches(rng):
    """Also those that are started as on other systems."""
    dataset, workers = make_dataset(rng), 2
    colour = np.eye(3, dtype=np.float32)
    for train in (True, False):
        plain = Loader(dataset, 8, crop=7, train=train, colour=colour)
        with Loader(dataset, 8, crop=7, train=train, colour=colour, workers=workers) as loader:
            assert same(plain.epoch(0), loader.epoch(0))
            assert same(plain.epoch(1, start=3), loader.epoch(1, start=3))


def test_an_epoch_left_early_does_not_disturb_the_next(rng, forks):
    dataset = make_dataset(rng)
    for workers in (0, 1):
        with Loader(dataset, 8, crop=7, train=True, workers=workers) as loader:
            epoch = loader.epoch(0)
            next(epoch)
            epoch.close()
            assert same(loader.epoch(1), Loader(dataset, 8, crop=7, train=True).epoch(1))


def test_batches_that_are_kept_are_not_written_over(rng, forks):
    dataset = make_dataset(rng)
    with Loader(dataset, 4, crop=7, train=True, workers=1, ahead=1) as loader:
        part = next(loader.epoch(0)).pictures[1:2, 2:5]  # a view keeps the memory as well
        expected = part.copy()
        kept = list(loader.epoch(1))
        assert same(kept, Loader(dataset, 4, crop=7, train=True).epoch(1))
        assert np.array_equal(part, expected)
        blocks = len(loader._pool.free)
        del kept
        gc.collect()
        assert len(loader._pool.free) > blocks  # and what is not kept is used again


def test_a_killed_worker_is_named_and_replaced(rng, forks, caplog):
    dataset = make_dataset(rng)
    with Loader(dataset, 2, crop=7, train=True, workers=2) as loader:
        batches = []
        with caplog.at_level(logging.WARNING):
            for batch in loader.epoch(0):
                batches.append(batch)
                if len(batches) in (2, 9):
                    victim = loader._pool.workers[len(batches) % 2].process.pid
                    os.kill(victim, signal.SIGKILL)
        assert same(batches, Loader(dataset, 2, crop=7, train=True).epoch(0))
    assert "SIGKILL" in caplog.text and f"pid {victim}" in caplog.text


class Bad(Dataset):
    """A data set whose pictures cannot be read."""

    def __init__(self):
        self.labels, self.classes, self.shape = np.zeros(10, np.int64), ["a"], (2, 2, 1)

    def picture(self, i):
        raise DataError("train-000001.tar: picture 17 is damaged")


def test_a_worker_that_stands_still_ends_the_run(rng, forks, monkeypatch):
    with Loader(make_dataset(rng), 2, crop=7, train=True, workers=2) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        monkeypatch.setattr("tinynet.data.workers.TIMEOUT", 1)
        os.kill(loader._pool.workers[0].process.pid, signal.SIGSTOP)
        with pytest.raises(DataError, match="has answered for 1 s"):
            list(epoch)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_data_is_named_by_whoever_loads_it(workers, forks):
    with Loader(Bad(), 2, crop=2, train=False, workers=workers) as loader:
        with pytest.raises(DataError, match="train-000001.tar: picture 17"):
            list(loader.epoch(0))


def test_workers_end_with_the_loader(rng):
    loader = Loader(make_dataset(rng), 8, crop=7, train=True, workers=1)
    next(loader.epoch(0))
    processes = [worker.process for worker in loader._pool.workers]
    del loader
    gc.collect()
    for process in processes:
        process.join(10)
        assert process.exitcode is not None


class Tasks:
    """Stands for a worker's pipe: tasks to be done, and what was answered."""

    def __init__(self, *tasks, broken=False):
        self.tasks, self.answers, self.broken = list(tasks), [], broken

    def recv(self):
        if not self.tasks:
            raise EOFError
        return self.tasks.pop(0)

    def send(self, answer):
        if self.broken:
            raise BrokenPipeError
        self.answers.append(answer)


def test_the_life_of_a_worker(rng, monkeypatch, tmp_path):
    """What it answers, here in this process: done, what was wrong, nothing when nobody listens any
    more.
    """
    file = open(tmp_path / "block", "w+b")
    file.truncate(4 * 7 * 7 * 3)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr("multiprocessing.reduction.recv_handle", lambda pipe: os.dup(file.fileno()))
    dataset, zeros = make_dataset(rng), np.zeros(4, np.int32)
    block = "block", "memory", 4 * 7 * 7 * 3
    task = 5, "memory", (4, 7, 7, 3), np.array([3, 1, 4, 1]), zeros, zeros
    pipe = Tasks(block, task, (6, "no such memory", *task[2:]))
    _serve(pipe, dataset)
    assert pipe.answers == [(5, None, {}), (6, "KeyError('no such memory')", {})]
    written = np.frombuffer(file.read(), np.uint8).reshape(4, 7, 7, 3)
    assert np.array_equal(written[2], dataset.picture(4)[:7, :7])
    pipe = Tasks(block, task)
    _serve(pipe, Bad())
    problem = "train-000001.tar: picture 17 is damaged"
    assert pipe.answers == [(5, None, dict.fromkeys([3, 1, 4], problem))]
    pipe = Tasks(block, task, task, broken=True)
    _serve(pipe, dataset)
    assert len(pipe.tasks) == 1  # it left
