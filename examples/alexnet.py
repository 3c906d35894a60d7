"""AlexNet, the network of 2012, in two towers on two devices; and the program that trains it.

    python examples/alexnet.py            a small AlexNet on embedded pictures, in minutes
    python examples/alexnet.py --preset paper --data IMAGENET --device cuda:0,cuda:1
    python examples/alexnet.py --help

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", 2012, and the program they used, released as computerhistory/AlexNet-Source-Code;
"cfg145" is the network of the paper there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.nn import init
from tinynet.optim import SGD, Optimizer
from tinynet.optim.lr_scheduler import DivideOnPlateau
from tinynet.program import Pictures, Program, Recipe

# --- The network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """What differs between the networks. Sizes are per tower."""

    image_size: int  # side of the pictures it sees, unless said otherwise
    kernels: tuple[int, int, int, int, int]  # of conv1 ... conv5
    conv1: dict[str, Any]  # size, stride and padding of conv1's kernels
    conv2: dict[str, Any]
    hidden: int  # outputs of fc6 and of fc7
    weights: dict[str, init.Initialiser]  # "conv1" ... "fc8" -> how weights start
    ones: tuple[str, ...]  # layers whose biases start at 1; the others start at 0
    bias_lr: float = 1.0  # rate of biases, as a multiple of the weights'
    bias_decay: bool = True  # whether weight decay acts on biases
    dropout: float = 0.5  # after fc6 and fc7
    late_relu: tuple[str, ...] = ()  # convolutions whose ReLU comes after their pooling
    border: int = 3  # zeros at the bottom and the right: conv1's last windows hang over the edge


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
IN_2012: dict[str, Any] = dict(
    image_size=224, kernels=(48, 128, 192, 192, 128), hidden=2048,
    conv1=dict(kernel_size=11, stride=4), conv2=dict(kernel_size=5, padding=2),
    ones=("conv2", "conv4", "conv5", "fc6", "fc7"),
)  # fmt: skip
WIDER = ("conv3", "conv4", "conv5")  # their weights start larger in the program than in the paper
PRESETS = {
    "mini": Preset(
        image_size=28, kernels=(16, 32, 48, 48, 32), hidden=256,
        conv1=dict(kernel_size=5, padding=2), conv2=dict(kernel_size=3, padding=1),
        weights={layer: init.he() for layer in LAYERS}, ones=(), bias_decay=False, border=0,
        dropout=0.2,  # a few epochs on a few thousand pictures are too short a training for more
    ),
    "paper": Preset(**IN_2012, weights={layer: init.normal(0.01) for layer in LAYERS}),
    "cfg145": Preset(
        **IN_2012,
        weights={layer: init.normal(0.03 if layer in WIDER else 0.01) for layer in LAYERS},
        bias_lr=2.0, bias_decay=False, late_relu=("conv1", "conv5"),
    ),
}  # fmt: skip


def after_conv(layer: str, preset: str) -> nn.Module:
    """What follows a convolution and its ReLU, before the next one."""
    pool, late_relu = nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.ReLU(inplace=True)
    # The paper's alpha = 1e-4 is on the plain sum of 5 squares; our layer divides by 5, as in 2012.
    norm = nn.LocalResponseNorm(5, alpha=1e-4 if preset == "cfg145" else 5e-4, beta=0.75, k=2.0)
    order: dict[str, list[nn.Module]] = {
        "conv1": [norm, pool],
        "conv2": [norm, pool],
        "conv5": [pool],
    }
    if preset == "cfg145":
        same_map = nn.SpatialResponseNorm(5, alpha=0.001, beta=0.75, k=1.0)
        order["conv1"] = [norm, pool, late_relu]
        order["conv2"] = [norm, same_map, pool]
        order["conv5"] = [pool, late_relu]
    return nn.Sequential(*order.get(layer, []))


class Tower(nn.Module):
    """Half of the network, on one device: half the kernels, half the neurons of fc6 and fc7."""

    def __init__(self, preset: str, in_channels: int, image_size: int, device: Device):
        p = PRESETS[preset]
        k1, k2, k3, k4, k5 = p.kernels
        self.device = device

        def start(layer: str) -> dict[str, Any]:
            bias = init.constant(1 if layer in p.ones else 0)
            relu = layer not in p.late_relu
            return dict(weight_init=p.weights[layer], bias_init=bias, device=device, relu=relu)

        self.conv1 = nn.Conv2d(in_channels, k1, **p.conv1, **start("conv1"))
        self.conv2 = nn.Conv2d(k1, k2, **p.conv2, **start("conv2"))
        self.conv3 = nn.Conv2d(2 * k2, k3, 3, padding=1, **start("conv3"))  # sees both towers
        self.conv4 = nn.Conv2d(k3, k4, 3, padding=1, **start("conv4"))
        self.conv5 = nn.Conv2d(k4, k5, 3, padding=1, **start("conv5"))
        self.after = [after_conv(layer, preset) for layer in LAYERS[:5]]
        side = image_size if not p.border else (image_size + p.border - 11) // 4 + 1  # 55 of 224
        for _ in range(3):
            side = (side - 2) // 2 + 1  # after a pool, rounded up: 27, 13, 6
        if side < 1:
            raise ValueError(f"AlexNet: {image_size} x {image_size} is too small for its layers")
        self.fc6 = nn.Linear(2 * k5 * side * side, p.hidden, **start("fc6"))  # sees both towers
        self.fc7 = nn.Linear(2 * p.hidden, p.hidden, **start("fc7"))  # sees both towers
        self.dropout = nn.Dropout(p.dropout)

    def conv(self, number: int, x: Tensor) -> Tensor:
        """Convolution 1 ... 5, its ReLU, and what follows it."""
        y: Tensor = self.after[number - 1](getattr(self, f"conv{number}")(x))
        return y

    def fc(self, number: int, x: Tensor) -> Tensor:
        """Fully connected layer 6 or 7, its ReLU, and dropout."""
        y: Tensor = self.dropout(getattr(self, f"fc{number}")(x))
        return y


class AlexNet(nn.Module):
    """AlexNet in two towers: pictures (N, in_channels, S, S) on devices[0] -> logits (N, classes).

    preset: "paper" (the text of 2012), "cfg145" (the program of 2012), or "mini" (the same eight
    layers for pictures of 28x28 to 64x64). S is image_size, or else the preset's: 224, mini 28.
    The two devices may be one and the same: the arithmetic, and so every bit, is the same.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        preset: str = "paper",
        devices: tuple[str | Device, ...] = ("cpu", "cpu"),
        in_channels: int = 3,
        image_size: int | None = None,
    ):
        if preset not in PRESETS:
            raise ValueError(f"AlexNet: expected a preset of {sorted(PRESETS)}, got {preset!r}")
        p = PRESETS[preset]
        self.preset, self.in_channels, self.border = preset, in_channels, p.border
        self.image_size = image_size or p.image_size
        device_a, device_b = (tinynet.device(name) for name in devices)
        self.a = Tower(preset, in_channels, self.image_size, device_a)
        self.b = Tower(preset, in_channels, self.image_size, device_b)
        weights = p.weights["fc8"]
        self.fc8 = nn.Linear(2 * p.hidden, num_classes, weight_init=weights, device=device_a)

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = self.fc8(self.features(x))
        return logits

    def features(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """The 4096 (mini: 512) values that fc8 sees, on devices[0].

        x may be a pair, the same pictures on each device. It may have the border of zeros already
        (Pictures adds it while it makes floats of bytes); else it is added here.
        """
        a, b = self.a, self.b
        xs = [self._bordered(x) for x in (x if isinstance(x, tuple) else (x,))]
        xa, xb = xs[0].to(a.device), xs[-1].to(b.device)  # both towers see the pictures
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
        """Each tower gets a copy of what the other made: tower a's channels first, on both."""
        xb_on_a, xa_on_b = xb.to(self.a.device), xa.to(self.b.device)  # these two run side by side
        return tinynet.concat([xa, xb_on_a], axis=1), tinynet.concat([xa_on_b, xb], axis=1)

    def param_groups(self) -> list[dict[str, Any]]:
        """Weights and biases of each layer, with the preset's rates and decay, for an optimiser."""
        p = PRESETS[self.preset]
        groups: list[dict[str, Any]] = []
        for name in LAYERS:
            layers = [getattr(part, name) for part in (self.a, self.b, self) if hasattr(part, name)]
            groups.append(dict(name=f"{name}.weight", params=[layer.weight for layer in layers]))
            biases: dict[str, Any] = dict(
                name=f"{name}.bias", params=[layer.bias for layer in layers]
            )
            decay = {} if p.bias_decay else dict(weight_decay=0.0)
            groups.append(biases | dict(lr_scale=p.bias_lr) | decay)
        return groups

    def _bordered(self, x: Tensor) -> Tensor:
        side = self.image_size
        if x.ndim == 4 and x.shape[1:] == (self.in_channels, side, side):
            return F.pad(x, (0, self.border, 0, self.border)) if self.border else x
        side += self.border
        if x.ndim == 4 and x.shape[1:] == (self.in_channels, side, side):
            return x
        expected = f"(N, {self.in_channels}, {self.image_size}, {self.image_size})"
        raise ValueError(f"AlexNet: expected pictures {expected}, got {x.shape}")


# --- The program ----------------------------------------------------------------------------------


def sgd(net: AlexNet, lr: float) -> Optimizer:
    """The rule of 2012 (section 5)."""
    return SGD(net.param_groups(), lr, momentum=0.9, weight_decay=5e-4)


def plateau(optimizer: Optimizer, epochs: int) -> DivideOnPlateau:
    """A tenth of the rate when the test error has stopped falling, three times (section 5)."""
    return DivideOnPlateau(optimizer, patience=3, min_lr=optimizer.lr / 1000)


PHOTOS: dict[str, Any] = dict(
    picture_size=256, crop=224, colour=0.1, border=PRESETS["paper"].border)  # fmt: skip
ADVICE = (
    "Small first weights often do this. Try --preset cfg145 (larger weights in conv3 to conv5), "
    "another --lr (a third, or three times as much), or another --seed."
)
LONG: dict[str, Any] = dict(batch_size=128, lr=0.01, optimizer=sgd, schedule=plateau, advice=ADVICE)
RECIPES = {
    "mini": Recipe(
        "mini AlexNet", Pictures(largest=64, scale=1 / 64), epochs=6, batch_size=64, lr=0.02,
        milestones=(4, 5), optimizer=sgd, schedule=plateau,
    ),
    "paper": Recipe("paper AlexNet", Pictures(**PHOTOS), epochs=90, **LONG),
    "cfg145": Recipe(
        "cfg145 AlexNet", Pictures(**PHOTOS, scale=1 / 1.1, centre_mean=True, crop_chunk=32),
        epochs=91, milestones=(25, 51, 79), **LONG,
    ),
}  # fmt: skip


def build(about: dict[str, Any], devices: tuple[Device, ...]) -> AlexNet:
    """The net that a checkpoint says it is."""
    classes, side = len(about["classes"]), about["image_size"]
    return AlexNet(classes, about["preset"], devices, about["in_channels"], side)


PROGRAM = Program(
    "Trains AlexNet, tests it, uses it. Without arguments: a small one on embedded pictures.",
    RECIPES,
    build,
    devices=2,
    kernels=["a.conv1.weight", "b.conv1.weight"],
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
