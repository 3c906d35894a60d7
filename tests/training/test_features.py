"""What a unit sees, and what excites a map most."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.data import ArrayDataset, Loader
from tinynet.recording import is_grad_enabled
from tinynet.training.features import Field, most_exciting, receptive_field
from tinynet.training.inputs import Inputs, batch_of
from tinynet.training.plots import bars, draw_patches


def test_fields_of_the_paper():
    """conv1 sees 11 pixels, its pool 19; conv2 51, which begin 16 outside."""
    conv1, pool = nn.Conv2d(3, 2, 11, 4), nn.MaxPool2d(3, 2, ceil_mode=True)
    conv2 = nn.Conv2d(2, 2, 5, 1, 2)
    assert receptive_field([conv1, nn.LocalResponseNorm(5)]) == Field(11, 4, 0)
    assert receptive_field([conv1, pool]) == Field(19, 8, 0)
    assert receptive_field([conv1, pool, conv2]) == Field(51, 8, -16)
    assert receptive_field([conv1, nn.Flatten(), nn.Linear(2, 2)]) is None
    assert receptive_field([conv1, nn.Linear(2, 2)]) is None
    assert receptive_field([conv1, nn.Flatten()]) is None
    assert receptive_field([]) == Field(1, 1, 0)


def test_a_unit_changes_with_what_it_sees_and_with_nothing_else(rng):
    layers = [
        nn.Conv2d(1, 3, 3, 2, 1),
        nn.SpatialResponseNorm(3),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 2, 3, 1, 1),
    ]
    net, field = nn.Sequential(*layers), receptive_field(layers)
    x, y = rng.normal(size=(1, 1, 24, 24)).astype(np.float32), 3
    before = net(tinynet.tensor(x)).numpy()
    first = y * field.step + field.start
    for row in range(24):
        changed = x.copy()
        changed[0, 0, row] += 1
        differs = (net(tinynet.tensor(changed)).numpy()[:, :, y] != before[:, :, y]).any()
        assert differs == (first <= row < first + field.size), (row, field)


class Brightness(nn.Module):
    """Its two maps: each pixel, and its negative."""

    def features(self, x, layer):
        assert layer == "pixels" and not is_grad_enabled()
        return tinynet.concat([x, -x], axis=1)


def test_the_patches_around_the_brightest_pixels(rng):
    """The brightest of picture k is 100 + k; what lies outside of the picture is grey."""
    pictures = rng.integers(20, 90, (12, 9, 9, 1), np.uint8)
    places = rng.integers(0, 9, (12, 2))
    for k, (y, x) in enumerate(places):
        pictures[k, y, x] = 100 + k
    dataset = ArrayDataset(pictures, np.zeros(12), ["a"])
    with Loader(dataset, 5, crop=9, train=False) as loader:  # the best come in several batches
        found = most_exciting(
            Brightness().eval(), loader.epoch(0), Inputs("cpu", np.zeros((9, 9, 1), np.float32), 9),
            "pixels", Field(3, 1, -1), 3, count=4,
        )  # fmt: skip
    assert found.shape == (2, 4, 3, 3, 1)
    padded = np.pad(pictures, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=128)
    for rank, k in enumerate((11, 10, 9, 8)):
        y, x = places[k]
        np.testing.assert_array_equal(found[0, rank], padded[k, y : y + 3, x : x + 3])
    darkest = sorted(int(picture.min()) for picture in pictures)[:4]
    assert sorted(int(patch[1, 1, 0]) for patch in found[1]) == darkest


def test_each_picture_is_cut_from_where_it_was_seen(rng):
    """Of each another part; the largest of its values, wherever it lies, is in the middle."""
    pictures = rng.integers(0, 100, (6, 9, 11, 1), np.uint8)
    tops, lefts = rng.integers(0, 4, 6), rng.integers(0, 6, 6)
    for k, (top, left) in enumerate(zip(tops, lefts, strict=True)):
        pictures[k, top + 1 + k % 4, left + 2] = 150 + k
        pictures[k, :top] = pictures[k, :, :left] = 250  # brighter, and not seen
    given = dataclasses.replace(
        batch_of(list(pictures), 6), top=tops.astype(np.int32), left=lefts.astype(np.int32)
    )
    seen = Inputs("cpu", np.zeros((9, 11, 1), np.float32), 6)
    found = most_exciting(Brightness().eval(), [given], seen, "pixels", Field(3, 1, -1), 3, 6)
    for rank, k in enumerate(range(5, -1, -1)):
        crop = pictures[k, tops[k] : tops[k] + 6, lefts[k] : lefts[k] + 6]
        y = 1 + k % 4
        np.testing.assert_array_equal(found[0, rank], crop[y - 1 : y + 2, 1:4])


class Coarse(nn.Module):
    """One map: every second pixel in both directions."""

    def features(self, x, layer):
        return x[:, :, ::2, ::2]


def test_patches_of_pictures_that_are_larger_than_the_crop(rng):
    """A unit sees 4 pixels, 2 apart from those of the next; each pixel is drawn twice as large; of
    equal values the first one counts."""
    pictures = rng.integers(20, 90, (7, 13, 15, 1), np.uint8)
    places = rng.integers(0, 5, (7, 2))
    for k, (y, x) in enumerate(places):
        pictures[k, 2 + 2 * y, 3 + 2 * x] = (100, 200, 150, 200, 120, 200, 110)[k]
    mean = np.zeros((13, 15, 1), np.float32)
    with Loader(ArrayDataset(pictures, np.zeros(7), ["a"]), 3, crop=9, train=False) as loader:
        found = most_exciting(
            Coarse().eval(), loader.epoch(0), Inputs("cpu", mean, 9), "coarse", Field(4, 2, -1), 8,
            count=6,
        )  # fmt: skip
    for rank, k in enumerate((1, 3, 5, 2, 4, 6)):
        crop = np.pad(pictures[k, 2:11, 3:12, 0], 2, constant_values=128)
        y, x = 2 * places[k] + 1
        expected = crop[y : y + 4, x : x + 4].repeat(2, axis=0).repeat(2, axis=1)
        np.testing.assert_array_equal(found[0, rank, :, :, 0], expected)


def test_where_there_are_fewer_pictures_than_patches_it_is_grey(rng):
    dataset = ArrayDataset(rng.integers(0, 99, (2, 5, 5, 1), np.uint8), np.zeros(2), ["a"])
    with Loader(dataset, 2, crop=5, train=False) as loader:
        inputs = Inputs("cpu", np.zeros((5, 5, 1), np.float32), 5)
        found = most_exciting(Coarse().eval(), loader.epoch(0), inputs, "all", None, 5, count=4)
    whole = sorted(picture.tobytes() for picture in dataset.pictures)  # no field: all of it
    assert sorted(patch.tobytes() for patch in found[0, :2]) == whole
    assert (found[0, 2:] == 128).all()


def test_pictures_of_bars_and_patches(tmp_path, rng):
    picture = bars(["cat", "dog, hound"], [0.75, 0.25], "dog, hound", side=100).astype(int)
    blue = (picture == (0x0B, 0x6B, 0xCB)).all(axis=2)
    orange = (picture == (0xE0, 0x7A, 0x1F)).all(axis=2)
    assert blue.sum(axis=1).max() == pytest.approx(75, abs=2)
    assert orange.sum(axis=1).max() == pytest.approx(25, abs=2)
    draw_patches(rng.integers(0, 256, (6, 9, 8, 8, 3), np.uint8), tmp_path / "a.png", groups=2)
    assert (tmp_path / "a.png").stat().st_size > 1000
