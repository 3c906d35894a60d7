"""The paper's statements, each a few lines of data: what differs, on what, what is compared.

What stands here was committed before the first run of a statement: how much is trained, with which
seeds, what is compared, and by `comparing.verdict` the rule for its sentence. All runs count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Arm:
    """One way to train: a row of variants.py, and more options of alexnet.py.

    rates     rates to choose from, by the training loss of trials with seed 0
    start     the arm whose net with the same seed lends its layers (--start-from)
    average   instead of training: arms, and how many nets of each, whose outputs are averaged
    data      other pictures than the statement's
    """

    variant: str = ""
    options: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    start: str = ""
    average: Mapping[str, int] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class Comparison:
    """How much larger a figure of `arm` is than the same (or `other`) figure of `against`: by seed.

    says      what the paper says, as the beginning of a sentence
    paper     its number: points of error, or how many times; None if it gives none
    figure    top1_error: of the test, in %, at the end of training; ten_views: the same through ten
              views; colour: how far the towers' shares of colour are apart (see figures.py);
              epochs_to_25: epochs until the training error is at most 25 %, compared as a ratio
    against   an arm; "" compares with 0
    """

    says: str
    paper: float | None
    arm: str
    against: str
    figure: str = "top1_error"
    other: str = ""


@dataclass(frozen=True)
class Statement:
    """section: of the paper. data: "embedded", "CIFAR-10" or "photographs". small: options for all
    its arms at the small scale, besides SMALL. full_arms: the arms at full scale, if others; what
    is compared with an arm that is not there is left out. trial: epochs of a trial.
    """

    section: str
    text: str
    arms: Mapping[str, Arm]
    comparisons: tuple[Comparison, ...]
    data: str = "embedded"
    seeds: int = 3
    small: tuple[str, ...] = ()
    full_arms: Mapping[str, Arm] = field(default_factory=dict)
    trial: int = 3


SMALL = ("--preset", "mini", "--epochs", "6", "--batch-size", "32", "--keep", "1")
FEW = ("--limit-pictures", "2000,2000")  # few pictures, so that overfitting shows
FULL = ("--preset", "paper", "--keep", "1")
BASE = Arm()


def left_out(rows: Mapping[str, str], paper: float | None, says: str) -> tuple[Comparison, ...]:
    """Each of the arms against the whole net."""
    return tuple(Comparison(says.format(what), paper, arm, "whole") for arm, what in rows.items())


DEPTH = {f"no-conv{n}": f"conv{n}" for n in (2, 3, 4, 5)}
STATEMENTS = {
    "pools": Statement(
        "3.4", "Pools that overlap (3, stride 2) against pools that do not (2, stride 2).",
        {"whole": BASE, "apart": Arm("pools-apart")},
        (Comparison("pools that do not overlap make the error larger", 0.4, "apart", "whole"),),
        small=FEW,
    ),
    "norm": Statement(
        "3.3", "Local response normalisation, left out.",
        {"whole": BASE, "none": Arm("no-norm")},
        (Comparison("without normalisation the error is larger", 1.4, "none", "whole"),),
        small=FEW,
    ),
    "dropout": Statement(
        "4.2", "Dropout, left out.",
        {"whole": BASE, "none": Arm("no-dropout")},
        (Comparison("without dropout the error is larger", None, "none", "whole"),),
        small=FEW,
    ),
    "towers": Statement(
        "3.5", "Towers that talk, towers that do not, one tower with half the kernels.",
        {"whole": BASE, "no talk": Arm("no-talk"), "one": Arm("one-tower")},
        (
            Comparison("one tower with half the kernels errs more", 1.7, "one", "whole"),
            Comparison("towers that do not talk err more", 1.1, "no talk", "whole"),
        ),
        small=FEW,
    ),
    "depth": Statement(
        "7",
        "Each middle layer, left out. Without conv3 the net is the same as without conv4: the "
        "layer that is left sees both towers and has as many kernels. Without conv5 it has more "
        "parameters than the whole net: fc6 then sees conv4's larger number of maps.",
        {"whole": BASE, **{arm: Arm(arm) for arm in DEPTH}},
        left_out(DEPTH, 2.0, "without {} the error is larger"),
        small=FEW,
    ),
    "ensembles": Statement(
        "7, table 2",
        "The average of five nets; of seven, two of them with a sixth convolution. The paper's two "
        "had been trained on other classes before, and its seven gain 4.0 points: another "
        "experiment, so that number is not compared.",
        {
            "one": BASE, "conv6": Arm("conv6"), "five": Arm(average={"one": 5}),
            "seven": Arm(average={"one": 5, "conv6": 2}),
        },
        (
            Comparison("one net errs more than the average of five", 2.6, "one", "five"),
            Comparison("one net errs more than the average of seven", None, "one", "seven"),
        ),
        seeds=5, small=FEW,
    ),
    "views": Statement(
        "4.1", "The centre of each picture against the average over ten views.",
        {"whole": BASE},
        (
            Comparison(
                "the centre alone errs more", 1.5, "whole", "whole", other="ten_views"
            ),
        ),
        data="CIFAR-10", small=FEW,
    ),
    "crops": Statement(
        "4.1", "Random crops and mirror images, left out of the training.",
        {"whole": BASE, "centre": Arm("centre"), "no mirror": Arm("no-mirror")},
        (
            Comparison("without random crops the error is larger", None, "centre", "whole"),
            Comparison("without mirroring the error is larger", None, "no mirror", "whole"),
        ),
        data="CIFAR-10", small=FEW,
    ),
    "noise": Statement(
        "4.1", "Colour noise.",
        {"without": BASE, "with": Arm("noise")},
        (Comparison("without colour noise the error is larger", 1.0, "without", "with"),),
        data="CIFAR-10", small=FEW, full_arms={"without": Arm("no-noise"), "with": BASE},
    ),
    "sixth": Statement(
        "7, table 2",
        "A sixth convolution; and the same after a training on other classes.",
        {
            "whole": BASE, "conv6": Arm("conv6"),
            "more classes": Arm("conv6", data="photographs"),
            "tuned": Arm("tuned", start="more classes"),
        },
        (
            Comparison("five convolutions err more than six", None, "whole", "conv6"),
            Comparison("a net that saw no other classes errs more", 1.7, "whole", "tuned"),
        ),
        data="CIFAR-10", small=("--picture-size", "32", "--limit-pictures", "2000,1000"),
    ),
    "relu": Statement(
        "3.1, figure 1",
        "Epochs until 25 % training error with tanh and with ReLU, each with its best rate; with "
        "the small first weights of the program, and with those of He and of Xavier.",
        {
            "ReLU": Arm("four-relu", ("--epochs", "30"), (0.001, 0.003)),
            "tanh": Arm("four-tanh", ("--epochs", "70"), (0.001, 0.003, 0.01)),
            "ReLU, He": Arm("four-relu-he", ("--epochs", "30"), (0.003, 0.01, 0.03)),
            "tanh, Xavier": Arm("four-tanh-xavier", ("--epochs", "30"), (0.003, 0.01, 0.03)),
        },
        (
            Comparison(
                "with small first weights tanh takes longer than ReLU", 6.0, "tanh", "ReLU",
                "epochs_to_25",
            ),
            Comparison(
                "with first weights by Xavier and He tanh takes longer than ReLU", 6.0,
                "tanh, Xavier", "ReLU, He", "epochs_to_25",
            ),
        ),
        data="CIFAR-10", small=("--limit-pictures", "2000,200", "--milestones", "1000"),
        full_arms={"ReLU": Arm(rates=(0.003, 0.01)), "tanh": Arm("tanh", rates=(0.003, 0.01))},
    ),
    "colour": Statement(
        "6.1, figure 3",
        "One tower becomes blind to colour, the other one does not: how far the shares of the "
        "kernels' energy off the grey axis are apart, less what chance makes of the same kernels. "
        "The control: towers whose conv2 sees both.",
        {"towers": Arm("many-kernels"), "control": Arm("many-kernels-early-talk")},
        (
            Comparison("the towers part by colour, more than chance", None, "towers", "", "colour"),
            Comparison(
                "they part more than towers whose conv2 sees both", None, "towers", "control",
                "colour",
            ),
        ),
        data="CIFAR-10", seeds=5, small=("--limit-pictures", "5000,500"),
    ),
}  # fmt: skip
