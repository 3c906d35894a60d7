"""Convolution with dilation: against its definition, and what it refuses."""

from __future__ import annotations

import numpy as np
import oracles
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels.dilation import dilated_conv2d_definition

TIGHT = dict(rtol=1e-11, atol=1e-11)
CASES = [  # (H, W), kernel, stride, padding, dilation, groups
    ((7, 6), (3, 2), (1, 1), (0, 0), (2, 2), 1),
    ((9, 8), (2, 3), (2, 3), (1, 0), (3, 2), 2),  # stride and dilation share no divisor
    ((12, 13), (2, 2), (4, 2), (0, 1), (6, 4), 1),  # they do
    ((5, 5), (3, 3), (2, 2), (4, 3), (2, 3), 1),  # windows that see padding alone
    ((3, 9), (1, 2), (2, 1), (0, 0), (7, 5), 2),  # pixels that no window sees
    ((5, 1), (3, 1), (1, 1), (0, 0), (2, 1), 1),  # one output
]


@pytest.mark.parametrize("size, kernel, stride, padding, dilation, groups", CASES)
def test_agrees_with_its_definition(size, kernel, stride, padding, dilation, groups, rng):
    x = layouts(rng, rng.normal(size=(2, 2 * groups, *size)))
    w, b = rng.normal(size=(2 * groups, 2, *kernel)), rng.normal(size=2 * groups)
    args = [tinynet.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = F.conv2d(*args, stride, padding, groups, dilation=dilation)

    def definition(x, w):
        return dilated_conv2d_definition(x, w, stride, padding, dilation, groups)

    np.testing.assert_allclose(y.numpy(), definition(x, w) + b[:, None, None], **TIGHT)
    dy = layouts(rng, rng.normal(size=y.shape))
    y.backward(tinynet.tensor(dy))
    dx, dw, db = (a.grad.numpy() for a in args)
    expected = oracles.transposed(lambda x: definition(x, w), x.shape, dy)
    np.testing.assert_allclose(dx, expected, **TIGHT)
    expected = oracles.transposed(lambda w: definition(x, w), w.shape, dy)
    np.testing.assert_allclose(dw, expected, **TIGHT)
    np.testing.assert_allclose(db, dy.sum(axis=(0, 2, 3)), **TIGHT)

    cut = F.conv2d(*(a.detach() for a in args), stride, padding, groups, True, dilation)
    np.testing.assert_array_equal(cut.numpy(), np.maximum(y.numpy(), 0))


def test_a_layer_has_it(rng):
    layer = nn.Conv2d(2, 3, 3, padding=2, dilation=2)
    assert "dilation 2" in repr(layer) and "dilation" not in repr(nn.Conv2d(2, 3, 3))
    x = tinynet.tensor(rng.normal(size=(2, 2, 6, 7)).astype(np.float32))
    assert layer(x).shape == (2, 3, 6, 7)
    np.testing.assert_array_equal(
        layer(x).numpy(), F.conv2d(x, layer.weight, layer.bias, 1, 2, dilation=2).numpy()
    )


def test_what_does_not_fit_is_named():
    x, w = tinynet.ones(1, 1, 5, 5), tinynet.ones(1, 1, 3, 3)
    with pytest.raises(ValueError, match=r"kernel \(3, 3\) with dilation \(3, 1\) on 5x5"):
        F.conv2d(x, w, dilation=(3, 1))
    for wrong in (0, -1, 1.5, (2,)):
        with pytest.raises(ValueError, match="dilation"):
            F.conv2d(x, w, dilation=wrong)
        with pytest.raises(ValueError, match="dilation"):
            nn.Conv2d(1, 1, 3, dilation=wrong)
