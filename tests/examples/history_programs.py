"""What the tests of the files in examples/history share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet.training import checkpoint as files
from tinynet.training.inputs import Inputs
from tinynet.training.task import Classification

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples" / "history"))
sys.path.append(str(ROOT / "benchmarks"))  # last, since it has a gan.py too


def resumed_to_the_same_bits(main, out: Path, start: tuple, last: int) -> None:
    """Train with a checkpoint after each batch, `last` in all; delete all but an early one inside
    the first epoch and the best; resume; compare the last ones.
    """
    words = [str(word) for word in (*start, "--out", out, "--checkpoint-every", 1, "--keep", 99)]
    assert main(words) == 0
    whole = files.load(files.path_of(out, last))
    for path in files.all_in(out):
        if path not in (files.path_of(out, 1), files.path_of(out, 0)):
            path.unlink()
    assert main(["--resume", "--out", str(out)]) == 0
    again = files.load(files.path_of(out, last))
    for part, expected in ((again.model, whole.model), (again.optimizer, whole.optimizer)):
        assert part.keys() == expected.keys()
        for name, array in expected.items():
            assert part[name].tobytes() == array.tobytes(), name
    assert (out / "report.html").exists()


def losses_here(net, optimizer, task, batches) -> list[float]:
    """The losses of a few steps of training."""
    losses = []
    for batch in batches:
        loss, _ = task.loss(net, *task.inputs(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def losses_of_both(name, net, optimizer, task, batches) -> tuple[list[float], list[float]]:
    """Those of the same steps here and in PyTorch, where benchmarks/sides/pytorch_history.py has
    the net, in the precision of the net's parameters. Nothing is dropped out.
    """
    torch = pytest.importorskip("torch")
    from sides.pytorch_history import Both

    torch.set_num_threads(1)  # these nets are so small that several mostly wait for each other
    precision = next(net.parameters()).dtype
    batches = [[x.astype(precision) if x.dtype.kind == "f" else x for x in b] for b in batches]
    both = Both(name, net, optimizer, task)
    ours, theirs = zip(*map(both.step, batches), strict=True)
    return list(ours), list(theirs)


def assert_first_losses_agree(name, net, optimizer, task, batches) -> list[float]:
    """A few steps in float64 give PyTorch's losses. In float32 they would on some machines only: a
    rounding puts a value near 0 on the other side of a ReLU, and Adam divides a tiny gradient by
    its own size. optimizer(net): the optimizer. Returns the losses.
    """
    for array in (*net.parameters(), *net.buffers()):
        array.data = array.data.astype(np.float64)
    ours, theirs = losses_of_both(name, net, optimizer(net), task, batches)
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    assert len({round(loss, 5) for loss in ours}) > 2  # it moves
    return ours


def random_batches(rng, count, *shape) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pictures (N, C, S, S), 0 to 1, and labels of three classes."""
    return [
        (rng.random(shape, np.float32), rng.integers(0, 3, shape[0]).astype(np.int64))
        for _ in range(count)
    ]


class Labelled(Classification):
    """The task of a program of pictures, fed with arrays."""

    def __init__(self, auxiliary=0.0):
        super().__init__(Inputs("cpu", np.zeros((8, 8, 1), np.float32), 8), "abc", 0.0, auxiliary)

    def inputs(self, batch):
        return tuple(map(tinynet.tensor, batch))
