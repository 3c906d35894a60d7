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
from dataclasses import dataclass, field, replace
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
    kernels: list[int]  # of conv1 ... conv5
    conv1: dict[str, Any]  # size, stride and padding of conv1's kernels
    conv2: dict[str, Any]
    hidden: int  # outputs of fc6 and of fc7
    after: dict[str, str]  # what follows a layer; its ReLU too, where that comes late
    weights: dict[str, init.Initialiser]  # "conv1" ... "fc8" -> how weights start
    ones: tuple[str, ...] = ()  # layers whose biases start at 1; the others start at 0
    rates: dict[str, float] = field(default_factory=dict)  # of layers, x the common rate; 1
    bias_lr: float | None = None  # of biases, and no schedule changes it; None: as their weights
    decay: float = 5e-4  # of weights
    bias_decay: bool = True  # whether weight decay acts on biases too
    dropout: float = 0.5
    inverted: bool = False  # the form of dropout; that of 2012 is scaled in use
    alpha: float = 5e-4  # 1e-4 on the plain sum of 5 squares (paper); our layer divides by 5
    border: int = 3  # zeros at the bottom and the right: conv1's last windows hang over the edge


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
PAPER = Preset(
    image_size=224, kernels=[48, 128, 192, 192, 128], hidden=2048,
    conv1=dict(kernel_size=11, stride=4), conv2=dict(kernel_size=5, padding=2),
    after=dict(conv1="norm pool", conv2="norm pool", conv5="pool", fc6="dropout", fc7="dropout"),
    weights=dict.fromkeys(LAYERS, init.normal(0.01)),
    ones=("conv2", "conv4", "conv5", "fc6", "fc7"),
)  # fmt: skip
MINI = Preset(
    image_size=28, kernels=[16, 32, 48, 48, 32], hidden=256, after=PAPER.after, border=0,
    conv1=dict(kernel_size=5, padding=2), conv2=dict(kernel_size=3, padding=1),
    # what conv1 learns in a few epochs is to be larger than the noise that it starts from
    weights=dict.fromkeys(LAYERS, init.he()) | dict(conv1=init.normal(0.01)),
    rates=dict(conv1=10.0), bias_decay=False, dropout=0.2, inverted=True,
)  # fmt: skip
PHOTOS = replace(
    MINI, image_size=56, decay=2e-3,
    conv1=dict(kernel_size=9, stride=2, padding=4), conv2=dict(kernel_size=5, padding=2),
)  # fmt: skip
CFG145 = replace(
    PAPER, alpha=1e-4, bias_lr=0.02, bias_decay=False,
    after=PAPER.after | dict(conv1="norm pool relu", conv2="norm same_map pool", conv5="pool relu"),
    weights=PAPER.weights | dict.fromkeys(("conv3", "conv4", "conv5"), init.normal(0.03)),
)  # fmt: skip
PRESETS = {"mini": MINI, "photos": PHOTOS, "paper": PAPER, "cfg145": CFG145}


def after(layer: str, p: Preset) -> nn.Module:
    """What follows a layer and its ReLU, before the next one."""
    kinds = dict(
        norm=nn.LocalResponseNorm(5, alpha=p.alpha, beta=0.75, k=2.0),
        same_map=nn.SpatialResponseNorm(5, alpha=0.001, beta=0.75, k=1.0),
        pool=nn.MaxPool2d(3, stride=2, ceil_mode=True),
        relu=nn.ReLU(inplace=True),
        dropout=nn.Dropout(p.dropout, p.inverted),
    )
    return nn.Sequential(*(kinds[kind] for kind in p.after.get(layer, "").split()))


class Tower(nn.Module):
    """Half of the network, on one device: half the kernels, half the neurons of fc6 and fc7."""

    def __init__(self, p: Preset, in_channels: int, image_size: int, device: Device):
        k1, k2, k3, k4, k5 = p.kernels
        self.device = device

        def start(layer: str) -> dict[str, Any]:
            bias = init.constant(1 if layer in p.ones else 0)
            relu = "relu" not in p.after.get(layer, "")  # at once, unless it comes late
            return dict(weight_init=p.weights[layer], bias_init=bias, device=device, relu=relu)

        self.conv1 = nn.Conv2d(in_channels, k1, **p.conv1, **start("conv1"))
        self.conv2 = nn.Conv2d(k1, k2, **p.conv2, **start("conv2"))
        self.conv3 = nn.Conv2d(2 * k2, k3, 3, padding=1, **start("conv3"))  # sees both towers
        self.conv4 = nn.Conv2d(k3, k4, 3, padding=1, **start("conv4"))
        self.conv5 = nn.Conv2d(k4, k5, 3, padding=1, **start("conv5"))
        self.after = {layer: after(layer, p) for layer in LAYERS}
        seen = image_size + p.border + 2 * p.conv1.get("padding", 0)
        side = (seen - p.conv1["kernel_size"]) // p.conv1.get("stride", 1) + 1  # 55 of 224
        for _ in range(3):
            side = (side - 2) // 2 + 1  # after a pool, rounded up: 27, 13, 6
        if side < 1:
            raise ValueError(f"AlexNet: {image_size} x {image_size} is too small for its layers")
        self.fc6 = nn.Linear(2 * k5 * side * side, p.hidden, **start("fc6"))  # sees both towers
        self.fc7 = nn.Linear(2 * p.hidden, p.hidden, **start("fc7"))  # sees both towers

    def forward(self, layer: str, x: Tensor) -> Tensor:
        """A layer, its ReLU, and what follows it."""
        y: Tensor = self.after[layer](getattr(self, layer)(x))
        return y


class AlexNet(nn.Module):
    """AlexNet in two towers: pictures (N, in_channels, S, S) on devices[0] -> logits (N, classes).

    preset: "paper" (the text of 2012), "cfg145" (the program of 2012), "mini" (the same eight
    layers for pictures of 28x28 to 64x64), "photos" (the same for 56x56, with larger kernels); or
    a Preset of your own. S is image_size, or else the preset's: 224, mini 28, photos 56.
    The two devices may be one and the same: the arithmetic, and so every bit, is the same.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        preset: str | Preset = "paper",
        devices: tuple[str | Device, ...] = ("cpu", "cpu"),
        in_channels: int = 3,
        image_size: int | None = None,
    ):
        if not isinstance(preset, Preset) and preset not in PRESETS:
            raise ValueError(f"AlexNet: expected a preset of {sorted(PRESETS)}, got {preset!r}")
        self.preset = p = preset if isinstance(preset, Preset) else PRESETS[preset]
        self.in_channels, self.border = in_channels, p.border
        self.image_size = image_size or p.image_size
        places = [tinynet.device(name) for name in devices]
        self.a, self.b = (Tower(p, in_channels, self.image_size, place) for place in places)
        start = p.weights["fc8"]
        self.fc8 = nn.Linear(2 * p.hidden, num_classes, weight_init=start, device=places[0])

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
        xa, xb = a("conv1", xa), b("conv1", xb)
        xa, xb = a("conv2", xa), b("conv2", xb)  # own tower only
        xa, xb = self.cross(xa, xb)
        xa, xb = a("conv3", xa), b("conv3", xb)  # both towers' maps
        xa, xb = a("conv4", xa), b("conv4", xb)  # own tower only
        xa, xb = a("conv5", xa), b("conv5", xb)  # own tower only
        xa, xb = self.cross(xa.flatten(1), xb.flatten(1))
        xa, xb = a("fc6", xa), b("fc6", xb)  # both
        xa, xb = self.cross(xa, xb)
        xa, xb = a("fc7", xa), b("fc7", xb)  # both
        return tinynet.concat([xa, xb.to(a.device)], axis=1)

    def cross(self, xa: Tensor, xb: Tensor) -> tuple[Tensor, Tensor]:
        """Each tower gets a copy of what the other made: tower a's channels first, on both."""
        xb_on_a, xa_on_b = xb.to(self.a.device), xa.to(self.b.device)  # these two run side by side
        return tinynet.concat([xa, xb_on_a], axis=1), tinynet.concat([xa_on_b, xb], axis=1)

    def param_groups(self) -> list[dict[str, Any]]:
        """Weights and biases of each layer, with the preset's rates and decay, for an optimiser."""
        p = self.preset
        of_biases = dict(fixed_lr=p.bias_lr) | ({} if p.bias_decay else dict(weight_decay=0.0))
        groups: list[dict[str, Any]] = []
        for name in LAYERS:
            layers = [getattr(part, name) for part in (self.a, self.b, self) if hasattr(part, name)]
            for kind, more in (("weight", {}), ("bias", of_biases)):
                params, rate = [getattr(layer, kind) for layer in layers], p.rates.get(name, 1.0)
                groups.append(dict(name=f"{name}.{kind}", params=params, lr_scale=rate, **more))
        return groups

    def _bordered(self, x: Tensor) -> Tensor:
        c, side, bordered = self.in_channels, self.image_size, self.image_size + self.border
        if x.ndim != 4 or x.shape[1:] not in [(c, n, n) for n in (side, bordered)]:
            raise ValueError(f"AlexNet: expected pictures (N, {c}, {side}, {side}), got {x.shape}")
        return F.pad(x, (0, self.border, 0, self.border)) if x.shape[2] < bordered else x


# --- The program ----------------------------------------------------------------------------------


def sgd(net: AlexNet, lr: float) -> Optimizer:
    """The rule of 2012 (section 5)."""
    return SGD(net.param_groups(), lr, momentum=0.9, weight_decay=net.preset.decay)


def plateau(optimizer: Optimizer, epochs: int) -> DivideOnPlateau:
    """A tenth of the rate when the test error has stopped falling, three times (section 5)."""
    return DivideOnPlateau(optimizer, patience=3, min_lr=optimizer.lr / 1000)


IMAGENET = Pictures(picture_size=256, crop=224, colour=0.1, border=PAPER.border)
ADVICE = (
    "Small first weights often do this. Try --preset cfg145 (larger weights in conv3 to conv5), "
    "another --lr (a third, or three times as much), or another --seed."
)
LONG: dict[str, Any] = dict(batch_size=128, lr=0.01, optimizer=sgd, schedule=plateau, advice=ADVICE)
SHORT: dict[str, Any] = dict(epochs=6, batch_size=64, lr=0.02, milestones=(4, 5), optimizer=sgd)
RECIPES = {
    "mini": Recipe("mini AlexNet", Pictures(largest=64, scale=1 / 64), **SHORT),
    "photos": Recipe("photos AlexNet", Pictures(picture_size=64, crop=56, scale=1 / 64), **SHORT),
    "paper": Recipe("paper AlexNet", IMAGENET, epochs=90, **LONG),
    "cfg145": Recipe(
        "cfg145 AlexNet", replace(IMAGENET, noise_scale=1 / 1.1, centre_mean=True, crop_chunk=32),
        epochs=91, milestones=(25, 51, 79), **LONG,
        story=((67, "conv1.lr", "1e-5"), (67, "colour", "0"), (72, "freeze", "conv1")),
    ),
}  # fmt: skip


def state(preset: str) -> dict[str, Any]:
    """What a checkpoint states of its net, so that it is the same net when presets change. One that
    states nothing is from before: its geometry is today's, its dropout inverted.
    """
    net = "kernels", "conv1", "conv2", "hidden", "after", "dropout", "inverted", "alpha", "border"
    return {name: getattr(PRESETS[preset], name) for name in net}


def build(about: dict[str, Any], devices: tuple[Device, ...]) -> AlexNet:
    """The net that a checkpoint says it is."""
    preset = replace(PRESETS[about["preset"]], **about.get("net", dict(inverted=True)))
    classes, side = len(about["classes"]), about["image_size"]
    return AlexNet(classes, preset, devices, about["in_channels"], side)


PROGRAM = Program(
    "Trains AlexNet, tests it, uses it. Without arguments: a small one on embedded pictures.",
    RECIPES,
    build,
    state=state,
    devices=2,
    kernels=["a.conv1.weight", "b.conv1.weight"],
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
