"""From a batch of bytes, or a picture file, to what a network sees."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tinynet.data import Batch
from tinynet.data.background import in_background
from tinynet.data.pictures import decode
from tinynet.devices import Device, find_device
from tinynet.tensors import Tensor


class Inputs:
    """Makes float pictures (N, C, S, S) of a Batch's uint8 ones, on the device; S = size + border.

    x = scale * (crop of (picture - mean), flipped or not, + colour noise). With noise, x is also
    multiplied by noise_scale. Only bytes travel to the device, a quarter of what floats would need.

    mean: float32 (H, W, C), the training pictures' mean; size: side of the crop; scale: what the
    values, 0 to 255 wide, are multiplied by; second_device: it gets the same pictures, so that x is
    a pair of tensors (AlexNet takes it so: floats need not cross from GPU to GPU); border: rows of
    zeros at the bottom and columns of zeros at the right, made in the same pass.
    """

    def __init__(
        self,
        device: Device | str,
        mean: np.ndarray,
        size: int,
        scale: float = 1.0,
        second_device: Device | None = None,
        border: int = 0,
        noise_scale: float = 1.0,
    ) -> None:
        self.device = find_device(device)
        if mean.ndim != 3 or min(mean.shape[:2]) < size:
            raise ValueError(
                f"Inputs: expected a mean picture of at least {size} x {size}, got {mean.shape}"
            )
        self.mean, self.size, self.border = mean, size, border
        self.scale, self.noise_scale = float(scale), float(noise_scale)
        places = dict.fromkeys((self.device, second_device or self.device))
        self._means = {place: place.upload(mean) for place in places}

    def __call__(self, batch: Batch) -> tuple[Tensor | tuple[Tensor, Tensor], Tensor]:
        """The pictures (N, C, S, S) and the labels (N,), both on the device."""
        x = tuple(self._pictures(batch, device) for device in self._means)
        return x if len(x) == 2 else x[0], Tensor(self.device.upload(batch.labels), self.device)

    def ahead(self, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """The batches; for a GPU a thread fills the memory that their pictures are copied from, one
        batch in advance: 19 MB at batch 128, that the host's own thread need not copy.
        """
        if not self.device.stages:
            return batches
        return in_background(self._staged(batches), 1)

    def _staged(self, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        with contextlib.closing(batches):
            for batch in batches:
                for device in self._means:
                    device.stage(batch.pictures)
                yield batch

    def _pictures(self, batch: Batch, device: Device) -> Tensor:
        with device.activate("pictures"):
            x = device.kernels.pictures_forward(
                device.upload(batch.pictures),
                self._means[device],
                device.upload(batch.top),
                device.upload(batch.left),
                device.upload(batch.flip),
                None if batch.colour is None else device.upload(batch.colour),
                (self.size, self.size),
                self.scale * (1.0 if batch.colour is None else self.noise_scale),
                self.border,
            )
            return Tensor(x, device)


def read_picture(path: str | Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A picture file as uint8 (H, W, C): shorter side to H, the centre cut out, grey if C is 1.

    Raises DataError that names the file if it is no whole JPEG or PNG.
    """
    picture = decode(Path(path).read_bytes(), str(path), size=shape[0])
    if shape[2] == 1:
        grey = Image.fromarray(picture).convert("L")
        return np.asarray(grey)[:, :, None]
    return picture


def has_colours(path: str | Path) -> bool:
    """Whether red, green and blue of any pixel of a picture file differ."""
    picture = decode(Path(path).read_bytes(), str(path))
    return bool((picture != picture[:, :, :1]).any())


def batch_of(pictures: Sequence[np.ndarray], size: int) -> Batch:
    """Whole pictures (H, W, C) as a Batch seen through its centre; the labels say nothing."""
    count, (height, width, _) = len(pictures), pictures[0].shape
    return Batch(
        pictures=np.stack(pictures),
        labels=np.zeros(count, np.int64),
        top=np.full(count, (height - size) // 2, np.int32),
        left=np.full(count, (width - size) // 2, np.int32),
        flip=np.zeros(count, bool),
        colour=None,
        indices=np.arange(count),
    )
