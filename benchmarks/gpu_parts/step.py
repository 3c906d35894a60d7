"""A training step of AlexNet on a GPU, and its rate: what the other parts measure."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from alexnet import AlexNet

import tinynet
import tinynet.functional as F
from tinynet.devices import Device
from tinynet.program.runs import find_devices


class Size(NamedTuple):
    """How large everything is that a run measures."""

    preset: str
    batch: int
    few: int  # pictures of a step that the CPU makes too
    seconds: float  # of each timing
    side: int  # of a large matrix
    copied: int  # floats of a large copy
    steps: int  # of those that are queued in advance
    tries: int  # values of a guess that are tried
    # (towers, output channels, C*kh*kw, output pixels a picture) of every layer
    products: tuple[tuple[int, int, int, int], ...]


WHOLE = Size(
    "paper", 128, 8, 1.2, 8192, 1 << 28, 3, 9,
    ((2, 48, 363, 3025), (2, 128, 1200, 729), (2, 192, 2304, 169), (2, 192, 1728, 169),
     (2, 128, 1728, 169), (2, 2048, 9216, 1), (2, 2048, 4096, 1), (1, 1000, 4096, 1)),
)  # fmt: skip
SMALL = Size("mini", 2, 2, 0.0, 8, 1 << 10, 1, 1, ((2, 48, 363, 9), (1, 8, 8, 1)))


class Ours:
    """AlexNet, its optimiser, and a batch that lies on the device, or on both, as in training."""

    def __init__(
        self, devices: tuple[Device, Device], batch: int, preset: str, dropout: bool = True
    ):
        tinynet.manual_seed(1)
        classes, channels = (1000, 3) if preset == "paper" else (10, 1)
        self.model = AlexNet(classes, preset, devices, channels)
        self.model.train() if dropout else self.model.eval()
        self.optimizer = tinynet.optim.SGD(self.model.parameters(), 1e-3, 0.9, 5e-4)
        rng, size = np.random.default_rng(2), self.model.image_size
        pictures = np.moveaxis(
            rng.standard_normal((channels, size, size, batch), np.float32), -1, 0
        )
        x = tuple(tinynet.tensor(pictures, device=device) for device in dict.fromkeys(devices))
        self.x = x if len(x) > 1 else x[0]
        self.labels = tinynet.tensor(rng.integers(0, classes, batch), device=devices[0])

    def step(self) -> tinynet.Tensor:
        loss = F.cross_entropy(self.model(self.x), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def pair(names: str) -> tuple[Device, Device]:
    return find_devices(names, 2)


def release() -> None:
    """Give the idle memory of the pool back."""
    sys.modules["tinynet.devices.cuda.memory"].pool.free_all_blocks()


def rate(step: Callable[[], object], wait: Callable[[], None], batch: int, seconds: float) -> float:
    """Pictures a second: steps back to back for `seconds`, waiting for the GPU at the end only."""
    for _ in range(3 if seconds else 0):
        step()
    wait()
    start = time.perf_counter()
    step()
    wait()
    steps = max(1, min(2000, int(seconds / max(time.perf_counter() - start, 1e-6))))
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return batch * steps / (time.perf_counter() - start)


@contextlib.contextmanager
def precision(tf32: bool) -> Iterator[None]:
    tinynet.set_tf32(tf32)
    try:
        yield
    finally:
        tinynet.set_tf32(False)


def from_host(gpu: Device, net: Ours, batch: int) -> Callable[[], None]:
    """A step that begins with the pictures' bytes on the host, as training does."""
    rng, size = np.random.default_rng(3), net.model.image_size
    channels = net.x.shape[1]
    pictures = rng.integers(0, 256, (batch, size + 32, size + 32, channels), np.uint8)
    corners = rng.integers(0, 33, (2, batch)).astype(np.int32)
    flip = rng.integers(0, 2, batch).astype(bool)
    mean = gpu.upload(np.full((size + 32, size + 32, channels), 120, np.float32))

    def step() -> None:
        with gpu.activate("pictures"):
            sent = [gpu.upload(a) for a in (pictures, *corners, flip)]
            x = gpu.kernels.pictures_forward(
                sent[0], mean, *sent[1:], None, (size, size), 1 / 64, net.model.border
            )
        net.x = tinynet.Tensor(x, gpu)
        net.step()

    return step
