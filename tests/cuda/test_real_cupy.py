"""What a paper step asks of a GPU, counted on real CuPy without a driver; and small steps on it."""

from __future__ import annotations

import numpy as np
import real_cupy
from test_training import alexnet, train

import tinynet
import tinynet.functional as F

GB = 1e9


def test_it_trains_to_the_losses_of_the_cpu(counts: real_cupy.Counts) -> None:
    losses, weights = train("cuda:0", steps=2)
    expected_losses, expected_weights = train("cpu", steps=2)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name, expected in expected_weights.items():
        atol = 1e-5 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(weights[name], expected, rtol=0, atol=atol, err_msg=name)


class PaperStep:
    """A whole step of the paper's net at batch 128, launched but not computed."""

    def __init__(self, counts: real_cupy.Counts):
        tinynet.manual_seed(1)
        counts.compute = False
        gpu = tinynet.device("cuda:0")
        self.net = alexnet().AlexNet(1000, "paper", (gpu, gpu))
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
