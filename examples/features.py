"""Write what pictures are to AlexNet: the 4096 values before its last layer (mini: 512).

    python examples/features.py CHECKPOINT OUT.npy PICTURE...    one row a picture
    python examples/features.py CHECKPOINT OUT.npy --data PATH   all training pictures of a data set

CHECKPOINT may be a run's folder: its best. OUT ends in .npy or .safetensors (then rows are called
"features" and, of a data set, labels "labels").
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from alexnet import PROGRAM

import tinynet
from tinynet.data import Loader
from tinynet.program import Pictures
from tinynet.program.options import Parser
from tinynet.training.checkpoint import save_arrays
from tinynet.training.features import features
from tinynet.training.inputs import batch_of


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE")
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="a data set, as for alexnet.py; 'embedded' for the embedded one",
    )
    parser.add_argument("--device", metavar="D0[,D1]", help="as for alexnet.py")
    args = parser.parse_args(arguments)
    try:
        if args.out.suffix not in (".npy", ".safetensors"):
            raise ValueError(f"OUT must end in .npy or .safetensors, got {args.out}")
        if bool(args.pictures) == bool(args.data):
            raise ValueError("give either pictures or --data")
        (model,), task, about, recipe = PROGRAM.load([args.checkpoint], args.device)
        inputs, reader = task.make_inputs, recipe.data
        assert isinstance(reader, Pictures)  # as all recipes of AlexNet
        found = {}
        if args.data:
            data = None if args.data == "embedded" else args.data
            train, _ = reader.open(about | {"data": data})
            with Loader(train, 128, crop=inputs.size, train=False) as loader:
                found["features"] = features(model, loader.epoch(0), inputs)
            found["labels"] = train.labels
        else:
            pictures = [reader.read(about, path) for path in args.pictures]
            found["features"] = features(
                model, [batch_of([picture], inputs.size) for picture in pictures], inputs
            )
        if args.out.suffix == ".npy":
            np.save(args.out, found["features"])
        else:
            save_arrays(args.out, found)
        print(
            f"{args.out}: {len(found['features']):,} pictures, {found['features'].shape[1]} values "
            f"each"
        )
        return 0
    except (tinynet.TinynetError, OSError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
