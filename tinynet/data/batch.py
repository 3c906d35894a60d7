"""A batch of pictures, and how pictures get into it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tinynet.data.dataset import Dataset
from tinynet.errors import DataError


@dataclass
class Batch:
    """N pictures on their way to a device.

    In training `pictures` are the crops, uint8 (N, crop, crop, C); in tests the whole pictures.
    (`top`, `left`) is where in the whole picture the crop lies (the mean is cut there too), `flip`
    says which to mirror, `colour` (N, C) what to add to each pixel. `damaged` names, by their
    places in the data set, the pictures that could not be read and so are not among the N.
    """

    pictures: np.ndarray  # uint8 (N, H, W, C)
    labels: np.ndarray  # int64 (N,)
    top: np.ndarray  # int32 (N,)
    left: np.ndarray  # int32 (N,)
    flip: np.ndarray  # bool (N,)
    colour: np.ndarray | None  # float32 (N, C)
    indices: np.ndarray  # int64 (N,), places in the data set
    damaged: dict[int, str] = field(default_factory=dict)

    def leave_out_damaged(self) -> None:
        """Take out the rows of the pictures that could not be read."""
        keep = ~np.isin(self.indices, list(self.damaged))
        for name in ("pictures", "labels", "top", "left", "flip", "colour", "indices"):
            if (values := getattr(self, name)) is not None:
                setattr(self, name, values[keep])


def crop_pictures(
    dataset: Dataset, indices: np.ndarray, top: np.ndarray, left: np.ndarray, out: np.ndarray
) -> dict[int, str]:
    """Copy pictures into `out` (N, h, w, C), each from its offset on if it is larger than that.

    Returns those that cannot be read, by their places in the data set, and why; their rows are left
    as they were.
    """
    damaged = {}
    height, width = out.shape[1:3]
    whole = (height, width) == dataset.shape[:2]
    for row, index in enumerate(indices):
        try:
            picture = dataset.picture(int(index))
        except (DataError, OSError) as error:
            damaged[int(index)] = str(error)
            continue
        t, x = (0, 0) if whole else (top[row], left[row])
        out[row] = picture[t : t + height, x : x + width]
    return damaged
