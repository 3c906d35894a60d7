"""Run folders, settings at resume, --set, durations."""

from __future__ import annotations

import argparse
import os

import pytest

from tinynet.errors import CheckpointError, DeviceUnavailableError
from tinynet.program.options import Parser, at_least, duration, edits, not_negative, rate
from tinynet.program.runs import (
    default_devices,
    find_checkpoint,
    find_devices,
    go_on_in,
    new_folder,
    newest_folder,
    settings_of,
)
from tinynet.training import checkpoint as files
from tinynet.training.checkpoint import Checkpoint
from tinynet.training.metrics import write_config
from tinynet.training.task import Classification


def test_two_runs_in_one_second_have_two_folders(tmp_path):
    folders = {new_folder(tmp_path / "runs", "mini") for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() and "mini" in folder.name for folder in folders)


def test_newest_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no run of this program"):
        newest_folder(lambda config: True, tmp_path / "runs")
    first, second, unsaved, other = (new_folder(tmp_path, "mini") for _ in range(4))
    for folder in (first, second, unsaved):
        write_config(folder, {}, "a net", Classification)
    write_config(other, {}, "another program's", Classification)
    for folder in (second, first, other):
        files.save(files.path_of(folder, 1), Checkpoint({}))
    os.utime(files.path_of(second, 1), (1, 1))
    assert newest_folder(lambda config: config["title"] == "a net", tmp_path) == first
    with pytest.raises(CheckpointError, match="no run of this program"):
        newest_folder(lambda config: config["title"] == "a deeper net", tmp_path)


def test_find_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    files.save(files.path_of(tmp_path, 3), Checkpoint({}))
    files.save(files.path_of(tmp_path, 12), Checkpoint({}))
    assert find_checkpoint(tmp_path) == files.path_of(tmp_path, 12)
    files.keep_best(files.path_of(tmp_path, 3))
    assert find_checkpoint(tmp_path) == tmp_path / files.BEST
    assert find_checkpoint(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"


def test_what_may_change_at_resume(tmp_path):
    with (
        pytest.raises(CheckpointError, match="not the folder of a run"),
        go_on_in(tmp_path, lambda config: False),
    ):
        pass
    settings = {"preset": "mini", "epochs": 10, "batch_size": 64}
    write_config(tmp_path, settings, "a net", Classification)
    given = {"epochs": 12, "batch_size": 64}
    assert settings_of(tmp_path, given, {"epochs"}) == {
        "preset": "mini", "epochs": 12, "batch_size": 64
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="started with preset mini, not paper"):
        settings_of(tmp_path, {"preset": "paper"}, {"epochs"})
    with pytest.raises(CheckpointError, match="leave --batch-size out"):
        settings_of(tmp_path, {"batch_size": 32}, {"epochs"})


def test_edits():
    assert edits("lr=0.001, freeze=conv1") == [("lr", "0.001"), ("freeze", "conv1")]
    for wrong in ("lr", "lr=", "=1", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="was expected"):
            edits(wrong)


def test_durations():
    assert duration("90s") == 1.5
    assert duration("10m") == 10
    assert duration("1.5h") == 90
    for wrong in ("10", "m", "-5m", "1d", "0s", "0.0h"):
        with pytest.raises(argparse.ArgumentTypeError, match="such as 90s"):
            duration(wrong)


def test_device_pairs(capsys):
    assert [str(d) for d in find_devices("cpu:0,cpu:1", 2)] == ["cpu", "cpu:1"]
    assert find_devices("cpu", 2) == find_devices("cpu,cpu", 2)
    for wrong in ("gpu0", "cpu,", "cpu:0,cpu:1,cpu:2"):
        with pytest.raises(ValueError, match="device"):
            find_devices(wrong, 2)
    assert [str(d) for d in find_devices("cpu:1", 1)] == ["cpu:1"]
    with pytest.raises(ValueError, match="expected one device, got 2"):
        find_devices("cpu:0,cpu:1", 1)
    assert default_devices(2) and "," not in default_devices(1)


def test_default_devices_are_the_gpus_there_are(monkeypatch):
    for count, names in [(0, "cpu:0,cpu:1"), (1, "cuda:0"), (3, "cuda:0,cuda:1")]:

        def find(name, count=count):
            if int(name[-1]) >= count:
                raise DeviceUnavailableError(f"{name}: no such GPU")

        monkeypatch.setattr("tinynet.program.runs.find_device", find)
        assert default_devices(2) == names


def test_rates():
    assert rate("0.01") == 0.01
    for wrong in ("0", "-1", "inf", "nan", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="a number above 0 was expected"):
            rate(wrong)


def test_not_negative():
    assert not_negative("0") == 0 and not_negative("0.1") == 0.1
    for wrong in ("-1", "inf", "nan", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="at least 0 was expected"):
            not_negative(wrong)


def test_a_thousand_runs_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20120930-120000")
    assert [new_folder(tmp_path, "mini").name for _ in range(2)] == [
        "20120930-120000-mini",
        "20120930-120000-mini-1",
    ]
    for number in range(2, 1000):
        (tmp_path / f"20120930-120000-mini-{number}").mkdir()
    with pytest.raises(OSError, match="holds a thousand runs called 20120930-120000-mini"):
        new_folder(tmp_path, "mini")


def test_a_wrong_command_line_is_one_line(capsys):
    parser = Parser(prog="net.py")
    parser.add_argument("--batch-size", type=at_least(1))
    for wrong in ("0", "-3", "x", "1.5"):
        with pytest.raises(SystemExit) as left:
            parser.parse_args(["--batch-size", wrong])
        assert left.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and "--batch-size" in lines[0] and repr(wrong) in lines[0]
