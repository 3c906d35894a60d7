import math

import numpy as np
import torch

a = torch.tensor(2.0, requires_grad=True)
b = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
c = (a * b).sum() + torch.exp(-b).sum() + a**2 + 2**a
c.backward()
print(a.grad, b.grad)
assert abs(a.grad.item() - (6 + 4 + 4 * math.log(2))) < 1e-4
assert b.grad is not None and b.grad.shape == b.shape
a.grad = None

x = torch.randn(4, 5)
print(x.sum(dim=0), x.mean(1, keepdim=True), x.max(), x.min(), x.argmin())
print(x.sqrt().isnan().any(), x.abs().sqrt(), x.sin() ** 2 + x.cos() ** 2)
print(torch.cumsum(x, dim=1)[0], x.prod(), x.t().shape, x.numel(), x.dim())
values, indices = x.max(dim=1)
assert (x[torch.arange(4), indices] == values).all()
x[0, 0] = 1.0
y = x.clone()
assert y is not x and (x == y).all()
mask = x > 0
print(x[mask].shape, mask.sum().item(), (~mask).sum())
z = np.exp(x)
assert isinstance(x.numpy(), np.ndarray)
assert np.allclose(np.asarray(x), x.tolist())
n = torch.from_numpy(np.ones((2, 3), dtype=np.float32))
print(n.dtype == torch.float32, torch.zeros_like(n), torch.ones_like(n), torch.eye(2))
print(torch.full((2, 2), 7.0), torch.einsum("ij,jk->ik", x, x.T).shape)
s = torch.sigmoid(x) + torch.tanh(x)
total = torch.zeros(1)
for row in x:
    total += row.sum()
assert torch.allclose(total, x.sum())
h = torch.ones(3, requires_grad=True)
k = h * 2
k.backward(torch.tensor([1.0, 0.0, 2.0]))
assert h.grad.tolist() == [2.0, 0.0, 4.0]
h.grad.zero_()
print("%.3f" % c, float(c), int(torch.tensor(3)), "{:.2e}".format(c.item()))
e = x.double().long().float()
x.add_(1)
x.requires_grad = True
for i in torch.arange(2):
    print(i.item())
