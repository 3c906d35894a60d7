"""What a paper step asks of a GPU, counted on real CuPy without a driver."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import real_cupy
from test_training import AlexNet

import tinynet
import tinynet.functional as F


class PaperStep:
    """A whole step of the paper's net at batch 128, launched but not computed."""

    def __init__(self, counts: real_cupy.Counts):
        tinynet.manual_seed(1)
        gpu = tinynet.device("cuda:0")
        self.net = AlexNet(1000, "paper", (gpu, gpu))
        self.optimiser = tinynet.optim.SGD(self.net.param_groups(), 0.01, 0.9, 5e-4)
        side = 224 + self.net.border
        x = gpu.empty((3, side, side, 128), np.float32)
        self.x = tinynet.Tensor(gpu.xp.moveaxis(x, -1, 0), gpu)
        self.labels = tinynet.Tensor(gpu.empty((128,), np.int64), gpu)

    def __call__(self) -> None:
        loss = F.cross_entropy(self.net(self.x), self.labels)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def test_the_budget_of_a_paper_step(counts: real_cupy.Counts) -> None:
    """What a step at batch 128 may ask of one GPU. In brackets, what it was with whole columns and
    a launch for each parameter.
    """
    counts.compute = False
    step = PaperStep(counts)
    step()  # whose first launches read sources
    counts.forget()
    step()
    found = counts.kernels
    assert sum(found.values()) <= 190, found  # (245 operations)
    assert found["concatenate"] == 4  # (7) both towers see the same maps
    assert counts.allocations <= 195
    assert counts.events == counts.waits == 0  # one device, and no uploads
    assert found["sgd_step"] == 1  # (30)
    # Five layers of two towers: a product forward, one for dw, one for dx but of the pictures.
    # conv2's gradient takes two pieces. Then the products of fc6 to fc8.
    assert found["gemm"] == 28 + 2 + 15
    # Columns for each of the convolutions' products; but in conv1 and conv3, forward and for dw,
    # both towers share them. (30 with columns for each tower)
    assert found["row_columns"] == 28 + 2 - 4
    # Nothing is copied to lie otherwise, and no large memory is zeroed.
    assert "pack" not in found and counts.bytes.get("fill", 0) <= 4
    # Columns written, and the pictures or gradients read for them: (9.0 GB, 3.9 for each tower)
    assert counts.bytes["row_columns"] < 3.1e9
    assert sum(counts.bytes.values()) < 6.7e9


def calls(work: Callable[[], None]) -> int:
    """How many functions tinynet's own code calls or is called by, Python's and C's."""
    count, ours = 0, str(Path(tinynet.__file__).parent)

    def see(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call") and frame.f_code.co_filename.startswith(ours)

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_how_much_the_host_does_in_a_paper_step(counts: real_cupy.Counts) -> None:
    """Its time cannot be tested where others work as well; what it calls can. In brackets, what it
    was when every launch was checked anew and every allocation added up what is used.
    """
    counts.compute = False
    step = PaperStep(counts)
    step()
    assert calls(step) < 11_000  # (15,661); 10,125 today, by Python 3.11
