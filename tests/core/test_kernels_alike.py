"""What holds for every CPU kernel: any memory layout, any thread count, NaN, empty batches."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import kernels


def every_kernel(rng, dtype):
    """(name, call) of all kernels that run in pieces, on arrays of several pieces."""
    x = rng.normal(size=(20, 6, 33, 34)).astype(dtype)
    w = rng.normal(size=(4, 3, 3, 3)).astype(dtype)
    geometry = (1, 1), (1, 1), 2
    y = kernels.conv2d_forward(x, w, None, *geometry)
    pool = (3, 3), (2, 2), (1, 1)
    pooled, winner = kernels.max_pool2d_forward(x, *pool, False)
    norm = x, *rng.normal(size=(2, 6)).astype(dtype)
    cut, *moments = kernels.batch_norm_forward(*norm, None, None, True, 0.1, 0.1, True)
    whole = cut, norm[1], *moments
    flat, weight, dflat = (
        rng.normal(size=s).astype(dtype) for s in ((300, 448), (600, 448), (300, 600))
    )
    return {
        "conv2d_forward": lambda: kernels.conv2d_forward(x, w, w[:, 0, 0, 0], *geometry),
        "conv2d_backward": lambda: kernels.conv2d_backward(y, x, w, *geometry, (True, True, True)),
        "conv2d_each_forward": lambda: kernels.conv2d_each_forward(
            x, [w, w[:2]], [None, w[:2, 0, 0, 0]], *geometry
        ),
        "conv2d_each_backward": lambda: kernels.conv2d_each_backward(
            [y, y[:, :2]], x, [w, w[:2]], *geometry, [(True, True, True)] * 2, [None, y[:, :2]]
        ),
        "max_pool2d_forward": lambda: kernels.max_pool2d_forward(x, *pool, True),
        "max_pool2d_backward": lambda: kernels.max_pool2d_backward(pooled, winner, x.shape, *pool),
        "avg_pool2d_forward": lambda: kernels.avg_pool2d_forward(x, *pool, False, True),
        "avg_pool2d_backward": lambda: kernels.avg_pool2d_backward(
            pooled, x.shape, *pool, False, True
        ),
        "lrn_forward": lambda: kernels.local_response_norm_forward(x, 5, 1.0, 0.75, 1.0),
        "lrn_backward": lambda: kernels.local_response_norm_backward(x, x, 5, 1.0, 0.75, 1.0),
        "srn_forward": lambda: kernels.spatial_response_norm_forward(x, 3, 1.0, 0.75, 1.0),
        "srn_backward": lambda: kernels.spatial_response_norm_backward(x, x, 3, 1.0, 0.75, 1.0),
        "relu_forward": lambda: kernels.relu_forward(x),
        "relu_backward": lambda: kernels.relu_backward(x, x),
        "linear_forward": lambda: kernels.linear_forward(flat, weight, None),
        "linear_backward": lambda: kernels.linear_backward(dflat, flat, weight, (True, True, True)),
        "dropout": lambda: kernels.dropout_forward(x, 0.5, 3, 4),
        "batch_norm_forward": lambda: kernels.batch_norm_forward(*norm, None, None, True, 0.1, 0.1),
        "batch_norm_backward": lambda: kernels.batch_norm_backward(
            x, x, *whole[1:], True, (True, True, True), whole[0]
        ),
        "adaptive_forward": lambda: kernels.adaptive_avg_pool2d_forward(x, (5, 4)),
        "adaptive_backward": lambda: kernels.adaptive_avg_pool2d_backward(
            x[:, :, :5, :4], x.shape, (5, 4)
        ),
        "upsample_forward": lambda: kernels.upsample2d_forward(x, (2, 3)),
        "upsample_backward": lambda: kernels.upsample2d_backward(x, (3, 2)),
    }


def arrays(result):
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in arrays(part)]
    return [] if result is None else [result]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_for_any_number_of_threads_and_any_layout(dtype, rng):
    calls, before = every_kernel(rng, dtype), tinynet.get_num_threads()
    try:
        for name, call in calls.items():
            tinynet.set_num_threads(1)
            expected = arrays(call())
            for threads in (2, 5):
                tinynet.set_num_threads(threads)
                for a, b in zip(arrays(call()), expected, strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=f"{name} with {threads} threads")
                    assert a.dtype == b.dtype
                    assert a.dtype in (dtype, np.dtype(bool)) or a.dtype.kind == "u", name
    finally:
        tinynet.set_num_threads(before)


def test_outputs_lie_batch_innermost(rng):
    """All but those of element-wise kernels, which lie as their argument does."""
    for name, call in every_kernel(rng, np.float32).items():
        for array in arrays(call()):
            if array.ndim == 4 and array.shape[0] == 20 and name not in ELEMENTWISE:
                assert np.moveaxis(array, 0, -1).strides[-1] == array.itemsize, name


ELEMENTWISE = ("relu_forward", "relu_backward", "dropout")


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "gelu", "gelu_tanh", "dropout"])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2), (2, 0, 1)])
def test_elementwise_kernels_keep_the_order_in_memory(name, axes, rng):
    """Of x, whatever that of dy is, and with gaps in memory; the values do not depend on it."""
    x = rng.normal(size=(4, 3, 5))
    dy = rng.normal(size=x.shape)
    options = (0.3, 5, 6) if name == "dropout" else ()

    def both(x, dy):
        forward, backward = (getattr(kernels, f"{name}_{way}") for way in ("forward", "backward"))
        y = forward(x, *options)
        if name == "dropout":
            return y[0], backward(dy.copy("K"), y[1], 0.3)
        return y, backward(dy, x if "gelu" in name else y)

    lying = np.ascontiguousarray(x.transpose(axes)).transpose(np.argsort(axes))
    wide = np.zeros((4, 6, 5))
    wide[:, ::2] = x
    for array in (lying, wide[:, ::2]):
        order = [np.argsort([-s for s in a.strides]).tolist() for a in (array, *both(array, dy))]
        assert order[0] == order[1] and (name == "dropout" or order[2] == order[0])
        for got, expected in zip(both(array, dy), both(x, dy), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_inputs_may_be_read_only(rng):
    x, w = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=(4, 2, 3, 3))
    y = kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    for array in (x, w, y):
        array.setflags(write=False)
    kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    kernels.conv2d_backward(y, x, w, (1, 1), (1, 1), 2, (True, True, True))
    pooled, winner = kernels.max_pool2d_forward(x, (3, 3), (2, 2), (1, 1), True)
    pooled.setflags(write=False)
    winner.setflags(write=False)
    kernels.max_pool2d_backward(pooled, winner, x.shape, (3, 3), (2, 2), (1, 1))
    kernels.avg_pool2d_backward(pooled, x.shape, (3, 3), (2, 2), (1, 1), True, False)
    kernels.local_response_norm_backward(y, x, 3, 1.0, 0.75, 1.0)
    kernels.spatial_response_norm_backward(y, x, 3, 1.0, 0.75, 1.0)
    kernels.relu_backward(y, x)
    kernels.dropout_forward(x, 0.5, 1, 1)
    kernels.softmax_backward(y, x, 1)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinities_are_seen_coming_out(bad, rng):
    """Nothing that goes in broken comes out whole."""
    x, w = rng.normal(size=(2, 4, 6, 6)), rng.normal(size=(4, 2, 3, 3))
    x[1, 2, 3, 3] = bad
    y = kernels.conv2d_forward(x, w, None, (1, 1), (1, 1), 2)
    assert np.isfinite(y[0]).all() and np.isfinite(y[1, :2]).all()
    assert not np.isfinite(y[1, 2:, 2:5, 2:5]).any() and np.isfinite(y[1, 2:, 0]).all()
    dx, dw, db = kernels.conv2d_backward(x, x, w, (1, 1), (1, 1), 2, (True, True, True))
    assert (
        not np.isfinite(dx[1, 2:, 3, 3]).any()
        and not np.isfinite(db[2])
        and np.isfinite(db[[0, 1, 3]]).all()
    )
    assert not np.isfinite(dw[2]).all() and np.isfinite(dw[0]).all()
    assert not np.isfinite(
        kernels.avg_pool2d_forward(x, (3, 3), (3, 3), (0, 0), False, True)[1, 2, 1, 1]
    )
    y = kernels.local_response_norm_forward(x, 3, 1.0, 0.75, 1.0)
    assert np.isnan(y[1, 2, 3, 3]) and (np.isnan(y[1, 1, 3, 3]) or y[1, 1, 3, 3] == 0)
    assert not np.isfinite(kernels.linear_forward(x.reshape(2, -1), np.ones((1, 144)), None)[1, 0])
    assert not np.isfinite(kernels.tanh_backward(x, np.zeros_like(x))[1, 2, 3, 3])


def test_denormals_pass(rng):
    tiny = np.full((2, 3, 4, 4), 5e-324)
    np.testing.assert_array_equal(kernels.relu_forward(tiny), tiny)
    np.testing.assert_array_equal(
        kernels.max_pool2d_forward(tiny, (2, 2), (2, 2), (0, 0), False)[0], 5e-324
    )
    np.testing.assert_array_equal(
        kernels.local_response_norm_forward(tiny, 3, 1.0, 0.75, 1.0), tiny
    )
    np.testing.assert_array_equal(
        kernels.conv2d_forward(tiny, np.ones((1, 3, 1, 1)), None, (1, 1), (0, 0), 1), 3 * 5e-324
    )


# The forward is the formula itself, in NumPy's own functions; of conv2d_each, several conv2d.
PLAIN = {"bce_with_logits", "dropout", "gelu_tanh", "log_softmax", "mse_loss", "nll_loss", "relu"}
PLAIN |= {"sigmoid", "tanh", "conv2d_each"}


def test_every_kernel_stands_beside_its_definition():
    """In the same file; a definition that no test names would prove nothing."""
    here, tested = {}, "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    for name, function in vars(kernels).items():
        if name.endswith("_forward") and function.__module__ != kernels.elementwise.__name__:
            here[name.removesuffix("_forward")] = sys.modules[function.__module__]
    assert set(here) >= PLAIN
    for name, module in here.items():
        definition = f"{name}_definition"
        assert hasattr(module, definition) != (name in PLAIN), name
        assert name in PLAIN or tested.count(definition) > 1, name  # imported, and used
