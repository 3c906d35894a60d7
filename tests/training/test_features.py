"""What a unit sees, and what excites a map most."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.data import ArrayDataset, Loader
from tinynet.training.features import Field, most_exciting, receptive_field
from tinynet.training.inputs import Inputs
from tinynet.training.plots import bars, draw_patches


def test_fields_of_the_paper():
    """conv1 sees 11 pixels, its pool 19; conv2 51, which begin 16 outside."""
    conv1, pool = nn.Conv2d(3, 2, 11, 4), nn.MaxPool2d(3, 2, ceil_mode=True)
    conv2 = nn.Conv2d(2, 2, 5, 1, 2)
    assert receptive_field([conv1, nn.LocalResponseNorm(5)]) == Field(11, 4, 0)
    assert receptive_field([conv1, pool]) == Field(19, 8, 0)
    assert receptive_field([conv1, pool, conv2]) == Field(51, 8, -16)
    assert receptive_field([conv1, nn.Flatten(), nn.Linear(2, 2)]) is None


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
        assert layer == "pixels"
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


def test_pictures_of_bars_and_patches(tmp_path, rng):
    picture = bars(["cat", "dog, hound"], [0.75, 0.25], "dog, hound", side=100).astype(int)
    blue = (picture == (0x0B, 0x6B, 0xCB)).all(axis=2)
    orange = (picture == (0xE0, 0x7A, 0x1F)).all(axis=2)
    assert blue.sum(axis=1).max() == pytest.approx(75, abs=2)
    assert orange.sum(axis=1).max() == pytest.approx(25, abs=2)
    draw_patches(rng.integers(0, 256, (6, 9, 8, 8, 3), np.uint8), tmp_path / "a.png", groups=2)
    assert (tmp_path / "a.png").stat().st_size > 1000
