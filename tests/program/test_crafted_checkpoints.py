"""Checkpoints whose checksum is right and whose content is not: one line that names the file."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from tinynet.training import checkpoint as files

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(alexnet.main, a run of one epoch, a picture)."""
    root = tmp_path_factory.mktemp("crafted")
    rng = np.random.default_rng(1)
    for split, count in (("train", 8), ("val", 2)):
        for label, name in enumerate(("dark", "light")):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 120, (16, 16, 3)) + 120 * label
                Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        main = importlib.import_module("alexnet").main
    out = root / "run"
    data = ["--data", str(root / "data"), "--batch-size", "8", "--device", "cpu"]
    assert main([*data, "--epochs", "1", "--out", str(out)]) == 0
    return main, out, root / "data" / "val" / "dark" / "0.png"


def without(tree: dict, path: tuple[str, ...]) -> dict:
    """A copy of nested dictionaries that lacks one value."""
    tree = copy.deepcopy(tree)
    inner = tree
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return tree


def ask(main, arguments, capsys) -> str:
    """What a command line that cannot work says; it must be one line, and status 2."""
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert (status, len(lines)) == (2, 1), (arguments, status, lines)
    return lines[0]


def test_a_missing_key_is_one_line_that_names_the_file(run, tmp_path, capsys):
    main, out, picture = run
    whole = files.load(files.all_in(out)[0])
    path = files.path_of(tmp_path, 2)
    (tmp_path / "config.json").write_text((out / "config.json").read_text())
    keys = [(key,) for key in whole.state] + [("about", key) for key in whole.state["about"]]
    keys += [("best", key) for key in ("top1_error", "step")] + [("random", "calls")]
    refused = 0
    for key in keys:
        state = without(whole.state, key)
        files.save(path, files.Checkpoint(whole.model, whole.optimizer, whole.arrays, state))
        if key == ("about", "net"):
            continue  # as a checkpoint of before: its net is of the sizes of today
        if key not in (("epochs",), ("damaged",)):  # those an older run does not have
            said = ask(main, ["--resume", "--out", tmp_path, "--epochs", 2], capsys)
            assert str(path) in said and (
                "has no" in said or "expected a checkpoint with" in said
            ), said
            refused += 1
        if key[0] == "about":
            for way in (["--eval", path], ["--predict", path, picture]):
                assert str(path) in ask(main, way, capsys)
    assert refused > 15


@pytest.mark.parametrize("value", ["text", None, [], -1, float("nan")])
def test_an_odd_value_is_one_line_too(run, value, tmp_path, capsys):
    main, out, picture = run
    whole = files.load(files.all_in(out)[0])
    path = tmp_path / "odd.safetensors"
    for key in whole.state["about"]:
        state = copy.deepcopy(whole.state)
        state["about"][key] = value
        files.save(path, files.Checkpoint(whole.model, {}, whole.arrays, state))
        if key == "scale" and value == -1:
            continue  # a number like any other
        assert str(path) in ask(main, ["--predict", path, picture], capsys)


@pytest.mark.parametrize(
    "net", ["text", None, {"speed": 1}, {"hidden": "x"}, {"kernels": [1]}, {"hidden": 7}]
)
def test_an_odd_net_is_one_line_too(run, net, tmp_path, capsys):
    main, out, picture = run
    whole = files.load(files.all_in(out)[0])
    path = files.path_of(tmp_path, 2)
    (tmp_path / "config.json").write_text((out / "config.json").read_text())
    whole.state["about"]["net"] = net
    files.save(path, whole)
    for way in (["--resume", "--out", tmp_path, "--epochs", 2], ["--predict", path, picture]):
        assert str(path) in ask(main, way, capsys)


def test_arrays_that_do_not_fit(run, tmp_path, capsys):
    main, out, picture = run
    whole = files.load(files.all_in(out)[0])
    path = tmp_path / "odd.safetensors"
    model = dict(whole.model)
    model.pop("fc8.bias")
    for other, arrays in (
        (model, whole.arrays),
        (whole.model, {}),
        (whole.model, {"mean": np.zeros((3, 3, 3), np.float32)}),
        (whole.model | {"fc8.bias": np.zeros(7, np.float32)}, whole.arrays),
    ):
        files.save(path, files.Checkpoint(other, {}, arrays, whole.state))
        assert str(path) in ask(main, ["--predict", path, picture], capsys)


@pytest.mark.parametrize("text", ["[1]", "3", "null", "{", "[" * 100_000])
def test_a_state_that_is_no_dictionary(run, text, tmp_path, capsys):
    main, out, picture = run
    path = tmp_path / "odd.safetensors"
    with safe_open(files.all_in(out)[0], framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    metadata = {"format": "tinynet", "state": text}
    metadata["sha256"] = files._digest(arrays, metadata)
    save_file(arrays, path, metadata)
    assert str(path) in ask(main, ["--predict", path, picture], capsys)
    metadata.pop("state")
    metadata["sha256"] = files._digest(arrays, {"format": "tinynet"})
    save_file(arrays, path, metadata)
    assert "'state'" in ask(main, ["--predict", path, picture], capsys)
    assert json.loads((out / "config.json").read_text())["title"] == "mini AlexNet"
