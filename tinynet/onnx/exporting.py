"""A net as an ONNX file."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinynet.errors import ModelFileError
from tinynet.nn import Module
from tinynet.onnx.recording import record
from tinynet.onnx.writer import Writer, parts_of
from tinynet.onnx.writing import WRITERS
from tinynet.saving import write_parts
from tinynet.tensors import Tensor

# What does not change a result in use, or is seen in its shape.
UNSEEN = {"inplace", "momentum", "shape", "target"}


def package() -> ModuleType:
    """The package onnx. ModelFileError where it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise ModelFileError(
            f"ONNX files need the package onnx ({error}): pip install onnx"
        ) from None
    return onnx


def export(
    model: Module,
    example: Any,
    path: str | os.PathLike,
    metadata: Mapping[str, Any] | None = None,
    call: Callable[..., Any] | None = None,
    outputs: Sequence[str] = ("y",),
) -> None:
    """Write what `model` does in use (eval mode) as an ONNX file.

    example: an input (N, ...), an array or a tensor; a tuple where the model takes several. Its
    values do not matter, as long as they differ; tokens must be ones that the model knows. The size
    of the batch is left open in the file, all other sizes are the example's.
    metadata: by name, texts or what JSON can hold. call: what the file does instead of the model's
    forward, of the same inputs: a function that prepares them and runs the model, or a part of it.
    outputs: names of the results. The inputs are called as the arguments of forward, or of `call`;
    weights by their names in the model.

    Copies to other devices vanish, and so does what is computed twice. ModelFileError for an
    operation that ONNX has not, and for a net whose steps depend on values of its input.
    """
    onnx = package()
    several = example if isinstance(example, tuple) else (example,)
    arrays = [x.numpy() if isinstance(x, Tensor) else np.asarray(x) for x in several]
    graph = record(model, arrays, call)
    if len(outputs) != len(graph.outputs):
        raise ModelFileError(
            f"export: expected {len(graph.outputs)} names of results, got {len(outputs)}"
        )
    state = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    names = [*(wire.name for wire in graph.inputs), *outputs, *state]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ModelFileError(
            f"export: expected different names of inputs (forward's arguments), results and "
            f"weights, got {twice[0]!r} twice; rename one"
        )
    writer = Writer(onnx, names)
    for step in graph.steps:
        writer.begin(step.path)
        write = WRITERS.get(step.function)
        if write is None:
            raise ModelFileError(
                f"export: {step.name}: expected what a net in use does and ONNX has an operator "
                f"for, got {step.name.split()[0]}; leave it out of forward, or out of the file"
            )
        made = write(writer, step)
        made = made if isinstance(made, list) else [made]
        for wire, name in zip(step.outputs, made, strict=True):
            writer.made(wire, name)
        if unread := step.arguments.keys() - step.arguments.read - UNSEEN:
            raise ModelFileError(
                f"export: {step.name}: expected options that tinynet writes, got "
                f"{', '.join(sorted(unread))}, too"
            )
    words = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in (metadata or {}).items()
    }
    parts = parts_of(onnx, writer, graph, list(outputs), words, type(model).__name__)
    write_parts(Path(path), parts)
