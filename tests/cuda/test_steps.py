"""Every rule of tinynet.optim, and clipping, on a GPU against the CPU."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import fake_cupy
import numpy as np
import pytest

import tinynet
from tinynet import nn, optim
from tinynet.devices import Device

MORE = [
    (optim.SGD, dict(momentum=0.9, weight_decay=0.05)),
    (optim.SGD, dict(momentum=0.9, weight_decay=0.05, nesterov=True)),
    (optim.Adam, dict(betas=(0.8, 0.6), eps=0.1, weight_decay=0.3)),
    (optim.Adam, dict(betas=(0.5, 0.3), weight_decay=0.3, amsgrad=True)),
    (optim.AdamW, dict(betas=(0.8, 0.6), weight_decay=0.3)),
    (optim.Adam, dict(betas=(0.1, 0.0), eps=0.1)),
    (optim.RMSprop, dict(alpha=0.0, eps=0.1, centered=True)),
    (optim.RMSprop, dict(alpha=0.8, eps=0.1, weight_decay=0.3, momentum=0.7)),
    (optim.RMSprop, dict(alpha=0.8, eps=0.1, weight_decay=0.3, momentum=0.7, centered=True)),
]
PLAIN = [
    (rule, {})
    for rule in vars(optim).values()
    if inspect.isclass(rule) and rule is not optim.Optimizer
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule, options", [*PLAIN, *MORE])
def test_rules(gpu: Device, rng: np.random.Generator, rule: Any, options: dict, dtype: Any) -> None:
    """Weights, state and last steps; from the CPU to the GPU in the middle, and saved there."""
    start = [rng.standard_normal(shape).astype(dtype) for shape in ((7, 3, 5), (300,), ())]
    on_cpu, on_gpu = ([nn.Parameter(w, device) for w in start] for device in ("cpu", gpu))
    here, there = (rule(parameters, lr=0.1, **options) for parameters in (on_cpu, on_gpu))
    tolerance = dict(rtol=0, atol=100 * np.finfo(dtype).eps)
    for step in range(4):
        for p, q in zip(on_cpu, on_gpu, strict=True):
            g = rng.standard_normal(p.shape[::-1]).astype(dtype).T  # not as the weight lies
            p.grad, q.grad = (tinynet.tensor(g, device=x.device) for x in (p, q))
        here.step()
        there.step()
        for p, q in zip(on_cpu, on_gpu, strict=True):
            np.testing.assert_allclose(q.numpy(), p.numpy(), **tolerance)
            last = there.last_step(q)
            assert last.device == q.device and last.dtype == dtype
            np.testing.assert_allclose(last.numpy(), here.last_step(p).numpy(), **tolerance)
        if step == 1:
            there.load_state_dict(there.state_dict())
        if step == 2:
            for p, q in zip(on_cpu, on_gpu, strict=True):
                p.move(gpu)
                q.move(tinynet.device("cpu"))
    ours, theirs = here.state_dict(), there.state_dict()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, **tolerance)


def test_a_variance_that_rounding_made_negative_counts_as_zero(gpu: Device) -> None:
    p = nn.Parameter(np.zeros(1), gpu)
    opt = optim.RMSprop([p], lr=1.0, eps=0.5, centered=True)
    square, mean = np.ones(1) - 1e-6, np.ones(1)
    opt.load_state_dict({"square.0.0": square, "mean.0.0": mean, "velocity.0.0": np.zeros(1)})
    p.grad = tinynet.tensor(np.ones(1), device=gpu)
    opt.step()
    assert p.item() == -1 / 0.5


def test_a_nan_in_a_gradient_stays_in_the_largest_square(gpu: Device) -> None:
    for device in ("cpu", gpu):
        p = nn.Parameter(np.ones(2), device)
        opt = optim.Adam([p], amsgrad=True)
        p.grad = tinynet.tensor(np.array([np.nan, 1.0]), device=device)
        opt.step()
        np.testing.assert_array_equal(np.isnan(opt.state_dict()["largest.0.0"]), [True, False])


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_clip_grad_norm(gpu: Device, rng: np.random.Generator, max_norm: float) -> None:
    shapes = [(3, 5), (40000,), (), (4, 0)]
    grads = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    on_cpu, on_gpu = ([nn.Parameter(g, device) for g in grads] for device in ("cpu", gpu))
    for p in (*on_cpu, *on_gpu):
        p.grad = tinynet.tensor(p)
    expected = optim.clip_grad_norm(on_cpu, max_norm)
    found = optim.clip_grad_norm(on_gpu, max_norm)
    assert found.device == gpu and found.shape == () and found.dtype == np.float64
    assert found.item() == pytest.approx(expected.item(), rel=1e-13)
    assert expected.item() == pytest.approx(
        np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))
    )
    for p, q in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(q.grad.numpy(), p.grad.numpy(), rtol=3e-7)


def test_clipping_on_two_gpus_waits_for_none(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    parameters = [nn.Parameter(rng.standard_normal(50), f"cuda:{k}") for k in (0, 1, 0)]
    grads = [rng.standard_normal(50) for _ in parameters]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = tinynet.tensor(g, device=p.device)
    optim.clip_grad_norm(parameters, 1e9)  # finds out once whether the GPUs reach each other
    before = machine.host_waits
    norm = optim.clip_grad_norm(parameters, 1.0)
    assert machine.host_waits == before
    assert norm.item() == pytest.approx(np.linalg.norm(grads))
    for p, g in zip(parameters, grads, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g / np.linalg.norm(grads))


def test_clipping_on_cpu_and_gpu_together(gpu: Device) -> None:
    for devices in (("cpu", gpu), (gpu, "cpu")):
        parameters = [nn.Parameter(np.ones(2), device) for device in devices]
        for p in parameters:
            p.grad = tinynet.tensor(np.ones(2), device=p.device)
        norm = optim.clip_grad_norm(parameters, 1.0)
        assert norm.item() == 2 and norm.device == parameters[0].device
        assert all((p.grad.numpy() == 0.5).all() for p in parameters)


@pytest.mark.parametrize("rule, kernel", [(optim.SGD, "sgd_step"), (optim.AdamW, "adam_step")])
def test_a_step_is_one_launch_a_device(machine: fake_cupy.Machine, rule: Any, kernel: str) -> None:
    """And a type: the parts of float32 and of float64 have other sizes. 90 parts do not fit in the
    4 KB of a launch.
    """
    where = [(3, "cuda:0", np.float32), (2, "cuda:1", np.float32), (2, "cuda:0", np.float64)]
    where.append((90, "cuda:0", np.float32))
    for count, device, dtype in where:
        parameters = [nn.Parameter(np.ones(5, dtype), device) for _ in range(count)]
        opt = rule(parameters, lr=0.1)
        for p in parameters:
            p.grad = tinynet.tensor(np.ones(5, dtype), device=device)
        machine.launches.clear()
        opt.step()
        assert dict(machine.launches) == {kernel: 1 if count < 90 else 2}
        assert all((p.numpy() == parameters[0].numpy()).all() for p in parameters)
        assert parameters[-1].numpy()[-1] == pytest.approx(0.9, rel=1e-2)


def test_parameters_of_two_types_in_one_rule(machine: fake_cupy.Machine) -> None:
    parameters = [nn.Parameter(np.ones(5, t), "cuda") for t in (np.float32, np.float64) * 2]
    for p in parameters:
        p.grad = tinynet.tensor(np.ones(5, p.dtype), device="cuda")
    optim.SGD(parameters, lr=0.5).step()
    assert dict(machine.launches) == {"sgd_step": 2}
    assert all((p.numpy() == 0.5).all() for p in parameters)


@pytest.mark.parametrize("sizes", [(0, 70_000, 3), (3, 0, 70_000), (70_000, 257, 0), (0, 0)])
def test_parameters_of_one_launch_may_have_any_sizes(
    machine: fake_cupy.Machine, rng: np.random.Generator, sizes: tuple[int, ...]
) -> None:
    """As many blocks as the largest of them keeps busy, and none for those without elements."""
    parameters = [nn.Parameter(rng.standard_normal(size), "cuda") for size in sizes]
    expected = [p.numpy() * (1 - 0.1) for p in parameters]
    for p in parameters:
        p.grad = tinynet.tensor(p)
    grids = []
    kernel = sys.modules["cupy"].RawKernel
    launched = kernel.__call__
    kernel.__call__ = lambda self, grid, *rest: (grids.append(grid), launched(self, grid, *rest))
    try:
        optim.SGD(parameters, lr=0.1).step()
    finally:
        kernel.__call__ = launched
    assert grids == ([(-(-70_000 // 256), len(sizes), 1)] if max(sizes) else [])
    for p, e in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.numpy(), e, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rule", [optim.SGD, optim.AdamW, optim.RMSprop])
def test_one_rule_over_two_gpus_and_the_cpu(machine: fake_cupy.Machine, rule: Any) -> None:
    """Each device changes what lies on it; what moves takes its arrays along, for `last_step`
    too.
    """
    places = ["cpu", "cuda:0", "cuda:1"]
    parameters = [nn.Parameter(np.ones(5), device) for device in places]
    opt = rule(parameters, lr=0.1, weight_decay=0.1)
    for _ in range(2):
        for p in parameters:
            p.grad = tinynet.tensor(np.full(5, 2.0), device=p.device)
        opt.step()
        assert all((p.grad.numpy() == 2).all() for p in parameters)  # as they were
        places = places[1:] + places[:1]
        for p, device in zip(parameters, places, strict=True):
            p.move(tinynet.device(device))
        steps = [opt.last_step(p) for p in parameters]
        assert [step.device.name for step in steps] == places
        for step, p in zip(steps, parameters, strict=True):
            np.testing.assert_allclose(step.numpy(), steps[0].numpy(), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(p.numpy(), parameters[0].numpy(), rtol=1e-12, atol=1e-14)
