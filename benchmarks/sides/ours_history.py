"""tinynet's side of the line: a step as the program room makes it, but for the loading."""

from __future__ import annotations

from collections.abc import Callable

from sides.history import begin, first_batch
from sides.ours import about

__all__ = ["about", "make_step"]


def make_step(name: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    begun = begin(name)
    inputs = begun.task.inputs(first_batch(begun))

    def step() -> None:
        loss, _ = begun.task.loss(begun.net, *inputs)
        begun.optimizer.zero_grad()
        loss.backward()
        begun.optimizer.step()

    return step
