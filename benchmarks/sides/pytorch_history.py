"""PyTorch's side of the line: each net of examples/history as a function of tensors, with the first
weights of one of ours. The tests of these files compare losses with it.

    LOSSES["vgg"](Torch(net), x, labels)   the loss that VGG's training minimises
    Both("vgg", net, ...).step(batch)      the same step here and there

A function takes from our net its weights by name and its sizes, and no more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import tinynet
from sides.history import begin, file_of, first_batch
from sides.pytorch import about
from tinynet import nn, random
from tinynet.training.objective import same_luck

__all__ = ["LOSSES", "Both", "Torch", "about", "make_step"]
OPTIONS = ("momentum", "weight_decay", "nesterov", "betas", "eps", "amsgrad")


class Torch:
    """The parameters of a net of ours by name, and layers that use them. luck(*shape): numbers of
    the normal distribution.
    """

    def __init__(self, net: Any, luck: Callable[..., Tensor] = torch.randn):
        self.net, self.luck = net, luck
        self.buffers = {n: torch.tensor(b.numpy()) for n, b in net.named_buffers()}
        self.weights = {
            name: torch.tensor(p.numpy(), requires_grad=True) for name, p in net.named_parameters()
        }

    def of(self, name: str) -> tuple[Tensor, Tensor | None]:
        """The weight of a layer, and its bias or None."""
        return self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self.of(name))

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        """padding: half of the kernel, if it is not given."""
        weight, bias = self.of(name)
        return F.conv2d(
            x, weight, bias, stride, weight.shape[2] // 2 if padding is None else padding
        )

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self.of(name))

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        running = (self.buffers[f"{name}.running_{part}"] for part in ("mean", "var"))
        return F.batch_norm(x, *running, *self.of(name), True)

    def attention(self, name: str, heads: int, x: Tensor, memory=None, mask=None, causal=False):
        """mask (N, 1 or T, S), True where a query may look."""
        memory = x if memory is None else memory
        (N, T, D), S = x.shape, memory.shape[1]
        q, k, v = (
            self.linear(f"{name}.{part}", each).view(N, -1, heads, D // heads).transpose(1, 2)
            for part, each in (("query", x), ("key", memory), ("value", memory))
        )
        mask = None if mask is None else mask[:, None].expand(N, heads, T, S)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.linear(f"{name}.out", y.transpose(1, 2).reshape(N, T, D))

    def inputs(self, given: Iterable[Any]) -> list[Tensor]:
        """The inputs of a task of ours as tensors, channels before rows and columns in memory."""
        arrays = (x.numpy() if isinstance(x, tinynet.Tensor) else x for x in given)
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]

    def optimizer(self, ours: Any) -> torch.optim.Optimizer:
        """The same rule with the same groups and options."""
        names = {id(p): name for name, p in self.net.named_parameters()}
        groups = [
            {
                "params": [self.weights[names[id(p)]] for p in group["params"]],
                "lr": ours.rate(group),
                **{key: group[key] for key in OPTIONS if key in group},
            }
            for group in ours.param_groups
        ]
        made: torch.optim.Optimizer = getattr(torch.optim, ours.rule)(groups, foreach=True)
        return made


# ------------------------------------------------------------------ the line


def perceptron(t: Torch, x: Tensor, target: Tensor) -> Tensor:
    agreement = target * (x @ t.weights["weight"] + t.weights["bias"])
    return torch.where(agreement <= 0, -agreement, 0.0).mean()


def backprop(t: Torch, x: Tensor, target: Tensor) -> Tensor:
    def layers(name: str, x: Tensor) -> Tensor:
        for number in range(len(getattr(t.net, name).layers)):
            x = t.linear(f"{name}.layers.{number}", x).sigmoid()
        return x

    seen = [layers("person", x[:, :24]), layers("relation", x[:, 24:])]
    off = (layers("rest", torch.cat(seen, 1)) - target).abs()
    return 0.5 * ((off - 0.2).clamp(min=0) ** 2).sum()


def lenet5(t: Torch, x: Tensor, labels: Tensor) -> Tensor:
    def squash(x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)

    def sampled(name: str, x: Tensor) -> Tensor:
        weight, bias = t.of(name)
        return squash(4 * F.avg_pool2d(x, 2) * weight + bias)

    x = sampled("s2", squash(t.conv("c1", x)))
    weight, bias = t.of("c3")
    x = sampled("s4", squash(F.conv2d(x, weight * t.buffers["c3.seen"], bias)))
    x = squash(t.linear("f6", squash(t.conv("c5", x, padding=0)).flatten(1)))
    away = ((x[:, None] - t.buffers["codes"]) ** 2).sum(2)
    return F.cross_entropy(-away, labels)


def autoencoder(t: Torch, x: Tensor) -> Tensor:
    y = x.flatten(1)
    if t.net.noise:
        y = y * (torch.rand_like(y) >= t.net.noise)
    for name in ("down", "up"):
        for number in (0, 2, 4):
            y = t.linear(f"{name}.layers.{number}", y)
            y = y if number == 4 else F.elu(y)
    return F.mse_loss(y.sigmoid(), x.flatten(1), reduction="sum") / len(x)


def vae(t: Torch, x: Tensor) -> Tensor:
    flat = x.flatten(1)
    seen = t.linear("see", flat).relu()
    mean, log_variance = t.linear("mean", seen), t.linear("log_variance", seen)
    z = mean + (log_variance / 2).exp() * t.luck(*mean.shape)
    logits = t.linear("paint", t.linear("widen", z).relu())
    painted = F.binary_cross_entropy_with_logits(logits, flat, reduction="sum")
    far = (mean**2 + log_variance.exp() - log_variance - 1).sum() / 2
    return (painted + far) / len(x)


def gan(t: Torch, x: Tensor) -> Tensor:
    """Both losses. The forger's sees the judge's weights detached. The distance that our step
    measures is part of this step, too.
    """
    fixed = copy.copy(t)
    fixed.weights = {name: p.detach() for name, p in t.weights.items()}

    def up(name: str, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, *t.of(name), 2, 1)

    def judge(t: Torch, x: Tensor) -> Tensor:
        x = F.leaky_relu(t.conv("judge.down1", x, 2, 1), 0.2)
        x = F.leaky_relu(t.batch_norm("judge.norm", t.conv("judge.down2", x, 2, 1)), 0.2)
        return t.linear("judge.fc", x.flatten(1))[:, 0]

    def mean(a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a.flatten(1), b.flatten(1)).mean()

    z = t.linear("forger.fc", t.luck(len(x), t.net.forger.fc.weight.shape[1]))
    y = t.batch_norm("forger.norm1", z.reshape(-1, *t.net.forger.shape)).relu()
    forged = up("forger.up2", t.batch_norm("forger.norm2", up("forger.up1", y)).relu()).tanh()
    loss = F.softplus(-judge(t, x)).mean() + F.softplus(judge(t, forged.detach())).mean()
    with torch.no_grad():
        2 * mean(x, forged) - mean(x, x) - mean(forged, forged)
    return loss + F.softplus(-judge(fixed, forged)).mean()


def vgg(t: Torch, x: Tensor, labels: Tensor) -> Tensor:
    for number, layer in enumerate(t.net.features):
        if isinstance(layer, nn.MaxPool2d):
            x = F.max_pool2d(x, 2)
        else:
            x = t.conv(f"features.{number}", x).relu_()
    for name in ("fc1", "fc2"):
        x = F.dropout(t.linear(name, x.flatten(1)).relu_(), t.net.dropout.p)
    return F.cross_entropy(t.linear("fc3", x), labels)


def googlenet(t: Torch, x: Tensor, labels: Tensor) -> Tensor:
    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        if t.net.small:
            x = t.batch_norm(f"{name}.layers.1", t.conv(f"{name}.layers.0", x, stride))
        else:
            x = t.conv(name, x, stride)
        return x.relu_()

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def inception(name: str, x: Tensor) -> Tensor:
        three = conv(f"{name}.three.1", conv(f"{name}.three.0", x))
        five = conv(f"{name}.five.1", conv(f"{name}.five.0", x))
        pooled = conv(f"{name}.pooled", F.max_pool2d(x, 3, 1, 1))
        return torch.cat([conv(f"{name}.one", x), three, five, pooled], 1)

    def named(name: str, x: Tensor, p: float) -> Tensor:
        return F.cross_entropy(t.linear(name, F.dropout(x, p)), labels)

    x = F.local_response_norm(pool(conv("conv1", x, 1 if t.net.small else 2)), 5)
    x = F.local_response_norm(conv("conv3", conv("conv2", x)), 5)
    x = x if t.net.small else pool(x)
    loss: Any = 0.0
    for number, step in enumerate(t.net.steps):
        name = f"steps.{number}"
        if isinstance(step, nn.MaxPool2d):
            x = pool(x)
        elif hasattr(step, "fc2"):  # an auxiliary classifier
            y = conv(f"{name}.conv", F.avg_pool2d(x, 5, 3)).flatten(1)
            y = t.linear(f"{name}.fc1", y).relu_()
            loss = loss + 0.3 * named(f"{name}.fc2", y, step.dropout.p)
        else:
            x = inception(name, x)
    return loss + named("fc", x.mean((2, 3)), t.net.dropout.p)


def resnet(t: Torch, x: Tensor, labels: Tensor) -> Tensor:
    x = t.batch_norm("norm", t.conv("conv", x)).relu_()
    for place, stage in enumerate(t.net.stages):
        for number, block in enumerate(stage):
            name = f"stages.{place}.{number}"
            y = t.batch_norm(f"{name}.norm1", t.conv(f"{name}.conv1", x, block.stride)).relu_()
            y = t.batch_norm(f"{name}.norm2", t.conv(f"{name}.conv2", y))
            if block.shortcut:
                if block.new:
                    half = block.new // 2
                    x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
                y = y + x
            x = y.relu_()
    return F.cross_entropy(t.linear("fc", x.mean((2, 3))), labels)


def transformer(t: Torch, source: Tensor, said: Tensor, targets: Tensor) -> Tensor:
    width = t.net.width
    k = torch.arange(width // 2, dtype=torch.float64) * 2 / width

    def vectors(name: str, numbers: Tensor) -> Tensor:
        angles = torch.arange(numbers.shape[1])[:, None] / 10_000**k
        places = torch.cat([angles.sin(), angles.cos()], 1)
        x = F.embedding(numbers, t.weights[name]) * math.sqrt(width)
        return x + places.to(x.dtype)

    def feed(name: str, x: Tensor) -> Tensor:
        y = t.linear(f"{name}.narrow", t.linear(f"{name}.widen", x).relu_())
        return t.layer_norm(f"{name}.norms.1", x + y)

    heads, mask = width // 16, (source != 0)[:, None]
    x, y = vectors("words.0.weight", source), vectors("words.1.weight", said)
    for number in range(len(t.net.encoder)):
        name = f"encoder.{number}"
        look = t.attention(f"{name}.look", heads, x, mask=mask)
        x = feed(name, t.layer_norm(f"{name}.norms.0", x + look))
    for number in range(len(t.net.decoder)):
        name = f"decoder.{number}"
        look = t.attention(f"{name}.look", heads, y, causal=True)
        y = t.layer_norm(f"{name}.norms.0", y + look)
        cross = t.attention(f"{name}.cross", heads, y, x, mask=mask)
        y = feed(name, t.layer_norm(f"{name}.norms.2", y + cross))
    logits = y @ t.weights["words.1.weight"].T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def blocks(t: Torch, x: Tensor, causal: bool) -> Tensor:
    """Those of GPT and BERT."""
    for number, block in enumerate(t.net.blocks):
        name = f"blocks.{number}"
        look = t.attention(f"{name}.attention", block.attention.num_heads, x, causal=causal)
        x = t.layer_norm(f"{name}.norm1", x + look)
        y = t.linear(f"{name}.narrow", F.gelu(t.linear(f"{name}.widen", x)))
        x = t.layer_norm(f"{name}.norm2", x + y)
    return x


def gpt(t: Torch, tokens: Tensor, targets: Tensor) -> Tensor:
    vectors = t.weights["tokens.weight"]
    x = blocks(t, F.embedding(tokens, vectors) + t.weights["places.weight"], causal=True)
    return F.cross_entropy((x @ vectors.T).flatten(0, 1), targets.flatten())


def bert(t: Torch, tokens: Tensor, targets: Tensor) -> Tensor:
    vectors = t.weights["tokens.weight"]
    x = t.layer_norm("norm1", F.embedding(tokens, vectors) + t.weights["places.weight"])
    x = t.layer_norm("norm2", F.gelu(t.linear("head", blocks(t, x, causal=False))))
    x, targets = x[targets >= 0], targets[targets >= 0]  # of the others nothing is asked
    return F.cross_entropy(F.linear(x, vectors, t.weights["bias"]), targets)


LOSSES: dict[str, Callable[..., Tensor]] = {
    each.__name__: each
    for each in (
        perceptron, backprop, lenet5, autoencoder, vae, gan, vgg, googlenet, resnet, transformer,
        gpt, bert,
    )
}  # fmt: skip


# ------------------------------------------------------------------ steps


def make_step(name: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    begun = begin(name)
    t = Torch(begun.net)
    optimizer = t.optimizer(begun.optimizer)
    inputs = t.inputs(begun.task.inputs(first_batch(begun)))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        LOSSES[file_of(name)](t, *inputs).backward()
        optimizer.step()

    return step


class Both:
    """A net of ours and the same one in PyTorch: the same first weights, batches, rates and luck;
    without dropout, whose luck is not the same.
    """

    def __init__(self, name: str, net: Any, optimizer: Any, task: Any):
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.net, self.optimizer, self.task = net, optimizer, task
        self.loss = LOSSES[file_of(name)]
        self.torch = Torch(net, lambda *shape: torch.tensor(tinynet.randn(*shape).numpy()))
        self.other = self.torch.optimizer(optimizer)

    def step(self, batch: Any) -> tuple[float, float]:
        """One step of training: our loss and PyTorch's."""
        inputs = self.task.inputs(batch)
        for theirs, ours in zip(self.other.param_groups, self.optimizer.param_groups, strict=True):
            before, theirs["lr"] = theirs["lr"], self.optimizer.rate(ours)
            for p in theirs["params"]:  # the rate stands inside of our velocity, outside of theirs
                if self.other.state[p].get("momentum_buffer") is not None:
                    self.other.state[p]["momentum_buffer"] *= before / theirs["lr"]
        state = random.get_state()
        loss = self.loss(self.torch, *self.torch.inputs(inputs))
        self.other.zero_grad()
        loss.backward()
        self.other.step()
        random.set_state(state)
        mine, _ = self.task.loss(self.net, *inputs)
        self.optimizer.zero_grad()
        mine.backward()
        self.optimizer.step()
        return mine.item(), loss.item()

    def test(self, batches: list[Any]) -> tuple[float, float]:
        """Our loss in a test and PyTorch's, with the same luck."""
        ours = self.task.test(self.net, batches)["loss"]
        total = count = 0.0
        with torch.no_grad(), same_luck():
            for batch in batches:
                inputs = self.torch.inputs(self.task.inputs(batch))
                weight = self.task.weight(batch)
                total += weight * self.loss(self.torch, *inputs).item()
                count += weight
        return ours, total / count
