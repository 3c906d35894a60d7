"""Data sets and their moments against their definitions, in integers; what they refuse at the very
limits.
"""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from tinynet.data import (
    ArrayDataset,
    Dataset,
    PaddedDataset,
    PartDataset,
    colour_axes,
    mean_picture,
)
from tinynet.data.dataset import Moments
from tinynet.errors import DataError


def sums(pictures: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, sum and products, in Python's integers."""
    whole = pictures.astype(object)
    pixels = whole.reshape(-1, pictures.shape[-1])
    return len(pictures), whole.sum(axis=0), pixels.T @ pixels


def same(moments: Moments, pictures: np.ndarray) -> None:
    count, total, products = sums(pictures)
    assert moments.count == count
    assert moments.sum.dtype == moments.products.dtype == np.int64
    assert (moments.sum == total).all() and (moments.products == products).all()


class Drawn(Dataset):
    """Pictures that are made when they are asked for, as those of a large set are read."""

    def __init__(self, count: int, shape: tuple[int, int, int]):
        self.labels, self.classes, self.shape = np.zeros(count, np.int64), ["a"], shape
        self.given: list[weakref.ref] = []
        self.held: list[int] = []  # how many pictures were alive when one was asked for

    def picture(self, i):
        made = np.full(self.shape, i % 251, np.uint8)
        self.given.append(weakref.ref(made))
        self.held.append(sum(ref() is not None for ref in self.given))
        return made


def test_every_picture_counts_whatever_the_blocks(monkeypatch):
    """Blocks of four pictures; of one where a picture is larger than a block."""
    for block in (4 * 6 + 5, 5):
        monkeypatch.setattr("tinynet.data.dataset.PIECE", block)
        for count in (1, 3, 4, 5, 8, 9):
            dataset = Drawn(count, (2, 3, 1))
            moments = dataset.moments()
            assert moments.count == count and (moments.sum == sum(range(count))).all()
            assert moments.products.tolist() == [[sum(i * i for i in range(count)) * 6]]
            assert dataset.moments() is moments and max(dataset.held) <= max(1, block // 6)


def test_sums_of_pictures_of_any_shape(rng):
    for shape in ((3, 11, 3), (11, 3, 3), (4, 4, 1), (1, 1, 2)):
        pictures = rng.integers(0, 256, (7, *shape), np.uint8)
        dataset = ArrayDataset(pictures, np.zeros(7, int), ["a"])
        same(dataset.moments(), pictures)
        for width in (0, 1, 3):
            padded = PaddedDataset(dataset, width)
            border = ((0, 0), (width, width), (width, width), (0, 0))
            expected = np.pad(pictures, border)
            assert padded.shape == expected.shape[1:]
            same(padded.moments(), expected)
            found = [padded.picture(i) for i in range(7)]  # all kept: none is another's memory
            assert np.array_equal(np.stack(found), expected)
        same(dataset.moments(), pictures)  # still
        same(PartDataset(dataset, 3).moments(), pictures[[0, 2, 4]])


def test_the_mean_and_the_covariance_are_rounded_once():
    """Sums of 33 bits, of which float32 holds 24: divided first, rounded then."""
    moments = Moments((1, 2, 2))
    moments.count = 40_000_003
    moments.sum[:] = [[[5_000_000_007, 40_000_004], [10_200_000_764, 3]]]
    exact = [[[n / 40_000_003 for n in row] for row in rows] for rows in moments.sum.tolist()]
    assert moments.mean().dtype == np.float32
    assert np.array_equal(moments.mean(), np.array(exact).astype(np.float32))
    moments.products[:] = [[10**12 + 1, 7], [7, 10**9]]
    pixels = 2 * moments.count
    m = [sum(row[k] for row in moments.sum[0].tolist()) / pixels for k in (0, 1)]
    p = moments.products.tolist()
    expected = [[p[a][b] / pixels - m[a] * m[b] for b in (0, 1)] for a in (0, 1)]
    np.testing.assert_allclose(moments.covariance(), expected, rtol=1e-12)


def test_moments_that_were_merged_or_stored_are_their_own(rng):
    pictures = rng.integers(0, 256, (9, 2, 3, 2), np.uint8)
    parts = [Moments((2, 3, 2)) for _ in range(3)]
    for k, part in enumerate(parts):
        part.add(pictures[3 * k : 3 * k + 3])
    whole = Moments((2, 3, 2))
    for part in parts:
        whole.merge(Moments.from_arrays(part.arrays()))
    same(whole, pictures)
    for k, part in enumerate(parts):
        same(part, pictures[3 * k : 3 * k + 3])
    part.sum += 2**50 + 1  # as of a billion pictures; float64 would hold it, float32 and int32 not
    part.products += 2**62 + 1  # more than float64 holds
    again = Moments.from_arrays(part.arrays())
    assert again.sum.tolist() == part.sum.tolist()
    assert again.products.tolist() == part.products.tolist()


@pytest.mark.parametrize(
    "covariance",
    [
        np.full((3, 3), 700.0),  # grey: two variances are 0, or by rounding less
        np.outer([3.0, 5.0, 7.0], [3.0, 5.0, 7.0]),
        np.diag([9.0, 0.0, 4.0]),
        np.array([[4.0, -3.0], [-3.0, 5.0]]),
        np.array([[2.5]]),
        np.zeros((3, 3)),
    ],
)
def test_axes_of_colour_noise(covariance):
    """Their product is the covariance; they are at right angles, and their signs are fixed."""
    axes = colour_axes(covariance)
    assert axes.dtype == np.float32 and np.isfinite(axes).all()
    np.testing.assert_allclose(axes @ axes.T, covariance, atol=1e-3)
    squares = axes.T @ axes
    np.testing.assert_allclose(squares, np.diag(np.diag(squares)), atol=1e-3)
    assert (axes.sum(axis=0) >= -1e-4).all()
    values, vectors = np.linalg.eigh(covariance)
    turned = colour_axes((vectors * [-1] * values) @ (vectors * -1).T)  # of the same matrix
    np.testing.assert_allclose(turned @ turned.T, covariance, atol=1e-3)


def test_an_array_data_set_at_its_limits(rng):
    pictures, classes = rng.integers(0, 256, (4, 2, 3, 1), np.uint8), ["a", "b", "c"]
    given = np.array([0, 2, 1, 2])
    dataset = ArrayDataset(pictures, given, classes, "here")
    given[0], classes[0] = 1, "changed"
    assert dataset.labels.tolist() == [0, 2, 1, 2] and dataset.labels.dtype == np.int64
    assert dataset.classes == ["a", "b", "c"] and dataset.shape == (2, 3, 1)
    assert dataset.source == "here" and dataset.in_memory and len(dataset) == 4
    assert ArrayDataset(pictures, [0.0, 1.0, 1.0, 0.0], "ab").labels.tolist() == [0, 1, 1, 0]
    for labels, found in (([0, 3, 1, 2], "0 to 3"), ([0, -1, 1, 2], "-1 to 2")):
        with pytest.raises(DataError, match=f"expected labels 0 to 2, one a class, got {found}$"):
            ArrayDataset(pictures, labels, ["a", "b", "c"])
    for wrong in (pictures[0], pictures[..., None], pictures.astype(np.int16)):
        with pytest.raises(DataError, match=r"expected pictures uint8 \(N, H, W, C\), got"):
            ArrayDataset(wrong, np.zeros(len(wrong), int), ["a"])
    for labels in (np.zeros(3, int), np.zeros((4, 1), int), 0):
        with pytest.raises(DataError, match=r"expected labels of shape \(4,\), got"):
            ArrayDataset(pictures, labels, ["a"])


def test_what_a_data_set_of_another_hands_on():
    whole = Drawn(6, (2, 2, 1))
    whole.source = "far"
    whole.labels = np.arange(6)
    for made in (PaddedDataset(whole, 1), PartDataset(whole, 4)):
        assert not made.in_memory and made.source == "far" and made.classes == ["a"]
        assert len(made.labels) == len(made)
    held = ArrayDataset(np.zeros((6, 2, 2, 1), np.uint8), np.zeros(6, int), ["a"], "near")
    for made in (PaddedDataset(held, 1), PartDataset(held, 4)):
        assert made.in_memory and made.source == "near"
    assert PartDataset(whole, 4).labels.tolist() == [0, 1, 3, 4]


def test_moments_belong_to_one_data_set(rng):
    """Neither to another of its kind nor to all."""
    one, other = (
        ArrayDataset(rng.integers(0, 256, (5, 2, 2, 1), np.uint8), np.zeros(5, int), ["a"])
        for _ in range(2)
    )
    for dataset in (one, other, one):
        same(dataset.moments(), dataset.pictures)
        assert np.array_equal(mean_picture(dataset), dataset.moments().mean())


def test_moments_are_exact_beyond_what_float32_holds():
    """66,000 pictures of 255, one of 253: an odd sum of 25 bits. Products of 300 x 300: 33 bits."""
    pictures = np.full((66_001, 1, 1, 1), 255, np.uint8)
    pictures[7] = 253
    moments = Moments((1, 1, 1))
    moments.add(pictures)
    assert moments.sum.tolist() == [[[66_000 * 255 + 253]]]
    large = Moments((300, 300, 2))
    picture = np.full((300, 300, 2), 255, np.uint8)
    picture[3, 5] = 254, 253
    large.add(picture[None])
    assert large.products.tolist() == [
        [89_999 * 255**2 + 254**2, 89_999 * 255**2 + 254 * 253],
        [89_999 * 255**2 + 254 * 253, 89_999 * 255**2 + 253**2],
    ]


@pytest.mark.parametrize("kind", ["array", "padded", "part", "part of padded", "padded part"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_a_data_set_offers_is_what_its_pictures_are(rng, kind, in_memory):
    """However it is made of another one; pictures are asked for one by one, and held together."""
    pictures = rng.integers(0, 256, (9, 4, 7, 3), np.uint8)
    labels = rng.permutation(np.arange(9) % 4)
    found = ArrayDataset(pictures, labels, list("abcd"), "here")
    found.in_memory = in_memory
    for word in kind.split()[::-1]:
        if word == "padded":
            found = PaddedDataset(found, 2)
            pictures = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
        if word == "part":
            found = PartDataset(found, 6)
            places = [0, 1, 3, 4, 6, 7]  # i * 9 // 6
            pictures, labels = pictures[places], labels[places]
    held = [found.picture(i) for i in range(len(found))]
    assert np.array_equal(held, pictures) and found.shape == pictures.shape[1:]
    assert found.labels.tolist() == labels.tolist() and found.labels.dtype == np.int64
    assert found.classes == list("abcd") and found.source == "here"
    assert found.in_memory is in_memory
    whole = pictures.astype(np.float64)
    assert np.array_equal(found.moments().mean(), whole.mean(axis=0).astype(np.float32))
    covariance = np.cov(whole.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(found.moments().covariance(), covariance, rtol=1e-9)


def test_a_part_is_spread_evenly(rng):
    """Over a set that is sorted by class: so many of each class, to within one."""
    whole = ArrayDataset(
        rng.integers(0, 256, (90, 2, 2, 1), np.uint8), np.repeat([0, 1, 2], 30), list("abc")
    )
    for count in range(1, 91):
        part = PartDataset(whole, count)
        each, steps = np.bincount(part.labels, minlength=3), np.diff(part.places)
        assert len(part) == count and each.max() - each.min() <= 1
        assert (steps >= 90 // count).all() and (steps <= -(-90 // count)).all()
    for count in (0, -1, 91):
        with pytest.raises(DataError, match=f"a count of 1 to 90, the pictures .*, got {count}"):
            PartDataset(whole, count)
