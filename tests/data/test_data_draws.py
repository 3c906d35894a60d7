"""Random draws are tested as draws: lane by lane against Python's own integers, and by statistics.

The order of an epoch, and crop, mirroring and colour of a picture, must not depend on one another,
nor on those of another epoch, seed or picture.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinynet.data import ArrayDataset, Loader, colour_axes, ten_views
from tinynet.data.loader import epoch_draws, epoch_order, normal
from tinynet.errors import DataError


def make_dataset(rng, count, shape):
    pictures = rng.integers(0, 256, (count, *shape), np.uint8)
    return ArrayDataset(pictures, rng.integers(0, 4, count), list("abcd"))


def words(seed: int, stream: int, count: int) -> list[int]:
    """Philox4x64 under the key (seed, stream), as one number of 128 bits."""
    return np.random.Philox(key=seed | stream << 64).random_raw(count).tolist()


def lanes_of(seed: int, epoch: int, picture: int) -> list[int]:
    """The eight lanes of a picture, in Python's integers."""
    four = words(seed, 1 << 63 | epoch, 4 * picture + 4)[4 * picture :]
    return [word >> shift & 0xFFFFFFFF for word in four for shift in (0, 32)]


def colour_of(lanes: list[int], axes: np.ndarray, sigma: float) -> np.ndarray:
    """Box and Muller: two uniform numbers are two normal ones; the cosines come first."""
    u = [(lane + 0.5) / 2**32 for lane in lanes[4:]]
    radius = [math.sqrt(-2 * math.log(u[i])) for i in (0, 2)]
    angle = [2 * math.pi * u[i] for i in (1, 3)]
    a = [r * math.cos(t) for r, t in zip(radius, angle, strict=True)]
    a += [r * math.sin(t) for r, t in zip(radius, angle, strict=True)]
    return sigma * axes @ np.array(a[:3])


def test_lanes_and_order_are_philox_under_seed_and_epoch():
    assert words(5, 1 << 63 | 2, 2) == [933142202492273770, 8848563210907530858]  # for good
    for seed, epoch in ((5, 2), (2**63 + 1, 0), (7, 90)):
        expected = [lanes_of(seed, epoch, picture) for picture in range(6)]
        assert epoch_draws(seed, epoch, 6).tolist() == expected
        ranks = words(seed, 1 << 62 | epoch, 6)
        assert epoch_order(seed, epoch, 6).tolist() == sorted(range(6), key=ranks.__getitem__)


@pytest.mark.parametrize("chunk", [1, 5])
def test_every_batch_is_what_the_lanes_say(rng, chunk):
    """Pictures are not square, chunks go on from batch to batch, and colour is never shared."""
    dataset = make_dataset(rng, 40, (9, 14, 3))
    axes = rng.normal(size=(3, 3)).astype(np.float32)
    options = dict(crop=6, train=True, seed=11, colour=axes, colour_sigma=0.3, crop_chunk=chunk)
    for epoch in (0, 1, 6):
        order = epoch_order(11, epoch, 40).tolist()
        batches = list(Loader(dataset, 8, **options).epoch(epoch))
        plain = list(Loader(dataset, 8, flip=False, **options).epoch(epoch))
        assert np.concatenate([batch.indices for batch in batches]).tolist() == order
        for place, picture in enumerate(order):
            batch, row = batches[place // 8], place % 8
            first = lanes_of(11, epoch, order[place - place % chunk])  # of the chunk
            assert batch.labels[row] == dataset.labels[picture]
            assert batch.top[row] == first[0] * (9 - 6 + 1) >> 32
            assert batch.left[row] == first[1] * (14 - 6 + 1) >> 32
            assert batch.flip[row] == first[2] >> 31
            assert not plain[place // 8].flip[row]
            own = colour_of(lanes_of(11, epoch, picture), axes, 0.3)
            np.testing.assert_allclose(batch.colour[row], own, rtol=1e-5, atol=1e-6)


def test_box_muller_at_the_ends_of_a_lane():
    """Never the logarithm of 0, never a radius of exactly 0."""
    most = 2**32 - 1
    found = normal(np.array([[0, 0], [most, 0], [0, most]], np.uint32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0, 0], math.sqrt(66 * math.log(2)), rtol=1e-12)
    np.testing.assert_allclose(found[1, 0], math.sqrt(2 * 2.0**-33), rtol=1e-6)


def variables(dataset, seed: int, epoch: int, chunk: int = 1) -> dict[str, np.ndarray]:
    """All that is drawn for each picture, in the data set's order."""
    batches = list(
        Loader(
            dataset, 500, crop=2, train=True, seed=seed, colour=np.eye(3), crop_chunk=chunk
        ).epoch(epoch)
    )
    order = np.concatenate([batch.indices for batch in batches])
    back = np.argsort(order)
    colour = np.concatenate([batch.colour for batch in batches])[back]
    found = {"place": back}
    for name in ("top", "left", "flip"):
        found[name] = np.concatenate([getattr(batch, name) for batch in batches])[back]
    for k in range(3):
        found[f"colour {k}"] = colour[:, k]
        found[f"|colour {k}|"] = np.abs(colour[:, k])
    return found


def test_draws_are_independent_of_each_other_and_of_other_epochs_and_seeds(rng):
    """All correlations of pairs are 0, to five standard deviations of a correlation of chance."""
    count = 10_000
    dataset = make_dataset(rng, count, (5, 4, 3))
    rows = {}
    for seed, epoch in ((3, 0), (3, 1), (3, 2), (4, 0)):
        for name, values in variables(dataset, seed, epoch).items():
            rows[f"{name} of seed {seed}, epoch {epoch}"] = values
            rows[f"{name} of seed {seed}, epoch {epoch}, the next picture"] = np.roll(values, 1)
    names = list(rows)
    found = np.corrcoef(np.array([rows[name] for name in names], float))
    np.fill_diagonal(found, 0)
    worst = np.unravel_index(np.abs(found).argmax(), found.shape)
    pair = " and ".join(names[n] for n in worst)
    assert np.abs(found).max() < 5.5 / math.sqrt(count), f"{pair}: {found[worst]:.3f}"


def test_colour_noise_is_normal_in_every_axis(rng):
    dataset = make_dataset(rng, 20_000, (1, 1, 3))
    axes = np.diag([1.0, 10.0, 100.0]).astype(np.float32)
    loader = Loader(dataset, 20_000, crop=1, train=True, colour=axes, colour_sigma=0.5)
    noise = next(loader.epoch(0)).colour / [0.5, 5.0, 50.0]
    for share, limit in ((0.31731, 1), (0.0455, 2), (0.0027, 3)):
        found = (np.abs(noise) > limit).mean(axis=0)
        assert np.abs(found - share).max() < 5 * math.sqrt(share / 20_000), limit
    assert np.abs(noise.mean(axis=0)).max() < 5 / math.sqrt(20_000)


# ---- pictures that are not square


def test_statistics_of_pictures_that_are_not_square(rng):
    dataset = make_dataset(rng, 30, (3, 11, 3))
    pixels = dataset.pictures.reshape(-1, 3).astype(float)
    moments = dataset.moments()
    np.testing.assert_allclose(moments.covariance(), np.cov(pixels.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(moments.mean(), dataset.pictures.mean(axis=0), rtol=1e-6)
    axes = colour_axes(moments.covariance())
    np.testing.assert_allclose(axes @ axes.T, moments.covariance(), rtol=1e-4)
    lengths = np.linalg.norm(axes, axis=0)  # columns are eigenvectors: at right angles
    np.testing.assert_allclose(axes.T @ axes, np.diag(lengths**2), atol=1e-2)
    assert (axes.sum(axis=0) >= 0).all()


def test_crop_and_centre_of_pictures_that_are_not_square(rng):
    for shape, top, left in (((4, 11, 1), 1, 4), ((11, 4, 1), 4, 1), ((3, 8, 1), 0, 2)):
        dataset = make_dataset(rng, 5, shape)
        crop = 2 if top else 3
        (batch,) = Loader(dataset, 5, crop=crop, train=False).epoch(0)
        assert set(batch.top) == {top} and set(batch.left) == {left}
        batch = next(Loader(dataset, 5, crop=crop, train=True).epoch(0))
        for row, index in enumerate(batch.indices):
            t, x = batch.top[row], batch.left[row]
            expected = dataset.pictures[index][t : t + crop, x : x + crop]
            assert np.array_equal(batch.pictures[row], expected)


def test_ten_views_of_a_picture_that_is_not_square():
    corners = [(0, 0), (0, 9), (4, 0), (4, 9), (2, 4)]
    assert ten_views((8, 13, 3), 4) == [(t, x, f) for f in (False, True) for t, x in corners]


def test_a_crop_as_high_as_the_picture(rng):
    """The crop has all rows but not all columns: it is no whole picture."""
    dataset = make_dataset(rng, 12, (5, 9, 1))
    for batch in Loader(dataset, 4, crop=5, train=True).epoch(0):
        assert batch.pictures.shape == (4, 5, 5, 1)
        for row, index in enumerate(batch.indices):
            x = batch.left[row]
            assert np.array_equal(batch.pictures[row], dataset.pictures[index][:, x : x + 5])


# ---- ranks, and what changes on the way: against the batches that one process has


OPTIONS = dict(crop=4, seed=6, colour=np.diag([1, 5, 9]).astype(np.float32), crop_chunk=3)
FIELDS = ("pictures", "labels", "top", "left", "flip", "colour", "indices")


def batches_of(dataset, epoch=2, start=0, *, train=True, share=(0, 1), every=(0, 1), **more):
    """The fields of each batch of a loader, as dictionaries."""
    with Loader(dataset, 8, train=train, **OPTIONS | more) as loader:
        loader.share, loader.every = share, every
        return [
            {n: values for n in FIELDS if (values := getattr(batch, n)) is not None}
            for batch in loader.epoch(epoch, start)
        ]


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, values in one.items():
            assert values.dtype == other[name].dtype, name
            np.testing.assert_array_equal(values, other[name], name)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("R", [2, 3, 8])
@pytest.mark.parametrize("start", [0, 3])
def test_the_shares_of_ranks_are_every_batch_once(rng, train, R, start):
    """Together they are the batch, in its order, and none has two rows more than another; the last
    batch of a test, of 5, leaves some of 8 ranks without a row."""
    dataset = make_dataset(rng, 45, (7, 9, 3))
    ranks = [batches_of(dataset, 2, start, train=train, share=(r, R)) for r in range(R)]
    sizes = [{len(batch["labels"]) for batch in batches} for batches in zip(*ranks, strict=True)]
    assert all(max(size) - min(size) <= 1 for size in sizes)
    together = [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*ranks, strict=True)
    ]
    same(together, batches_of(dataset, 2, start, train=train))


def test_more_ranks_than_rows_of_a_batch_are_refused(rng):
    dataset = make_dataset(rng, 45, (7, 9, 3))
    with pytest.raises(DataError, match="at least 9, the number of ranks that share it, got 8"):
        batches_of(dataset, share=(0, 9))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("R", [2, 3, 8])
@pytest.mark.parametrize("start", [0, 1])
def test_batches_are_dealt_to_ranks_in_turn(rng, train, R, start):
    """From the first to be loaded on; with more ranks than batches some have none."""
    dataset = make_dataset(rng, 45, (7, 9, 3))
    whole = batches_of(dataset, 2, start, train=train)
    for r in range(R):
        found = batches_of(dataset, 2, start, train=train, every=(r, R))
        same(found, whole[r::R])


def test_colour_noise_follows_its_story(rng):
    """A line holds from its own epoch on, until the next; noise of 0 is none at all."""
    dataset = make_dataset(rng, 16, (7, 9, 3))
    story = ((2, 0.5), (4, 0.0), (6, 2.0))
    for epoch, sigma in enumerate((0.25, 0.25, 0.5, 0.5, 0.0, 0.0, 2.0, 2.0)):
        found = batches_of(dataset, epoch, colour_sigma=0.25, colour_story=story)
        plain = batches_of(dataset, epoch, colour_sigma=1.0)
        for batch, one in zip(found, plain, strict=True):
            if sigma:
                np.testing.assert_allclose(batch.pop("colour"), sigma * one["colour"], rtol=1e-6)
            del one["colour"]
        same(found, plain)


def test_the_centre_is_cut_with_the_same_draws_otherwise(rng):
    dataset = make_dataset(rng, 16, (7, 11, 3))
    for fixed, drawn in zip(batches_of(dataset, centred=True), batches_of(dataset), strict=True):
        assert (
            set(fixed["top"]) == {1} and set(fixed["left"]) == {3} and len(set(drawn["left"])) > 1
        )
        assert np.array_equal(fixed["pictures"], dataset.pictures[fixed["indices"], 1:5, 3:7])
        for name in ("labels", "flip", "colour", "indices"):
            np.testing.assert_array_equal(fixed[name], drawn[name], name)
