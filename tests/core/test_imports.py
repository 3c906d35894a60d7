"""Imports run downwards only, and in no circle; a beginner's path through the code is short."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest

import tinynet

ROOT = Path(__file__).parents[2]

# From the bottom to the top. A module belongs to the room whose name its own begins with, the
# longest one; `tinynet` is the package's own __init__.
ROOMS = [
    ("tinynet.errors", "tinynet.instead"),
    ("tinynet.lock",),
    ("tinynet.devices",),
    ("tinynet.marks", "tinynet.profiler", "tinynet.random", "tinynet.recording", "tinynet.sharing"),
    ("tinynet.kernels",),
    ("tinynet.operations", "tinynet.holder", "tinynet.operators", "tinynet.types"),
    ("tinynet.tape", "tinynet.tensors", "tinynet.tracer", "tinynet.function"),
    ("tinynet.arithmetic", "tinynet.creation", "tinynet.saving"),
    ("tinynet.functional",),
    ("tinynet.functions",),
    ("tinynet.nn", "tinynet.gradcheck"),
    ("tinynet.optim", "tinynet.drawing", "tinynet.onnx", "tinynet.foreign"),
    ("tinynet.data",),
    ("tinynet",),
    ("tinynet.parallel",),
    ("tinynet.training",),
    ("tinynet.program", "tinynet.exercises"),
    ("examples",),
]
FLOOR = {name: floor for floor, names in enumerate(ROOMS) for name in names}
# A room that takes less of what is below it than it might: data sets know no tensor.
ONLY = {"tinynet.data": {"tinynet.errors", "tinynet.lock", "tinynet.devices.cores"}}
READER = 1200  # lines that a beginner reads to know how backprop works here


class Import(NamedTuple):
    """Module `name`, in `line` of its file, imports module `imported`."""

    name: str
    line: int
    imported: str


def sources() -> dict[str, str]:
    """Module name -> text, of tinynet/ and examples/."""
    files = [*(ROOT / "tinynet").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file.read_text() for name, file in names.items()}


def imports(modules: dict[str, str]) -> Iterator[Import]:
    """What the modules import of one another: also inside functions, also by import_module."""
    for name, text in modules.items():
        for line, wanted in _all_wanted(text):
            # A program in examples/ is run from its folder, and so imports its neighbours.
            for found in (wanted, f"examples.{wanted}"):
                while found not in modules and "." in found:
                    found = found.rpartition(".")[0]
                if found in modules and found != name:
                    yield Import(name, line, found)


@functools.cache  # most texts are asked for again by every test
def _all_wanted(text: str) -> list[tuple[int, str]]:
    """(line, dotted name) of everything that a text imports."""
    return [(node.lineno, name) for node in ast.walk(ast.parse(text)) for name in _wanted(node)]


def _wanted(node: ast.AST) -> list[str]:
    """The dotted names that one node asks for; they may end in a name inside a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        function = node.func
        called = (
            function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        )
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def room(name: str) -> str:
    """The room of a module. KeyError for a module that is in none."""
    if name == "tinynet":
        return name
    while name not in FLOOR:
        name = name.rpartition(".")[0]
        if name in ("", "tinynet"):
            raise KeyError
    return name


def faults(modules: dict[str, str]) -> list[str]:
    """One line for each module without a room, and for each import that runs upwards."""
    lines = []
    for name in modules:
        try:
            room(name)
        except KeyError:
            lines.append(f"{name} is in no room: give it its place in ROOMS")
    if lines:
        return lines
    for name, line, imported in imports(modules):
        here, there = room(name), room(imported)
        where = f"{name}, line {line}: room {here} imports {imported} of room {there}"
        if FLOOR[there] > FLOOR[here]:
            lines.append(f"{where}, which is above it")
        elif here != there and here in ONLY and imported not in ONLY[here]:
            lines.append(f"{where}; it may import {' and '.join(sorted(ONLY[here]))} alone")
    return lines


def circle(modules: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, the first one found; empty if there is none."""
    below: dict[str, set[str]] = {name: set() for name in modules}
    for name, _, imported in imports(modules):
        below[name].add(imported)
    done: set[str] = set()

    def walk(path: list[str]) -> list[str]:
        for imported in sorted(below[path[-1]] - done):
            if imported in path:
                return [*path[path.index(imported) :], imported]
            found = walk([*path, imported])
            if found:
                return found
        done.add(path[-1])
        return []

    return next((found for name in sorted(modules) if (found := walk([name]))), [])


def reached(modules: dict[str, str], *start: str) -> set[str]:
    """These modules and all that they import, directly or not."""
    edges = list(imports(modules))
    found = set(start)
    while more := {e.imported for e in edges if e.name in found} - found:
        found |= more
    return found


def test_imports_run_downwards():
    wrong = faults(sources())
    assert not wrong, "\n".join(wrong)


def test_imports_run_in_no_circle():
    found = circle(sources())
    assert not found, " -> ".join(found)


@pytest.mark.parametrize(
    "name, text",
    [
        ("tinynet.devices.cpu", "from tinynet.kernels.relu import relu_forward"),
        ("tinynet.devices.cpu", "from tinynet import kernels"),
        ("tinynet.devices.cpu", "import tinynet"),
        ("tinynet.devices.cpu", "from tinynet import Tensor"),
        ("tinynet.devices.base", "def later():\n    import tinynet.kernels.relu as r"),
        ("tinynet.devices.cuda.lane", "def later():\n    from tinynet.random import next_call"),
        ("tinynet.kernels.relu", "import importlib\nimportlib.import_module('tinynet.tensors')"),
        ("tinynet.tensors", "from importlib import import_module\nimport_module('tinynet.nn')"),
        ("tinynet.function", "f = lambda: __import__('tinynet.optim')"),
        ("tinynet.nn.module", "try:\n    from tinynet.training import trainer\nfinally:\n    pass"),
        ("tinynet.optim.sgd", "class A:\n    from tinynet.data import Batch"),
        ("tinynet.training.trainer", "import alexnet"),
        ("tinynet.data.loader", "from tinynet.tensors import Tensor"),
        ("tinynet.data.loader", "from tinynet.devices import find_device"),
    ],
)
def test_a_planted_import_upwards_is_found(name, text):
    modules = sources()
    before, lines = faults(modules), modules[name].count("\n")
    modules[name] += f"\n{text}\n"
    found = [fault for fault in faults(modules) if fault not in before]
    assert len(found) == 1 and found[0].startswith(f"{name}, line ")
    assert int(found[0].split("line ")[1].split(":")[0]) > lines


def test_a_module_without_a_room_is_found():
    assert faults({"tinynet.errors": "", "tinynet.attic": ""}) == [
        "tinynet.attic is in no room: give it its place in ROOMS"
    ]


def test_a_planted_circle_is_found():
    modules = sources()
    assert "from tinynet.kernels.relu import" in modules["tinynet.kernels.linear"]
    modules["tinynet.kernels.relu"] += "\ndef later():\n    import tinynet.kernels.linear\n"
    found = circle(modules)
    assert found[0] == found[-1]
    assert set(found) == {"tinynet.kernels.linear", "tinynet.kernels.relu"}


def test_imports_of_downward_rooms_are_no_faults():
    assert not faults({"tinynet.errors": "import os", "tinynet.nn": "import tinynet.errors"})


@pytest.mark.parametrize("kernel", ["relu", "local_response_norm"])
def test_a_beginners_path_is_short(kernel):
    """The tape, one kernel, gradcheck: what they import of the tape counts as well, but for the
    tracer, which only looks on.
    """
    modules = sources()
    read = ["tinynet.tensors", "tinynet.tape", "tinynet.function", f"tinynet.kernels.{kernel}"]
    read.append("tinynet.gradcheck.check")
    all_of_it = reached(modules, *read)
    path = {m for m in all_of_it if FLOOR[room(m)] == FLOOR["tinynet.tensors"]} | set(read)
    path.remove("tinynet.tracer")
    lines = {name: len(modules[name].splitlines()) for name in sorted(path)}
    assert sum(lines.values()) < READER, lines
    rooms = {room(name) for name in all_of_it}
    strangers = rooms & {"tinynet.program", "tinynet.training", "tinynet.data", "tinynet.optim"}
    strangers |= rooms & {"tinynet.drawing", "tinynet.onnx"}
    assert not strangers


def test_cupy_is_not_imported_before_a_gpu_is_asked_for():
    code = (
        "import sys, tinynet, tinynet.training.trainer, tinynet.data\n"
        "tinynet.device('cpu')\n"
        "print([n for n in sys.modules if n == 'cupy' or 'cuda' in n])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


def test_no_name_of_tinynet_hides_a_module_of_the_same_name():
    """`import tinynet.x as x` gives what `tinynet.x` is. gradcheck alone is both: a function, and
    a program to run."""
    code = (
        "import importlib, pkgutil, tinynet\n"
        "for module in pkgutil.iter_modules(tinynet.__path__):\n"
        "    found = importlib.import_module('tinynet.' + module.name)\n"
        "    if getattr(tinynet, module.name) is not found:\n"
        "        print(module.name)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["gradcheck"], run.stderr


# Imported for a type checker alone.
CHECKED = dict.fromkeys(("Axes", "Figure", "Measure", "Self"), Any)
MODULES = [m for m in sources() if m.startswith("tinynet.") and not re.search("cuda|__main__", m)]


@pytest.mark.parametrize("name", MODULES)
def test_annotations_name_what_is_there(name):
    """Tools that draw or document a function read them, though Python does not."""
    try:
        module = importlib.import_module(name)
    except tinynet.DeviceUnavailableError as error:  # tinynet.parallel.nccl, without CuPy
        pytest.skip(str(error))
    for thing in vars(module).values():
        if getattr(thing, "__module__", "") == name:
            parts = vars(thing).values() if inspect.isclass(thing) else [thing]
            for function in filter(inspect.isfunction, parts):
                get_type_hints(function, localns=CHECKED)
