"""--export and --import of the examples: a net leaves, comes back, is tested, used, trained on."""

from __future__ import annotations

import base64
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet.program import published
from tinynet.training import checkpoint as files

onnx = pytest.importorskip("onnx")
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def program():
    """A function that runs an example as its command line would: (name, arguments) -> status."""
    sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "history")]
    yield lambda name, *arguments: importlib.import_module(name).main([str(a) for a in arguments])
    del sys.path[:2]


def make_pictures(root, classes, side=16):
    rng = np.random.default_rng(1)
    for split, count in (("train", 12), ("val", 5)):
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 90, (side, side, 3)) + 80 * label
                Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def folder(program, tmp_path_factory):
    """pictures/, three/ (another class more), a run a/, and what it was written to."""
    root = tmp_path_factory.mktemp("exchange")
    make_pictures(root / "pictures", ("dark", "light"))
    make_pictures(root / "three", ("dark", "light", "middle"))
    train = ("--epochs", 1, "--batch-size", 8, "--device", "cpu:0,cpu:1")
    assert program("alexnet", "--data", root / "pictures", "--out", root / "a", *train) == 0
    assert program("alexnet", "--export", root / "a.onnx", root / "a") == 0
    assert program("alexnet", "--export", root / "raw.onnx", root / "a", "--raw") == 0
    assert program("alexnet", "--export", root / "a.safetensors", root / "a") == 0
    assert program("alexnet", "--import", root / "a.onnx", "--out", root / "b") == 0
    return root


def said(program, capsys, *arguments):
    capsys.readouterr()
    assert program("alexnet", *arguments) == 0
    return capsys.readouterr().out


def test_a_net_that_comes_back_says_the_same(program, folder, capsys):
    picture = folder / "pictures" / "val" / "dark" / "1.png"
    for use in (("--eval", "{}", "--data", folder / "pictures"), ("--predict", "{}", picture)):
        here, there = (
            said(program, capsys, *(folder / run if part == "{}" else part for part in use))
            for run in ("a", "b")
        )
        assert here == there and "dark" in here


def test_weights_and_metadata(folder):
    state, saved = tinynet.load(folder / "a.safetensors"), files.load(folder / "a" / files.BEST)
    assert list(state) == sorted(saved.model)
    for name, x in state.items():
        np.testing.assert_array_equal(x.numpy(), saved.model[name])
    model = onnx.load(folder / "a.onnx")
    known = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(known["classes"]) == ["dark", "light"]
    assert json.loads(known["scale"]) == 1 / 64 and json.loads(known["crop"]) == 14
    mean = saved.arrays["mean"].mean(axis=(0, 1))
    np.testing.assert_allclose(json.loads(known["mean"]), mean, atol=1e-3)
    assert [i.name for i in model.graph.input] == ["pictures"]
    assert [o.name for o in model.graph.output] == ["logits"]


def test_raw_pictures_go_in(program, folder, capsys):
    """What the file says of a picture's bytes is what --predict says."""
    ort = pytest.importorskip("onnxruntime")
    path = folder / "pictures" / "val" / "light" / "2.png"
    session = ort.InferenceSession(folder / "raw.onnx")
    given = session.get_inputs()[0]
    assert (given.name, given.type, given.shape) == ("pictures", "tensor(uint8)", ["N", 16, 16, 3])
    pixels = np.asarray(Image.open(path))
    (logits,) = session.run(None, {"pictures": np.stack([pixels, pixels[::-1]])})
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    line = said(program, capsys, "--predict", folder / "a", path).splitlines()[1]
    assert line == f"  {100 * shares.max():5.1f} %  {['dark', 'light'][shares.argmax()]}"


@pytest.mark.slow
def test_trained_on_from_there(program, folder, capsys, tmp_path):
    """On pictures with another class; stopped and resumed, it ends with the same bits."""
    start = ("--import", folder / "a.onnx", "--data", folder / "three", "--batch-size", 8)
    for out, epochs in ((tmp_path / "whole", 2), (tmp_path / "parts", 1)):
        more = ("--milestones", 9, "--out", out, "--epochs", epochs)
        assert program("alexnet", *start, *more) == 0
    assert program("alexnet", "--resume", "--out", tmp_path / "parts", "--epochs", 2) == 0
    whole, parts = (files.newest_whole(tmp_path / name)[1] for name in ("whole", "parts"))
    assert whole.state["about"]["classes"] == ["dark", "light", "middle"]
    for name, array in whole.model.items():
        np.testing.assert_array_equal(array, parts.model[name])
    began = files.load(folder / "b" / files.BEST).model
    moved = np.abs(whole.model["net.weights.a.conv2.weight"] - began["net.weights.a.conv2.weight"])
    assert 0 < moved.max() < 0.05
    assert "3 classes" not in said(program, capsys, "--eval", tmp_path / "whole", "--data",
                                   folder / "three")  # fmt: skip


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--export", "a.txt", "a"), "expected a name that ends in .onnx or .safetensors"),
        (("--export", "b.safetensors", "a", "--raw"), "expected --raw with .onnx alone"),
        (("--export", "b.onnx", "a", "--data", "x"), "--export does not take --data"),
        (("--raw",), "--raw is for --export"),
        (("--looks", "caffe"), "--looks is for --import"),
        (("--import", "a.txt"), "expected a name that ends in .onnx, .caffemodel"),
        (("--import", "none.onnx"), "none.onnx cannot be read"),
        (("--import", "a/config.json"), "expected a name that ends in"),
        (("--import", "a.safetensors"), "export other nets as .onnx, also those of tinynet"),
        (("--predict", "a.safetensors", "x.png"), "expected a checkpoint, got weights alone"),
        (
            (
                "--start-from",
                "a.safetensors",
                "--data",
                "pictures",
                "--out",
                "n",
                "--batch-size",
                "8",
            ),
            "a.safetensors: expected a checkpoint, got weights alone",
        ),
        (("--import", "raw.onnx"), "if --export wrote it, export without --raw"),
        (("--resume", "--out", "b"), "no config.json; to train what --import keeps: --import"),
        (("--import", "a.onnx", "--looks", "caffe"), "leave --looks out"),
        (("--import", "a.onnx", "--seed", "1"), "--import does not take --seed"),
        (("--import", "a.onnx", "--epochs", "1", "--preset", "mini"), "does not take --preset"),
        (("--import", "a.onnx", "--eval", "a"), "does not take --import"),
        (("--import", "a.onnx", "--out", "a"), "holds a run already"),
        (("--import", "a.onnx", "--data", "three", "--out", "n"), "expected the 2 classes"),
        (("--import", "a.onnx", "--epochs", "1", "--out", "n"), "pictures have sides of 28"),
    ],
)
def test_mistakes_are_answered_in_a_line(program, folder, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert program("alexnet", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "change",
    [
        dict(classes=None), dict(classes=["dark"]), dict(classes=["a\nb", "c"]), dict(scale="1"),
        dict(scale=-1.0), dict(picture_size=10**12), dict(picture_size=3), dict(image_size=None),
        dict(in_channels=1), dict(mean="?"), dict(mean_shape=[2**40, 2**40, 3]), dict(mean_shape=3),
    ],
    ids=str,
)  # fmt: skip
def test_damaged_metadata_is_refused(change, folder, tmp_path):
    model, path = onnx.load(folder / "a.onnx"), tmp_path / "net.onnx"
    (told,) = (prop for prop in model.metadata_props if prop.key == "tinynet")
    known = json.loads(told.value)
    told.value = json.dumps(known | change)
    onnx.save(model, path)
    with pytest.raises(tinynet.ModelFileError, match="expected metadata that --export wrote|class"):
        published.read(str(path), None)
    mean = base64.b64encode(np.zeros((14, 14, 3), "<f4").tobytes()).decode()  # as cfg145 has it
    told.value = json.dumps(known | dict(mean=mean, mean_shape=[14, 14, 3]))
    onnx.save(model, path)
    assert published.read(str(path), None).mean.shape == (14, 14, 3)
    told.value = told.value[: len(told.value) // 2]
    onnx.save(model, path)
    with pytest.raises(tinynet.ModelFileError, match="expected metadata that --export wrote"):
        published.read(str(path), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    """alexnet resnet vgg googlenet lenet5 autoencoder vae gan gpt bert transformer perceptron
    backprop""".split(),
)
def test_every_example_exports(name, program, tmp_path, capsys):
    ort = pytest.importorskip("onnxruntime")
    data = tmp_path / "text.txt"
    data.write_text("ROMEO:\nThe king is dead, long live the king of all the lands.\n" * 40)
    if name not in ("gpt", "bert", "transformer"):
        data = make_pictures(tmp_path / "p", ("dark", "light"), 32)
    if name == "transformer":
        data.write_text("ein zwei\tone two\nzwei drei vier\ttwo three\n" * 10)
    made = name in ("perceptron", "backprop")
    given = () if made else ("--data", data, "--batch-size", 8)
    assert program(name, *given, "--epochs", 1, "--out", tmp_path / "run") == 0
    path = tmp_path / "net.onnx"
    assert program(name, "--export", path, tmp_path / "run") == 0
    module = importlib.import_module(name)
    program = getattr(module, "PROGRAM", None) or module.main.__self__
    (model,), task, about, recipe = program.load([tmp_path / "run"])
    feeding = recipe.data.feeding(model, task, about, False)
    several = feeding.example if isinstance(feeding.example, tuple) else (feeding.example,)
    session = ort.InferenceSession(path)
    inputs = [np.concatenate([x, x[::-1]]) for x in several]
    names = [i.name for i in session.get_inputs()]
    (theirs,) = session.run(None, dict(zip(names, inputs, strict=True)))
    with tinynet.no_grad():
        ours = (feeding.call or model)(*map(tinynet.tensor, inputs)).numpy()
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize("name, preset", [("perceptron", "xor"), ("backprop", "families")])
def test_nets_of_tables_export(name, preset, program, tmp_path, capsys):
    ort = pytest.importorskip("onnxruntime")
    path, run = tmp_path / "net.onnx", tmp_path / "run"
    quick = ("--epochs", 1, "--limit-batches", 3)
    assert program(name, "--preset", preset, *quick, "--out", run) == 0
    assert program(name, "--export", path, run) == 0
    assert "; in: rows, float32 (N, " in capsys.readouterr().out
    assert program(name, "--export", path, run, "--raw") == 2
    module = importlib.import_module(name)
    (model,), _, about, _ = module.main.__self__.load([run])
    x = np.random.default_rng(1).normal(size=(5, *about["inputs"])).astype(np.float32)
    (theirs,) = ort.InferenceSession(path).run(["y"], {"x": x})
    np.testing.assert_allclose(theirs, model(tinynet.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)
