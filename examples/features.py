"""Write what pictures are to AlexNet: the 4096 values before its last layer (mini: 512).

    python examples/features.py CHECKPOINT OUT.npy PICTURE...    one row a picture
    python examples/features.py CHECKPOINT OUT.npy --data PATH   all training pictures of a data set
    python examples/features.py CHECKPOINT OUT.npy --data PATH --layer conv3       of another layer
    python examples/features.py CHECKPOINT OUT.png --data PATH --layer conv3

CHECKPOINT may be a run's folder: its best. OUT ends in .npy or .safetensors (then rows are called
"features" and, of a data set, labels "labels"); or in .png: then it is a sheet with, for each map
of the layer, the nine patches of pictures that excite it most, the maps of tower a over those of
tower b.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from alexnet import PROGRAM

import tinynet
from tinynet.data import Batch, Loader
from tinynet.parallel.ranks import Ranks
from tinynet.program import Pictures, together
from tinynet.program.options import Parser
from tinynet.training.checkpoint import save_arrays
from tinynet.training.features import features, most_exciting, receptive_field
from tinynet.training.inputs import Inputs, batch_of
from tinynet.training.plots import draw_patches

SIDE = 32  # of a patch in the sheet, in pixels; small patches are enlarged to half of it


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
    parser.add_argument(
        "--layer",
        default="",
        metavar="NAME",
        help="what comes out of this layer and what follows it, as the next one sees it (fc7)",
    )
    parser.add_argument("--device", metavar="D0[,D1]", help="as for alexnet.py")
    job = together.started()
    with together.heard(job):
        return run(together.parsed(job, parser.parse_intermixed_args, arguments), job)


def run(args: argparse.Namespace, job: Ranks) -> int:
    """Do what was asked, on each rank its part; returns the exit status."""
    try:
        if args.out.suffix not in (".npy", ".safetensors", ".png"):
            raise ValueError(f"OUT must end in .npy, .safetensors or .png, got {args.out}")
        if not args.out.parent.is_dir():
            folder = args.out.parent
            raise ValueError(f"OUT: expected a folder that is there, got {folder}; make it")
        if bool(args.pictures) == bool(args.data):
            raise ValueError("give either pictures or --data")
        if job.size > 1:
            if args.pictures or args.out.suffix == ".png":
                raise ValueError(
                    "a sheet, and single pictures, are for one rank: leave mpiexec out"
                )
            together.begin(job, args)
        PROGRAM.ranks = job
        loaded: Any = PROGRAM.load([args.checkpoint], args.device)
        (model,), task, about, recipe = loaded
        inputs, reader = task.make_inputs, recipe.data
        assert isinstance(reader, Pictures)  # as all recipes of AlexNet
        layers = model.preset.layers if hasattr(model, "preset") else ()  # a net of others has none
        drawn = args.out.suffix == ".png"
        layer = args.layer or (layers[-1] if drawn and layers else "")
        if (layer or drawn) and layer not in layers:
            raise ValueError(
                f"--layer: expected one of AlexNet's {', '.join(layers)}, got {layer!r}"
                if layers
                else "a net of others: expected features in .npy or .safetensors; leave --layer out"
            )
        found: dict[str, np.ndarray] = {}
        batches: Iterator[Batch]
        with contextlib.ExitStack() as held:
            if args.data:
                data = None if args.data == "embedded" else args.data
                train, _ = reader.open(about | {"data": data})
                loader = held.enter_context(Loader(train, 128, crop=inputs.size, train=False))
                loader.every = job.rank, job.size
                batches, found["labels"] = loader.epoch(0), train.labels
            else:
                pictures = [reader.read(about, path) for path in args.pictures]
                batches = iter([batch_of([picture], inputs.size) for picture in pictures])
            if drawn:
                return sheet(model, batches, inputs, layer, args.out)
            found["features"] = features(model, batches, inputs, layer, job)
        if job.rank:
            return 0
        if args.out.suffix == ".npy":
            np.save(args.out, found["features"])
        else:
            save_arrays(args.out, found)
        count, *shape = found["features"].shape
        print(f"{args.out}: {count:,} pictures, {' x '.join(map(str, shape))} values each")
        return 0
    except (tinynet.TinynetError, OSError, ValueError) as error:
        name = Path(sys.argv[0]).name
        return together.fail(
            job, f"{name}: error: {error}", lambda line: print(line, file=sys.stderr)
        )
    except KeyboardInterrupt:
        job.abort(130)
        return 130


def sheet(model: Any, batches: Iterator[Batch], inputs: Inputs, layer: str, out: Path) -> int:
    """Draw the patches that excite each map of a layer most."""
    before = model.preset.layers[: model.preset.layers.index(layer) + 1]
    parts = [(getattr(model.a, name), *model.a.after[name].layers) for name in before]
    field = receptive_field([part for several in parts for part in several])
    side = min(SIDE, field.size if field else SIDE)
    patches = most_exciting(model, batches, inputs, layer, field, max(side, SIDE // 2))
    draw_patches(patches, out, groups=model.preset.towers)
    seen = f"{field.size} x {field.size} pixels" if field else "the whole picture"
    print(f"{out}: {len(patches)} maps of {layer}, each unit of which sees {seen}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
