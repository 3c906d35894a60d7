"""A loader's batches against their definition in Python's own integers, for every pair of options;
and what an option must change or leave alone.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import threading
import time
from dataclasses import fields

import numpy as np
import pytest
from pairs import pairwise

from tinynet.data import ArrayDataset, Batch, Loader, PartDataset
from tinynet.data.background import in_background
from tinynet.data.loader import epoch_lanes
from tinynet.errors import DataError

CROP, COUNT, SEED = 6, 43, 11
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, and asks /proc")


class Shaky(ArrayDataset):
    """A data set of which some pictures cannot be read; those are asked for in any case."""

    bad: tuple[int, ...] = ()

    def picture(self, i):
        if i in self.bad:
            raise (DataError, OSError)[i % 2](f"picture {i} is damaged")
        return super().picture(i)


def shaky(rng, shape=(8, 9, 3), count=COUNT, bad=()) -> Shaky:
    pictures = rng.integers(0, 256, (count, *shape), np.uint8)
    dataset = Shaky(pictures, rng.integers(0, 4, count), list("abcd"))
    dataset.bad = bad
    return dataset


# ---- what a batch holds


def philox(stream: int, count: int) -> list[int]:
    return np.random.Philox(key=SEED | stream << 64).random_raw(count).tolist()


def noise(lanes: list[int], axes: np.ndarray, sigma: float) -> np.ndarray:
    u = [(lane + 0.5) / 2**32 for lane in lanes[4:]]
    pairs = [(math.sqrt(-2 * math.log(u[k])), 2 * math.pi * u[k + 1]) for k in (0, 2)]
    a = [r * math.cos(t) for r, t in pairs] + [r * math.sin(t) for r, t in pairs]
    return sigma * axes.astype(float) @ np.array(a[: len(axes)])


def defined(dataset: Shaky, case: dict, epoch: int) -> list[dict]:
    """The batches of an epoch, field by field."""
    (height, width, _), train, size = dataset.shape, case["train"], case["batch_size"]
    ranks = philox(1 << 62 | epoch, COUNT)
    order = sorted(range(COUNT), key=ranks.__getitem__) if train else list(range(COUNT))
    words = philox(1 << 63 | epoch, 4 * COUNT)
    lanes = [
        [word >> shift & 0xFFFFFFFF for word in words[4 * i : 4 * i + 4] for shift in (0, 32)]
        for i in range(COUNT)
    ]
    sigma = case["colour_sigma"]
    for since, value in case["colour_story"]:
        sigma = value if epoch >= since else sigma
    batches = []
    for number in range(case["start"], COUNT // size if train else math.ceil(COUNT / size)):
        (r, every), (part, parts) = case["every"], case["share"]
        if (number - case["start"]) % every != r:
            continue
        whole = list(range(number * size, min(number * size + size, COUNT)))
        rows, damaged = [], {}
        for place in whole[len(whole) * part // parts : len(whole) * (part + 1) // parts]:
            i = order[place]
            if i in dataset.bad:
                damaged[i] = f"picture {i} is damaged"
                continue
            top, left, flip, colour = (height - CROP) // 2, (width - CROP) // 2, False, None
            if train:
                first = lanes[order[place - place % case["crop_chunk"]]]
                if not case["centred"]:
                    top = first[0] * (height - CROP + 1) >> 32
                    left = first[1] * (width - CROP + 1) >> 32
                flip = case["flip"] and first[2] >= 1 << 31
                if case["colour"] is not None and sigma:
                    colour = noise(lanes[i], case["colour"], sigma)
            picture = dataset.pictures[i]
            if train:
                picture = picture[top : top + CROP, left : left + CROP]
            rows.append((picture, dataset.labels[i], top, left, flip, colour, i))
        named = ("pictures", "labels", "top", "left", "flip", "colour", "indices")
        batches.append(dict(zip(named, zip(*rows, strict=True), strict=True), damaged=damaged))
    return batches


TYPES = dict(pictures="u1", labels="i8", top="i4", left="i4", flip="?", colour="f4", indices="i8")
SHAPES = ((8, 9, 3), (9, 6, 3), (6, 11, 3), (7, 12, 1), (6, 6, 1))
AXES = {c: np.arange(1, c * c + 1).reshape(c, c).astype(np.float32) for c in (1, 3)}
OPTIONS: dict[str, tuple] = dict(
    shape=SHAPES,
    train=(True, False),
    batch_size=(8, 10),
    flip=(True, False),
    centred=(False, True),
    colour=(None, True),
    colour_sigma=(0.3, 0.0),
    colour_story=((), ((2, 0.7),), ((1, 0.7), (2, 0.2), (3, 0.9)), ((2, 0.0),)),
    crop_chunk=(1, 5),
    share=((0, 1), (1, 3)),
    every=((0, 1), (1, 2)),
    start=(0, 2),
    bad=((), (7, 12, 30)),
    workers=(0, 2) if sys.platform == "linux" else (0,),
    ahead=(1, 3),
)


def test_every_pair_of_a_loaders_options(rng, forks):
    for case in pairwise(OPTIONS):
        dataset = shaky(rng, case["shape"], bad=case["bad"])
        if case["colour"]:
            case["colour"] = AXES[dataset.shape[2]]
        names = ("batch_size", "train", "flip", "centred", "colour", "colour_sigma", "colour_story")
        options = {name: case[name] for name in (*names, "crop_chunk", "workers", "ahead")}
        with Loader(dataset, crop=CROP, seed=SEED, skip_damaged=True, **options) as loader:
            loader.share, loader.every = case["share"], case["every"]
            for epoch in (2, 1):
                found = list(loader.epoch(epoch, case["start"]))
                expected = defined(dataset, case, epoch)
                assert len(found) == len(expected) and expected, case
                for batch, right in zip(found, expected, strict=True):
                    compare(batch, right, case)


def compare(batch: Batch, right: dict, case: dict) -> None:
    assert [field.name for field in fields(Batch)] == [*TYPES, "damaged"]
    assert batch.damaged == right["damaged"], case
    for name, kind in TYPES.items():
        values, own = getattr(batch, name), right[name]
        if name == "colour" and own[0] is None:
            assert values is None, case
            continue
        assert values.dtype == kind and len(values) == len(own), (name, case)
        near = np.array_equal if name != "colour" else np.allclose
        assert near(values, np.array(own)), (name, case)


# ---- what else options do


def test_a_loader_says_what_it_is_and_what_it_cannot_be(rng):
    dataset = shaky(rng, count=50)
    text = f"Loader({dataset}, 6 batches of 8, crop 7, train, 0 workers)"
    assert repr(Loader(dataset, 8, crop=7, train=True)) == text
    with Loader(dataset, 8, crop=7, train=False, workers=2) as loader:
        assert repr(loader) == f"Loader({dataset}, 7 batches of 8, crop 7, test, 2 workers)"
    for size, train, words in (
        (0, True, "at least 1, got 0"), (0, False, "at least 1, got 0"), (51, True, "at most 50"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"Loader: expected a batch size of {words}"):
            Loader(dataset, size, crop=7, train=train)
    assert len(Loader(dataset, 50, crop=7, train=True)) == 1
    assert len(Loader(dataset, 51, crop=7, train=False)) == 1


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=linux)])
def test_a_picture_that_cannot_be_read(rng, forks, workers):
    """The first of its batch is named, and nothing is left that loads; with skip_damaged a batch of
    nothing else is refused, too."""
    dataset = shaky(rng, bad=(9, 11, 24, 25, 26, 27))
    for skip, message in ((False, "^picture 9 is damaged$"), (True, "picture 24 is.*no other pic")):
        loader = Loader(
            dataset, 4, crop=CROP, train=False, workers=workers, skip_damaged=skip, ahead=1
        )
        with pytest.raises(DataError, match=message):
            list(loader.epoch(0))
        assert workers == 0 or loader._pool.workers == []
        assert not any(thread.name == "tinynet-background" for thread in threading.enumerate())
        dataset.bad, bad = (), dataset.bad
        assert len(list(loader.epoch(0))) == 11  # and the next epoch is whole
        dataset.bad = bad
        loader.close()


@pytest.mark.parametrize("ahead", [1, 4])
def test_so_many_batches_are_ahead_as_asked_for(rng, ahead):
    dataset, asked = shaky(rng), []
    dataset.picture = lambda i: asked.append(i) or dataset.pictures[i]
    epoch = Loader(dataset, 2, crop=CROP, train=False, ahead=ahead).epoch(0)
    next(epoch)
    until = time.monotonic() + 20
    while len(asked) < 2 * (1 + ahead) and time.monotonic() < until:
        time.sleep(0.002)
    assert len(asked) >= 2 * (1 + ahead)
    time.sleep(0.05)
    assert len(asked) <= 2 * (1 + ahead + 1)  # the one we have, those that wait, one in hand
    epoch.close()


def test_tests_may_be_shared_by_more_ranks_than_a_batch_has_pictures(rng):
    loader = Loader(shaky(rng, count=5), 2, crop=CROP, train=False)
    for rank, rows in ((0, [[], [], []]), (1, [[0], [2], []]), (2, [[1], [3], [4]])):
        loader.share = rank, 3
        assert [batch.indices.tolist() for batch in loader.epoch(0)] == rows


def test_lanes_of_examples_that_need_an_odd_number(rng):
    """As many as were asked for, whole words or not; each example's come after those before."""
    for count, lanes in ((1, 1), (3, 1), (5, 3), (4, 8)):
        words = philox(1 << 63 | 4, (count * lanes + 1) // 2)
        flat = [word >> shift & 0xFFFFFFFF for word in words for shift in (0, 32)]
        found = epoch_lanes(SEED, 4, count, lanes)
        assert found.dtype == np.uint32 and found.shape == (count, lanes)
        assert found.ravel().tolist() == flat[: count * lanes]


# ---- parts of a data set


def test_a_part_is_those_pictures_and_their_labels(rng):
    whole = shaky(rng, count=10)
    whole.source = "here"
    for count in (1, 3, 7, 10):
        part = PartDataset(whole, count)
        places = [k * 10 // count for k in range(count)]
        assert part.labels.tolist() == whole.labels[places].tolist() and len(part) == count
        assert all(np.array_equal(part.picture(k), whole.picture(i)) for k, i in enumerate(places))
        assert (part.classes, part.shape) == (whole.classes, whole.shape)
        assert part.in_memory and part.source == "here"
        np.testing.assert_array_equal(part.moments().sum, whole.pictures[places].sum(axis=0))


# ---- the thread in the background


def test_what_is_made_in_the_background_ends_when_it_is_left():
    """Not after all the items that are left; and what ends the source, of any kind, is told."""
    made, closed = [], threading.Event()

    def items():
        try:
            for k in itertools.count():
                made.append(k)
                yield k
        finally:
            time.sleep(0.05)
            closed.set()

    held = in_background(items(), 3)
    assert [next(held), next(held)] == [0, 1]
    while len(made) < 2 + 3 + 1:  # all that there is room for, and one that waits for room
        time.sleep(0.002)
    time.sleep(0.02)
    held.close()
    assert closed.is_set() and len(made) <= 2 + 3 + 1

    for kind in (KeyboardInterrupt, SystemExit, MemoryError):

        def fails(kind=kind):
            yield 1
            raise kind

        held = in_background(fails(), 2)
        assert next(held) == 1
        with pytest.raises(kind), contextlib.closing(held):
            next(held)
