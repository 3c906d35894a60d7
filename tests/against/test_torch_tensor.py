"""What a tensor can do, against torch: values and gradients of one program, float64, rtol 1e-9. The
text of a program is the same for both; `L` is torch or tinynet.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.gradcheck.cases.inputs import layouts

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
ROUNDS = 10

PROGRAMS = {
    "abs": lambda L, x, y: x.abs() + L.abs(y * 0),
    "sqrt": lambda L, x, y: (x * x + 1).sqrt(),
    "clip": lambda L, x, y: x.clip(min=-0.5) + L.clip(x, -0.2, 0.7) + y.clip(max=0.1),
    "clip at the limits": lambda L, x, y: (x * 0).clip(min=0) * y + (x * 0).clip(max=0) * x,
    "sin cos": lambda L, x, y: x.sin() * L.cos(y),
    "erf": lambda L, x, y: (3 * x).erf() + L.erf(1e-9 * y),
    "exp log": lambda L, x, y: L.exp(x) * L.log(y * y + 0.1),
    "pow of tensors": lambda L, x, y: L.pow(x * x + 0.1, y) + (x.abs() + 1) ** y + 2**x,
    "pow at 0": lambda L, x, y: (x * 0) ** (y * y + 1) + (x * 0) ** (y * 0),
    "min": lambda L, x, y: x.min() + y.min(dim=1)[0] * L.min(x, 0).values.sum(),
    "max": lambda L, x, y: x.max() + y.max(dim=-1, keepdim=True)[0] * L.max(x, 1)[0].sum(),
    "max of two": lambda L, x, y: L.max(x, y) + L.minimum(x, y * 2) + L.min(x, 3 * y),
    "prod": lambda L, x, y: x.prod() + L.prod(y, dim=1)[0] + (x * (x > 0)).prod(dim=0),
    "cumsum": lambda L, x, y: x.cumsum(dim=0) + L.cumsum(y, dim=-1),
    "var": lambda L, x, y: x.var() + L.var(y, dim=0) + x.var(dim=1, correction=0).sum(),
    "std": lambda L, x, y: x.std() + L.std(y, dim=0) + x.std(dim=1, correction=0).sum(),
    "std of equals": lambda L, x, y: (x * 0).std() + y,
    "norm": lambda L, x, y: x.norm() + y.norm(1, dim=0) + L.norm(x, p=3) + x.norm(float("inf")),
    "norm at 0": lambda L, x, y: (x * 0).norm() + y,
    "mean": lambda L, x, y: x.mean(dim=1, keepdim=True) + L.mean(y) + y.sum(dim=(0, 1)),
    "stack": lambda L, x, y: L.stack([x, y, x * y], dim=1),
    "cat": lambda L, x, y: L.cat([x, y, x * y], dim=-1),
    "split": lambda L, x, y: x.split([1, 3], dim=1)[1][:, 1:] * L.split(y, 2, dim=1)[0],
    "squeeze": lambda L, x, y: L.squeeze(x.unsqueeze(1)) + y.unsqueeze(-1).squeeze(dim=2),
    "permute": lambda L, x, y: x.permute(1, 0) + y.T + L.permute(x, (1, 0)),
    "view": lambda L, x, y: x.reshape(-1).view(6, 2) + L.flatten(y.T.clone(), 0).reshape((6, 2)),
    "where": lambda L, x, y: L.where(x > y, x * x, y) + L.where(x == x, x, 0.0),
    "mask": lambda L, x, y: x[x > 0].sum() * y[(y < 0) | (x > 0)].sum(),
    "compare": lambda L, x, y: ((x <= y) & ~(x == y)).double() * y if L is torch
    else ((x <= y) & ~(x == y)).astype("float64") * y,
    "argmax": lambda L, x, y: x[:, x.argmax(dim=1)[0]] + y[L.argmin(y, dim=0)][:, 0].sum(),
    "einsum": lambda L, x, y: L.einsum("ij,kj->ik", x, y),
    "einsum of three": lambda L, x, y: L.einsum("ij,ij,j->i", x, y, x[0]),
    "einsum of one": lambda L, x, y: L.einsum("ij->j", x) + L.einsum("ij->ji", y).sum(dim=1),
    "einsum without an arrow": lambda L, x, y: L.einsum("ij,kj", x, y),
    "any all": lambda L, x, y: x * (y > 0).any() * (x == x).all() + y,
    "float": lambda L, x, y: x.float().to(L.float64) + y.long().to(L.float64),
    "remainder": lambda L, x, y: x[:, L.arange(8) % 3] * (L.arange(-4, 4) // 3),
    "T clone": lambda L, x, y: x.clone().T @ y,
    "creation": lambda L, x, y: x * L.eye(3, 4, dtype=L.float64)
    + L.full((3, 4), 2.0, dtype=L.float64)
    + L.zeros_like(y) + L.ones_like(x) * y + L.linspace(0, 1, 4, dtype=L.float64),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_what_torch_gives(name, rng):
    program = PROGRAMS[name]
    for _ in range(ROUNDS):
        inputs = [layouts(rng, rng.normal(size=(3, 4))) for _ in range(2)]
        leaves = [tinynet.tensor(a, requires_grad=True) for a in inputs]
        theirs = [torch.tensor(a.copy(), requires_grad=True) for a in inputs]
        y, expected = program(tinynet, *leaves), program(torch, *theirs)
        np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
        assert y.shape == tuple(expected.shape)
        v = rng.normal(size=y.shape)
        y.backward(v)
        expected.backward(torch.tensor(v))
        for leaf, their in zip(leaves, theirs, strict=True):
            assert (leaf.grad is None) == (their.grad is None)
            if leaf.grad is not None:
                np.testing.assert_allclose(
                    leaf.grad.numpy(), their.grad.numpy(), rtol=1e-9, atol=1e-10
                )


def test_dtypes_of_new_tensors_are_torchs():
    for program in (
        lambda L: L.zeros(2), lambda L: L.ones((2, 3)), lambda L: L.full((2,), 1.0),
        lambda L: L.full((2,), 1), lambda L: L.full((2,), True), lambda L: L.arange(3),
        lambda L: L.arange(0.0, 1.0, 0.25), lambda L: L.eye(2), lambda L: L.linspace(0, 1, 5),
        lambda L: L.tensor([1, 2]) > 1, lambda L: L.tensor([1.0]).argmax(),
        lambda L: (L.tensor([1.0]) > 0).sum(), lambda L: L.randint(0, 5, (2,)) * 0,
        lambda L: L.tensor([3]).float(), lambda L: L.tensor([3.7, -3.7]).long(),
        lambda L: L.tensor([1, 4]).sqrt(), lambda L: L.tensor([-2, 3]).abs(),
        lambda L: L.tensor([-2, 3]).clip(0, 2), lambda L: L.tensor([-2, 3]).clip(0.5),
    ):  # fmt: skip
        ours, theirs = program(tinynet), program(torch).numpy()
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)


def test_erf_to_the_last_digits():
    x = np.concatenate(
        [np.linspace(-7, 7, 20001), np.geomspace(1e-300, 1, 1000), [np.inf, -np.inf]]
    )
    expected = torch.erf(torch.tensor(x)).numpy()
    np.testing.assert_allclose(tinynet.erf(tinynet.tensor(x)).numpy(), expected, rtol=3e-15)
    single = tinynet.erf(tinynet.tensor(x.astype(np.float32))).numpy()
    np.testing.assert_allclose(single, expected, rtol=5e-7, atol=1e-38)
    assert np.isnan(tinynet.erf(tinynet.tensor(np.nan)).item())
