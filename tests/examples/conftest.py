"""Pictures for the programs of this folder, whose runs go without their own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True, scope="module")
def _quick(quick_pictures):
    pass


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """{train,val}/{dark,light}/*.png of 20 x 20 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 200, (20, 20, 3)) + 50 * label
                Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
    return root
