"""Pictures, what AlexNet says of them, and what looks like them in its eyes (paper, section 6.1).

    python examples/similar.py CHECKPOINT PICTURE... --out sheet.png

Alike is what has a small Euclidean distance between the 4096 values before the last layer (mini:
512). Each picture gives one row of the contact sheet: itself with its true class, the five classes
that the net finds likeliest (the bar of the true one in orange), then the six nearest training
pictures, each over its class. CHECKPOINT may be a run's folder: its best.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from alexnet import PROGRAM

import tinynet
from tinynet.data import Loader
from tinynet.program import Pictures, runs, together
from tinynet.program.options import Parser
from tinynet.training.evaluate import probabilities
from tinynet.training.features import features, nearest
from tinynet.training.inputs import batch_of
from tinynet.training.plots import bars, contact_sheet


def main(arguments: list[str] | None = None) -> int:
    together.alone()
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument(
        "pictures", nargs="+", metavar="PICTURE", help="a file, or test:N, the test set's picture N"
    )
    parser.add_argument(
        "--data", metavar="PATH", help="where the training pictures are (default: as in the run)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("similar.png"), help="the contact sheet (similar.png)"
    )
    parser.add_argument("--device", metavar="D0[,D1]", help="as for alexnet.py")
    args = parser.parse_intermixed_args(arguments)
    try:
        (model,), task, about, recipe = PROGRAM.load([args.checkpoint], args.device)
        inputs, reader = task.make_inputs, recipe.data
        assert isinstance(reader, Pictures)  # as all recipes of AlexNet
        settings = runs.data_settings(args.checkpoint, args.data) | about
        train, test = runs.open_data(reader, settings, args.checkpoint, args.data)
        queries = [read(name, test, reader, about) for name in args.pictures]
        captions = [caption(name, test) for name in args.pictures]
        with Loader(train, 128, crop=inputs.size, train=False) as loader:
            known = features(model, loader.epoch(0), inputs)
        rows = []
        for said, picture in zip(captions, queries, strict=True):
            seen = batch_of([picture], inputs.size)
            shares = probabilities([model], seen, inputs)[0]
            likely = np.argsort(-shares)[:5]
            names, truth = [train.classes[k] for k in likely], said.split("\n")[0]
            row = [(picture, said), (bars(names, shares[likely], truth), f"{shares.max():.0%}")]
            places, distances = nearest(features(model, [seen], inputs)[0], known)
            for place, distance in zip(places, distances, strict=True):
                row.append(
                    (
                        train.picture(place),
                        f"{train.classes[train.labels[place]]}\n{distance:.1f} away",
                    )
                )
            rows.append(row)
        contact_sheet(rows, args.out)
        print(
            f"{args.out}: each row a picture, what the net says of it, and the six of "
            f"{len(train):,} training pictures that are nearest to it"
        )
        return 0
    except (tinynet.TinynetError, OSError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def read(
    name: str, test: tinynet.data.Dataset, data: Pictures, about: dict[str, Any]
) -> np.ndarray:
    """A picture file, or test:N."""
    if not name.startswith("test:"):
        return data.read(about, name)
    if not name[5:].isdecimal() or int(name[5:]) >= len(test):
        raise ValueError(f"{name}: the test pictures are test:0 to test:{len(test) - 1}")
    return test.picture(int(name[5:]))


def caption(name: str, test: tinynet.data.Dataset) -> str:
    """What a picture is called, and its true class: that of test:N, or its folder's name if that is
    one of the classes.
    """
    if name.startswith("test:"):
        return f"{test.classes[test.labels[int(name[5:])]]}\n{name}"
    folder = Path(name).resolve().parent.name
    return f"{folder if folder in test.classes else 'class unknown'}\n{Path(name).name}"


if __name__ == "__main__":
    sys.exit(main())
