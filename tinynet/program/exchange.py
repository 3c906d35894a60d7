"""--export and --import: a run's net as a file for others, and others' weights as a run."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinynet import onnx
from tinynet.errors import ModelFileError
from tinynet.program import runs
from tinynet.program.published import PUBLISHED, Imported
from tinynet.saving import write_arrays
from tinynet.training import checkpoint


def export(program: Any, args: argparse.Namespace) -> int:
    """--export FILE RUN: the net with its names, and in ONNX's form what feeds it."""
    path, run = Path(args.export[0]), args.export[1]
    if path.suffix not in (".onnx", ".safetensors"):
        raise ModelFileError(f"{path}: expected a name that ends in .onnx or .safetensors")
    if args.raw and path.suffix != ".onnx":
        raise ModelFileError(f"{path}: expected --raw with .onnx alone; leave it out")
    (model,), task, about, recipe = program.load([run], args.device)
    if path.suffix == ".safetensors":
        size = sum(parameter.size for parameter in model.parameters())
        said = {"format": "tinynet", "about": json.dumps(about)}
        with writing(path):
            write_arrays(path, model.state_dict(), said)
        print(f"{path}: {size:,} parameters by name")
        return 0
    feeding = recipe.data.feeding(model, task, about, args.raw)
    with writing(path):
        onnx.export(
            model, feeding.example, path, feeding.metadata, feeding.call, outputs=[feeding.result]
        )
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes; in: {feeding.takes}; out: {feeding.result}")
    return 0


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says of a file that cannot be written, with the file's name."""
    try:
        yield
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}") from None


def keep(imported: Imported, args: argparse.Namespace, program: Any) -> int:
    """--import FILE: the weights as a run's folder with one checkpoint, its best."""
    recipe = PUBLISHED[imported.preset]
    about = imported.about | {"preset": imported.preset, "net": imported.net}
    count = about["classes"]
    names = [f"class {k}" for k in range(count)] if isinstance(count, int) else count
    if args.data is not None:
        settings = recipe.settings() | {"data": args.data, "val_share": args.val_share}
        _, tests = recipe.data.open(settings)
        if len(tests.classes) != len(names):
            raise ModelFileError(
                f"{args.data}: expected the {len(names)} classes of the file, got "
                f"{len(tests.classes)}; with --epochs the net is trained on these"
            )
        names = tests.classes
    about["classes"] = names
    model = program.build_of(about, program.find_devices("cpu"))
    model.load_state_dict(imported.weights)
    with runs.start_in(args.out, imported.preset) as out:
        saved = checkpoint.Checkpoint(
            model=model.state_dict(),
            arrays={"mean": imported.mean},
            state={"about": about},
        )
        checkpoint.save(out / checkpoint.BEST, saved)
    told = "of the file"
    if args.data is not None:
        told = "those of --data, in their order"
    elif isinstance(count, int):
        told = "numbered; --data PATH names them"
    print(*imported.said, f"classes: {told}", f"{out}: for --eval, --predict, --export", sep="\n")
    return 0
