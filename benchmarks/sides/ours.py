"""tinynet's side: AlexNet of examples/alexnet.py, in two towers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from alexnet import PRESETS, AlexNet

import tinynet
import tinynet.functional as F
from sides import CONFIGS, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, random_batch, random_weights
from tinynet import nn
from tinynet.optim import SGD


class Net:
    def __init__(self, preset: str, lrn: bool):
        config, self.preset = CONFIGS[preset], preset
        same = replace(PRESETS[preset], inverted=True)  # the form of dropout that all sides have
        self.model = AlexNet(config.classes, same, in_channels=config.channels)
        if not lrn:
            for tower in (self.model.a, self.model.b):
                tower.after = {
                    name: nn.Sequential(
                        *(layer for layer in after if not isinstance(layer, nn.LocalResponseNorm))
                    )
                    for name, after in tower.after.items()
                }
        self.model.load_state_dict(_in_towers(random_weights(preset)))
        self.optimizer = SGD(self.model.parameters(), LEARNING_RATE, MOMENTUM, WEIGHT_DECAY)

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Without dropout, in the precision of x: "logits", and the gradient of each parameter,
        both towers in one.
        """
        for parameter in self.model.parameters():
            parameter.data = parameter.data.astype(x.dtype)
        logits = self.model.eval()(tinynet.tensor(x))
        F.cross_entropy(logits, labels).backward()
        found = {"logits": logits.numpy()}
        for name in random_weights(self.preset):
            parameters = dict(self.model.named_parameters())
            towers = (
                [parameters[f"{t}.{name}"] for t in "ab"]
                if "fc8" not in name
                else [parameters[name]]
            )
            found[name] = np.concatenate([p.grad.numpy() for p in towers])
        return found

    def train_step(self, x: tinynet.Tensor, labels: np.ndarray) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), labels).backward()
        self.optimizer.step()


def _in_towers(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tower a has the first half of a layer's outputs, b the second; fc8 is one."""
    state = {}
    for name, value in weights.items():
        half = len(value) // 2
        state |= (
            {name: value}
            if "fc8" in name
            else {f"a.{name}": value[:half], f"b.{name}": value[half:]}
        )
    return state


def batch_innermost(array: np.ndarray, requires_grad: bool = False) -> tinynet.Tensor:
    """In memory, as pictures come from the loader."""
    lying = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    return tinynet.tensor(np.moveaxis(lying, -1, 0), requires_grad=requires_grad)


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    net, (pictures, labels) = Net(preset, lrn), random_batch(preset, batch)
    x = batch_innermost(pictures)
    if task == "train":
        net.model.train()
        return lambda: net.train_step(x, labels)
    net.model.eval()

    def forward() -> None:
        with tinynet.no_grad():
            net.model(x)

    return forward


def about() -> str:
    return f"tinynet {tinynet.__version__}, {tinynet.get_num_threads()} threads"
