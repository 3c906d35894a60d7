"""What the tests of the files in examples/history share."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import tinynet
from tinynet.training import checkpoint as files
from tinynet.training.inputs import Inputs
from tinynet.training.task import Classification

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "history"))


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


class Torch:
    """The same nets in PyTorch: functions of tensors, with the weights of a net of ours by name."""

    def __init__(self, torch, net):
        self.torch, self.TF = torch, torch.nn.functional
        self.weights = {
            name: torch.tensor(np.array(p.numpy()), requires_grad=True)
            for name, p in net.named_parameters()
        }

    def of(self, name):
        """The weight of a layer, and its bias or None."""
        return self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")

    def linear(self, name, x):
        return self.TF.linear(x, *self.of(name))

    def conv(self, name, x, **options):
        return self.TF.conv2d(x, *self.of(name), **options)

    def norm(self, name, x):
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.TF.layer_norm(x, x.shape[-1:], weight, bias)

    def attention(self, name, heads, x, memory=None, mask=None, causal=False):
        """mask (N, 1 or T, S), True where a query may look."""
        memory = x if memory is None else memory
        (N, T, D), S = x.shape, memory.shape[1]
        q, k, v = (
            self.linear(f"{name}.{part}", each).view(N, -1, heads, D // heads).transpose(1, 2)
            for part, each in (("query", x), ("key", memory), ("value", memory))
        )
        mask = None if mask is None else mask[:, None].expand(N, heads, T, S)
        y = self.TF.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.linear(f"{name}.out", y.transpose(1, 2).reshape(N, T, D))

    def losses(self, groups, batches, forward, make):
        """forward(batch) -> loss; groups: names -> options of make, an optimiser."""
        optimizer = make([dict(params=[self.weights[n] for n in ns], **o) for ns, o in groups])
        found = []
        for batch in batches:
            loss = forward(*map(self.torch.as_tensor, batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found
