"""The options that every program has, in one parser."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinynet.program import options
from tinynet.program.pictures import Pictures
from tinynet.program.recipe import Recipe, Variant
from tinynet.program.starting import SCALES

WHERE = {"device", "threads", "tf32"}
TAKES = {
    "eval": WHERE | {"data", "val_share", "batch_size", "workers", "out"},
    "predict": WHERE,
    "export": {"device", "threads", "raw"},
    "import": {"looks", "data", "val_share", "out", "threads"},
}
WITH = {"raw": "export", "looks": "import"}  # options that say more of another one


def make_parser(
    description: str,
    recipes: dict[str, Recipe],
    devices: int,
    variants: Mapping[str, Variant] = {},
    head: bool = False,
) -> options.Parser:
    """The parser of a Program's command line; its help names the recipes' values."""

    def defaults(name: str) -> str:
        return in_words({preset: r.settings()[name] for preset, r in recipes.items()})

    parser = options.Parser(
        description=description,
        epilog="Exit status: 0 done, 2 a mistake (one line says which), 130 or 143 stopped by "
        "SIGINT or SIGTERM, 129 by SIGHUP (its terminal has gone). The first of these signals "
        "saves, a second one ends the program at once.",
    )
    add = parser.group("what to do, instead of training")
    add(
        "--eval",
        "result on the test data; several checkpoints, or runs (their best), are averaged",
        nargs="+",
        metavar="CHECKPOINT",
    )
    takes, gives = asked(recipes)
    add("--predict", gives, nargs="+", metavar=("CHECKPOINT", takes))
    add(
        "--export",
        "the net of a checkpoint as FILE.onnx, or its weights as FILE.safetensors",
        nargs=2,
        metavar=("FILE", "CHECKPOINT"),
    )
    add(
        "--raw",
        "with --export FILE.onnx: the file takes whole pictures as bytes and prepares them itself; "
        "--import cannot read it",
        action="store_true",
    )
    data = next(iter(recipes.values())).data
    if isinstance(data, Pictures):
        add(
            "--import",
            "a run's folder of weights of others: torchvision's AlexNet (FILE.pth, "
            "FILE.safetensors), Caffe's (FILE.caffemodel), FILE.onnx; --data names its classes. "
            "With --epochs: training on --data starts from these weights",
            metavar="FILE",
        )
        add(
            "--looks",
            "with --import FILE.onnx: how its pictures are prepared, if it does not say",
            choices=["torchvision", "caffe"],
        )

    data.add_options(parser, defaults)

    add = parser.group("how to train")
    natural = options.at_least(1)
    first = next(iter(recipes))
    add("--preset", f"the net and its recipe ({first})", choices=recipes)
    if variants:
        rows = "; ".join(f"{name}: {row.about}" for name, row in variants.items())
        add("--variant", f"what differs from the preset. {rows}", choices=variants, metavar="NAME")
    if head:
        add(
            "--start-from",
            "the first weights of the layers that fit are those of a trained net; the last layer "
            "is new if the classes are others",
            metavar="CHECKPOINT",
        )
    if devices == 1:
        add("--device", "where the net lives (the GPU there is, or else cpu:0)", metavar="D0")
    else:
        add(
            "--device",
            "where its two halves live (the GPUs there are, or else cpu:0,cpu:1)",
            metavar="D0[,D1]",
        )
    add(
        "--epochs",
        f"passes over the training data ({defaults('epochs')})",
        type=natural,
        metavar="N",
    )
    add(
        "--batch-size",
        f"({defaults('batch_size')}); auto: the same or, where memory is "
        "short, the largest of its halves that fits; never more, since the learning rate is "
        "made for these",
        type=options.batch_size,
        metavar="N|auto",
    )
    add(
        "--lr",
        f"the first learning rate ({defaults('lr')})",
        type=options.rate,
        metavar="RATE",
    )
    add(
        "--scale-lr",
        "a whole batch k times the recipe's has k times its rates (linear), or the root of k times "
        "(sqrt); without this option rates stay",
        choices=list(SCALES),
    )
    add(
        "--milestones",
        "epochs after which the rate is divided by ten "
        f"({defaults('milestones').replace('none', 'none: the schedule of the recipe')}; with "
        "--epochs alone, at the same shares of the run)",
        type=options.rising_numbers,
        metavar="E,E,...",
    )
    add(
        "--seed",
        "of weights, order, crops and dropout (0)",
        type=options.at_least(0),
        metavar="N",
    )
    add(
        "--workers",
        "processes that load data (one a core; none if it lies in memory)",
        type=options.at_least(0),
        metavar="N",
    )
    add("--threads", "of the CPU kernels (one a core)", type=natural, metavar="N")
    add(
        "--exchange",
        "what ranks exchange of fully connected layers: sums of gradients; or factors, fewer bytes "
        "and more arithmetic, for slow links (gradients)",
        choices=["gradients", "factors"],
    )
    add("--tf32", "quicker, coarser matrix products on a GPU", action="store_true", default=None)

    add = parser.group("the run")
    add("--out", "its folder (runs/TIME-PRESET)", type=Path, metavar="DIR")
    add(
        "--resume",
        "go on with the run in --out, or with the newest under runs",
        action="store_true",
    )
    add(
        "--set",
        "with --resume: lr=, momentum=, weight_decay=, LAYER.lr=, freeze=LAYER, thaw=LAYER",
        type=options.edits,
        action="extend",
        default=[],
        metavar="NAME=VALUE,...",
    )
    add(
        "--checkpoint-every",
        "save inside epochs too, every N batches or every so often: 90s, 10m, 2h (10m)",
        type=options.interval,
        default={},
        metavar="N|TIME",
    )
    add(
        "--keep",
        "checkpoints to keep besides the best (3)",
        type=natural,
        metavar="K",
    )
    add(
        "--max-time",
        "end in good order after 90s, 10m, 2h",
        type=options.duration,
        metavar="TIME",
    )
    add(
        "--limit-batches",
        "for trials: train on so many batches an epoch; the test is whole",
        type=natural,
        metavar="N",
    )
    add(
        "--skip-damaged",
        "go on past at most N pictures of a prepared folder that cannot be read (0); those of "
        "other folders are read at the start, and damaged ones are left out",
        type=options.at_least(0),
        metavar="N",
    )
    return parser


def refuse_others(args: argparse.Namespace, parser: options.Parser) -> None:
    """--eval, --predict, --export and --import take what they need from a file: ValueError for an
    option that would be read and forgotten.
    """
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    for name, other in WITH.items():
        if name in given and other not in given:
            raise ValueError(f"--{name} is for --{other}: leave it out")
    if "import" in given and "epochs" in given:
        if others := sorted(given & {"preset", "resume", "picture_size", "crop"}):
            flags = ", ".join("--" + name.replace("_", "-") for name in others)
            raise ValueError(f"--import does not take {flags}: its net says so itself")
        given.remove("import")
    for what, takes in TAKES.items():
        if what in given and (others := sorted(given - takes - {what})):
            flags = ", ".join("--" + name.replace("_", "-") for name in others)
            raise ValueError(f"--{what} does not take {flags}: leave out one or the other")


def asked(recipes: dict[str, Recipe]) -> tuple[str, str]:
    """What --predict takes, and in words, of all recipes together: "FILE|NUMBERS"."""
    both = zip(*(recipe.data.asks for recipe in recipes.values()), strict=True)
    takes, gives = (dict.fromkeys(each) for each in both)
    return "|".join(takes), "; ".join(gives)


def in_words(values: dict[str, Any]) -> str:
    """The recipes' values of a setting: "mini 6, paper 90"; one value if all have the same."""
    words = {preset: _short(value) for preset, value in values.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return ", ".join(f"{preset} {word}" for preset, word in words.items())


def _short(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
