"""Layers, first values, the optimiser of 2012, schedules."""

from __future__ import annotations

import inspect
import math

import numpy as np
import oracles
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn, optim
from tinynet.nn import init

LAYERS = {  # layer, the call it stands for, shape of x
    "MaxPool2d": (
        nn.MaxPool2d(3, 2, 1, True),
        lambda x: F.max_pool2d(x, 3, 2, 1, True),
        (2, 3, 6, 8),
    ),
    "AvgPool2d": (
        nn.AvgPool2d(3, 2, 1, True, False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
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
        (nn.CrossEntropyLoss, F.cross_entropy),
        (nn.Conv2d, F.conv2d),
    ]:
        ours, theirs = inspect.signature(layer).parameters, inspect.signature(function).parameters
        for name in set(ours) & set(theirs) - {"bias"}:
            assert ours[name].default == theirs[name].default, (layer, name)


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
            ValueError, match="Conv2d: expected in_channels and out_channels divisible by groups"
        ):
            nn.Conv2d(wrong[0], wrong[1], wrong[2], groups=wrong[3])


def test_relu_layer_in_place(rng):
    x = tinynet.tensor(rng.normal(size=(3, 4)))
    y = nn.ReLU(inplace=True)(x)
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


def test_cross_entropy_loss(rng):
    logits, target = rng.normal(size=(4, 3)), np.array([0, 2, 1, 1])
    losses = oracles.cross_entropy(logits, target)
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


# SGD


def steps(opt, parameters, gradients):
    for gradient in gradients:
        for p, g in zip(parameters, gradient, strict=True):
            p.grad = tinynet.Tensor(g.copy(), p.device)
        opt.step()


@pytest.mark.parametrize(
    "momentum, weight_decay", [(0.0, 0.0), (0.9, 0.0), (0.9, 0.05), (0.0, 0.05)]
)
def test_sgd_is_the_rule_of_2012(momentum, weight_decay, rng):
    start = [rng.normal(size=s) for s in ((3, 4), (5,))]
    parameters = [nn.Parameter(w) for w in start]
    opt = optim.SGD(parameters, 0.1, momentum, weight_decay)
    gradients = [[rng.normal(size=w.shape) for w in start] for _ in range(4)]
    steps(opt, parameters, gradients)
    for i, w in enumerate(start):
        v = np.zeros_like(w)
        for gradient in gradients:
            w, v = oracles.sgd_step(w, gradient[i], v, 0.1, momentum, weight_decay)
        np.testing.assert_allclose(parameters[i].numpy(), w, rtol=1e-12)
        np.testing.assert_allclose(opt.state_dict()[f"velocity.0.{i}"], v, rtol=1e-12)


def test_sgd_is_plain_gradient_descent_if_not_told_otherwise():
    p = nn.Parameter(np.array([2.0]))
    steps(optim.SGD([p], lr=0.5), [p], [[np.array([1.0])], [np.array([3.0])]])
    assert p.item() == 2 - 0.5 * (1 + 3)


def test_a_change_of_the_rate_acts_on_later_gradients_only(rng):
    p = nn.Parameter(np.zeros(1))
    opt = optim.SGD([p], lr=1.0, momentum=0.5)
    steps(opt, [p], [[np.array([1.0])]])
    opt.lr = 0.1
    steps(opt, [p], [[np.array([1.0])]])
    assert p.item() == pytest.approx(-1 - (0.5 + 0.1))  # PyTorch's rule would give -1 - 0.15


def test_parameter_groups(rng):
    a, b, c, d = (nn.Parameter(np.ones(2)) for _ in range(4))
    opt = optim.SGD(
        [
            {"params": [a], "name": "weights"},
            {"params": b, "lr_scale": 2.0, "weight_decay": 0.0, "momentum": 0.0},
            {"params": [c], "lr_scale": 0.0},
            {"params": (p for p in [d]), "lr": 0.4},
        ],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.5,
    )
    assert [g["name"] for g in opt.param_groups] == ["weights", "", "", ""]
    assert opt.param_groups[3]["lr_scale"] == pytest.approx(4) and "lr" not in opt.param_groups[3]
    ones = np.ones(2)
    steps(opt, [a, b, c, d], [[ones] * 4, [ones] * 4])
    for p, lr, m, decay in [
        (a, 0.1, 0.9, 0.5),
        (b, 0.2, 0.0, 0.0),
        (c, 0.0, 0.9, 0.5),
        (d, 0.4, 0.9, 0.5),
    ]:
        w, v = np.ones(2), np.zeros(2)
        for _ in range(2):
            w, v = oracles.sgd_step(w, ones, v, lr, m, decay)
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-12)
    assert not opt.state_dict()["velocity.2.0"].any()
    assert set(opt.state_dict()) == {f"velocity.{g}.0" for g in range(4)}


def test_parameters_without_a_gradient_stay():
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    opt = optim.SGD([a, b], lr=0.1, weight_decay=0.5)
    a.grad = tinynet.tensor(np.ones(2))
    opt.step()
    assert (b.numpy() == 1).all() and (a.numpy() != 1).all()
    opt.zero_grad()
    assert a.grad is None and b.grad is None


def test_state_of_sgd_there_and_back(rng):
    def make():
        tinynet.manual_seed(1)
        net = nn.Linear(3, 2)
        return net, optim.SGD(net.parameters(), 0.1, 0.9)

    (net, opt), (twin, twin_opt) = make(), make()
    gradient = [rng.normal(size=p.shape).astype(np.float32) for p in net.parameters()]
    steps(opt, list(net.parameters()), [gradient] * 2)
    state = opt.state_dict()
    twin_opt.load_state_dict(state)
    twin.load_state_dict(net.state_dict())
    state["velocity.0.0"][:] = 99  # copies both ways
    steps(opt, list(net.parameters()), [gradient])
    steps(twin_opt, list(twin.parameters()), [gradient])
    np.testing.assert_array_equal(net.weight.numpy(), twin.weight.numpy())
    np.testing.assert_array_equal(
        opt.state_dict()["velocity.0.1"], twin_opt.state_dict()["velocity.0.1"]
    )
    good = opt.state_dict()
    for wrong, message in [
        ({}, r"expected \['velocity.0.0', 'velocity.0.1'\], got \[\]"),
        (
            {**good, "velocity.0.0": np.ones(3)},
            r"expected velocity.0.0 of shape \(2, 3\), got \(3,\)",
        ),
        ({**good, "velocity.1.0": np.ones(3)}, "got .*velocity.1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            twin_opt.load_state_dict(wrong)
        np.testing.assert_array_equal(twin_opt.state_dict()["velocity.0.0"], good["velocity.0.0"])


# Schedules


def optimizer(lr):
    return optim.SGD([nn.Parameter(np.ones(1))], lr=lr)


def test_multi_step():
    opt = optimizer(0.1)
    schedule = optim.lr_scheduler.MultiStep(opt, [4, 2])
    rates = []
    for epoch in range(6):
        schedule.step(epoch)
        rates.append(opt.lr)
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    schedule.step(1)
    assert opt.lr == pytest.approx(0.1)  # a function of the epoch alone
    half = optim.lr_scheduler.MultiStep(opt, [1], gamma=0.5)
    half.step(1)
    state = half.state_dict()
    other = optimizer(7.0)
    resumed = optim.lr_scheduler.MultiStep(other, [1], gamma=0.5)
    resumed.load_state_dict(state)
    assert other.lr == pytest.approx(0.05)
    resumed.step(0)
    assert other.lr == pytest.approx(0.1)


def test_divide_on_plateau():
    opt = optimizer(1.0)
    schedule = optim.lr_scheduler.DivideOnPlateau(opt, patience=2, min_lr=0.005)
    rates = []
    for error in [0.95, 0.96, 0.9, 0.91, 0.92, 0.8]:  # an improvement begins the waiting anew
        schedule.step(error)
    assert opt.lr == 1.0 and schedule.waited == 0
    for error in [0.8, 0.85, 0.81, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.79]:
        schedule.step(error)
        rates.append(opt.lr)
    assert rates == pytest.approx(
        [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.005]
    )
    state = schedule.state_dict()
    other = optimizer(3.0)
    resumed = optim.lr_scheduler.DivideOnPlateau(other, patience=2, min_lr=0.005)
    resumed.load_state_dict(state)
    assert other.lr == opt.lr and (resumed.best, resumed.waited) == (schedule.best, schedule.waited)
    low = optimizer(0.001)
    schedule = optim.lr_scheduler.DivideOnPlateau(low, factor=2, patience=0, min_lr=0.005)
    for _ in range(3):
        schedule.step(1.0)
    assert low.lr == 0.001  # never upwards
    schedule = optim.lr_scheduler.DivideOnPlateau(opt := optimizer(1.0), factor=2, patience=0)
    schedule.step(1.0)
    schedule.step(float("nan"))
    assert opt.lr == 0.5  # a NaN is no improvement
    schedule = optim.lr_scheduler.DivideOnPlateau(opt := optimizer(1.0))
    rates = []
    for error in [
        float("nan"),
        0.5,
        0.5,
        0.5,
        0.5,
        0.5,
    ]:  # a run that begins with a NaN waits from there on
        schedule.step(error)
        rates.append(opt.lr)
    assert rates == [1, 1, 1, 1, 1, 0.1]  # after more than three epochs in vain
    schedule = optim.lr_scheduler.DivideOnPlateau(opt := optimizer(1.0), patience=1)
    schedule.step(float("nan"))
    assert opt.lr == 1
    schedule.step(float("nan"))
    assert opt.lr == 0.1
    with pytest.raises(ValueError, match="factor above 1, got 1"):
        optim.lr_scheduler.DivideOnPlateau(opt, factor=1)
    assert optim.lr_scheduler.DivideOnPlateau(opt).factor == 10
