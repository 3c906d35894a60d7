"""AlexNet, the network of 2012, in two towers on two devices; and the program that trains, tests
and uses it.

    python examples/alexnet.py                                        a small AlexNet on embedded pictures, in minutes
    python examples/alexnet.py --preset paper --data IMAGENET --device cuda:0,cuda:1
    python examples/alexnet.py --help

Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", 2012, and the program they used, released as computerhistory/AlexNet-Source-Code;
"cfg145" is the network of the paper there.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.data import (
    ArrayDataset,
    Dataset,
    Loader,
    colour_axes,
    fashion_mnist,
    mean_picture,
    open_data,
)
from tinynet.device import Device
from tinynet.nn import init
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import DivideOnPlateau, MultiStep
from tinynet.training import checkpoint, runs
from tinynet.training.batch_size import fitting_batch_size
from tinynet.training.evaluate import evaluate, probabilities, save_evaluation
from tinynet.training.inputs import Inputs, batch_of, read_picture
from tinynet.training.metrics import write_config
from tinynet.training.plots import draw_kernels
from tinynet.training.report import write_report
from tinynet.training.trainer import Trainer, check_same

# --- The network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """What differs between the networks. Sizes are per tower."""

    image_size: int  # side of the pictures it sees, unless said otherwise
    kernels: tuple[int, int, int, int, int]  # of conv1 ... conv5
    conv1: dict[str, int]  # size, stride and padding of conv1's kernels
    conv2: dict[str, int]
    hidden: int  # outputs of fc6 and of fc7
    weights: dict[str, init.Initialiser]  # "conv1" ... "fc8" -> how weights start
    ones: tuple[str, ...]  # layers whose biases start at 1; the others start at 0
    bias_lr: float = 1.0  # rate of biases, as a multiple of the weights'
    bias_decay: bool = True  # whether weight decay acts on biases
    dropout: float = 0.5  # after fc6 and fc7
    late_relu: tuple[
        str, ...
    ] = ()  # convolutions whose ReLU comes after their pooling, not at once


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
IN_2012 = dict(
    image_size=224,
    kernels=(48, 128, 192, 192, 128),
    conv1=dict(kernel_size=11, stride=4),
    conv2=dict(kernel_size=5, padding=2),
    hidden=2048,
    ones=("conv2", "conv4", "conv5", "fc6", "fc7"),
)
PRESETS = {
    "paper": Preset(**IN_2012, weights={layer: init.normal(0.01) for layer in LAYERS}),
    "cfg145": Preset(
        **IN_2012,
        weights={
            layer: init.normal(0.03 if layer in ("conv3", "conv4", "conv5") else 0.01)
            for layer in LAYERS
        },
        bias_lr=2.0,
        bias_decay=False,
        late_relu=("conv1", "conv5"),
    ),
    "mini": Preset(
        image_size=28,
        kernels=(16, 32, 48, 48, 32),
        conv1=dict(kernel_size=5, padding=2),
        conv2=dict(kernel_size=3, padding=1),
        hidden=256,
        weights={layer: init.he() for layer in LAYERS},
        ones=(),
        bias_decay=False,
        dropout=0.2,  # a few epochs on a few thousand pictures are too short a training for more
    ),
}


def border_of(preset: str) -> int:
    """Zeros that conv1 sees at the bottom and the right of a picture: 3 make 227 of 224."""
    return 0 if preset == "mini" else 3


def after_conv(layer: str, preset: str) -> nn.Module:
    """What follows a convolution and its ReLU, before the next one."""
    pool, late_relu = nn.MaxPool2d(3, stride=2, ceil_mode=True), nn.ReLU(inplace=True)
    # The paper's alpha = 1e-4 is on the plain sum of 5 squares; the program divides it by 5, as our
    # layer does.
    norm = nn.LocalResponseNorm(5, alpha=1e-4 if preset == "cfg145" else 5e-4, beta=0.75, k=2.0)
    if preset == "cfg145":
        same_map = nn.SpatialResponseNorm(5, alpha=0.001, beta=0.75, k=1.0)
        order = {
            "conv1": [norm, pool, late_relu],
            "conv2": [norm, same_map, pool],
            "conv5": [pool, late_relu],
        }
    else:
        order = {"conv1": [norm, pool], "conv2": [norm, pool], "conv5": [pool]}
    return nn.Sequential(*order.get(layer, []))


class Tower(nn.Module):
    """Half of the network, on one device: half the kernels of each layer, half the neurons of fc6
    and fc7.
    """

    def __init__(self, preset: str, in_channels: int, image_size: int, device: Device):
        p = PRESETS[preset]
        k1, k2, k3, k4, k5 = p.kernels
        self.device = device

        def options(layer: str) -> dict:
            bias = init.constant(1 if layer in p.ones else 0)
            return dict(
                weight_init=p.weights[layer],
                bias_init=bias,
                device=device,
                relu=layer not in p.late_relu,
            )

        self.conv1 = nn.Conv2d(in_channels, k1, **p.conv1, **options("conv1"))
        self.conv2 = nn.Conv2d(k1, k2, **p.conv2, **options("conv2"))
        self.conv3 = nn.Conv2d(2 * k2, k3, 3, padding=1, **options("conv3"))  # sees both towers
        self.conv4 = nn.Conv2d(k3, k4, 3, padding=1, **options("conv4"))
        self.conv5 = nn.Conv2d(k4, k5, 3, padding=1, **options("conv5"))
        self.after = [after_conv(layer, preset) for layer in LAYERS[:5]]
        side = (
            image_size if "padding" in p.conv1 else (image_size + border_of(preset) - 11) // 4 + 1
        )  # after conv1: 55 of 224
        for _ in range(3):
            side = (side - 2) // 2 + 1  # after a pool, rounded up: 27, 13, 6
        self.fc6 = nn.Linear(2 * k5 * side * side, p.hidden, **options("fc6"))  # sees both towers
        self.fc7 = nn.Linear(2 * p.hidden, p.hidden, **options("fc7"))  # sees both towers
        self.dropout = nn.Dropout(p.dropout)

    def conv(self, number: int, x: Tensor) -> Tensor:
        """Convolution 1 ... 5, its ReLU, and what follows it."""
        return self.after[number - 1](getattr(self, f"conv{number}")(x))

    def fc(self, number: int, x: Tensor) -> Tensor:
        """Fully connected layer 6 or 7, its ReLU, and dropout."""
        return self.dropout(getattr(self, f"fc{number}")(x))


class AlexNet(nn.Module):
    """AlexNet in two towers: pictures (N, in_channels, S, S) on devices[0] -> logits (N,
    num_classes) on devices[0].

    preset: "paper" (the text of 2012), "cfg145" (the program of 2012), or "mini" (the same eight
    layers for pictures of 28x28 to 64x64). S is image_size, or else the preset's: 224, mini 28. In
    the nets of 2012 conv1's last windows hang over the edge by `border` = 3 pixels: pictures that
    have these zeros at bottom and right already (227, from Inputs) are taken as they are. The two
    devices may be one and the same: the arithmetic, and so every bit, is the same.
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
        self.border = border_of(preset)
        device_a, device_b = (tinynet.device(name) for name in devices)
        self.a = Tower(preset, in_channels, self.image_size, device_a)
        self.b = Tower(preset, in_channels, self.image_size, device_b)
        p = PRESETS[preset]
        self.fc8 = nn.Linear(
            2 * p.hidden, num_classes, weight_init=p.weights["fc8"], device=device_a
        )

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return self.fc8(self.features(x))

    def features(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """The 4096 (mini: 512) values that fc8 sees, on devices[0]. x may be a pair: the same
        pictures on each device.
        """
        a, b = self.a, self.b
        xs = x if isinstance(x, tuple) else (x,)
        xs = tuple(self._bordered(x) for x in xs)
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
        """Each tower gets a copy of what the other made: tower a's channels first, on both devices."""
        xb_on_a, xa_on_b = (
            xb.to(self.a.device),
            xa.to(self.b.device),
        )  # first both copies, which run at the same time
        return tinynet.concat([xa, xb_on_a], axis=1), tinynet.concat([xa_on_b, xb], axis=1)

    def layers(self) -> dict[str, list[nn.Module]]:
        """ "conv1" ... "fc8" -> the layer's modules, one a tower (fc8 has one)."""
        return {name: [getattr(t, name) for t in (self.a, self.b)] for name in LAYERS[:-1]} | {
            "fc8": [self.fc8]
        }

    def param_groups(self) -> list[dict]:
        """For the optimiser: weights and biases of each layer, with the preset's rates and decay."""
        p, groups = PRESETS[self.preset], []
        for name, modules in self.layers().items():
            groups.append(dict(name=f"{name}.weight", params=[m.weight for m in modules]))
            bias = dict(name=f"{name}.bias", params=[m.bias for m in modules], lr_scale=p.bias_lr)
            groups.append(bias if p.bias_decay else bias | dict(weight_decay=0.0))
        return groups

    def _bordered(self, x: Tensor) -> Tensor:
        """Pictures with their border of zeros: x itself if it came with one."""
        C, S, b = self.in_channels, self.image_size, self.border
        if x.ndim != 4 or x.shape[1:] not in ((C, S, S), (C, S + b, S + b)):
            raise ValueError(f"AlexNet: expected pictures (N, {C}, {S}, {S}), got {x.shape}")
        return F.pad(x, (0, b, 0, b)) if x.shape[2] < S + b else x


# --- The program ----------------------------------------------------------------------------------

# How each preset is trained unless the command line says otherwise. After `milestones` (epochs) the
# rate is divided by ten; without them, as in the paper, when the test error stops improving.
# colour: sigma of the colour noise.
RECIPES = {
    "paper": dict(
        epochs=90, batch_size=128, lr=0.01, milestones=None, picture_size=256, crop=224, colour=0.1
    ),
    "cfg145": dict(
        epochs=91,
        batch_size=128,
        lr=0.01,
        milestones=[25, 51, 79],
        picture_size=256,
        crop=224,
        colour=0.1,
    ),
    "mini": dict(
        epochs=6,
        batch_size=64,
        lr=0.02,
        milestones=[4, 5],
        picture_size=None,
        crop=None,
        colour=0.0,
    ),
}
SCALE = {
    "paper": 1.0,
    "cfg145": 1 / 1.1,
    "mini": 1 / 64,
}  # of the differences from the mean picture
LARGEST_MINI = 64  # pixels; larger photographs are shrunk for the preset mini
RUNS = Path("runs")
CHANGEABLE = {
    "device",
    "data",
    "epochs",
    "colour",
    "workers",
}  # when a run goes on; all else stays as it was


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line. Returns the exit status: 2 after a mistake, 130 or 143 if stopped by a
    signal.
    """
    parser = make_parser()
    args = parser.parse_args(arguments)
    try:
        if args.threads:
            tinynet.set_num_threads(args.threads)
        if args.tf32:
            use_tf32(args.device)
        if args.eval:
            return evaluate_checkpoints(args)
        return predict(args) if args.predict else train(args)
    except (tinynet.TinynetError, OSError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # outside of training, where there is nothing to save
        return 130


def train(args: argparse.Namespace) -> int:
    """From pictures to a trained network, and a page that tells how it went."""
    settings = choose_settings(args)
    devices = runs.device_pair(settings["device"])
    train_set, test_set = open_pictures(settings)
    net = describe(settings, train_set)  # what a checkpoint says of itself
    if settings["batch_size"] == "auto":
        settings["batch_size"] = find_batch_size(net, devices)
    also = (
        devices[1] if devices[1].kind == "cuda" else None
    )  # bytes from the host, not floats from the other GPU
    inputs = Inputs(
        devices[0],
        subtracted_mean(net, mean_picture(train_set)),
        net["image_size"],
        net["scale"],
        also,
        border_of(net["preset"]),
    )

    tinynet.manual_seed(settings["seed"])
    model = AlexNet(
        len(net["classes"]), net["preset"], devices, net["in_channels"], net["image_size"]
    )
    optimizer = SGD(model.param_groups(), settings["lr"], momentum=0.9, weight_decay=5e-4)
    if settings["milestones"]:
        schedule = MultiStep(optimizer, settings["milestones"])
    else:
        schedule = DivideOnPlateau(optimizer, patience=3, min_lr=settings["lr"] / 1000)

    with (
        make_loader(settings, train_set, train=True) as batches,
        make_loader(settings, test_set) as tests,
    ):
        folder = args.out if args.resume else runs.make_folder(args.out, settings["preset"])
        trainer = Trainer(
            model, optimizer, batches, tests, inputs, folder, epochs=settings["epochs"], about=net, schedule=schedule,
            keep=args.keep, limit_batches=args.limit_batches, max_minutes=args.max_time, **args.checkpoint_every,
        )  # fmt: skip
        if args.resume:
            print(trainer.resume())
            trainer.edit(args.set)
        write_config(folder, settings)
        print(
            f"training {net['preset']} on {settings['device']} with {len(train_set):,} pictures; "
            f"see {folder}"
        )
        ended = trainer.fit()
        if ended in ("SIGINT", "SIGTERM"):
            print(
                f"stopped by {ended}; saved {trainer.last_saved}; to go on: --resume --out {folder}"
            )
            return 128 + signal.Signals[ended]
        finish(trainer)
    return 0


def find_batch_size(net: dict, devices: tuple[Device, Device]) -> int:
    """--batch-size auto: the recipe's if it fits the memory, else the largest of its halves that
    does. Says so.
    """
    model = AlexNet(
        len(net["classes"]), net["preset"], devices, net["in_channels"], net["image_size"]
    )
    optimizer = SGD(model.param_groups(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step(count: int) -> None:
        pictures = np.zeros(
            (count, net["in_channels"], net["image_size"], net["image_size"]), np.float32
        )
        labels = np.zeros(count, np.int64)
        x, labels = (tinynet.tensor(array, device=devices[0]) for array in (pictures, labels))
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    most = RECIPES[net["preset"]]["batch_size"]
    size, reason = fitting_batch_size(step, devices, most)
    print(f"batch size {size}: {reason}; the recipe of {net['preset']} has {most}")
    return size


def finish(trainer: Trainer) -> None:
    """Tests the best checkpoint once more, draws what there is to see, and says what was reached."""
    folder, model, classes = trainer.out, trainer.model, trainer.about["classes"]
    best = runs.find_checkpoint(folder)
    model.load_state_dict(checkpoint.load(best).model)
    result = evaluate([model.eval()], trainer.test.epoch(0), trainer.inputs, classes)
    save_evaluation({1: result}, folder)
    draw_kernels(
        [tower.conv1.weight.numpy() for tower in (model.a, model.b)], folder / "kernels.png"
    )
    report = write_report(folder)
    size = sum(parameter.size for parameter in model.parameters())
    print(
        f"\nThe {model.preset} AlexNet ({size:,} parameters, {len(classes)} classes) has been "
        f"through {trainer.epoch} of "
        f"{trainer.epochs} epochs. At its best ({best}) it names {100 - result.top1_error:.2f} % "
        f"of the "
        f"{result.count:,} test pictures right: top-1 error {result.top1_error:.2f} %, top-5 error "
        f"{result.top5_error:.2f} %. Look at {folder / 'curves.png'} for the curves, at "
        f"{folder / 'kernels.png'} for the "
        f"first layer's kernels, and at {report} in a browser for everything together."
    )


def evaluate_checkpoints(args: argparse.Namespace) -> int:
    """--eval: the error of one net, or of several averaged, on the test pictures."""
    if args.batch_size == "auto":
        raise ValueError("--batch-size auto is for training: --eval takes a number")
    models, inputs, about = load_nets(args.eval, args.device)
    data = args.data or runs.data_of(args.eval[0])
    _, test_set = open_pictures({"data": data, **about})
    if test_set.classes != about["classes"]:
        raise tinynet.CheckpointError(
            f"{args.eval[0]} knows {len(about['classes'])} classes "
            f"({', '.join(about['classes'][:3])} ...), the data "
            f"has {len(test_set.classes)} ({', '.join(test_set.classes[:3])} ...)"
        )
    with Loader(
        test_set, args.batch_size or 128, crop=inputs.size, train=False, workers=args.workers or 0
    ) as batches:
        results = {
            views: evaluate(models, batches.epoch(0), inputs, test_set.classes, views)
            for views in (1, 10)
        }
    for views, result in results.items():
        print(
            f"{'centre view:' if views == 1 else 'ten views:  '} top-1 error "
            f"{result.top1_error:.2f} %, top-5 error "
            f"{result.top5_error:.2f} %, loss {result.loss:.4f} ({result.count:,} pictures)"
        )
    print("the hardest classes, by top-1 error of the centre view:")
    for name, error in sorted(results[1].error_by_class().items(), key=lambda item: -item[1])[:20]:
        print(f"  {error:5.1f} %  {name}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        save_evaluation(results, args.out)
        print(f"the same as evaluation.json, and the confusion as confusion.png, in {args.out}")
    return 0


def predict(args: argparse.Namespace) -> int:
    """--predict: the five likeliest classes of each picture."""
    if len(args.predict) < 2:
        raise ValueError("--predict takes a CHECKPOINT and at least one PICTURE")
    models, inputs, about = load_nets(args.predict[:1], args.device)
    for path in args.predict[1:]:
        batch = batch_of([read_picture(path, picture_shape(about))], inputs.size)
        likely = probabilities(models, batch, inputs)[0]
        print(path)
        for k in np.argsort(-likely)[:5]:
            print(f"  {100 * likely[k]:5.1f} %  {about['classes'][k]}")
    return 0


def load_nets(
    paths: Sequence[str], device: str | None = None
) -> tuple[list[AlexNet], Inputs, dict]:
    """The nets of some checkpoints (or of runs' folders: their best), what makes their inputs, what
    they are about.
    """
    devices = runs.device_pair(device or runs.default_devices())
    models, first = [], None
    for path in map(runs.find_checkpoint, paths):
        saved = checkpoint.load(path)
        about = saved.state["about"]
        first = first or saved
        check_same(saved, first.state["about"], path)
        models.append(
            AlexNet(
                len(about["classes"]),
                about["preset"],
                devices,
                about["in_channels"],
                about["image_size"],
            )
        )
        models[-1].load_state_dict(saved.model)
        models[-1].eval()
    about = first.state["about"]
    return (
        models,
        Inputs(
            devices[0],
            first.arrays["mean"],
            about["image_size"],
            about["scale"],
            border=border_of(about["preset"]),
        ),
        about,
    )


# --- What the command line says -------------------------------------------------------------------


def choose_settings(args: argparse.Namespace) -> dict:
    """A run's settings: what was given, and for the rest its recipe or, if it goes on, what it was
    started with.
    """
    names = ("preset", "device", "data", "epochs", "batch_size", "lr", "milestones", "picture_size", "crop",
             "colour", "seed", "workers")  # fmt: skip
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.resume:
        args.out = args.out or runs.newest_folder(RUNS)
        return runs.settings_of(args.out, given, CHANGEABLE)
    if args.set:
        raise ValueError("--set changes a run that goes on: it needs --resume")
    preset = given.get("preset", "mini")
    recipe = RECIPES[preset] | dict(
        preset=preset, device=runs.default_devices(), data=None, seed=0, workers=None
    )
    return recipe | given


def open_pictures(settings: dict) -> tuple[Dataset, Dataset]:
    """Training and test pictures: those at settings["data"], or the embedded ones."""
    if settings["data"] is None:
        return fashion_mnist()
    largest = LARGEST_MINI if settings["preset"] == "mini" else None
    return open_data(settings["data"], settings["picture_size"], largest)


def describe(settings: dict, pictures: Dataset) -> dict:
    """What a checkpoint must know to build its net again and feed it."""
    side, _, channels = pictures.shape
    return dict(
        preset=settings["preset"], classes=pictures.classes, in_channels=channels, picture_size=side,
        image_size=settings["crop"] or (side if is_drawing(pictures) else side - side // 8),
        scale=SCALE[settings["preset"]],
    )  # fmt: skip


def is_drawing(pictures: Dataset) -> bool:
    """Grey sets are digits and clothes, centred and facing one way: neither cut nor mirrored,
    unlike photographs.
    """
    return pictures.shape[2] == 1


def picture_shape(net: dict) -> tuple[int, int, int]:
    """(H, W, C) of the whole pictures that a net was trained on."""
    return net["picture_size"], net["picture_size"], net["in_channels"]


def subtracted_mean(net: dict, mean: np.ndarray) -> np.ndarray:
    """The mean picture, cut where the crop is cut; but the program of 2012 always took its centre."""
    start = (net["picture_size"] - net["image_size"]) // 2
    cut = slice(start, start + net["image_size"])
    return np.ascontiguousarray(mean[cut, cut]) if net["preset"] == "cfg145" else mean


def make_loader(settings: dict, pictures: Dataset, train: bool = False) -> Loader:
    """Batches of pictures; those that lie in memory need no processes to load them."""
    workers = settings["workers"]
    if workers is None:
        workers = 0 if isinstance(pictures, ArrayDataset) else os.cpu_count()
    noise = settings["colour"] if train else 0
    return Loader(
        pictures, settings["batch_size"], train=train, seed=settings["seed"], workers=workers,
        crop=describe(settings, pictures)["image_size"], crop_chunk=32 if settings["preset"] == "cfg145" else 1,
        flip=not is_drawing(pictures),
        colour=colour_axes(pictures.moments().covariance()) if noise else None, colour_sigma=noise,
    )  # fmt: skip


def use_tf32(devices: str | None) -> None:
    """Quicker, coarser matrix products, on GPUs that have them."""
    if runs.device_pair(devices or runs.default_devices())[0].kind != "cuda":
        raise ValueError("--tf32 is for GPUs: give --device cuda:0")
    from tinynet.cuda import set_tf32

    set_tf32(True)


def make_parser() -> runs.Parser:
    parser = runs.Parser(
        description=(
            "Trains AlexNet, tests it, uses it. Without arguments: a small one on embedded "
            "pictures."
        ),
        epilog="Exit status: 0 done, 2 a mistake (one line says which), 130 or 143 stopped by "
        "SIGINT or SIGTERM. The "
        "first of these signals saves, a second one ends the program at once.",
    )

    def group(title: str) -> Callable:
        add = parser.add_argument_group(title).add_argument
        return lambda flag, text, **options: add(flag, help=text, **options)

    natural, lists = runs.at_least(1), dict(nargs="+")
    add = group("what to do, instead of training")
    add(
        "--eval",
        "error on the test pictures; several checkpoints, or runs (their best), are averaged",
        **lists,
        metavar="CHECKPOINT",
    )
    add(
        "--predict",
        "the five likeliest classes of pictures",
        **lists,
        metavar=("CHECKPOINT", "PICTURE"),
    )

    add = group("the net and its pictures")
    add("--preset", "mini (default), paper, or cfg145: the program of 2012", choices=RECIPES)
    add(
        "--data",
        "folder {train,val}/CLASS/*.jpg|png, CIFAR-10's archive, IDX files, or what "
        "prepare_imagenet.py made "
        "(default: embedded, a part of Fashion-MNIST)",
        metavar="PATH",
    )
    add(
        "--picture-size",
        f"side of whole pictures (256; mini: as they are, up to {LARGEST_MINI})",
        type=runs.at_least(8),
        metavar="N",
    )
    add(
        "--crop",
        "side of what the net sees of them (224; mini: seven eighths, of grey ones all)",
        type=runs.at_least(8),
        metavar="N",
    )
    add("--colour", "sigma of the colour noise (0.1; mini: 0)", type=float, metavar="SIGMA")

    add = group("how to train")
    add(
        "--device",
        "where the towers live (the GPUs there are, or else cpu:0,cpu:1)",
        metavar="D0[,D1]",
    )
    add("--epochs", "(mini 6, paper 90, cfg145 91)", type=natural, metavar="N")
    add(
        "--batch-size",
        "(mini 64, paper and cfg145 128); auto: the same or, where memory is short, the largest of "
        "its "
        "halves that fits; never more, since the learning rate is made for these",
        type=runs.batch_size,
        metavar="N|auto",
    )
    add(
        "--lr",
        "the first learning rate (mini 0.02, the others 0.01)",
        type=runs.rate,
        metavar="RATE",
    )
    add(
        "--milestones",
        "epochs after which the rate is divided by ten (mini 4,5; cfg145 25,51,79; paper: when the "
        "test error stops falling)",
        type=runs.whole_numbers,
        metavar="E,E,...",
    )
    add("--seed", "of weights, order, crops and dropout (0)", type=runs.at_least(0), metavar="N")
    add(
        "--workers",
        "processes that load pictures (one a core; none if they lie in memory)",
        type=runs.at_least(0),
        metavar="N",
    )
    add("--threads", "of the CPU kernels (one a core)", type=natural, metavar="N")
    add("--tf32", "quicker, coarser matrix products on a GPU", action="store_true")

    add = group("the run")
    add("--out", "its folder (runs/TIME-PRESET)", type=Path, metavar="DIR")
    add(
        "--resume",
        "go on with the run in --out, or with the newest under runs",
        action="store_true",
    )
    add(
        "--set",
        "with --resume: lr=, momentum=, weight_decay=, freeze=conv1, thaw=conv1",
        type=runs.parse_edits,
        default=[],
        metavar="NAME=VALUE,...",
    )
    add(
        "--checkpoint-every",
        "save inside epochs too, every N batches or every so often: 90s, 10m, 2h (10m)",
        type=runs.parse_interval,
        default={},
        metavar="N|TIME",
    )
    add("--keep", "checkpoints to keep besides the best (3)", type=natural, default=3, metavar="K")
    add(
        "--max-time",
        "end in good order after 90s, 10m, 2h",
        type=runs.parse_duration,
        metavar="TIME",
    )
    add("--limit-batches", "for trials: only so many batches an epoch", type=natural, metavar="N")
    return parser


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # so that a log file has every line at once
    sys.exit(main())
