"""features.py, similar.py, report.py, prepare_imagenet.py: what is asked of whom and told."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.data import ArrayDataset, Loader
from tinynet.data.prepare import Options
from tinynet.errors import DataError
from tinynet.parallel.ranks import ALONE, Ranks
from tinynet.program import Pictures, published
from tinynet.program.program import Loaded
from tinynet.training.features import features as made_of
from tinynet.training.features import nearest
from tinynet.training.inputs import batch_of

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "paper")]
import alexnet  # noqa: E402
import claims  # noqa: E402
import features  # noqa: E402
import prepare_imagenet  # noqa: E402
import report  # noqa: E402
import similar  # noqa: E402

CPU = tinynet.device("cpu")


def pictures(seed: int, count: int) -> ArrayDataset:
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 256, (count, 16, 16, 1), np.uint8)
    return ArrayDataset(made, rng.integers(0, 3, count), ["bag", "hat", "shoe"])


class Sets(Pictures):
    """Its sets are made here; what was asked for is kept."""

    asked: list[dict] = []

    def open(self, settings):
        self.asked.append(settings)
        return pictures(1, 300), pictures(2, 5)

    def read(self, about, path):
        return pictures(2, 5).picture(int(Path(path).stem))


@pytest.fixture
def run(monkeypatch):
    """A loaded net of few kernels; similar.py's sheet is kept, not drawn."""
    tinynet.manual_seed(0)
    small = replace(alexnet.MINI, kernels=[2, 3, 4, 4, 3], hidden=5)
    net = alexnet.AlexNet(3, small, ("cpu", "cpu"), 1, 16).eval()
    reader = Sets(scale=1 / 64)
    Sets.asked.clear()
    train = pictures(1, 300)
    about = {**reader.describe(reader.settings(), train), **reader.state(), "preset": "mini"}
    task = reader.task(about, reader.arrays(about, train), (CPU,))
    recipe = replace(alexnet.RECIPES["mini"], data=reader)
    loads, sheets = [], []
    monkeypatch.setattr(
        alexnet.PROGRAM, "load",
        lambda paths, device: loads.append((paths, device)) or Loaded([net], task, about, recipe),
    )  # fmt: skip
    monkeypatch.setattr(similar, "contact_sheet", lambda rows, path: sheets.append((rows, path)))
    monkeypatch.setattr(similar, "bars", lambda *each: each)
    return SimpleNamespace(net=net, task=task, about=about, loads=loads, sheets=sheets, train=train)


def rows_of(run, dataset, layer=""):
    with Loader(dataset, 64, crop=16, train=False) as loader:
        return made_of(run.net, loader.epoch(0), run.task.make_inputs, layer)


@pytest.mark.parametrize("layer", ["", "conv3", "fc6", "fc7"])
def test_a_row_for_each_training_picture_and_its_label(layer, run, tmp_path, capsys):
    out = tmp_path / "f.safetensors"
    words = f"run {out} --data there --device cpu:1 {f'--layer {layer}' * bool(layer)}"
    assert features.main(words.split()) == 0
    found = tinynet.load(out)
    np.testing.assert_array_equal(found["labels"].numpy(), run.train.labels)
    wanted = rows_of(run, run.train, layer)
    np.testing.assert_allclose(found["features"].numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert run.loads == [(["run"], "cpu:1")] and Sets.asked[0]["data"] == "there"
    shape = " x ".join(map(str, wanted.shape[1:]))
    assert capsys.readouterr().out == f"{out}: 300 pictures, {shape} values each\n"


def test_rows_of_files_in_their_order_and_embedded_pictures(run, tmp_path):
    out = tmp_path / "f.npy"
    assert features.main(["run", str(out), "3.png", "--device", "cpu", "0.png", "3.png"]) == 0
    wanted = rows_of(run, pictures(2, 5))[[3, 0, 3]]
    np.testing.assert_allclose(np.load(out), wanted, rtol=1e-5, atol=1e-6)
    assert not Sets.asked
    assert features.main(["run", str(out), "--data", "embedded"]) == 0
    assert Sets.asked[0]["data"] is None and np.load(out).shape == (300, 10)


def test_each_rank_reads_its_batches_and_one_writes(run, tmp_path, monkeypatch):
    loaders, real = [], features.Loader
    monkeypatch.setattr(
        features, "Loader", lambda *each, **more: loaders.append(real(*each, **more)) or loaders[-1]
    )
    monkeypatch.setattr(features.together, "begin", lambda job, args: None)
    args = SimpleNamespace(
        checkpoint="run", out=tmp_path / "f.npy", pictures=[], data="there", layer="", device=None
    )
    for rank in (0, 1):
        job = SimpleNamespace(rank=rank, size=2, gather=lambda mine: [mine, []])
        assert features.run(args, job) == 0
        assert loaders[-1].every == (rank, 2) and args.out.exists() == (rank == 0)
        args.out.unlink(missing_ok=True)
    monkeypatch.setattr(features.together, "fail", lambda job, text, complain: text)
    sheet = {"out": tmp_path / "f.png"}
    for alone in (sheet, {"pictures": ["1.png"], "data": None}):
        said = features.run(SimpleNamespace(**{**vars(args), **alone}), job)
        assert "a sheet, and single pictures, are for one rank" in said and len(loaders) == 2


@pytest.mark.parametrize("layer, maps", [("", 10), ("conv2", 6)])
def test_a_sheet_shows_the_patches_of_a_layer(layer, maps, run, tmp_path, monkeypatch, capsys):
    drawn = []
    monkeypatch.setattr(
        features, "draw_patches", lambda *each, groups: drawn.append((*each, groups))
    )
    words = f"run {tmp_path / 'f.png'} --data there {f'--layer {layer}' * bool(layer)}"
    assert features.main(words.split()) == 0
    ((patches, path, groups),) = drawn
    assert len(patches) == maps and path == tmp_path / "f.png" and groups == 2
    assert patches.shape[1] == 9 and 16 <= patches.shape[2] <= 32
    # conv1 5, pool 3 of stride 2, conv2 3, pool 3: 5 + 2 + 2 * 2 + 2 * 2
    seen = "15 x 15 pixels" if layer else "the whole picture"
    said = f"{maps} maps of {layer or 'fc7'}, each unit of which sees {seen}"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["f.txt", "1.png"], "OUT must end in"), (["f.npy"], "either pictures or --data"),
        (["f.npy", "1.png", "--data", "x"], "either pictures or --data"),
        (["no/f.npy", "1.png"], "OUT: expected a folder that is there, got no"),
        (["f.npy", "1.png", "--layer", "fc8"], "expected one of AlexNet's conv1"),
    ],
)  # fmt: skip
def test_mistakes_of_features(words, said, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert features.main(["run", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and said in line and not list(Path(".").glob("f.*"))


@pytest.mark.parametrize("out", ["f.npy", "f.png"])
def test_without_a_name_it_is_the_last_layer_that_a_net_has(out, run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(features, "draw_patches", lambda patches, *_, groups: drawn.append(patches))
    run.net.preset = replace(run.net.preset, layers=run.net.preset.layers[:-1])
    del run.net.a.fc7, run.net.b.fc7
    run.net.fc8 = nn.Identity()
    assert features.main(["run", str(tmp_path / out), "--data", "there"]) == 0
    if drawn:
        assert len(drawn[0]) == 10  # fc6, five units of each tower
    else:
        wanted = rows_of(run, run.train, "fc6")
        np.testing.assert_allclose(np.load(tmp_path / out), wanted, rtol=1e-5, atol=1e-6)


def test_a_net_of_others_has_no_layers_to_name(run, tmp_path, capsys, monkeypatch):
    net = nn.Sequential(nn.Flatten())
    net.features = lambda x: 2 * x.flatten(1)
    other = published.Prepared(net, "RGB", (1.0,), CPU)
    monkeypatch.setattr(
        alexnet.PROGRAM, "load",
        lambda *_: Loaded([other], run.task, run.about, SimpleNamespace(data=Sets())),
    )  # fmt: skip
    for words in (["f.png", "--data", "x"], ["f.npy", "1.png", "--layer", "conv1"]):
        assert features.main(["run", *words]) == 2
        assert "a net of others: expected features in .npy" in capsys.readouterr().err
    for words, rows in ((["3.png", "0.png"], 2), (["--data", "x"], 300)):
        assert features.main(["run", str(tmp_path / "f.npy"), *words]) == 0
        said = f"f.npy: {rows} pictures, 256 values each\n"
        assert np.load(tmp_path / "f.npy").shape == (rows, 256)
        assert capsys.readouterr().out.endswith(said)


def test_what_stands_in_a_row_of_similar_pictures(run, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "hat"
    folder.mkdir()
    monkeypatch.chdir(folder)  # a name alone is of the class of the folder that one is in
    asked = ["test:4", "2.png", "test:0", str(tmp_path / "1.png")]
    monkeypatch.setattr(
        similar.runs, "data_settings", lambda run, data: {"data": data, "picture_size": 99}
    )
    words = "--data there --out sheet.png --device cpu:1".split()
    assert similar.main(["run", *asked[:2], *words, *asked[2:]]) == 0
    ((rows, path),) = run.sheets
    assert path == Path("sheet.png") and len(rows) == 4 and run.loads == [(["run"], "cpu:1")]
    assert (Sets.asked[0]["data"], Sets.asked[0]["picture_size"]) == ("there", 16)  # the net's own
    test, known = pictures(2, 5), rows_of(run, run.train)
    truths = [test.classes[test.labels[4]], "hat", test.classes[test.labels[0]], "class unknown"]
    for row, number, truth, name in zip(rows, (4, 2, 0, 1), truths, asked, strict=True):
        (picture, said), ((names, shares, marked), most), *nearby = row
        np.testing.assert_array_equal(picture, test.picture(number))
        assert said == f"{truth}\n{Path(name).name}" and marked == truth
        batch = batch_of([picture], 16)
        logits = run.net(run.task.make_inputs(batch)[0]).numpy()[0]
        wanted = np.exp(logits) / np.exp(logits).sum()
        assert names == [run.train.classes[k] for k in np.argsort(-wanted)]
        np.testing.assert_allclose(shares, np.sort(wanted)[::-1], rtol=1e-4)
        assert most == f"{wanted.max():.0%}"
        query = made_of(run.net, [batch], run.task.make_inputs)[0]
        places, distances = nearest(query, known)
        assert len(nearby) == 6
        for (each, words), place, far in zip(nearby, places, distances, strict=True):
            np.testing.assert_array_equal(each, run.train.picture(int(place)))
            assert words == f"{run.train.classes[run.train.labels[place]]}\n{far:.1f} away"
    assert "of 300 training pictures" in capsys.readouterr().out


WRONG = {  # what ends a program at once, with status 2
    "features.py": ["run", "f.txt", "1.png"], "similar.py": ["nowhere", "1.png"],
    "report.py": ["nowhere"], "prepare_imagenet.py": ["nowhere", "out"], "claims.py": ["run"],
}  # fmt: skip
PROGRAMS = sorted(path for path in EXAMPLES.rglob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_file_is_a_program(path, monkeypatch, tmp_path, capsys):
    """It ends with its status; a long one tells each line at once, in log files too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(path.parent))
    words = WRONG.get(path.name, ["--set", "lr=1"])
    monkeypatch.setattr("sys.argv", [str(path), *words])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(path), run_name="__main__")
    assert left.value.code == 2 and capsys.readouterr().err.count("\n") == 1
    quick = path.parent == EXAMPLES and path.name != "alexnet.py"
    assert sys.stdout.line_buffering != quick


@pytest.mark.parametrize("tool", [features, prepare_imagenet])
def test_one_rank_is_heard_and_all_end_together(tool, monkeypatch, capsys):
    """Whatever fails on one of them."""
    ended = []
    for rank in (0, 1):
        job = SimpleNamespace(rank=rank, size=2, name="", abort=lambda status: ended.append(status))
        monkeypatch.setattr(tool.together, "started", lambda job=job: job)

        def fails(*arguments, rank=rank):
            print(f"from {rank}")
            raise KeyError("lost")

        monkeypatch.setattr(tool.together, "parsed", fails)
        tool.main([])
    said = capsys.readouterr()
    assert ended == [1, 1] and said.out == "from 0\n" and said.err.count("KeyError: 'lost'") == 2


@pytest.mark.parametrize("tool", [similar, report, claims])
def test_tools_for_one_rank(tool, monkeypatch):
    def alone():
        raise SystemExit(7)

    monkeypatch.setattr(tool.together, "alone", alone)
    with pytest.raises(SystemExit, match="7"):
        tool.main(["--help"])


def test_a_test_picture_that_is_not_there(run, capsys):
    for name in ("test:5", "test:-1", "test:x", "test:"):
        assert similar.main(["run", name]) == 2
        assert f"{name}: the test pictures are test:0 to test:4" in capsys.readouterr().err
    assert not run.sheets


@pytest.mark.parametrize("tool", [similar, features])
def test_a_tool_is_stopped(tool, monkeypatch, capsys):
    """On all ranks, where there may be several."""

    def stopped(*_):
        raise KeyboardInterrupt

    ended = []
    monkeypatch.setattr(Ranks, "abort", lambda self, status: ended.append(status))
    monkeypatch.setattr(alexnet.PROGRAM, "load", stopped)
    assert tool.main(["run", "f.png", "1.png", *["--layer=conv1"] * (tool is features)]) == 130
    assert capsys.readouterr() == ("", "") and ended == [130] * (tool is features)


def test_reports_of_several_runs(monkeypatch, capsys):
    monkeypatch.setattr(report, "write_report", lambda folder: folder / "report.html")
    assert report.main(["a", "b"]) == 0
    assert capsys.readouterr().out == "a/report.html\nb/report.html\n"

    def fails(folder):
        raise DataError(f"{folder}: no run")

    monkeypatch.setattr(report, "write_report", fails)
    assert report.main(["a"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith("error: a: no run\n")


# --- prepare_imagenet.py --------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch):
    """What was asked for, in its order."""
    asked = []

    def prepare(job, source, out, options, *, workers, max_bad):
        asked.append(("prepare", source, out, options, workers, max_bad))
        counts = {"train": 1234, "val": 5}
        return {"pictures": counts, "classes": 3, "left_out": 2}

    monkeypatch.setattr(prepare_imagenet, "prepare_over", prepare)
    monkeypatch.setattr(
        prepare_imagenet, "check_md5", lambda source, progress: asked.append(("md5", source))
    )
    monkeypatch.setattr(
        prepare_imagenet, "verify", lambda out, progress: asked.append(("verify", out)) or []
    )
    monkeypatch.setattr(
        prepare_imagenet, "repair",
        lambda out, source, workers: asked.append(("repair", out, source, workers)) or ["a.tar"],
    )  # fmt: skip
    return asked


PLAIN = Options()


@pytest.mark.parametrize(
    "words, options, workers, max_bad",
    [
        ("", PLAIN, None, 0.01),
        ("--full", Options(form="full"), None, 0.01),
        ("--raw", Options(form="raw"), None, 0.01),
        ("--size 64", Options(size=64), None, 0.01),
        ("--quality 75 --chroma 4:4:4", Options(quality=75, chroma="4:4:4"), None, 0.01),
        ("--shard 7", Options(shard=7), None, 0.01),
        ("--val-share 0.25", Options(val_share=0.25), None, 0.01),
        ("--workers 3", PLAIN, 3, 0.01),
        ("--max-bad 0", PLAIN, None, 0.0),
        ("--max-bad 0.5", PLAIN, None, 0.5),
    ],
)
def test_what_is_said_is_how_it_is_prepared(words, options, workers, max_bad, prepared, capsys):
    assert prepare_imagenet.main(["from", "to", *words.split()]) == 0
    assert prepared == [("prepare", "from", Path("to"), options, workers, max_bad)]
    assert capsys.readouterr().out == (
        "to: 1,234 training and 5 validation pictures of 3 classes; 2 left out, see to/report.tsv\n"
    )


def test_sums_are_checked_first(prepared):
    assert prepare_imagenet.main(["from", "to", "--md5"]) == 0
    assert [what for what, *_ in prepared] == ["md5", "prepare"]


def test_verified_and_repaired(prepared, monkeypatch, capsys):
    assert prepare_imagenet.main(["--verify", "to"]) == 0
    assert prepare_imagenet.main(["--repair", "to"]) == 0
    assert prepare_imagenet.main(["from", "--repair", "to", "--workers", "2"]) == 0
    assert prepared == [("verify", "to"), ("repair", "to", None, None), ("repair", "to", "from", 2)]
    said = capsys.readouterr().out
    assert "to: all well" in said and "to: whole; written again: a.tar" in said
    monkeypatch.setattr(prepare_imagenet, "verify", lambda out, progress: ["one", "two"])
    assert prepare_imagenet.main(["--verify", "to"]) == 1
    said = capsys.readouterr()
    assert said.err == "one\ntwo\n" and "2 problem(s); to mend: " in said.out


@pytest.mark.parametrize(
    "words",
    [
        "--verify to --size 5", "--verify to --workers 2", "from --verify to", "--repair to --raw",
        "--repair to --max-bad 0", "from", "", "from to --raw --quality 50", "from to --raw --full",
        "from to --raw --chroma 4:4:4", "from to --workers 0", "from to --max-bad -1",
        "from to --val-share 1", "--verify to --repair to", "--verify to --md5",
    ],
)  # fmt: skip
def test_what_does_not_go_together(words, prepared, capsys):
    with pytest.raises(SystemExit) as left:
        prepare_imagenet.main(words.split())
    assert left.value.code == 2 and not prepared
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "name, done", [("SIGINT", 3), ("SIGTERM", 3), ("SIGHUP", 3), ("SIGINT", 0), ("SIGINT", None)]
)
def test_a_signal_ends_it_in_one_line_and_is_let_go(
    name, done, prepared, monkeypatch, tmp_path, capsys
):
    """A plan, a part that is being written and a shard without its part are not done."""
    if done is not None:
        (tmp_path / "parts").mkdir()
        for other in ("parts/plan.json", "parts/.train-000003.npz.77", "train-000003.tar"):
            (tmp_path / other).touch()
    for part in range(done or 0):
        (tmp_path / "parts" / f"{part}.npz").touch()
        (tmp_path / f"{part}.tar").touch()
    before = signal.getsignal(signal.Signals[name])
    kept = []

    def prepare(*arguments, **options):
        try:
            os.kill(os.getpid(), signal.Signals[name])
            for _ in range(1000):
                signal.getsignal(signal.SIGINT)
        except prepare_imagenet.Stopped:  # a second one ends the program at once
            kept.extend(signal.getsignal(getattr(signal, n)) for n in prepare_imagenet.SIGNALS)
            raise

    def abort(status):  # other ranks end, too; nothing comes after it
        ended.append((status, capsys.readouterr().err))

    ended = []
    job = Ranks()
    job.abort = abort
    monkeypatch.setattr(prepare_imagenet.together, "started", lambda: job)
    monkeypatch.setattr(prepare_imagenet, "prepare_over", prepare)
    assert prepare_imagenet.main(["from", str(tmp_path)]) == 128 + signal.Signals[name]
    ((status, said),) = ended
    assert status == 128 + signal.Signals[name]
    kept_shards = "3 shards are done, and " if done else ""
    assert said == f"stopped by {name}: {kept_shards}the same command goes on from here\n"
    assert signal.getsignal(signal.Signals[name]) is before
    assert kept == [signal.SIG_DFL] * 3


def test_a_mistake_is_one_line(prepared, monkeypatch, capsys):
    def fails(*arguments, **options):
        raise DataError("from: no pictures")

    monkeypatch.setattr(prepare_imagenet, "prepare_over", fails)
    before = [signal.getsignal(getattr(signal, name)) for name in prepare_imagenet.SIGNALS]
    assert prepare_imagenet.main(["from", "to"]) == 2
    assert capsys.readouterr().err == "error: from: no pictures\n"
    assert [signal.getsignal(getattr(signal, name)) for name in prepare_imagenet.SIGNALS] == before
    many = SimpleNamespace(**{**vars(ALONE), "size": 2})
    begun = []
    monkeypatch.setattr(prepare_imagenet.together, "begin", lambda *each: begun.append(each))
    args = prepare_imagenet.parse(["from", "to"])
    with pytest.raises(DataError):
        prepare_imagenet.run(args, many)
    assert begun == [(many, args)]  # that ranks are alike is known before
    for words in (["--verify", "to"], ["--repair", "to"]):
        with pytest.raises(tinynet.TinynetError, match="for one rank"):
            prepare_imagenet.run(prepare_imagenet.parse(words), many)
