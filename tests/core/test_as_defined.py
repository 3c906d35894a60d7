"""Every function of tinynet.functional gives what its kernel's definition says, with every option
at values that are not the usual ones: one that is not handed on is seen. (gradcheck compares its
backward with its forward.)
"""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels.adaptive_avg_pool2d import adaptive_avg_pool2d_definition
from tinynet.kernels.attention import attention_definition
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.batch_norm import batch_norm_definition
from tinynet.kernels.cross_entropy import cross_entropy_definition
from tinynet.kernels.dilation import dilated_conv2d_definition
from tinynet.kernels.dropout import dropout_mask_definition
from tinynet.kernels.gelu import gelu_definition
from tinynet.kernels.layer_norm import layer_norm_definition
from tinynet.kernels.linear import linear_definition
from tinynet.kernels.local_response_norm import local_response_norm_definition
from tinynet.kernels.max_pool2d import max_pool2d_definition
from tinynet.kernels.softmax import softmax_definition
from tinynet.kernels.spatial_response_norm import spatial_response_norm_definition
from tinynet.kernels.upsample2d import upsample2d_definition


def cut(y, relu):
    return np.maximum(y, 0) if relu else y


def conv2d(x, w, b=None, stride=(1, 1), padding=(0, 0), groups=1, relu=False, dilation=(1, 1)):
    y = dilated_conv2d_definition(x, w, stride, padding, dilation, groups)
    return cut(y if b is None else y + b[:, None, None], relu)


def conv2d_each(x, v, w, b, c, *options):
    return [conv2d(x, v, b, *options), conv2d(x, w, c, *options)]


def conv_transpose2d(x, w, b, stride, padding, output_padding, groups):
    """Each value of x lays the kernel, so many times, down on y."""
    (N, C, H, W), (_, O, kh, kw) = x.shape, w.shape
    size = [
        (n - 1) * s + k + e
        for n, s, k, e in zip((H, W), stride, (kh, kw), output_padding, strict=True)
    ]
    y = np.zeros((N, O * groups, *size))
    for n, c, h, v, i, j in np.ndindex(N, C, H, W, kh, kw):
        first = c // (C // groups) * O
        place = n, slice(first, first + O), h * stride[0] + i, v * stride[1] + j
        y[place] += x[n, c, h, v] * w[c, :, i, j]
    (ph, pw), (OH, OW) = padding, size
    return y[:, :, ph : OH - ph, pw : OW - pw] + b[:, None, None]


def batch_norm(x, w, b, mean, var, training, momentum, eps, relu):
    """y, and what becomes of the running arrays."""
    m, v = (None, None) if training else (mean, var)
    y = cut(batch_norm_definition(x, w, b, m, v, eps), relu)
    if training:
        axes, count = (0, *range(2, x.ndim)), x.size // x.shape[1]
        mean = (1 - momentum) * mean + momentum * x.mean(axis=axes)
        var = (1 - momentum) * var + momentum * x.var(axis=axes) * count / (count - 1)
    return y, mean, var


def run_batch_norm(x, w, b, mean, var, **options):
    y = F.batch_norm(x, mean, var, w, b, **options)
    return y, mean, var


def attention(q, k, v, heads, mask, causal):
    seen = mask & np.tri(*mask.shape[-2:], dtype=bool) if causal else mask
    return attention_definition(q, k, v, heads, np.broadcast_to(seen, (len(q), *mask.shape[-2:])))


def reduced(losses, reduction):
    return {"none": lambda a: a, "sum": np.sum, "mean": np.mean}[reduction](losses)


def cross_entropy(x, target, reduction, label_smoothing):
    return reduced(cross_entropy_definition(x, target, label_smoothing), reduction)


def bce(x, t, reduction):
    p = 1 / (1 + np.exp(-x))
    return reduced(-t * np.log(p) - (1 - t) * np.log(1 - p), reduction)


def pad(x, pad, value):
    widths = [(0, 0)] * (x.ndim - len(pad) // 2)
    return np.pad(x, widths + list(zip(pad[::2], pad[1::2], strict=True))[::-1],
                  constant_values=value)  # fmt: skip


def dropout(x, p, training, inverted):
    if not training:
        return x if inverted else x * (1 - p)
    return x * dropout_mask_definition(x.shape, p, 3, 1) / ((1 - p) if inverted else 1)


def embedding(tokens, weight):
    return weight[tokens]


def gelu(x, approximate):
    c = np.sqrt(2 / np.pi)
    tanh = x / 2 * (1 + np.tanh(c * (x + 0.044715 * x**3)))
    return tanh if approximate == "tanh" else gelu_definition(x)


X = (2, 4, 5, 6)
TWO = [(False, True), (True, False)]
TARGET = np.array([[2, 0], [1, 1], [0, 2]])
NEAR = np.eye(4, 5) + np.eye(4, 5, 2) > 0
FAR = (np.eye(4, 5) == 0) | (np.arange(5) == 0)
MASKS = (NEAR, np.stack([FAR, NEAR]))

# name: (its definition, shapes or arrays of its arguments, options and two or more values of each)
ROWS = {
    "conv2d": (conv2d, [X, (6, 2, 2, 3), (6,)], dict(
        stride=((2, 1), (1, 3)), padding=((1, 0), (0, 2)), groups=(2,), relu=(True, False),
        dilation=((1, 1), (2, 1), (3, 2)))),
    "conv2d_each": (conv2d_each, [X, (4, 2, 2, 3), (2, 2, 2, 3), (4,), (2,)], dict(
        stride=((2, 1), (1, 3)), padding=((1, 0), (0, 2)), groups=(2,), relu=(True, False))),
    "conv_transpose2d": (conv_transpose2d, [(2, 4, 2, 3), (4, 2, 3, 2), (4,)], dict(
        stride=((2, 3), (3, 2)), padding=((1, 0), (0, 1)), output_padding=((1, 0), (0, 1)),
        groups=(2,))),
    "linear": (lambda x, w, b, relu: cut(linear_definition(x, w, b), relu),
               [(3, 4), (5, 4), (5,)], dict(relu=(True, False))),
    "max_pool2d": (lambda x, k, s, p, c: max_pool2d_definition(x, k, s, p, c)[0], [X], dict(
        kernel_size=((2, 3), (3, 2)), stride=((2, 1), (3, 2)), padding=((1, 0), (0, 1)),
        ceil_mode=(True, False))),
    "avg_pool2d": (avg_pool2d_definition, [X], dict(
        kernel_size=((2, 3), (3, 2)), stride=((2, 1), (3, 2)), padding=((1, 0), (0, 1)),
        ceil_mode=(True, False), count_include_pad=(True, False))),
    "adaptive_avg_pool2d": (adaptive_avg_pool2d_definition, [X], dict(
        output_size=((2, 3), (5, 4), (1, 6)))),
    "interpolate": (upsample2d_definition, [X], dict(scale_factor=((2, 3), (1, 2)))),
    "pad": (pad, [X], dict(pad=((1, 2), (0, 1, 2, 0), (1, 0, 0, 2, 3, 1)), value=(0.0, 1.5))),
    "local_response_norm": (local_response_norm_definition, [X], dict(
        size=(2, 3), alpha=(0.5, 2.0), beta=(0.6, 0.75), k=(1.5, 2.0))),
    "spatial_response_norm": (spatial_response_norm_definition, [X], dict(
        size=(2, 3), alpha=(0.5, 2.0), beta=(0.6, 0.75), k=(1.5, 2.0))),
    "batch_norm": (batch_norm, [(3, 2, 4), (2,), (2,), np.array([0.5, -1.0]), np.array([2.0, 3.0])],
                   dict(training=(True, False), momentum=(0.3, 1.0), eps=(0.1, 0.7),
                        relu=(True, False))),
    "attention": (attention, [(2, 4, 4), (2, 5, 4), (2, 5, 6)], dict(
        heads=(1, 2), mask=MASKS, causal=(True, False))),
    "embedding": (embedding, [TARGET, (3, 4)], {}),
    "cross_entropy": (cross_entropy, [(3, 2, 4), TARGET], dict(
        reduction=("none", "sum", "mean"), label_smoothing=(0.0, 0.3, 1.0))),
    "nll_loss": (lambda x, t, reduction: reduced(
        -np.take_along_axis(x, t[..., None], -1)[..., 0], reduction), [(3, 2, 4), TARGET],
        dict(reduction=("none", "sum", "mean"))),
    "mse_loss": (lambda x, t, reduction: reduced((x - t) ** 2, reduction), [(3, 4), (3, 4)],
                 dict(reduction=("none", "sum", "mean"))),
    "bce_with_logits": (bce, [(3, 4), np.linspace(0, 1, 12).reshape(3, 4)],
                        dict(reduction=("none", "sum", "mean"))),
    "dropout": (dropout, [X], dict(p=(0.3, 0.6), training=(True, False), inverted=(True, False))),
    "leaky_relu": (lambda x, negative_slope: np.where(x > 0, x, negative_slope * x), [X],
                   dict(negative_slope=(0.2, 1.5))),
    "elu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)), [X], dict(alpha=(0.5, 2.0))),
    "gelu": (gelu, [(3, 4)], dict(approximate=("none", "tanh"))),
    "softmax": (lambda x, dim: softmax_definition(x, dim), [(2, 3, 4)], dict(dim=(0, 1, -1, -2))),
    "log_softmax": (lambda x, dim: np.log(softmax_definition(x, dim)), [(2, 3, 4)],
                    dict(dim=(0, 1, -1, -2))),
    "relu": (lambda x, inplace: np.maximum(x, 0), [X], dict(inplace=(True, False))),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), [X], {}),
    "tanh": (np.tanh, [X], {}),
}  # fmt: skip
CALLS = {
    "conv2d_each": lambda x, v, w, b, c, **options: F.conv2d_each(x, [v, w], [b, c], **options),
    "batch_norm": run_batch_norm,
}


def cases(options):
    """All combinations, or about 32 of them."""
    product = list(itertools.product(*options.values()))
    chosen = product if len(product) <= 32 else product[:: len(product) // 31]
    return [dict(zip(options, values, strict=True)) for values in chosen]


@pytest.mark.parametrize("name", ROWS)
def test_a_function_with_every_option_is_as_defined(name, rng):
    definition, arguments, options = ROWS[name]
    for number, case in enumerate(cases(options)):
        device = ("cpu:1", "cpu")[number % 2]
        arrays = [
            layouts(rng, rng.normal(size=a)) if isinstance(a, tuple) else a.copy()
            for a in arguments
        ]
        tinynet.manual_seed(3)
        given = [tinynet.tensor(a, device=device) for a in arrays]
        found = CALLS.get(name, getattr(F, name))(*given, **case)
        expected = definition(*arrays, *case.values())
        found, expected = (
            list(y) if isinstance(y, (tuple, list)) else [y] for y in (found, expected)
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == np.shape(theirs) and ours.device == device, (name, case)
            np.testing.assert_allclose(
                ours.numpy(), theirs, rtol=1e-11, atol=1e-12, err_msg=f"{name} {case}"
            )


@pytest.mark.parametrize("name", ROWS)
def test_what_stands_beside_it_in_the_batch_does_not_count(name, rng):
    """Result and gradient of the last are what they were beside others a million times as large."""
    _, arguments, options = ROWS[name]
    case = {option: values[-1] for option, values in options.items()}
    case |= {n: v for n, v in dict(reduction="none", training=False).items() if n in options}
    arrays = [rng.normal(size=a) if isinstance(a, tuple) else a.copy() for a in arguments]
    found = []
    for size in (1.0, 1e6, -1e6):
        leaves = []
        for i, (a, given) in enumerate(zip(arrays, arguments, strict=True)):
            leaf = tinynet.tensor(a, requires_grad=isinstance(given, tuple) and name != "relu")
            if i < BATCHED.get(name, 1) and leaf.requires_grad:
                leaf.data[:-1] *= size
            leaves.append(leaf)
        ys = CALLS.get(name, getattr(F, name))(*leaves, **case)
        ys = [y[-1] for y in (ys if isinstance(ys, (tuple, list)) else [ys])]
        total = sum((y * y).sum() for y in ys)
        if total.requires_grad:
            total.backward()
        own = [x.grad.numpy()[-1] for x in leaves[: BATCHED.get(name, 1)] if x.grad is not None]
        found.append([*(y.numpy() for y in ys), *own])
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12, err_msg=name)


BATCHED = dict(attention=3, cross_entropy=2, nll_loss=2, mse_loss=2, bce_with_logits=2)


@pytest.mark.parametrize("name", ROWS)
def test_a_function_of_an_empty_batch(name, rng):
    """The arguments that have a batch (the first, or so many) without an element of it."""
    definition, arguments, options = ROWS[name]
    arrays = [rng.normal(size=a) if isinstance(a, tuple) else a.copy() for a in arguments]
    count = BATCHED.get(name, 1)
    arrays[:count] = [a[:0] for a in arrays[:count]]
    case = {option: values[0] for option, values in options.items()}
    case |= dict(training=False) if name == "batch_norm" else {}
    leaves = [
        tinynet.tensor(a, requires_grad=isinstance(given, tuple) and not case.get("inplace"))
        for a, given in zip(arrays, arguments, strict=True)
    ]
    found = CALLS.get(name, getattr(F, name))(*leaves, **case)
    expected = definition(*arrays, *case.values())
    found, expected = (list(y) if isinstance(y, (tuple, list)) else [y] for y in (found, expected))
    assert [y.shape for y in found] == [np.shape(y) for y in expected]
    total = sum(y.sum() for y in found if y.requires_grad)
    if isinstance(total, tinynet.Tensor):
        total.backward()
    for leaf in leaves:
        if leaf.grad is not None:
            assert leaf.grad.shape == leaf.shape and not leaf.grad.numpy().any()


def test_layer_norm_over_one_axis_and_over_two(rng):
    for shape, eps in itertools.product(((6,), (5, 6), (4, 5, 6)), (1e-5, 0.5)):
        x, (w, b) = layouts(rng, rng.normal(size=X)), rng.normal(size=(2, *shape))
        for weight, bias in itertools.product((w, None), (b, None)):
            given = [None if a is None else tinynet.tensor(a) for a in (weight, bias)]
            y = F.layer_norm(tinynet.tensor(x), shape, *given, eps=eps)
            full = [f(w) if a is None else a for a, f in
                    ((weight, np.ones_like), (bias, np.zeros_like))]  # fmt: skip
            rows = x.reshape(-1, int(np.prod(shape)))
            exact = layer_norm_definition(rows, *(a.ravel() for a in full), eps)
            np.testing.assert_allclose(y.numpy(), exact.reshape(X), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_without_weight_or_bias(training, rng):
    x, (w, b, mean) = rng.normal(size=(4, 3, 5)), rng.normal(size=(3, 3))
    running = None if training else mean, None if training else mean**2
    for weight, bias in itertools.product((w, None), (b, None)):
        given = [None if a is None else tinynet.tensor(a) for a in (*running, weight, bias)]
        y = F.batch_norm(tinynet.tensor(x), *given, training=training, eps=0.1)
        full = [f(w) if a is None else a for a, f in
                ((weight, np.ones_like), (bias, np.zeros_like))]  # fmt: skip
        exact = batch_norm_definition(x, *full, *running, 0.1)
        np.testing.assert_allclose(y.numpy(), exact, rtol=1e-11, atol=1e-12)


def test_every_option_of_every_function_is_tried():
    others = {"layer_norm", "concat", "exp", "log", "maximum"}
    assert set(F.__all__) - set(ROWS) == others
    tensors = {
        "x", "weight", "bias", "weights", "biases", "q", "k", "v", "tokens", "logits", "target",
        "log_probabilities", "input", "running_mean", "running_var",
    }  # fmt: skip
    for name, (_, _, options) in ROWS.items():
        own = set(inspect.signature(getattr(F, name)).parameters)
        own -= tensors - ({"k"} if name.endswith("response_norm") else set())  # there a number
        assert own == set(options), name
