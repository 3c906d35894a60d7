"""PyTorch's side, in the form that suits it best: one tower with groups=2, ReLU in place, SGD over
lists of tensors.

LRN acts over each tower's own channels, through a view (N, C, H, W) -> (2 N, C/2, H, W) that costs
nothing (a copy where channels lie last in memory).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from sides import (
    CONFIGS,
    DROPOUT,
    GROUPS,
    LEARNING_RATE,
    LRN,
    MOMENTUM,
    NORMALISED,
    POOLED,
    WEIGHT_DECAY,
    random_batch,
    random_weights,
)


class Net(torch.nn.Module):
    def __init__(self, preset: str, lrn: bool):
        super().__init__()
        self.config, self.lrn = CONFIGS[preset], lrn
        for name, value in random_weights(preset).items():
            self.register_parameter(
                name.replace(".", "_"), torch.nn.Parameter(torch.from_numpy(value))
            )
        self.optimizer = torch.optim.SGD(
            self.parameters(),
            LEARNING_RATE,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            foreach=True,
        )

    def layer(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.config.extra:
            x = F.pad(x, (0, self.config.extra, 0, self.config.extra))
        for i, groups in enumerate(GROUPS, start=1):
            stride, padding = self.config.conv1 if i == 1 else (1, self.config.sides[i - 1] // 2)
            x = F.relu(
                F.conv2d(x, *self.layer(f"conv{i}"), stride, padding, groups=groups), inplace=True
            )
            if i in NORMALISED and self.lrn:
                N, C, H, W = x.shape
                x = F.local_response_norm(x.reshape(2 * N, C // 2, H, W), **LRN).reshape(N, C, H, W)
            if i in POOLED:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        x = x.flatten(1)
        for name in ("fc6", "fc7"):
            x = F.dropout(
                F.relu(F.linear(x, *self.layer(name)), inplace=True), DROPOUT, self.training
            )
        return F.linear(x, *self.layer("fc8"))

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Without dropout, in the precision of x: "logits", and the gradient of each parameter."""
        x = torch.from_numpy(x)
        logits = self.eval().to(x.dtype)(x)
        F.cross_entropy(logits, torch.from_numpy(labels)).backward()
        grads = {name.replace("_", "."): p.grad.numpy() for name, p in self.named_parameters()}
        return {"logits": logits.detach().numpy()} | grads

    def train_step(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self(x), labels).backward()
        self.optimizer.step()


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    net = Net(preset, lrn)
    x, labels = map(torch.from_numpy, random_batch(preset, batch))
    if task == "train":
        net.train()
        return lambda: net.train_step(x, labels)
    net.eval()

    def forward() -> None:
        with torch.inference_mode():
            net(x)

    return forward


def about() -> str:
    onednn = "with" if torch.backends.mkldnn.is_available() else "without"
    return f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {onednn} oneDNN"
