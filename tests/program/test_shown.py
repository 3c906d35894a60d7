"""What the end of a run shows: pictures of early and late epochs in one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tinynet.program.shown import growth
from tinynet.training.drawings import picture_rows
from tinynet.training.objective import GLIMPSES


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, [1]), (3, [1, 2, 3]), (20, [1, 2, 3, 6, 11, 20]), (1200, [1, 4, 17, 70, 291, 1200])],
)
def test_glimpses_of_early_and_late_epochs_in_one_picture(count, chosen, tmp_path):
    shades = np.arange(count) % 251 / np.float32(255)
    for epoch, shade in enumerate(shades, start=1):
        png = picture_rows([np.full((2, 1, 1, 1), shade)], zoom=1, gap=0)
        (tmp_path / GLIMPSES.format(epoch)).write_bytes(png)
    ((title, png),) = growth(tmp_path).items()
    assert title == f"epochs {', '.join(map(str, chosen))}, from above"
    found = np.asarray(Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(found, [[(epoch - 1) % 251] * 2 for epoch in chosen])


def test_an_epoch_whose_picture_is_gone_is_not_named(tmp_path):
    for epoch in (2, 3, 5):
        png = picture_rows([np.zeros((1, 1, 1, 1), np.float32)])
        (tmp_path / GLIMPSES.format(epoch)).write_bytes(png)
    assert list(growth(tmp_path)) == ["epochs 2, 3, 5, from above"]


def test_a_run_without_glimpses(tmp_path):
    assert growth(tmp_path) == {}
