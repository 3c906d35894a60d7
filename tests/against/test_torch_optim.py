"""The rules, clipping and schedules against those of torch.optim: float64, random gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import nn, optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
RULES = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.05)),
    ("SGD", dict(lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True)),
    ("Adam", {}),
    ("Adam", dict(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3)),
    ("Adam", dict(lr=0.1, betas=(0.5, 0.3), weight_decay=0.3, amsgrad=True)),
    ("AdamW", {}),
    ("AdamW", dict(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3)),
    ("AdamW", dict(lr=0.1, betas=(0.5, 0.3), weight_decay=0.3, amsgrad=True)),
    ("RMSprop", {}),
    ("RMSprop", dict(lr=0.1, alpha=0.8, eps=0.01, weight_decay=0.3, momentum=0.7)),
    ("RMSprop", dict(lr=0.1, alpha=0.8, weight_decay=0.3, momentum=0.7, centered=True)),
]


@pytest.mark.parametrize("name, options", RULES)
def test_rules(name, options, rng):
    """At a constant rate, SGD's rate inside the velocity is no difference from torch's."""
    shapes = [(3, 4), (5,), ()]
    ours = [nn.Parameter(rng.normal(size=shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]
    mine, other = (
        getattr(optim, name)(ours, **options),
        getattr(torch.optim, name)(theirs, **options),
    )
    for _ in range(10):
        for p, q in zip(ours, theirs, strict=True):
            g = rng.normal(size=p.shape)
            p.grad, q.grad = tinynet.tensor(g), torch.tensor(g)
        mine.step()
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_clip_grad_norm(rng):
    for max_norm in (0.5, 100.0):
        ours = [nn.Parameter(rng.normal(size=shape)) for shape in ((3, 4), (5,))]
        theirs = [torch.nn.Parameter(torch.tensor(p.numpy())) for p in ours]
        for p, q in zip(ours, theirs, strict=True):
            g = rng.normal(size=p.shape)
            p.grad, q.grad = tinynet.tensor(g), torch.tensor(g)
        norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        assert optim.clip_grad_norm(ours, max_norm).item() == pytest.approx(norm.item())
        for p, q in zip(ours, theirs, strict=True):  # torch divides by the norm + 1e-6
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)


def test_schedules():
    parameter = torch.nn.Parameter(torch.ones(1))
    names = torch.optim.lr_scheduler
    pairs = [
        (lambda o: optim.lr_scheduler.MultiStep(o, [2, 5]), lambda o: names.MultiStepLR(o, [2, 5])),
        (
            lambda o: optim.lr_scheduler.Cosine(o, 8, 0.01),
            lambda o: names.CosineAnnealingLR(o, 8, 0.01),
        ),
        (
            lambda o: optim.lr_scheduler.WarmUp(optim.lr_scheduler.Constant(o), 4, 0.25),
            lambda o: names.LinearLR(o, 0.25, total_iters=4),
        ),
    ]
    for ours, theirs in pairs:
        mine = optim.SGD([nn.Parameter(np.ones(1))], 0.3)
        other = torch.optim.SGD([parameter], 0.3)
        ours, theirs = ours(mine), theirs(other)
        for epoch in range(1, 9):
            other.step()
            ours.step(epoch, {})
            theirs.step()
            assert mine.lr == pytest.approx(other.param_groups[0]["lr"])
