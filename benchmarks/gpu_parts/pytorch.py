"""PyTorch's side. In a process of its own: PyTorch and CuPy bring their own CUDA libraries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gpu_parts.step import rate
from sides import random_batch
from sides.pytorch import Net


def rates(
    batches: tuple[int, ...], tf32: bool, preset: str, seconds: float
) -> dict[str, dict[str, float]]:
    """Batch size -> pictures/s, eager and with its fastest settings."""
    precision(tf32)
    found: dict[str, dict[str, float]] = {}
    for batch in batches:
        for name, best in (("PyTorch eager", False), ("PyTorch best", True)):
            step = make_step(batch, preset, best)
            found.setdefault(str(batch), {})[name] = rate(
                step, torch.cuda.synchronize, batch, seconds
            )
            del step
            torch.cuda.empty_cache()
    return found


def make_step(batch: int, preset: str, best: bool) -> Callable[[], None]:
    """The same net, eager; `best` adds channels_last and cudnn.benchmark."""
    torch.backends.cudnn.benchmark = best
    net = Net(preset, True).cuda().train()
    x, labels = (torch.from_numpy(a).cuda() for a in random_batch(preset, batch))
    if best:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return lambda: net.train_step(x, labels)


def precision(tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
