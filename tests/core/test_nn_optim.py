"""Layers and first values."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.kernels.cross_entropy import cross_entropy_definition
from tinynet.nn import init
from tinynet.optim import SGD

LAYERS = {  # layer, the call it stands for, shape of x
    "MaxPool2d": (
        nn.MaxPool2d((3, 2), (2, 1), (1, 0), True),
        lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), True),
        (2, 3, 6, 8),
    ),
    "AvgPool2d": (
        nn.AvgPool2d((3, 2), (2, 1), (1, 0), True, False),
        lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), True, False),
        (2, 3, 6, 8),
    ),
    "LocalResponseNorm": (
        nn.LocalResponseNorm(3, 1.0, 0.5, 2.0),
        lambda x: F.local_response_norm(x, 3, 1.0, 0.5, 2.0),
        (2, 5, 2, 2),
    ),
    "SpatialResponseNorm": (
        nn.SpatialResponseNorm(3, 1.0, 0.5, 2.0),
        lambda x: F.spatial_response_norm(x, 3, 1.0, 0.5, 2.0),
        (2, 2, 5, 4),
    ),
    "ReLU": (nn.ReLU(), F.relu, (3, 4)),
    "Tanh": (nn.Tanh(), F.tanh, (3, 4)),
    "Sigmoid": (nn.Sigmoid(), F.sigmoid, (3, 4)),
    "LeakyReLU": (nn.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2), (3, 4)),
    "ELU": (nn.ELU(0.5), lambda x: F.elu(x, 0.5), (3, 4)),
    "Softmax": (nn.Softmax(0), lambda x: F.softmax(x, 0), (3, 4)),
    "Upsample": (nn.Upsample((2, 1)), lambda x: F.interpolate(x, (2, 1)), (2, 3, 2, 2)),
    "Flatten": (nn.Flatten(), lambda x: x.reshape(2, 12), (2, 3, 4)),
    "Sequential": (nn.Sequential(nn.Tanh(), nn.Sigmoid()), lambda x: F.sigmoid(F.tanh(x)), (3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_operation(name, rng):
    layer, call, shape = LAYERS[name]
    x = tinynet.tensor(rng.normal(size=shape))
    np.testing.assert_array_equal(layer(x).numpy(), call(x).numpy())


def test_layers_have_the_defaults_of_their_operations():
    for layer, function in [
        (nn.MaxPool2d, F.max_pool2d),
        (nn.AvgPool2d, F.avg_pool2d),
        (nn.LocalResponseNorm, F.local_response_norm),
        (nn.SpatialResponseNorm, F.spatial_response_norm),
        (nn.Dropout, F.dropout),
        (nn.ReLU, F.relu),
        (nn.LeakyReLU, F.leaky_relu),
        (nn.ELU, F.elu),
        (nn.Softmax, F.softmax),
        (nn.CrossEntropyLoss, F.cross_entropy),
        (nn.Conv2d, F.conv2d),
        (nn.ConvTranspose2d, F.conv_transpose2d),
        (nn.BatchNorm1d, F.batch_norm),
        (nn.BatchNorm2d, F.batch_norm),
        (nn.LayerNorm, F.layer_norm),
        (nn.GELU, F.gelu),
        (nn.NLLLoss, F.nll_loss),
        (nn.MSELoss, F.mse_loss),
        (nn.BCEWithLogitsLoss, F.bce_with_logits),
    ]:
        ours, theirs = inspect.signature(layer).parameters, inspect.signature(function).parameters
        for name in set(ours) & set(theirs) - {"bias"}:
            assert ours[name].default == theirs[name].default, (layer, name)


OPTIONS = {  # layer: what it must be given, shape of x, another value of each option
    nn.Conv2d: ((2, 4, 3), (2, 2, 5, 6), dict(stride=2, padding=1, dilation=2, relu=True)),
    nn.ConvTranspose2d: ((2, 4, 3), (2, 2, 3, 4), dict(stride=3, padding=1)),
    nn.Linear: ((3, 4), (2, 3), dict(relu=True)),
    nn.MaxPool2d: ((3,), (2, 3, 6, 8), dict(stride=2, padding=1, ceil_mode=True)),
    nn.AvgPool2d: (
        (3, 2, 1),
        (2, 3, 6, 8),
        dict(stride=3, padding=0, ceil_mode=True, count_include_pad=False),
    ),
    nn.BatchNorm1d: ((4,), (3, 4), dict(eps=1.0, relu=True)),
    nn.BatchNorm2d: ((4,), (3, 4, 2, 2), dict(eps=1.0, relu=True)),
    nn.LayerNorm: ((4,), (3, 4), dict(eps=1.0)),
    nn.LocalResponseNorm: ((3,), (2, 5, 2, 2), dict(alpha=1.0, beta=0.5, k=2.0)),
    nn.SpatialResponseNorm: ((3,), (2, 2, 5, 4), dict(alpha=1.0, beta=0.5, k=2.0)),
    nn.GELU: ((), (3, 4), dict(approximate="tanh")),
    nn.LeakyReLU: ((), (3, 4), dict(negative_slope=0.5)),
    nn.ELU: ((), (3, 4), dict(alpha=2.0)),
    nn.Softmax: ((), (3, 4), dict(dim=0)),
    nn.Dropout: ((), (30, 4), dict(p=0.1, inverted=False)),
}
ELSEWHERE = {"bias", "weight_init", "bias_init", "device", "affine", "groups", "inplace"}
ELSEWHERE |= {"output_padding", "momentum", "reduction", "label_smoothing"}  # have tests below


def test_no_option_of_a_layer_is_ignored(rng):
    for layer, (given, shape, others) in OPTIONS.items():
        x = tinynet.tensor(rng.normal(size=shape).astype(np.float32))
        optional = [p for p in inspect.signature(layer).parameters.values() if p.default != p.empty]
        assert {p.name for p in optional} - ELSEWHERE == others.keys(), layer
        values = []
        for change in [{}, *({name: value} for name, value in others.items())]:
            tinynet.manual_seed(7)
            arguments = inspect.signature(layer).bind(*given).arguments
            values.append(layer(**{**arguments, **change})(x).numpy())
        for name, value in zip(others, values[1:], strict=True):
            same = value.shape == values[0].shape and np.allclose(value, values[0], atol=1e-6)
            assert not same, (layer, name)


BUILT = {  # layer: what it must be given
    nn.Conv2d: (2, 4, (3, 2)),
    nn.ConvTranspose2d: (2, 4, (3, 2)),
    nn.Linear: (3, 4),
    nn.BatchNorm1d: (4,),
    nn.BatchNorm2d: (4,),
    nn.LayerNorm: ((2, 4),),
    nn.Embedding: (5, 3),
    nn.MultiHeadAttention: (4, 2),
}


def test_every_layer_is_built_as_asked():
    """Device, first values, with or without bias: of all that it owns."""

    def named(layer, **options):
        return list(layer(*BUILT[layer], **options).named_parameters())

    public = [layer for layer in vars(nn).values() if inspect.isclass(layer)]
    layers = {layer for layer in public if issubclass(layer, nn.Module)}
    takes = {layer: inspect.signature(layer).parameters.keys() for layer in layers}
    assert {layer for layer in layers if "device" in takes[layer]} == BUILT.keys()
    for layer, given in BUILT.items():
        made = layer(*given, device="cpu:1")
        assert {part.device.name for part in [*made.parameters(), *made.buffers()]} == {"cpu:1"}
        for kind in {"weight", "bias"} & {name.removesuffix("_init") for name in takes[layer]}:
            if f"{kind}_init" in takes[layer]:
                some = [p for name, p in named(layer, **{f"{kind}_init": init.constant(3)})
                        if name.endswith(kind)]  # fmt: skip
                assert some and all((p.numpy() == 3).all() for p in some), layer
        if "bias" in takes[layer]:
            assert any(name.endswith("bias") for name, _ in named(layer)), layer
            assert not any(name.endswith("bias") for name, _ in named(layer, bias=False)), layer
        if "affine" in takes[layer]:
            assert not named(layer, affine=False)
            assert [(name, set(p.numpy().ravel())) for name, p in named(layer)] == [
                ("weight", {1}), ("bias", {0})
            ]  # fmt: skip


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_pairs_of_a_convolution_are_rows_and_columns(layer, rng):
    made = layer(2, 4, (3, 2), (2, 1), (0, 1))
    x = tinynet.tensor(rng.normal(size=(1, 2, 6, 5)).astype(np.float32))
    function = F.conv2d if layer is nn.Conv2d else F.conv_transpose2d
    expected = function(x, made.weight, made.bias, (2, 1), (0, 1))
    assert made.weight.shape[2:] == (3, 2)
    np.testing.assert_array_equal(made(x).numpy(), expected.numpy())


def test_conv2d_and_linear_layers(rng):
    layer = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias_init=init.constant(3))
    assert layer.weight.shape == (6, 2, 3, 2) and (layer.bias.numpy() == 3).all()
    x = tinynet.tensor(rng.normal(size=(2, 4, 5, 6)).astype(np.float32))
    expected = F.conv2d(x, layer.weight, layer.bias, 2, 1, 2)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    assert nn.Conv2d(1, 1, 3, bias=False).bias is None and nn.Conv2d(1, 2, 5).weight.shape == (
        2,
        1,
        5,
        5,
    )
    linear = nn.Linear(3, 5, weight_init=init.constant(2), device="cpu:1")
    assert (
        linear.weight.shape == (5, 3)
        and (linear.weight.numpy() == 2).all()
        and not linear.bias.numpy().any()
    )
    assert linear.weight.device == linear.bias.device == "cpu:1"
    y = linear(tinynet.tensor(np.ones((2, 3), np.float32), device="cpu:1"))
    assert (y.numpy() == 6).all()
    assert nn.Linear(3, 5, bias=False)(tinynet.tensor(np.ones((2, 3), np.float32))).shape == (2, 5)
    for wrong in [(3, 4, 3, 2), (4, 3, 3, 2), (0, 1, 3, 1), (1, 0, 3, 1), (1, 1, 3, 0)]:
        with pytest.raises(
            ValueError,
            match="Conv2d: expected (in_channels|out_channels|groups)",
        ):
            nn.Conv2d(wrong[0], wrong[1], wrong[2], groups=wrong[3])


def test_convolutions_of_one_tensor_as_layers(rng):
    """No option is lost on the way."""
    options = dict(stride=2, padding=1, groups=2, relu=True)
    layers = [nn.Conv2d(4, 6, 3, **options), nn.Conv2d(4, 2, 3, **options, bias=False)]
    layers[0].bias.data = rng.normal(size=6).astype(np.float32)
    x = tinynet.tensor(rng.normal(size=(2, 4, 5, 6)).astype(np.float32))
    for y, layer in zip(nn.Conv2d.each(layers, x), layers, strict=True):
        np.testing.assert_array_equal(y.numpy(), layer(x).numpy())


def test_conv_transpose2d_layer(rng):
    layer = nn.ConvTranspose2d(4, 6, (3, 2), 2, 1, output_padding=1, groups=2)
    assert repr(layer) == (
        "ConvTranspose2d(4 -> 6, kernel 3x2, stride 2, padding 1, output_padding 1, groups 2, "
        "78 parameters)"
    )
    layer.bias.data[...] = rng.normal(size=6)
    x = tinynet.tensor(rng.normal(size=(2, 4, 3, 3)).astype(np.float32))
    expected = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1, 1, 2)
    assert expected.shape == (2, 6, 6, 5)
    np.testing.assert_array_equal(layer(x).numpy(), expected.numpy())
    for x_shape, w_shape, options in [
        ((2, 3, 4, 4), (4, 1, 2, 2), {}),
        ((2, 3, 4, 4), (3, 1, 2, 2), dict(groups=2)),
        ((2, 3, 1, 1), (3, 1, 2, 2), dict(padding=1)),
        ((2, 3, 4, 4), (3, 1, 2, 2), dict(output_padding=1)),
    ]:
        x, w = (tinynet.tensor(np.zeros(s, np.float32)) for s in (x_shape, w_shape))
        with pytest.raises(ValueError, match="conv_transpose2d: expected"):
            F.conv_transpose2d(x, w, **options)


@pytest.mark.parametrize("training", [True, False])
def test_relu_layer_in_place(training, rng):
    x = tinynet.tensor(rng.normal(size=(3, 4)))
    y = nn.ReLU().train(training)(x)
    assert y.data is not x.data and (x.numpy() < 0).any()
    y = nn.ReLU(inplace=True).train(training)(x)
    assert y.data is x.data and (y.numpy() >= 0).all()


def test_dropout_layer(rng):
    layer, x = nn.Dropout(0.25), tinynet.tensor(np.ones((100, 100), np.float32))
    tinynet.manual_seed(3)
    y = layer(x)
    tinynet.manual_seed(3)
    np.testing.assert_array_equal(y.numpy(), F.dropout(x, 0.25).numpy())
    assert set(np.unique(y.numpy()).tolist()) == {0.0, float(np.float32(1 / 0.75))}
    layer.eval()
    assert layer(x) is x
    assert F.dropout(x, 0.0) is x and not F.dropout(x, 1.0).numpy().any()


def test_dropout_as_in_2012(rng):
    x = tinynet.tensor(rng.normal(size=(20, 30)), requires_grad=True)
    layer = nn.Dropout(0.2, inverted=False)
    tinynet.manual_seed(3)
    y = layer(x)
    tinynet.manual_seed(3)
    np.testing.assert_allclose(y.numpy(), 0.8 * F.dropout(x, 0.2).numpy())  # the same mask
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy() * (1 - 0.2))
    layer(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(x.shape, 1 - 0.2))
    single = x.float()
    assert layer(single).dtype == np.float32
    assert nn.Dropout(0.0, inverted=False)(x) is x
    assert not F.dropout(x, 1.0, True, inverted=False).numpy().any()
    assert not F.dropout(x, 1.0, False, inverted=False).numpy().any()


def after_steps(count, inverted, equivalent=False):
    """Logits (50, 3) of fc6, fc7 and fc8 of a small AlexNet after so many steps.

    equivalent: fc7 and fc8, which follow the dropouts, start at half their size, learn at a quarter
    of the rate and decay at four times.
    """
    tinynet.manual_seed(4)
    fc6, fc7, fc8 = nn.Linear(6, 16, relu=True), nn.Linear(16, 16, relu=True), nn.Linear(16, 3)
    head = nn.Sequential(fc6, nn.Dropout(0.5, inverted), fc7, nn.Dropout(0.5, inverted), fc8)
    if equivalent:
        for layer in (fc7, fc8):
            layer.weight.data *= np.float32(0.5)
    rate = dict(lr_scale=0.25, weight_decay=4 * 5e-4) if equivalent else {}
    groups = [
        dict(params=[fc7.weight, fc8.weight], **rate),
        dict(params=[fc6.weight, fc6.bias, fc7.bias, fc8.bias]),
    ]
    optimizer = SGD(groups, 0.05, 0.9, 5e-4)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(count + 1, 50, 6)).astype(np.float32)
    labels = (x[:, :, :3] ** 2).argmax(axis=-1)
    for batch, wanted in zip(x[:count], labels[:count], strict=True):
        optimizer.zero_grad()
        F.cross_entropy(head(tinynet.tensor(batch)), wanted).backward()
        optimizer.step()
    return head.eval()(tinynet.tensor(x[count])).numpy()


def test_300_steps_of_both_forms_of_dropout():
    """The net is the same in use at first, and the masks always; but the two forms train apart.

    With half the first weights after the dropouts, a quarter of their rate and four times their
    decay, the inverted form trains as that of 2012 does: all factors are powers of 2, so to the
    last bit.
    """
    np.testing.assert_array_equal(after_steps(0, True, equivalent=True), after_steps(0, False))
    of_2012 = after_steps(300, inverted=False)
    np.testing.assert_array_equal(after_steps(300, True, equivalent=True), of_2012)
    apart = np.abs(after_steps(300, inverted=True) - of_2012).max()
    assert apart > 0.2 * np.abs(of_2012).max()


def test_cross_entropy_loss(rng):
    logits, target = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
    losses = cross_entropy_definition(logits, target)
    x = tinynet.tensor(logits)
    assert nn.CrossEntropyLoss()(x, target).item() == pytest.approx(losses.mean())
    assert nn.CrossEntropyLoss("sum")(x, tinynet.tensor(target)).item() == pytest.approx(
        losses.sum()
    )
    np.testing.assert_allclose(nn.CrossEntropyLoss("none")(x, target.tolist()).numpy(), losses)


# First values


def test_initialisers():
    shape = (400, 30, 5, 4)
    assert init.fans(shape) == (600, 8000)
    for initialiser, sigma in [
        (init.normal(0.01), 0.01),
        (init.he(), math.sqrt(2 / 600)),
        (init.xavier(), math.sqrt(2 / 8600)),
    ]:
        values = initialiser(shape)
        assert values.dtype == np.float32 and values.shape == shape
        assert abs(values.std() / sigma - 1) < 0.01 and abs(values.mean()) < 0.02 * sigma
    assert np.abs(values).max() <= math.sqrt(6 / 8600) and np.abs(values).max() > 0.99 * math.sqrt(
        6 / 8600
    )
    assert (
        init.constant(0.5)((2, 3)).tolist() == [[0.5] * 3] * 2
        and init.constant(1)(2).dtype == np.float32
    )
    with pytest.raises(
        ValueError, match=r"fans: expected weights of shape \(out, in, ...\), got \(5,\)"
    ):
        init.he()((5,))


def test_layers_start_by_hes_rule_and_with_zero_biases():
    for layer, fan_in in [(nn.Conv2d(16, 64, 5), 400), (nn.Linear(500, 400), 500)]:
        assert abs(layer.weight.numpy().std() / math.sqrt(2 / fan_in) - 1) < 0.02
        assert not layer.bias.numpy().any()
    transposed = nn.ConvTranspose2d(64, 16, 5)  # fan_in of the convolution whose transpose it is
    assert abs(transposed.weight.numpy().std() / math.sqrt(2 / 400) - 1) < 0.02
    assert abs(nn.Embedding(100, 100).weight.numpy().std() - 1) < 0.03


def test_the_same_seed_gives_the_same_weights_and_each_draw_differs():
    tinynet.manual_seed(11)
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    tinynet.manual_seed(11)
    c = nn.Linear(4, 4)
    assert (a.weight.numpy() == c.weight.numpy()).all() and (
        a.weight.numpy() != b.weight.numpy()
    ).all()
    tinynet.manual_seed(12)
    assert (nn.Linear(4, 4).weight.numpy() != a.weight.numpy()).all()
    for initialiser in (init.normal(1.0), init.he(), init.xavier()):
        tinynet.manual_seed(12)
        first = initialiser((3, 3))
        tinynet.manual_seed(12)
        np.testing.assert_array_equal(initialiser((3, 3)), first)
