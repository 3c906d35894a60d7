"""Functions of tinynet inside torch: torch's own check of gradients, and torch's own operations."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.arithmetic.binary import Add
from tinynet.arithmetic.reductions import Sum
from tinynet.foreign import torch_function
from tinynet.functional.activation import Tanh
from tinynet.functional.affine import Linear
from tinynet.functional.convolution import Conv2d
from tinynet.functional.normalization import LocalResponseNorm

torch = pytest.importorskip("torch")


class Both(tinynet.Function):
    """Two results."""

    @staticmethod
    def forward(ctx, x, k):
        ctx.save_for_backward(x)
        ctx.k = k
        return x * x, k * x

    @staticmethod
    def backward(ctx, dy, dz):
        (x,) = ctx.saved_tensors
        return 2 * x * dy + ctx.k * dz


def double(*shape):
    torch.manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_torchs_tensors_are_given_by_position_too():
    both = torch_function(Both)
    with pytest.raises(TypeError, match="^Both: expected tensors by position, .* got k by keyword"):
        both(double(3), k=double(3))


def test_torch_checks_our_gradients():
    both = torch_function(Both)
    assert torch.autograd.gradcheck(lambda x: both(x, 3.0), [double(3, 4)])
    assert torch.autograd.gradcheck(lambda x: both(x, 3.0)[1], [double(3, 4)])
    assert both.__name__ == "Both"
    linear = torch_function(Linear)
    assert torch.autograd.gradcheck(
        lambda *a: linear(*a, relu=False), [double(2, 3), double(4, 3), double(4)]
    )
    assert torch.autograd.gradcheck(lambda x: torch_function(Sum)(x, 1, False), [double(2, 3)])


def test_side_by_side_with_torchs_own():
    conv, norm = torch_function(Conv2d), torch_function(LocalResponseNorm)
    ours, theirs = [], []
    for found, way in ((ours, "tinynet"), (theirs, "torch")):
        x, w, b = double(2, 4, 7, 7), double(6, 2, 3, 3), double(6)
        if way == "tinynet":
            y = conv(x, w, b, relu=True, stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=2)
            y = norm(y, size=3, alpha=0.5, beta=0.75, k=2.0)
        else:
            y = torch.relu(torch.nn.functional.conv2d(x, w, b, 2, 1, groups=2))
            y = torch.nn.functional.local_response_norm(y, 3, 0.5, 0.75, 2.0)
        (y * torch.arange(y.numel()).reshape(y.shape)).sum().backward()
        found += [y.detach(), x.grad, w.grad, b.grad]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_its_inputs_stay_and_only_what_asks_gets_a_gradient():
    relu = torch_function(tinynet.functional.activation.ReLU)
    x = double(5)
    before = x.detach().clone()
    relu(x, True).sum().backward()
    assert torch.equal(x.detach(), before)
    w, b = double(4, 3), double(4)
    linear = torch_function(Linear)
    y = linear(torch.ones(2, 3, dtype=torch.float64), w, b.detach(), relu=False)
    y.sum().backward()
    assert w.grad is not None and b.grad is None
    assert not linear(torch.ones(2, 3), w.detach().float(), None, relu=False).requires_grad
    for wrong in (torch.relu, int, tinynet.Function.apply):
        with pytest.raises(TypeError, match="expected a class of Function"):
            torch_function(wrong)


class Row(tinynet.Function):
    @staticmethod
    def forward(ctx, x):
        return (2 * x,)


def test_a_row_of_one_result_is_a_row():
    (y,) = torch_function(Row)(torch.ones(2))
    assert y.tolist() == [2, 2]


class Largest(tinynet.Function):
    """Where it is, whether it is positive, and itself."""

    @staticmethod
    def forward(ctx, x):
        ctx.place, ctx.shape = x.argmax(), x.shape
        return np.array(ctx.place), x.max() > 0, x.max()

    @staticmethod
    def backward(ctx, di, dk, dy):
        dx = np.zeros(ctx.shape)
        dx[ctx.place] = dy
        return dx


def test_results_that_are_no_floats_get_no_gradient():
    """Wherever they stand."""
    x = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64, requires_grad=True)
    place, positive, y = torch_function(Largest)(x)
    assert (place.item(), positive.item(), y.item()) == (1, True, 3)
    assert [each.requires_grad for each in (place, positive, y)] == [False, False, True]
    (5 * y).backward()
    assert x.grad.tolist() == [0, 5, 0]


def test_a_second_derivative_is_refused():
    x = double(3)
    y, _ = torch_function(Both)(x, 3.0)
    (dx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(dx, 2 * x)
    for of in (dx.sum(), (dx * x).sum()):
        with pytest.raises(RuntimeError, match="Both: expected a first derivative, got a backward"):
            of.backward(retain_graph=True)
    assert x.grad is None


class Shares(tinynet.Function):
    """x[::-1] + k, whose backward gives what others have: views, and what it saved itself."""

    @staticmethod
    def forward(ctx, x, w, b, k=0):
        ctx.save_for_backward(w)
        return x[::-1] + w + b + k

    @staticmethod
    def backward(ctx, dy):
        (w,) = ctx.saved_tensors
        return dy[::-1], w, np.broadcast_to(dy.sum(), dy.shape)


@pytest.mark.filterwarnings("error")
def test_gradients_are_the_callers_to_change():
    x, w, b = (double(n) for n in (3, 3, 3))
    y = torch_function(Shares)(x, w, b, k=7.0)
    torch.testing.assert_close(y, x.flip(0) + w + b + 7)
    dy = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    expected = [dy.flip(0), w.detach().clone(), 0 * dy + 7]
    for _ in range(2):  # the first gradients are overwritten, and the second ones are right
        grads = torch.autograd.grad(y, (x, w, b), dy, retain_graph=True)
        for grad, right in zip(grads, expected, strict=True):
            torch.testing.assert_close(grad, right)
            grad.zero_()
    assert dy.tolist() == [1, 2, 4] and w.detach().all()
    one, other = torch.autograd.grad(torch_function(Add)(x, w), (x, w), dy)  # each is dy
    one.zero_()
    assert other.tolist() == dy.tolist() == [1, 2, 4]
    y = torch_function(Tanh)(x)
    y.data.zero_()  # backward needs y, as it was
    (dx,) = torch.autograd.grad(y, x, dy)
    torch.testing.assert_close(dx, dy * (1 - torch.tanh(x) ** 2))
