import torch

torch.manual_seed(0)
x = torch.linspace(-1, 1, 100).unsqueeze(1)
y = 3 * x + 2 + 0.1 * torch.randn(100, 1)

w = torch.randn(1, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
lr = 0.1
for step in range(200):
    pred = x @ w + b
    loss = ((pred - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= lr * w.grad
        b -= lr * b.grad
    w.grad.zero_()
    b.grad.zero_()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.4f}")
print(w.item(), b.item())
assert abs(w.item() - 3) < 0.1

# the same by .data
w = torch.randn(1, 1).requires_grad_()
b = torch.zeros(1, requires_grad=True)
for step in range(200):
    loss = torch.mean((torch.matmul(x, w) + b - y).pow(2))
    loss.backward()
    w.data -= lr * w.grad
    b.data -= lr * b.grad
    w.grad = None
    b.grad = None
error = (x.mm(w) + b - y).abs().max()
print("slope", w.detach().numpy(), "largest error", error.item())
assert loss < 0.05
residual = (x @ w + b - y).detach()
print("std", residual.std(), "var", residual.var(dim=0), "norm", residual.norm())
