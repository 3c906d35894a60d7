"""AlexNet, the network of 2012, in two towers on two devices; and the program that trains, tests and uses it.

    python examples/alexnet.py                                        a small AlexNet on embedded pictures, in minutes
    python examples/alexnet.py --preset paper --data IMAGENET --device cuda:0,cuda:1
    python examples/alexnet.py --help

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, and the
program they used, released as computerhistory/AlexNet-Source-Code; "cfg145" is the network of the paper there.
"""

from __future__ import annotations

from dataclasses import dataclass

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.device import Device
from tinynet.nn import init

# --- The network ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """What differs between the networks. Sizes are per tower."""

    image_size: int  # side of the pictures it sees, unless said otherwise
    kernels: tuple[int, int, int, int, int]  # of conv1 ... conv5
    conv1: dict[str, int]  # size, stride and padding of conv1's kernels
    hidden: int  # outputs of fc6 and of fc7
    weights: dict[str, init.Initialiser]  # "conv1" ... "fc8" -> how weights start
    ones: tuple[str, ...]  # layers whose biases start at 1; the others start at 0
    bias_lr: float = 1.0  # rate of biases, as a multiple of the weights'
    bias_decay: bool = True  # whether weight decay acts on biases


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
IN_2012 = dict(
    image_size=224,
    kernels=(48, 128, 192, 192, 128),
    conv1=dict(kernel_size=11, stride=4),
    hidden=2048,
    ones=("conv2", "conv4", "conv5", "fc6", "fc7"),
)
PRESETS = {
    "paper": Preset(**IN_2012, weights={layer: init.normal(0.01) for layer in LAYERS}),
    "cfg145": Preset(
        **IN_2012,
        weights={
            layer: init.normal(0.03 if layer in ("conv3", "conv4", "conv5") else 0.01) for layer in LAYERS
        },
        bias_lr=2.0,
        bias_decay=False,
    ),
    "mini": Preset(
        image_size=28,
        kernels=(24, 32, 48, 48, 32),
        conv1=dict(kernel_size=5, padding=2),
        hidden=256,
        weights={layer: init.he() for layer in LAYERS},
        ones=(),
        bias_decay=False,
    ),
}


def after_conv(layer: str, preset: str) -> nn.Module:
    """What follows a convolution, before the next one."""
    relu, pool = nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, ceil_mode=True)
    # The paper's alpha = 1e-4 is on the plain sum of 5 squares; the program divides it by 5, as our layer does.
    norm = nn.LocalResponseNorm(5, alpha=1e-4 if preset == "cfg145" else 5e-4, beta=0.75, k=2.0)
    if preset == "cfg145":
        same_map = nn.SpatialResponseNorm(5, alpha=0.001, beta=0.75, k=1.0)
        order = {"conv1": [norm, pool, relu], "conv2": [relu, norm, same_map, pool], "conv5": [pool, relu]}
    else:
        order = {"conv1": [relu, norm, pool], "conv2": [relu, norm, pool], "conv5": [relu, pool]}
    return nn.Sequential(*order.get(layer, [relu]))


class Tower(nn.Module):
    """Half of the network, on one device: half the kernels of each layer, half the neurons of fc6 and fc7."""

    def __init__(self, preset: str, in_channels: int, image_size: int, device: Device):
        p = PRESETS[preset]
        k1, k2, k3, k4, k5 = p.kernels
        self.device = device

        def options(layer: str) -> dict:
            bias = init.constant(1 if layer in p.ones else 0)
            return dict(weight_init=p.weights[layer], bias_init=bias, device=device)

        self.conv1 = nn.Conv2d(in_channels, k1, **p.conv1, **options("conv1"))
        self.conv2 = nn.Conv2d(k1, k2, 5, padding=2, **options("conv2"))
        self.conv3 = nn.Conv2d(2 * k2, k3, 3, padding=1, **options("conv3"))  # sees both towers
        self.conv4 = nn.Conv2d(k3, k4, 3, padding=1, **options("conv4"))
        self.conv5 = nn.Conv2d(k4, k5, 3, padding=1, **options("conv5"))
        self.after = [after_conv(layer, preset) for layer in LAYERS[:5]]
        side = image_size if "padding" in p.conv1 else (image_size + 3 - 11) // 4 + 1  # after conv1: 55 of 224
        for _ in range(3):
            side = (side - 2) // 2 + 1  # after a pool, rounded up: 27, 13, 6
        self.fc6 = nn.Linear(2 * k5 * side * side, p.hidden, **options("fc6"))  # sees both towers
        self.fc7 = nn.Linear(2 * p.hidden, p.hidden, **options("fc7"))  # sees both towers
        self.dropout = nn.Dropout(0.5)

    def conv(self, number: int, x: Tensor) -> Tensor:
        """Convolution 1 ... 5 and what follows it."""
        return self.after[number - 1](getattr(self, f"conv{number}")(x))

    def fc(self, number: int, x: Tensor) -> Tensor:
        """Fully connected layer 6 or 7, its ReLU and dropout."""
        return self.dropout(F.relu(getattr(self, f"fc{number}")(x), inplace=True))


class AlexNet(nn.Module):
    """AlexNet in two towers: pictures (N, in_channels, S, S) on devices[0] -> logits (N, num_classes) on devices[0].

    preset: "paper" (the text of 2012), "cfg145" (the program of 2012), or "mini" (the same eight layers for pictures of
    28x28 to 64x64). S is image_size, or else the preset's: 224, mini 28.
    The two devices may be one and the same: the arithmetic, and so every bit, is the same.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        preset: str = "paper",
        devices: tuple[str, str] = ("cpu", "cpu"),
        in_channels: int = 3,
        image_size: int | None = None,
    ):
        if preset not in PRESETS:
            raise ValueError(f"AlexNet: expected a preset of {sorted(PRESETS)}, got {preset!r}")
        self.preset, self.in_channels = preset, in_channels
        self.image_size = image_size or PRESETS[preset].image_size
        device_a, device_b = (tinynet.device(name) for name in devices)
        self.a = Tower(preset, in_channels, self.image_size, device_a)
        self.b = Tower(preset, in_channels, self.image_size, device_b)
        p = PRESETS[preset]
        self.fc8 = nn.Linear(2 * p.hidden, num_classes, weight_init=p.weights["fc8"], device=device_a)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc8(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The 4096 (mini: 512) values that fc8 sees, on devices[0]."""
        a, b = self.a, self.b
        self._check(x)
        if self.preset != "mini":
            x = F.pad(x, (0, 3, 0, 3))  # 224 -> 227 at bottom and right: conv1's last windows hang over the edge
        xa, xb = x.to(a.device), x.to(b.device)  # the pictures go to both devices
        xa, xb = a.conv(1, xa), b.conv(1, xb)
        xa, xb = a.conv(2, xa), b.conv(2, xb)  # own tower only
        xa, xb = self.cross(xa, xb)
        xa, xb = a.conv(3, xa), b.conv(3, xb)  # both towers' maps
        xa, xb = a.conv(4, xa), b.conv(4, xb)  # own tower only
        xa, xb = a.conv(5, xa), b.conv(5, xb)  # own tower only
        xa, xb = self.cross(xa.flatten(1), xb.flatten(1))
        xa, xb = a.fc(6, xa), b.fc(6, xb)  # both
        xa, xb = self.cross(xa, xb)
        xa, xb = a.fc(7, xa), b.fc(7, xb)  # both
        return tinynet.concat([xa, xb.to(a.device)], axis=1)

    def cross(self, xa: Tensor, xb: Tensor) -> tuple[Tensor, Tensor]:
        """Each tower gets a copy of what the other made: tower a's channels first, on both devices."""
        a, b = self.a.device, self.b.device
        return tinynet.concat([xa, xb.to(a)], axis=1), tinynet.concat([xa.to(b), xb], axis=1)

    def layers(self) -> dict[str, list[nn.Module]]:
        """ "conv1" ... "fc8" -> the layer's modules, one a tower (fc8 has one)."""
        return {name: [getattr(t, name) for t in (self.a, self.b)] for name in LAYERS[:-1]} | {"fc8": [self.fc8]}

    def param_groups(self) -> list[dict]:
        """For the optimiser: weights and biases of each layer, with the preset's rates and decay."""
        p, groups = PRESETS[self.preset], []
        for name, modules in self.layers().items():
            groups.append(dict(name=f"{name}.weight", params=[m.weight for m in modules]))
            bias = dict(name=f"{name}.bias", params=[m.bias for m in modules], lr_scale=p.bias_lr)
            groups.append(bias if p.bias_decay else bias | dict(weight_decay=0.0))
        return groups

    def _check(self, x: Tensor) -> None:
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.ndim != 4 or x.shape[1:] != expected:
            raise ValueError(f"AlexNet: expected pictures (N, {', '.join(map(str, expected))}), got {x.shape}")
