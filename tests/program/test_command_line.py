"""examples/alexnet.py and its neighbours, on tiny folders of pictures: what they do, and each
mistake's one line.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.program.published import PUBLISHED
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_config, read_metrics
from tinynet.training.report import write_report

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def program():
    """A function that runs an example as its command line would: (name, arguments) -> status."""
    sys.path.insert(0, str(EXAMPLES))
    yield lambda name, *arguments: importlib.import_module(name).main([str(a) for a in arguments])
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """{train,val}/{dark,light}/*.png of 16 x 16 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for split, count in (("train", 16), ("val", 6)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 120, (16, 16, 3)) + 120 * label
                Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def finished(program, data, tmp_path_factory):
    """The folder of a finished run of two epochs."""
    out = tmp_path_factory.mktemp("runs") / "a"
    assert train(program, data, out) == 0
    return out


def train(program, data, out, *more):
    return program(
        "alexnet", "--data", data, "--out", out, "--epochs", 2, "--batch-size", 8, "--device",
        "cpu:0,cpu:1", *more,
    )  # fmt: skip


def test_a_run_leaves_everything_behind(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "best.safetensors", "step-00000008.safetensors", "metrics.jsonl", "config.json",
        "curves.png", "kernels.png", "confusion.png", "evaluation.json", "report.html",
    } <= names  # fmt: skip


def test_one_device_and_two_give_the_same_bits(finished, program, data, tmp_path, capsys):
    assert train(program, data, tmp_path / "one", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "epoch 2/2: test loss" in said
    assert "% of the 12 test pictures right" in said
    assert str(tmp_path / "one" / "report.html") in said
    one, two = (files.newest_whole(folder)[1] for folder in (finished, tmp_path / "one"))
    for name, array in one.model.items():
        assert array.tobytes() == two.model[name].tobytes(), name
    assert one.optimizer.keys() == two.optimizer.keys()
    for name, array in one.optimizer.items():
        assert array.tobytes() == two.optimizer[name].tobytes(), name


def test_resumed_with_more_epochs(finished, program, data, tmp_path, capsys):
    once = ("--epochs", 1, "--milestones", "1,2")  # those of two epochs
    assert train(program, data, tmp_path / "c", *once) == 0
    before = len(read_metrics(tmp_path / "c"))
    assert program("alexnet", "--resume", "--out", tmp_path / "c", "--epochs", 2) == 0
    assert "resuming from" in capsys.readouterr().out
    assert len(read_metrics(tmp_path / "c")) > before
    one, two = (files.newest_whole(folder)[1].model for folder in (finished, tmp_path / "c"))
    assert all(array.tobytes() == two[name].tobytes() for name, array in one.items())
    assert len(json.loads((tmp_path / "c" / "config.json").read_text())["commands"]) == 2


def test_what_a_resume_was_given_holds_for_the_next_one(program, data, tmp_path):
    out = tmp_path / "e"
    assert train(program, data, out, "--epochs", 1) == 0
    more = ("--epochs", 3, "--colour", 0.1)
    assert program("alexnet", "--resume", "--out", out, "--max-time", "1s", *more) == 0
    settings = read_config(out)["settings"]
    assert settings["epochs"] == 3 and settings["colour"] == 0.1
    assert program("alexnet", "--resume", "--out", out) == 0
    assert read_metrics(out)[-1]["epoch"] == 3


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_offered_after_an_error_fits_it(program, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "f"
    assert train(program, data, out, "--lr", 1e30) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"--resume --out {out} --set lr=...")
    save = files.save

    def full(path, checkpoint):
        if checkpoint.state["step"]:
            raise OSError(28, "No space left on device")
        save(path, checkpoint)

    monkeypatch.setattr(files, "save", full)
    assert train(program, data, tmp_path / "g") == 2
    assert capsys.readouterr().err.rstrip().endswith(f"--resume --out {tmp_path / 'g'}")


def test_set_at_resume(program, data, tmp_path, capsys):
    out = tmp_path / "d"
    assert train(program, data, out, "--epochs", 1) == 0
    before = files.newest_whole(out)[1].model
    edits = "lr=0.005,freeze=conv1"
    assert program("alexnet", "--resume", "--out", out, "--epochs", 2, "--set", edits) == 0
    after = files.newest_whole(out)[1].model
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert same == {"a.conv1.weight", "a.conv1.bias", "b.conv1.weight", "b.conv1.bias"}
    assert read_metrics(out)[-1]["lr"] == 0.005


def test_resume_takes_the_newest_run_of_this_program(data, program, tmp_path, monkeypatch):
    """Of a variant, too; and not a newer one of another program, whose preset has the same name."""
    monkeypatch.chdir(tmp_path)
    small = ("--data", data, "--epochs", 1, "--limit-batches", 1, "--batch-size", 8)
    assert program("alexnet", "--variant", "no-norm", *small) == 0
    (mine,) = (tmp_path / "runs").iterdir()
    other = shutil.copytree(mine, tmp_path / "runs" / "of-another")
    config = read_config(other) | {"title": "another net"}
    (other / "config.json").write_text(json.dumps(config))
    later = time.time() + 60
    for checkpoint in other.glob("*.safetensors"):
        os.utime(checkpoint, (later, later))
    assert program("alexnet", "--resume", "--epochs", 2) == 0
    assert [read_metrics(folder)[-1]["epoch"] for folder in (mine, other)] == [2, 1]


def test_whose_run_a_folder_is(program):
    owns = importlib.import_module("alexnet").PROGRAM.owns
    assert owns({"title": "mini AlexNet", "settings": {"preset": "mini"}})
    variant = {"preset": "mini", "variant": "no-norm"}
    assert owns({"title": "mini AlexNet (no-norm)", "settings": variant})
    assert owns({"title": PUBLISHED["torchvision"].title, "settings": {"preset": "torchvision"}})
    for title, settings in (
        ("perceptron, XOR", {"preset": "xor"}),
        ("another net", {"preset": "mini"}),
        ("mini AlexNet (old)", {"preset": "mini", "variant": "old"}),
        ("old", {}),
    ):
        assert not owns({"title": title, "settings": settings})
    assert not owns({})


def test_eval(finished, program, capsys, tmp_path):
    best = finished / "best.safetensors"
    assert program("alexnet", "--eval", best, finished, "--out", tmp_path / "e") == 0
    said = capsys.readouterr().out
    assert "centre view: top-1 error" in said and "ten views:   top-1 error" in said
    assert "dark" in said and "light" in said and said.startswith("the average of 2 nets:")
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    once = json.loads((finished / "evaluation.json").read_text())
    # a net averaged with itself is itself
    assert found["views"]["1"]["top1_error"] == once["views"]["1"]["top1_error"]
    assert found["views"]["1"]["loss"] == pytest.approx(once["views"]["1"]["loss"], rel=1e-5)


def test_predict(finished, program, data, capsys):
    picture = data / "val" / "dark" / "0.png"
    assert program("alexnet", "--predict", finished, picture, picture) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[3] == str(picture)
    shares = [float(line.split("%")[0]) for line in lines[1:3]]
    assert sum(shares) == pytest.approx(100, abs=0.2) and shares[0] >= shares[1]


def test_a_closed_pipe_is_no_fault_of_the_pictures(finished, program, data, capsys):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    picture = data / "val" / "dark" / "0.png"
    with contextlib.redirect_stdout(Closed()):
        assert program("alexnet", "--predict", finished, picture, picture) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "Broken pipe" in said[0] and "cannot be read" not in said[0]


def test_features_similar_and_report(finished, program, data, tmp_path, capsys):
    picture = data / "train" / "light" / "3.png"
    assert program("features", finished, tmp_path / "f.npy", picture, picture) == 0
    assert np.load(tmp_path / "f.npy").shape == (2, 512)
    assert program("features", finished, tmp_path / "f.safetensors", "--data", data) == 0
    assert (tmp_path / "f.safetensors").stat().st_size > 32 * 512 * 4
    assert program("similar", finished, picture, "test:0", "--out", tmp_path / "s.png") == 0
    assert Image.open(tmp_path / "s.png").width == 8 * (128 + 12)  # itself, five bars, the six
    assert program("features", finished, tmp_path / "c.npy", picture, "--layer", "conv2") == 0
    assert np.load(tmp_path / "c.npy").shape == (1, 64, 3, 3)
    sheet = tmp_path / "conv3.png"
    assert program("features", finished, sheet, "--data", data, "--layer", "conv3") == 0
    assert Image.open(sheet).width > 400
    said = capsys.readouterr().out
    assert "96 maps of conv3, each unit of which sees 23 x 23 pixels" in said
    assert program("features", finished, sheet, picture, "--layer", "conv9") == 2
    assert "one of AlexNet's conv1, conv2" in capsys.readouterr().err
    assert program("features", finished, tmp_path / "nowhere" / "f.npy", picture) == 2
    assert "expected a folder that is there" in capsys.readouterr().err
    assert program("report", finished) == 0
    assert "report.html" in capsys.readouterr().out


def mistakes(data, finished, tmp_path):
    """(what to type, what the one line must hold)."""
    (tmp_path / "empty" / "train" / "a").mkdir(parents=True)
    (tmp_path / "empty" / "val" / "a").mkdir(parents=True)
    for split, names in (("train", "abc"), ("val", "ab")):
        for name in names:
            folder = tmp_path / "differ" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (16, 16)).save(folder / "x.png")
    (tmp_path / "file").write_text("")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((finished / "best.safetensors").read_bytes()[:5000])
    (tmp_path / "new").mkdir()
    picture = data / "val" / "dark" / "0.png"
    bad = tmp_path / "bad.jpg"
    bad.write_text("this is not a picture")
    arrays = tmp_path / "features.safetensors"  # as examples/features.py writes them
    files.save_arrays(arrays, {"features": np.zeros((2, 3), np.float32)})
    weights = tmp_path / "weights.safetensors"  # as a loop of one's own may write them
    files.save(weights, files.Checkpoint({"w": np.zeros(3, np.float32)}))
    grey = tmp_path / "grey"
    grey.mkdir()
    for split in ("train", "t10k"):
        for kind, array in (("images-idx3", np.zeros((4, 16, 16))), ("labels-idx1", np.arange(4))):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (grey / f"{split}-{kind}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    out = ("--out", tmp_path / "new" / "run")
    return [
        (("--data", tmp_path / "nowhere", *out), "does not exist"),
        (("--data", tmp_path / "empty", *out), "expected pictures"),
        (("--data", tmp_path / "differ", *out), "c"),
        (("--device", "gpu0", *out), "gpu0"),
        (("--device", "cpu:0,cpu:1,cpu:2", *out), "one device or two"),
        (("--tf32", "--device", "cpu", *out), "--tf32"),
        (("--data", data, "--batch-size", 999, *out), "--batch-size auto"),
        (("--data", data, "--batch-size", 8, "--crop", 99, *out), "--crop: expected at most 16"),
        (("--data", data, "--set", "lr=1", *out), "needs --resume"),
        (("--resume", "--out", tmp_path / "no run"), "there is no "),
        (("--resume", "--out", tmp_path), "not the folder of a run"),
        (("--resume", "--out", finished, "--preset", "paper"), "preset"),
        (("--resume", "--out", finished, "--seed", 5), "seed"),
        (("--resume", "--out", finished, "--set", "freeze=conv9"), "conv9"),
        (("--resume", "--out", finished, "--set", "speed=3"), "SGD has no speed"),
        (("--resume", "--out", finished, "--set", "lr=abc"), "lr=abc"),
        (("--out", finished, "--data", data, "--batch-size", 8), "holds a run already"),
        (("--out", tmp_path / "file" / "run", "--data", data, "--batch-size", 8),
         str(tmp_path / "file")),
        (("--eval", tmp_path / "nowhere.safetensors"), "no checkpoint"),
        (("--eval", cut), "damaged"),
        (("--eval", bad), "not a checkpoint"),
        (("--eval", finished / "best.safetensors", "--data", tmp_path / "nowhere"),
         "does not exist"),
        (("--predict", finished, bad), "bad.jpg"),
        (("--predict", finished, tmp_path / "nowhere.jpg"), "nowhere.jpg"),
        (("--predict", finished), "FILE"),
        (("--predict", cut, picture), "damaged"),
        (("--eval", finished, "--crop", 12, "--lr", 1), "--eval does not take --crop, --lr:"),
        (("--eval", finished, "--resume"), "--eval does not take --resume"),
        (("--predict", finished, picture, "--data", data), "--predict does not take --data"),
        (("--eval", finished, "--predict", finished, picture), "does not take --predict"),
        (("--picture-size", 16, *out), "embedded pictures have sides of 28 pixels, not of 16"),
        (("--resume", "--out", finished, "--epochs", 1), "through 2 epochs"),
        (("--eval", arrays), "not a checkpoint of a run"),
        (("--eval", weights), "not a checkpoint of a run"),
        (("--eval", finished, weights), "not a checkpoint of a run"),
        (("--eval", finished, "--data", grey), "as the net was trained on, got data of 1 channel"),
    ]  # fmt: skip


def test_every_mistake_is_one_line_and_status_2(program, data, finished, tmp_path, capsys):
    for arguments, expected in mistakes(data, finished, tmp_path):
        capsys.readouterr()
        assert program("alexnet", *arguments) == 2, arguments
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and expected in lines[0], (arguments, lines)
    assert not (tmp_path / "new" / "run").exists()  # no mistake has left an empty run behind


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch-size", 0), ("--epochs", "many"), ("--lr", -1), ("--lr", "nan"),
        ("--preset", "huge"), ("--milestones", "1,x"), ("--set", "speed"),
        ("--max-time", "soon"), ("--max-time", "0s"), ("--colour", -1),
        ("--checkpoint-every", "often"), ("--unknown",), ("--epoch", 3),
    ],
)  # fmt: skip
def test_what_argparse_refuses_is_one_line_too(program, arguments, capsys):
    with pytest.raises(SystemExit) as left:
        program("alexnet", *arguments)
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and arguments[0] in lines[0]


def test_a_checkpoint_with_other_classes(program, finished, tmp_path, capsys):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (16, 16)).save(folder / f"{number}.png")
    assert program("alexnet", "--eval", finished, "--data", tmp_path / "pets") == 2
    assert "dark" in capsys.readouterr().err


def test_cuda_without_a_gpu(program, tmp_path, capsys):
    from tinynet import DeviceUnavailableError, device

    try:
        device("cuda:0")
    except DeviceUnavailableError:
        assert program("alexnet", "--device", "cuda:0", "--out", tmp_path / "x") == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and "cuda" in lines[0]
    else:
        pytest.skip("there is a GPU")


def test_a_report_of_a_run_in_progress(finished, tmp_path):
    """What a run has after its first checkpoint: config and metrics."""
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    assert "After each epoch" in write_report(tmp_path).read_text()
