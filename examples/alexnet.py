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

from variants import VARIANTS, varied

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.nn import init
from tinynet.optim import SGD, Optimizer
from tinynet.optim.lr_scheduler import DivideOnPlateau
from tinynet.program import Pictures, Program, Recipe

# --- The network ----------------------------------------------------------------------------------
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


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
    others: dict[str, Any] = field(default_factory=lambda: dict(kernel_size=3, padding=1))
    layers: tuple[str, ...] = LAYERS[:-1]  # in their order; fc8 comes last and sees both towers
    crossings: tuple[str, ...] = ("conv3", "fc6", "fc7")  # see both towers, the others their own
    towers: int = 2
    ones: tuple[str, ...] = ()  # layers whose biases start at 1; the others start at 0
    rates: dict[str, float] = field(default_factory=dict)  # of layers, x the common rate; 1
    bias_lr: float | None = None  # of biases, and no schedule changes it; None: as their weights
    decay: float = 5e-4  # of weights
    bias_decay: bool = True  # whether weight decay acts on biases too
    dropout: float = 0.5
    inverted: bool = False  # the form of dropout; that of 2012 is scaled in use
    alpha: float = 5e-4  # 1e-4 on the plain sum of 5 squares (paper); our layer divides by 5
    border: int = 3  # zeros at the bottom and the right: conv1's last windows hang over the edge


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


def after(kinds: str, p: Preset) -> nn.Module:
    """What follows a layer, before the next one: "norm pool"."""
    known = dict(
        norm=nn.LocalResponseNorm(5, alpha=p.alpha, beta=0.75, k=2.0),
        same_map=nn.SpatialResponseNorm(5, alpha=0.001, beta=0.75, k=1.0),
        pool=nn.MaxPool2d(3, stride=2, ceil_mode=True), pool_apart=nn.MaxPool2d(2),
        pool_mean=nn.AvgPool2d(3, stride=2, ceil_mode=True), relu=nn.ReLU(inplace=True),
        tanh=nn.Tanh(), flatten=nn.Flatten(), dropout=nn.Dropout(p.dropout, p.inverted),
    )  # fmt: skip
    return nn.Sequential(*(known[kind] for kind in kinds.split()))


class Tower(nn.Module):
    """Half of the network, on one device: half the kernels, half the neurons of fc6 and fc7."""

    def __init__(self, p: Preset, in_channels: int, image_size: int, device: Device):
        self.device, follows = device, {}
        maps, side = in_channels, image_size + p.border
        last = max(name for name in p.layers if name.startswith("conv"))
        for name in p.layers:
            kinds = p.after.get(name, "") + " flatten" * (name == last)
            relu = "relu" not in kinds and "tanh" not in kinds  # at once, unless it comes late
            bias = init.constant(1 if name in p.ones else 0)
            start: Any = dict(weight_init=p.weights[name], bias_init=bias, device=device, relu=relu)
            seen = maps * (p.towers if name in p.crossings else 1)
            if name.startswith("conv"):
                how, maps = getattr(p, name, p.others), p.kernels[int(name[4:]) - 1]
                setattr(self, name, nn.Conv2d(seen, maps, **how, **start))
                over = side + 2 * how.get("padding", 0) - how["kernel_size"]
                side = (over // how.get("stride", 1) + 1) // 2 ** kinds.count("pool")  # 27, 13, 6
                if side < 1:
                    raise ValueError(f"AlexNet: {image_size} x {image_size} is too small for it")
            else:
                setattr(self, name, nn.Linear(seen * side * side, p.hidden, **start))
                maps, side = p.hidden, 1
            follows[name] = after(kinds, p)
        self.after, self.outputs = follows, maps * side * side

    def forward(self, layer: str, x: Tensor, made: Tensor | None = None) -> Tensor:
        """A layer, its ReLU, and what follows it. made: what the layer makes of x, if known."""
        y: Tensor = self.after[layer](getattr(self, layer)(x) if made is None else made)
        return y


class AlexNet(nn.Module):
    """AlexNet in two towers: pictures (N, in_channels, S, S) on devices[0] -> logits (N, classes).

    preset: "paper" (the text of 2012), "cfg145" (the program of 2012), "mini" (the same eight
    layers for pictures of 28x28 to 64x64), "photos" (the same for 56x56, with larger kernels); or
    a Preset of your own. S is image_size, or else the preset's: 224, mini 28, photos 56.
    The two devices may be one and the same: the arithmetic, and so every bit, is the same.
    """

    def __init__(
        self, num_classes: int = 1000, preset: str | Preset = "paper",
        devices: tuple[str | Device, ...] = ("cpu", "cpu"),
        in_channels: int = 3, image_size: int | None = None,
    ):  # fmt: skip
        if not isinstance(preset, Preset) and preset not in PRESETS:
            raise ValueError(f"AlexNet: expected a preset of {sorted(PRESETS)}, got {preset!r}")
        self.preset = p = preset if isinstance(preset, Preset) else PRESETS[preset]
        self.border, self.in_channels, side = p.border, in_channels, image_size or p.image_size
        self.image_size = side
        for name, device in zip("ab"[: p.towers], devices, strict=False):
            setattr(self, name, Tower(p, in_channels, side, tinynet.device(device)))
        start, seen = p.weights["fc8"], sum(tower.outputs for tower in self.towers)
        self.fc8 = nn.Linear(seen, num_classes, weight_init=start, device=self.towers[0].device)

    @property
    def towers(self) -> list[Tower]:
        return [getattr(self, name) for name in "ab"[: self.preset.towers]]

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = self.fc8(self.features(x))
        return logits

    def features(self, x: Tensor | tuple[Tensor, Tensor], layer: str = "") -> Tensor:
        """What comes out after `layer`, tower a's maps first, on devices[0]; if none is named, the
        4096 (mini: 512) values that fc8 sees.

        x may be a pair, the same pictures on each device. It may have the border of zeros already
        (Pictures adds it while it makes floats of bytes); else it is added here.
        """
        seen = [self._bordered(x) for x in (x if isinstance(x, tuple) else (x,))] * len(self.towers)
        xs = [x.to(tower.device) for tower, x in zip(self.towers, seen, strict=False)]
        for name in self.preset.layers:
            if name in self.preset.crossings:
                xs = self.cross(xs)
            layers = [getattr(tower, name) for tower in self.towers]
            one = name.startswith("conv") and len(xs) > 1 and xs[0] is xs[1]  # they share columns
            made = nn.Conv2d.each(layers, xs[0]) if one else [None] * len(xs)
            xs = [tower(name, x, y) for tower, x, y in zip(self.towers, xs, made, strict=True)]
            if name == layer:
                break
        return tinynet.concat([x.to(self.towers[0].device) for x in xs], axis=1)

    def cross(self, xs: list[Tensor]) -> list[Tensor]:
        """Each tower sees what both made, a's channels first; on one device the same tensor."""
        copies = {t.device: [x.to(t.device) for x in xs] for t in self.towers}  # run side by side
        seen = {device: tinynet.concat(maps, axis=1) for device, maps in copies.items()}
        return [seen[tower.device] for tower in self.towers]

    def param_groups(self) -> list[dict[str, Any]]:
        """Weights and biases of each layer, with the preset's rates and decay, for an optimiser."""
        p = self.preset
        of_biases = dict(fixed_lr=p.bias_lr) | ({} if p.bias_decay else dict(weight_decay=0.0))
        groups: list[dict[str, Any]] = []
        for name in (*p.layers, "fc8"):
            layers = [part[name] for part in map(vars, (*self.towers, self)) if name in part]
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
LONG: dict[str, Any] = dict(
    batch_size=128, lr=0.01, optimizer=sgd, schedule=plateau, advice="Small first weights often do "
    "this. Try --preset cfg145 (larger ones in conv3 to conv5), another --lr, or another --seed.",
)  # fmt: skip
SHORT: dict[str, Any] = dict(epochs=8, batch_size=64, lr=0.02, milestones=(5, 7), optimizer=sgd)
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


def state(preset: str, variant: str | None) -> dict[str, Any]:
    """What a checkpoint states of its net, so that it is the same net when presets change. One that
    states nothing is from before: its geometry is today's, its dropout inverted.
    """
    p = varied(PRESETS[preset], variant)
    return {name: value for name, value in vars(p).items() if name not in ("image_size", "weights")}


def build(about: dict[str, Any], devices: tuple[Device, ...]) -> AlexNet:
    """The net that a checkpoint says it is."""
    preset = varied(PRESETS[about["preset"]], about.get("variant"))
    preset = replace(preset, **about.get("net", dict(inverted=True)))
    classes, side = len(about["classes"]), about["image_size"]
    return AlexNet(classes, preset, devices, about["in_channels"], side)


PROGRAM = Program(
    "Trains AlexNet, tests it, uses it. Without arguments: a small one on embedded pictures.",
    RECIPES, build, state=state, devices=2, kernels=["a.conv1.weight", "b.conv1.weight"],
    variants=VARIANTS, head="fc8",
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
