"""A program's runs: one process a folder, what stays fixed at a resume, what is left behind."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from damage import OPTIONS, PROGRAM, make_pictures

from tinynet.data.prepare import prepare
from tinynet.lock import locked
from tinynet.program import Pictures, Recipe
from tinynet.program.options import rising_numbers
from tinynet.program.warned import warnings_in_words
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_config, read_metrics
from tinynet.training.report import write_report

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "four classes"  # a name with a blank
    make_pictures(folder, np.random.default_rng(3))
    return folder


def main(*arguments):
    return PROGRAM.main([str(argument) for argument in arguments])


def train(data, out, *more):
    return main("--data", data, "--workers", 0, "--device", "cpu", "--out", out, *more)


def test_a_run_folder_has_one_process(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", 1) == 0
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with locked(out):
        for way in (["--resume", "--epochs", 2], ["--data", data]):
            capsys.readouterr()
            assert main("--out", out, *way) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"process {os.getpid()} " in line and str(out) in line
        found = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        assert found.items() - before.items() <= {(".lock", found[".lock"])}
    assert main("--resume", "--out", out, "--epochs", 2) == 0


def recipe(**options):
    return Recipe("a net", Pictures(), batch_size=8, lr=0.1, **{"epochs": 6, **options})


@pytest.mark.parametrize(
    "epochs, expected", [(500, [333, 417]), (6, [4, 5]), (3, [2]), (1, []), (2, [1])]
)
def test_milestones_come_at_the_same_shares(epochs, expected):
    assert recipe(milestones=(4, 5)).milestones_of(epochs) == expected
    assert recipe().milestones_of(epochs) is None
    story = recipe(story=[(4, "lr", "1"), (5, "lr", "2")]).story_of(epochs)
    assert [row[0] for row in story] == expected


def test_milestones_that_come_to_one_epoch_count_once():
    """Or the rate would be divided by a hundred there."""
    assert recipe(epochs=60, milestones=(4, 5, 30)).milestones_of(6) == [1, 3]


@pytest.mark.parametrize("own", [10, 90])
def test_shares_are_exact(own):
    """The nearest epoch, of two the later one: 7 of 10 epochs are 31.5 of 45."""
    for epochs in range(1, 200):
        nearest = {each: (2 * each * epochs + own) // (2 * own) for each in range(1, own)}
        for each, wanted in nearest.items():
            wanted = [max(1, wanted)] if wanted < epochs > 1 else []
            mine = recipe(epochs=own, milestones=(each,), story=[(each, "lr", "1")])
            assert mine.milestones_of(epochs) == wanted
            assert mine.story_of(epochs) == [[epoch, "lr", "1"] for epoch in wanted]


def test_milestones_are_fixed_when_a_run_starts(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", 6, "--max-time", "1s") == 0
    said = capsys.readouterr().out
    assert "after epochs 2, 4: the 1, 2 of the recipe's 3, at the same shares of 6" in said
    assert train(data, tmp_path / "few", "--epochs", 1, "--limit-batches", 1) == 0
    assert "so few epochs end before the rate is divided by ten" in capsys.readouterr().out
    assert read_config(out)["settings"]["milestones"] == [2, 4]
    assert main("--resume", "--out", out, "--epochs", 7) == 0
    assert read_config(out)["settings"]["milestones"] == [2, 4]
    rates = [line["lr"] for line in read_metrics(out) if line["kind"] == "test"]
    np.testing.assert_allclose(rates, [0.05] * 2 + [0.005] * 2 + [0.0005] * 3, rtol=1e-6)
    assert main("--resume", "--out", out, "--epochs", 6) == 2
    assert "through 7 epochs" in capsys.readouterr().err
    assert main("--resume", "--out", out, "--epochs", 7) == 0
    assert train(data, tmp_path / "given", "--epochs", 4, "--milestones", "3") == 0
    assert read_config(tmp_path / "given")["settings"]["milestones"] == [3]


def test_a_short_run_that_goes_on_keeps_its_rate_and_says_so(data, tmp_path, capsys):
    """A milestone at its end would be the next epochs', at a tenth of the rate."""
    out = tmp_path / "run"
    assert train(data, out, "--epochs", 1) == 0
    capsys.readouterr()
    assert main("--resume", "--out", out, "--epochs", 3) == 0
    said = capsys.readouterr().out
    assert (
        "divided by ten after no epoch, not the 1, 2 of the recipe's 3: as this run is set" in said
    )
    assert {line["lr"] for line in read_metrics(out)} == {0.05}


@pytest.mark.parametrize("text", ["3,1", "2,2", "0,1", "1,,2", "-1"])
def test_milestones_that_do_not_rise(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        rising_numbers(text)


def test_a_limit_is_told_and_kept_by_a_resume(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", 1, "--limit-batches", 2) == 0
    said = capsys.readouterr().out
    assert "an epoch is 2 of 6 batches (--limit-batches); the test is whole" in said
    assert "of the 20 test pictures right" in said
    assert main("--resume", "--out", out, "--epochs", 2) == 0
    assert files.newest_whole(out)[1].state["step"] == 4
    capsys.readouterr()
    assert main("--resume", "--out", out, "--epochs", 3, "--limit-batches", 3) == 2
    assert "started with limit_batches 2, not 3" in capsys.readouterr().err


def test_predict_takes_folders_and_goes_on_past_a_bad_picture(data, tmp_path, capsys, caplog):
    out = tmp_path / "run"
    assert train(data, out, "--epochs", 2) == 0
    capsys.readouterr()
    assert main("--predict", out, data / "val") == 0
    assert len(re.findall(r"^/.*png$", capsys.readouterr().out, re.MULTILINE)) == 20
    bad = tmp_path / "some"
    bad.mkdir()
    good = data / "val" / "class 1" / "0.png"
    (bad / "a.png").write_text("no picture")
    (bad / "b.png").write_bytes(good.read_bytes())
    (bad / "below").mkdir()
    for name in ("c.txt", "below/d.txt", "below/e"):
        (bad / name).touch()
    assert main("--predict", out, bad, good) == 2
    said = capsys.readouterr()
    assert said.out.count("class 1\n") >= 2 and str(bad / "b.png") in said.out
    assert caplog.messages == [f"{bad}: passed over 2 .txt files, 1 other file"]
    first, last = said.err.splitlines()
    assert str(bad / "a.png") in first and last.endswith("1 of 3 could not be read")
    (tmp_path / "none").mkdir()
    assert main("--predict", out, tmp_path / "none") == 2
    assert "expected pictures in this folder, got none" in capsys.readouterr().err
    assert main("--eval", out) == 0
    assert "is the best of 2 epochs on these pictures" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_has_a_whole_report(data, tmp_path):
    """Nothing is done at its end: no signal is caught, nothing is drawn there."""
    out = tmp_path / "a run"
    program = (
        "import os, signal, sys; from damage import PROGRAM\n"
        "from tinynet.training.trainer import Trainer\n"
        "step = Trainer._train_step\n"
        "def until(self, batch):\n"
        "    step(self, batch)\n"
        "    if self.step == int(sys.argv[1]): os.kill(os.getpid(), int(sys.argv[2]))\n"
        "Trainer._train_step = until\n"
        "sys.exit(PROGRAM.main(sys.argv[3:]))\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    way = ["--data", data, "--workers", "0", "--device", "cpu", "--out", out]

    def kill(step, number, *arguments):
        return subprocess.run(
            [sys.executable, "-c", program, str(step), str(number), *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=100,
        )  # fmt: skip

    assert kill(3, 9, *way).returncode == -9  # before the first test
    assert "kernels" in write_report(out).read_text()
    done = kill(8, 9, "--resume", "--out", out)
    assert done.returncode == -9, done.stderr
    page = write_report(out).read_text()
    for title in ("Curves", "kernels", "From best", "Confusion", "Error by class", "Health"):
        assert title in page
    assert "Recognised" in page or "Taken for something else" in page
    assert "not at its end: 1 of 3 epochs are done" in page
    assert "48 pictures to train on" in page and "rate divided by ten after epochs" in page
    done = kill(10, 1, "--resume", "--out", out)  # SIGHUP
    assert done.returncode == 129 and f"--resume --out '{out}'" in done.stdout


def test_a_damaged_picture_in_a_prepared_folder(data, tmp_path, capsys):
    shards, out = tmp_path / "shards", tmp_path / "run"
    prepare(data, shards, OPTIONS, workers=1, progress=False)
    shard = shards / "train-000002.tar"
    content = bytearray(shard.read_bytes())
    content[np.load(shards / "train.npy")["offset"][16] + 20] ^= 1  # its first picture's
    shard.write_bytes(content)
    assert train(shards, out) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    for what in (f"{shard}: picture 16", "--repair", "last good checkpoint", "--skip-damaged N"):
        assert what in line
    assert main("--resume", "--out", out, "--skip-damaged", 1) == 0
    assert read_metrics(out)[-1]["damaged"] == 1
    assert "left out: they cannot be read" in (out / "report.html").read_text()


def test_warnings_are_told_in_our_words_once(capsys):
    with warnings_in_words("net.py"), warnings.catch_warnings():
        warnings.simplefilter("always")
        for _ in range(3):
            warnings.warn("overflow encountered in multiply", RuntimeWarning, stacklevel=1)
            warnings.warn("invalid value encountered in add", RuntimeWarning, stacklevel=1)
            warnings.warn("Glyph 12354 (x) missing from font(s) DejaVu.", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # python -W error
        with warnings_in_words("net.py"):
            np.float32(3e38) * np.float32(10)
            with pytest.raises(UserWarning):
                warnings.warn("something else", stacklevel=1)
    lines = capsys.readouterr().err.splitlines()
    assert "NaN" in lines.pop()
    assert len(lines) == 3 and all(line.startswith("net.py: warning: ") for line in lines)
    assert "NaN" in lines[0] and "font" in lines[1] and lines[2].endswith("something else")
