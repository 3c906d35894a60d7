"""The network in examples/alexnet.py: the numbers of 2012, and the split that changes nothing."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import optim
from tinynet.training.inputs import Inputs, batch_of

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alexnet import LAYERS, PRESETS, AlexNet  # noqa: E402


@pytest.fixture(scope="module")
def full_size():
    """The two nets of 2012, made once: 61 million random numbers take a while."""
    tinynet.manual_seed(1)
    return {preset: AlexNet(preset=preset) for preset in ("paper", "cfg145")}


def layers(net, name):
    """The modules of a layer: one a tower, fc8 one in all."""
    return [getattr(part, name) for part in (net.a, net.b, net) if hasattr(part, name)]


@pytest.mark.parametrize("preset", ["paper", "cfg145"])
def test_parameters_of_2012(preset, full_size):
    """From the layers' shapes: 60,965,224 parameters, layer by layer as the table of the two-tower
    net has them.
    """
    net = full_size[preset]
    counts = {
        name: sum(math.prod(p.shape) for m in layers(net, name) for p in (m.weight, m.bias))
        for name in LAYERS
    }
    assert counts == {
        "conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
        "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000,
    }  # fmt: skip
    assert sum(counts.values()) == 60_965_224 == sum(p.size for p in net.parameters())


def test_first_values(full_size):
    for preset, sigma_3 in (("paper", 0.01), ("cfg145", 0.03)):
        for name in LAYERS:
            sigma = sigma_3 if name in ("conv3", "conv4", "conv5") else 0.01
            for module in layers(full_size[preset], name):
                assert module.weight.numpy().std() == pytest.approx(sigma, rel=0.02)
                one = name in ("conv2", "conv4", "conv5", "fc6", "fc7")
                assert (module.bias.numpy() == (1 if one else 0)).all()


def test_rates_and_decay_of_biases(full_size):
    paper, program = (
        {
            g["name"]: g
            for g in optim.SGD(full_size[preset].param_groups(), 0.01, 0.9, 5e-4).param_groups
        }
        for preset in ("paper", "cfg145")
    )
    for layer in ("conv1", "conv5", "fc6", "fc8"):
        assert [paper[f"{layer}.bias"][key] for key in ("lr_scale", "weight_decay")] == [1, 5e-4]
        assert [program[f"{layer}.bias"][key] for key in ("fixed_lr", "weight_decay")] == [0.02, 0]
        assert [program[f"{layer}.weight"][key] for key in ("lr_scale", "weight_decay")] == [
            1,
            5e-4,
        ]
        assert program[f"{layer}.weight"]["fixed_lr"] is paper[f"{layer}.bias"]["fixed_lr"] is None


def test_order_after_the_convolutions(full_size):
    names = {
        preset: [
            [type(layer).__name__ for layer in full_size[preset].a.after[name].layers]
            for name in LAYERS[:5]
        ]
        for preset in ("paper", "cfg145")
    }
    norm, same_map, pool = "LocalResponseNorm", "SpatialResponseNorm", "MaxPool2d"
    flat = "Flatten"
    assert names["paper"] == [[norm, pool], [norm, pool], [], [], [pool, flat]]
    first, second, last = [norm, pool, "ReLU"], [norm, same_map, pool], [pool, "ReLU", flat]
    assert names["cfg145"] == [first, second, [], [], last]
    at_once = {
        preset: [getattr(net.a, f"conv{i}").relu for i in range(1, 6)]
        for preset, net in full_size.items()
    }
    assert at_once["paper"] == [True] * 5 and at_once["cfg145"] == [False, True, True, True, False]
    for net in full_size.values():  # the dropout of 2012
        (dropout,) = net.b.after["fc6"].layers
        assert (dropout.p, dropout.inverted) == (0.5, False) and "fc8" not in net.a.after
    assert (
        all(fc.relu for net in full_size.values() for fc in (net.a.fc6, net.b.fc7))
        and not full_size["paper"].fc8.relu
    )


def train_steps(devices, steps=2, preset="mini", seed=3):
    """Losses and weights after some steps on fixed pictures."""
    tinynet.manual_seed(seed)
    net = AlexNet(10, preset, devices, 1, 28)
    optimizer = optim.SGD(net.param_groups(), 0.01, 0.9, 5e-4)
    rng = np.random.default_rng(seed)
    x = tinynet.tensor(rng.normal(size=(6, 1, 28, 28)).astype(np.float32), device=devices[0])
    labels = rng.integers(0, 10, 6)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, net.state_dict()


def test_the_split_changes_no_bit():
    losses, weights = train_steps(("cpu", "cpu"))
    assert losses[0] != losses[1]
    for devices in (("cpu:0", "cpu:1"), ("cpu:1", "cpu:0")):
        other_losses, other_weights = train_steps(devices)
        assert losses == other_losses
        assert all(np.array_equal(weights[name], other_weights[name]) for name in weights)


def test_towers_on_one_device_convolve_the_same_tensor_once():
    """conv1, and conv3 behind the crossing; each by itself where they are apart, or alone."""
    rng, found = np.random.default_rng(3), {}
    x = rng.normal(size=(2, 1, 28, 28)).astype(np.float32)
    one = dataclasses.replace(PRESETS["mini"], towers=1)
    for what, preset, devices in [
        ("both", "mini", ("cpu", "cpu")),
        ("apart", "mini", ("cpu", "cpu:1")),
        ("one", one, ("cpu",)),
    ]:
        net = AlexNet(10, preset, devices, 1)
        with tinynet.profile() as profile:
            y = net(tinynet.tensor(x))
        names = [event.operation for event in profile.events]
        found[what] = names.count("Conv2dEach"), names.count("Conv2d")
        assert y.shape == (2, 10)
    assert found == {"both": (2, 6), "apart": (0, 10), "one": (0, 5)}


def test_each_tower_sees_the_pictures_of_its_device(rng):
    """Of a pair; what leaves a layer lies on the first device, tower a's maps first."""
    net = AlexNet(10, "mini", ("cpu:1", "cpu:0"), 1).eval()
    a, b = (rng.normal(size=(2, 1, 28, 28)).astype(np.float32) for _ in range(2))
    pair = tinynet.tensor(a, device="cpu:1"), tinynet.tensor(b, device="cpu:0")
    both = net.features(pair, "conv1")
    one, two = (net.features(tinynet.tensor(x, device="cpu:1"), "conv1").numpy() for x in (a, b))
    np.testing.assert_array_equal(both.numpy()[:, :16], one[:, :16])
    np.testing.assert_array_equal(both.numpy()[:, 16:], two[:, 16:])
    assert both.device == net(pair).device == net.fc8.weight.device == "cpu:1"


def test_the_number_of_threads_changes_no_bit():
    before = tinynet.get_num_threads()
    try:
        results = []
        for n in (1, 3):
            tinynet.set_num_threads(n)
            results.append(train_steps(("cpu", "cpu")))
    finally:
        tinynet.set_num_threads(before)
    assert results[0][0] == results[1][0]
    assert all(np.array_equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_towers_live_where_they_were_put():
    net = AlexNet(10, "mini", ("cpu:0", "cpu:1"), 1)
    for name, parameter in net.named_parameters():
        assert parameter.device == ("cpu:1" if name.startswith("b.") else "cpu")


@pytest.mark.parametrize("size", [28, 32, 56, 64])
def test_mini_takes_pictures_of_28_to_64(size, rng):
    net = AlexNet(7, "mini", ("cpu", "cpu"), 3, size).eval()
    x = tinynet.tensor(rng.normal(size=(2, 3, size, size)).astype(np.float32))
    assert net(x).shape == (2, 7)
    assert net.features(x).shape == (2, 512)


@pytest.mark.parametrize("preset", ["paper", "cfg145"])
def test_the_border_of_inputs_is_that_of_the_net(preset, full_size, rng):
    """Pictures of 227, bordered by the kernel that makes them, and of 224, which the net pads: the
    same bits.
    """
    net = full_size[preset].eval()
    batch = batch_of(list(rng.integers(0, 256, (2, 256, 256, 3), np.uint8)), 224)
    mean = rng.uniform(0, 255, (256, 256, 3)).astype(np.float32)
    bordered, plain = (Inputs("cpu", mean, 224, border=b)(batch)[0] for b in (net.border, 0))
    assert bordered.shape == (2, 3, 227, 227) and plain.shape == (2, 3, 224, 224)
    with tinynet.no_grad():
        np.testing.assert_array_equal(net(bordered).numpy(), net(plain).numpy())
    net.train()


def test_a_border_is_added_once(rng):
    small = dataclasses.replace(PRESETS["mini"], border=3, kernels=[2] * 5, hidden=3)
    net = AlexNet(4, small, in_channels=1).eval()
    x = tinynet.tensor(rng.normal(size=(2, 1, 28, 28)).astype(np.float32))
    np.testing.assert_array_equal(net(x).numpy(), net(F.pad(x, (0, 3, 0, 3))).numpy())


def test_wrong_pictures_and_presets_are_named():
    with pytest.raises(
        ValueError, match=r"expected pictures \(N, 1, 28, 28\), got \(2, 3, 28, 28\)"
    ):
        AlexNet(10, "mini", in_channels=1)(tinynet.tensor(np.zeros((2, 3, 28, 28), np.float32)))
    small = dataclasses.replace(PRESETS["mini"], kernels=[1] * 5, hidden=2)
    x = tinynet.tensor(np.zeros((1, 1, 8, 8), np.float32))
    assert AlexNet(2, small, in_channels=1, image_size=8)(x).shape == (1, 2)
    with pytest.raises(ValueError, match="7 x 7 is too small"):
        AlexNet(2, small, in_channels=1, image_size=7)
    with pytest.raises(ValueError, match="expected a preset of .*mini.*, got 'big'"):
        AlexNet(preset="big")
    assert set(PRESETS) == {"paper", "cfg145", "mini", "photos"}


def test_photos_see_a_strided_padded_first_layer(rng):
    """Its side is (56 + 2 * 4 - 9) // 2 + 1 = 28, so the three pools leave 14, 7, 3."""
    net = AlexNet(5, "photos").eval()
    assert net.a.conv1(tinynet.tensor(np.zeros((1, 3, 56, 56), np.float32))).shape[2:] == (28, 28)
    assert net.a.fc6.weight.shape == (256, 2 * 32 * 3 * 3)
    for side in (40, 57, 64):  # the side of fc6's maps is that of the layers before it
        net = AlexNet(5, "photos", image_size=side).eval()
        x = tinynet.tensor(rng.normal(size=(2, 3, side, side)).astype(np.float32))
        assert net(x).shape == (2, 5)
    assert PRESETS["photos"].decay == 0.002


@pytest.mark.parametrize("preset", ["mini", "photos"])
def test_kernels_that_can_be_seen_start_small_and_learn_fast(preset):
    net = AlexNet(5, preset)
    for tower in (net.a, net.b):
        assert tower.conv1.weight.numpy().std() == pytest.approx(0.01, rel=0.1)
        assert tower.conv2.weight.numpy().std() > 0.03
    groups = optim.SGD(net.param_groups(), 0.1).param_groups
    assert [group["lr_scale"] for group in groups] == [10, 10] + [1] * 14


@pytest.mark.slow
def test_the_paper_net_agrees_with_torch(rng):
    """Logits and gradients of the full-size net, in float64, against the same net in torch: groups
    of 2 and LRN by tower.
    """
    torch = pytest.importorskip("torch")
    import torch.nn.functional as TF

    net = AlexNet(20, "paper").eval()
    for p in net.parameters():
        p.data = rng.normal(size=p.shape) * 0.02
    x, labels = rng.normal(size=(2, 3, 224, 224)), np.array([3, 17])
    loss = F.cross_entropy(net(tinynet.tensor(x)), labels)
    loss.backward()

    weights = {
        name: torch.tensor(p.numpy(), requires_grad=True) for name, p in net.named_parameters()
    }

    def conv(number, groups, x, **options):
        w, b = (
            torch.cat([weights[f"{t}.conv{number}.{kind}"] for t in "ab"])
            for kind in ("weight", "bias")
        )
        return TF.relu(TF.conv2d(x, w, b, groups=groups, **options))

    def norm_and_pool(x):
        n, c, h, w = x.shape
        by_tower = TF.local_response_norm(x.reshape(2 * n, c // 2, h, w), 5, 5e-4, 0.75, 2.0)
        return TF.max_pool2d(by_tower.reshape(n, c, h, w), 3, 2)

    def fc(number, x):
        w, b = (
            torch.cat([weights[f"{t}.fc{number}.{kind}"] for t in "ab"])
            for kind in ("weight", "bias")
        )
        return 0.5 * TF.relu(TF.linear(x, w, b))  # dropout in the form of 2012, in use

    y = norm_and_pool(conv(1, 1, TF.pad(torch.tensor(x), (0, 3, 0, 3)), stride=4))
    y = norm_and_pool(conv(2, 2, y, padding=2))
    y = conv(5, 2, conv(4, 2, conv(3, 1, y, padding=1), padding=1), padding=1)
    y = fc(7, fc(6, TF.max_pool2d(y, 3, 2).flatten(1)))
    expected = TF.cross_entropy(
        TF.linear(y, weights["fc8.weight"], weights["fc8.bias"]), torch.tensor(labels)
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    for name, parameter in net.named_parameters():
        reference = weights[name].grad.numpy()
        np.testing.assert_allclose(
            parameter.grad.numpy(), reference, rtol=1e-6, atol=1e-9 * np.abs(reference).max()
        )
