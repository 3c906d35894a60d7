"""Values and gradients of every operation against torch's operation of that name: float64, rtol
1e-9, random cases.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import away_from_zero, layouts

torch = pytest.importorskip("torch")
TF = torch.nn.functional
CASES = 40
pytestmark = pytest.mark.slow


def pair(draw, least, most):
    """An int or a pair, as either may be given."""
    a, b = draw(least, most), draw(least, most)
    return a if draw(0, 1) else (a, b)


def both(value):
    return value if isinstance(value, tuple) else (value, value)


def sides(draw, kernel, padding):
    """Picture sides into which the kernel fits, of sizes that need not tile."""
    return tuple(
        max(1, k - 2 * p) + draw(0, 6) for k, p in zip(both(kernel), both(padding), strict=True)
    )


def conv2d(rng, draw):
    groups = draw(1, 3)
    kernel, stride, padding = (draw(1, 4), draw(1, 4)), pair(draw, 1, 3), pair(draw, 0, 3)
    C, O = groups * draw(1, 3), groups * draw(1, 3)
    x, w = (
        rng.normal(size=(draw(1, 3), C, *sides(draw, kernel, padding))),
        rng.normal(size=(O, C // groups, *kernel)),
    )
    options = dict(stride=stride, padding=padding, groups=groups)
    if draw(0, 2) == 0:
        h, w_ = x.shape[2:]
        options["dilation"] = pair(draw, 1, 5)
        wide = [(k - 1) * d + 1 for k, d in zip(kernel, both(options["dilation"]), strict=True)]
        shape = [max(n, m) for n, m in zip((h, w_), wide, strict=True)]
        x = rng.normal(size=(*x.shape[:2], *shape))
    inputs = [x, w, rng.normal(size=O)] if draw(0, 1) else [x, w]
    return lambda L, *a: L.conv2d(*a, **options), inputs


def conv2d_3x3(rng, draw):  # many channels, stride 1: another way of computing
    padding = pair(draw, 0, 2)
    x = rng.normal(size=(draw(1, 4), draw(16, 20), *sides(draw, 3, padding)))
    w = rng.normal(size=(draw(16, 20), x.shape[1], 3, 3))
    return lambda L, *a: L.conv2d(*a, padding=padding), [x, w, rng.normal(size=len(w))]


def pool(rng, draw):
    kernel = pair(draw, 1, 5)
    padding = tuple(draw(0, k // 2) for k in both(kernel))
    stride = None if draw(0, 3) == 0 else pair(draw, 1, 6)
    options = dict(kernel_size=kernel, stride=stride, padding=padding, ceil_mode=bool(draw(0, 1)))
    return (draw(1, 3), draw(1, 3), *sides(draw, kernel, padding)), options


def max_pool2d(rng, draw):
    shape, options = pool(rng, draw)
    values = rng.permutation(int(np.prod(shape))).reshape(shape) - 20.0
    if draw(0, 3) == 0:
        values = rng.integers(-2, 2, shape).astype(np.float64)  # ties: the first wins in both
    return lambda L, x: L.max_pool2d(x, **options), [values]


def avg_pool2d(rng, draw):
    shape, options = pool(rng, draw)
    options["count_include_pad"] = bool(draw(0, 1))
    return lambda L, x: L.avg_pool2d(x, **options), [rng.normal(size=shape)]


def local_response_norm(rng, draw):
    shape = (draw(1, 3), draw(1, 9), *(draw(1, 4) for _ in range(draw(1, 2))))
    size, alpha, beta, k = (
        draw(1, 8),
        rng.uniform(0.5, 2),
        rng.choice([0.75, 0.5, 1.3]),
        rng.uniform(0.5, 2),
    )
    return lambda L, x: L.local_response_norm(x, size, alpha, beta, k), [rng.normal(size=shape)]


def any_shape(draw, least=1, most=4):
    return tuple(draw(1, 4) for _ in range(draw(least, most)))


def unary(name):
    def case(rng, draw):
        return lambda L, x: getattr(L, name)(x), [rng.normal(size=any_shape(draw)) * 3]

    case.__name__ = name
    return case


def gelu(rng, draw):
    approximate = ["none", "tanh"][draw(0, 1)]
    return lambda L, x: L.gelu(x, approximate=approximate), [4 * rng.normal(size=any_shape(draw))]


def leaky_relu(rng, draw):
    slope = rng.normal()
    return lambda L, x: L.leaky_relu(x, slope), [rng.normal(size=any_shape(draw))]


def elu(rng, draw):
    alpha = rng.uniform(0.1, 3)
    return lambda L, x: L.elu(x, alpha), [4 * rng.normal(size=any_shape(draw))]


def softmax(rng, draw, name="softmax"):
    shape = any_shape(draw)
    dim = draw(-len(shape), len(shape) - 1)
    return lambda L, x: getattr(L, name)(x, dim=dim), [rng.normal(size=shape) * 3]


def log_softmax(rng, draw):
    return softmax(rng, draw, "log_softmax")


def classes(rng, draw, name, **options):
    """A loss over classes. Ours are on the last axis, torch's on the second."""
    shape, K = any_shape(draw, 0, 3), draw(1, 6)
    target, reduction = rng.integers(0, K, shape), ["mean", "sum", "none"][draw(0, 2)]

    def run(L, x):
        if L is not TF:
            return getattr(L, name)(x, target, reduction=reduction, **options)
        x = x.movedim(-1, 1).contiguous() if x.ndim > 2 else x
        return getattr(L, name)(x, torch.tensor(target), reduction=reduction, **options)

    return run, [rng.normal(size=(*shape, K)) * 3]


def cross_entropy(rng, draw):
    return classes(rng, draw, "cross_entropy", label_smoothing=[0.0, 0.1, 1.0][draw(0, 2)])


def nll_loss(rng, draw):
    return classes(rng, draw, "nll_loss")


def mse_loss(rng, draw):
    shape, reduction = any_shape(draw, 0), ["mean", "sum", "none"][draw(0, 2)]
    x, target = rng.normal(size=(2, *shape))
    return lambda L, *a: L.mse_loss(*a, reduction=reduction), [np.asarray(x), np.asarray(target)]


def bce_with_logits(rng, draw):
    shape, reduction = any_shape(draw), ["mean", "sum", "none"][draw(0, 2)]
    inputs = [rng.normal(size=shape) * [1, 30][draw(0, 1)], rng.uniform(size=shape)]

    def run(L, *a):
        loss = L.binary_cross_entropy_with_logits if L is TF else L.bce_with_logits
        return loss(*a, reduction=reduction)

    return run, inputs


def layer_norm(rng, draw):
    shape = tuple(draw(1, 5) for _ in range(draw(2, 4)))
    row = shape[-draw(1, len(shape) - 1) :]
    inputs = [1 + 2 * rng.normal(size=shape), *rng.normal(size=(2, *row))][: draw(1, 3)]
    return lambda L, x, *weights: L.layer_norm(x, row, *weights, eps=0.1), inputs


def batch_norm(rng, draw):
    shape = (draw(2, 5), draw(1, 4), *(draw(1, 4) for _ in range(draw(0, 3))))
    C, training, relu = shape[1], bool(draw(0, 1)), bool(draw(0, 1))
    running = rng.normal(size=C), rng.uniform(0.5, 2, C)
    options = dict(training=training, momentum=rng.uniform(0, 1), eps=rng.uniform(0.01, 1))
    given, moves = draw(0, 2), not training or draw(0, 1)  # of weight and bias; running arrays

    def run(L, x, *weights):
        make = torch.tensor if L is TF else tinynet.tensor
        now = [make(a.copy()) for a in running] if moves else [None, None]
        if L is TF:
            y = L.batch_norm(x, *now, *weights, **options)
            return L.relu(y) if relu else y
        return L.batch_norm(x, *now, *weights, **options, relu=relu)

    return run, [rng.normal(size=shape) * 2 + 1, *rng.normal(size=(2, C))][: 1 + given]


def adaptive_avg_pool2d(rng, draw):
    size = pair(draw, 1, 9)
    shape = draw(1, 3), draw(1, 3), draw(1, 8), draw(1, 8)
    return lambda L, x: L.adaptive_avg_pool2d(x, size), [rng.normal(size=shape)]


def interpolate(rng, draw):
    scale = pair(draw, 1, 4)
    shape = draw(1, 3), draw(1, 3), draw(1, 5), draw(1, 5)
    return lambda L, x: L.interpolate(x, scale_factor=scale), [rng.normal(size=shape)]


def attention(rng, draw):
    N, T, S, heads = draw(1, 3), draw(1, 4), draw(1, 5), draw(1, 3)
    shapes = (N, T, heads * draw(1, 3)), (N, S), (N, S, heads * draw(1, 3))
    q, k, v = (
        rng.normal(size=shapes[0]),
        rng.normal(size=(N, S, shapes[0][2])),
        rng.normal(size=shapes[2]),
    )
    mask = rng.random((N, T, S) if draw(0, 1) else (T, S)) < 0.7
    mask[..., 0] = True
    mask, causal = (mask, False) if draw(0, 1) else (None, bool(draw(0, 1)))

    def call(L, *qkv):
        if L is F:
            return F.attention(*qkv, heads, mask, causal)
        parts = [a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in qkv]
        theirs = mask if mask is None or mask.ndim == 2 else mask[:, None]
        theirs = None if mask is None else torch.tensor(theirs)
        y = TF.scaled_dot_product_attention(*parts, theirs, is_causal=causal)
        return y.transpose(1, 2).flatten(2)

    return call, [q, k, v]


def embedding(rng, draw):
    K = draw(1, 5)
    tokens = rng.integers(0, K, any_shape(draw, 0, 3))
    given = {F: tokens, TF: torch.tensor(tokens)}
    return lambda L, w: L.embedding(given[L], w), [rng.normal(size=(K, draw(1, 3)))]


def conv_transpose2d(rng, draw):
    groups = draw(1, 3)
    kernel, stride = (draw(1, 4), draw(1, 4)), (draw(1, 3), draw(1, 3))
    padding = tuple(draw(0, (k - 1) // 2) for k in kernel)
    options = dict(stride=stride, padding=padding, groups=groups)
    options["output_padding"] = tuple(draw(0, s - 1) for s in stride)
    C, O = groups * draw(1, 3), draw(1, 3)
    x = rng.normal(size=(draw(1, 3), C, draw(1, 5), draw(1, 5)))
    inputs = [x, rng.normal(size=(C, O, *kernel)), rng.normal(size=O * groups)]
    return lambda L, *a: L.conv_transpose2d(*a, **options), inputs[: draw(2, 3)]


def linear(rng, draw):
    rows, I, O = any_shape(draw, 0, 3), draw(1, 5), draw(1, 5)
    inputs = [rng.normal(size=(*rows, I)), rng.normal(size=(O, I)), rng.normal(size=O)]
    return lambda L, *a: L.linear(*a), inputs[: draw(2, 3)]


def pad(rng, draw):
    shape = any_shape(draw)
    widths = tuple(draw(0, 3) for _ in range(2 * draw(1, len(shape))))
    value = float(rng.normal())
    return lambda L, x: L.pad(x, widths, value=value), [rng.normal(size=shape)]


def dropout(rng, draw):
    p, shape = rng.uniform(0, 0.9), any_shape(draw, 2)
    seed = draw(0, 10**6)

    def run(L, x):
        if L is TF:  # torch has masks of its own: take ours
            return x * torch.from_numpy(run.mask.copy()) / (1 - p)
        tinynet.manual_seed(seed)
        y = F.dropout(x, p)
        run.mask = y.numpy() != 0
        return y

    return run, [away_from_zero(rng, *shape)]


def broadcast_pair(rng, draw):
    shape = any_shape(draw)
    a = tuple(1 if draw(0, 3) == 0 else n for n in shape)
    b = tuple(1 if draw(0, 3) == 0 else n for n in shape[draw(0, len(shape) - 1) :])
    return [rng.normal(size=a), away_from_zero(rng, *b)]


def arithmetic(rng, draw):
    operators = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b]
    operator = operators[draw(0, 3)]
    return lambda L, a, b: operator(a, b), broadcast_pair(rng, draw)


def maximum(rng, draw):
    a, b = broadcast_pair(rng, draw)
    if draw(0, 1):
        a, b = np.round(a), np.round(b)  # ties: half each in both
    return lambda L, a, b: (torch if L is TF else F).maximum(a, b), [a, b]


def powers(rng, draw):
    p = [2, 3, 0.5, -1, -1.5, 1, 0][draw(0, 6)]
    return lambda L, x: x**p + x.exp() * x.log() - (-x), [rng.uniform(0.5, 2, any_shape(draw))]


def matmul(rng, draw):
    n, k, m = draw(1, 4), draw(1, 4), draw(1, 4)
    batch = any_shape(draw, 1, 2)
    a = [(k,), (n, k), (*batch, n, k), (*(1 for _ in batch), n, k)][draw(0, 3)]
    b = [(k,), (k, m), (*batch, k, m), (batch[-1], k, m)][draw(0, 3)]
    return lambda L, a, b: a @ b, [rng.normal(size=a), rng.normal(size=b)]


def reductions(rng, draw):
    shape = any_shape(draw)
    axes = tuple(
        int(a) - (len(shape) if draw(0, 1) else 0)
        for a in rng.permutation(len(shape))[: draw(1, len(shape))]
    )
    keepdims, kind = bool(draw(0, 1)), draw(0, 2)
    x = np.round(rng.normal(size=shape), int(draw(0, 3)))  # ties share in both

    def run(L, x):
        if kind == 2:
            return x.amax(axes, keepdim=keepdims) if L is TF else x.max(axes, keepdims)
        method = getattr(x, ["sum", "mean"][kind])
        return method(axes, keepdim=keepdims) if L is TF else method(axes, keepdims)

    return run, [x]


def shapes(rng, draw):
    x = rng.normal(size=(2, 3, 4))
    axes = tuple(int(a) for a in rng.permutation(3))
    shape = [(4, 6), (-1,), (2, -1, 2, 1), (24, 1)][draw(0, 3)]
    rows, columns = rng.integers(0, 4, 5), rng.integers(0, 3, 5)

    def run(L, x):
        turned = x.permute(axes) if L is TF else x.transpose(axes)
        a = turned.reshape(shape).flatten()
        b = turned.flatten(1).sum(0) if L is TF else turned.flatten(1).sum(0)
        picked = (
            x[1, columns, 1:] + x[..., 1:][0, columns]
            if L is not TF
            else (x[1, torch.from_numpy(columns), 1:] + x[..., 1:][0, torch.from_numpy(columns)])
        )
        parts = [a, b, picked.reshape(-1), x[:, :, rows[0]].reshape(-1), x[None, 1].reshape(-1)]
        return torch.cat(parts) if L is TF else tinynet.concat(parts)

    return run, [x]


OPERATIONS = [
    conv2d,
    conv2d_3x3,
    max_pool2d,
    avg_pool2d,
    local_response_norm,
    unary("relu"),
    unary("tanh"),
    unary("sigmoid"),
    gelu,
    leaky_relu,
    elu,
    softmax,
    log_softmax,
    cross_entropy,
    nll_loss,
    mse_loss,
    bce_with_logits,
    batch_norm,
    layer_norm,
    conv_transpose2d,
    embedding,
    attention,
    interpolate,
    adaptive_avg_pool2d,
    linear,
    pad,
    dropout,
    arithmetic,
    maximum,
    powers,
    matmul,
    reductions,
    shapes,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
def test_agrees_with_torch(operation, rng, counts):
    def draw(least, most):
        return int(rng.integers(least, most + 1))

    for _ in range(CASES):
        run, arrays = operation(rng, draw)
        ours = [
            tinynet.Tensor(layouts(rng, a), tinynet.device("cpu"), requires_grad=True)
            for a in arrays
        ]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        y, z = run(F, *ours), run(TF, *theirs)
        np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-11)
        dy = rng.normal(size=y.shape)
        y.backward(dy)
        z.backward(torch.tensor(dy))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-11)
        counts["cases that agree with torch"] = counts.get("cases that agree with torch", 0) + 1


def test_a_whole_network_agrees_with_torch(rng):
    """Two towers with groups, response normalisation and overlapping pools: loss and every
    gradient.
    """
    from tinynet import nn

    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, 1.0, 0.75, 2.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(32, 5),
    )
    weights = [p.numpy().astype(np.float64) for p in net.parameters()]
    for p, w in zip(net.parameters(), weights, strict=True):
        p.data = w.copy()
    x, target = rng.normal(size=(4, 3, 15, 14)), rng.integers(0, 5, 4)
    loss = F.cross_entropy(net(tinynet.tensor(x)), target)
    loss.backward()
    w1, b1, w2, b2, w3, b3 = theirs = [torch.tensor(w, requires_grad=True) for w in weights]
    h = TF.local_response_norm(TF.relu(TF.conv2d(torch.tensor(x), w1, b1, 2, 2)), 5, 1.0, 0.75, 2.0)
    h = TF.relu(TF.conv2d(TF.max_pool2d(h, 3, 2), w2, b2, padding=1, groups=2))
    h = TF.linear(TF.avg_pool2d(h, 2, ceil_mode=True).flatten(1), w3, b3)
    other = TF.cross_entropy(h, torch.tensor(target))
    other.backward()
    assert loss.item() == pytest.approx(other.item(), rel=1e-12)
    for p, w in zip(net.parameters(), theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), w.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_running_statistics_agree_with_torch(rng):
    """Of several batches, in training and in use; the weights move in between."""
    from tinynet import nn

    for ours, theirs, shape in [
        (nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3), (5, 3)),
        (nn.BatchNorm1d(3, 0.1, 0.7), torch.nn.BatchNorm1d(3, 0.1, 0.7), (5, 3, 4)),
        (nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3), (2, 3, 4, 5)),
        (nn.BatchNorm2d(3, affine=False), torch.nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5)),
    ]:
        for mode in (True, True, False, True, False):
            ours.train(mode)
            theirs.train(mode)
            x = rng.normal(size=shape).astype(np.float32) * 3 + 1
            y, z = ours(tinynet.tensor(x)), theirs(torch.tensor(x))
            np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-5, atol=1e-5)
        for name, value in ours.state_dict().items():
            np.testing.assert_allclose(value, theirs.state_dict()[name].numpy(), rtol=1e-5)


def test_where_torch_and_tinynet_refuse_alike():
    """Geometry that one calls impossible the other does as well."""
    x, w = np.zeros((1, 2, 3, 3)), np.zeros((2, 2, 2, 2))
    for call in [
        lambda L, t: L.conv2d(t(x), t(np.zeros((2, 2, 4, 4)))),
        lambda L, t: L.conv2d(t(x), t(w), groups=2),
        lambda L, t: L.conv2d(t(x), t(w), t(np.zeros(3))),
        lambda L, t: L.max_pool2d(t(x), 4),
        lambda L, t: L.max_pool2d(t(x), 2, padding=2),
        lambda L, t: L.avg_pool2d(t(x), 3, padding=2),
        lambda L, t: L.linear(t(np.zeros((2, 3))), t(np.zeros((4, 2)))),
        lambda L, t: L.dropout(t(x), 1.5),
        lambda L, t: L.batch_norm(t(np.zeros((1, 2))), None, None, training=True),
        lambda L, t: L.batch_norm(t(x), t(np.zeros(3)), t(np.ones(3))),
    ]:
        with pytest.raises(ValueError):
            call(F, tinynet.tensor)
        with pytest.raises((RuntimeError, ValueError)):
            call(TF, torch.tensor)
