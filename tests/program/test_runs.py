"""Run folders, settings at resume, --set, durations."""

from __future__ import annotations

import argparse
import json
import os
from types import SimpleNamespace

import pytest

from tinynet.errors import CheckpointError, DataError, DeviceUnavailableError, FolderInUseError
from tinynet.program.options import Parser, at_least, duration, edits, not_negative, rate
from tinynet.program.runs import (
    chosen_on,
    data_settings,
    default_devices,
    devices_of_rank,
    find_checkpoint,
    find_devices,
    go_on_in,
    new_folder,
    newest_folder,
    open_data,
    settings_of,
    start_in,
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
        pytest.raises(CheckpointError, match="not the folder of a run: it has no config.json$"),
        go_on_in(tmp_path, lambda config: False),
    ):
        pass
    imported = tmp_path / "imported"
    imported.mkdir()
    files.save(imported / files.BEST, Checkpoint({}))
    with (
        pytest.raises(CheckpointError, match="what --import keeps: --import FILE --data PATH"),
        go_on_in(imported, lambda config: False),
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


@pytest.mark.parametrize(
    "gpus, ranks, most, names",
    [
        (2, 1, 2, "cuda:0,cuda:1"), (3, 2, 2, "cuda:0"), (4, 2, 2, "cuda:0,cuda:1"),
        (1, 2, 2, "cpu:0,cpu:1"), (2, 2, 1, "cuda:0"), (1, 2, 1, "cpu:0"), (5, 1, 1, "cuda:0"),
    ],
)  # fmt: skip
def test_every_rank_of_a_host_has_gpus_of_its_own(gpus, ranks, most, names, monkeypatch):
    def find(name):
        if int(name[5:]) >= gpus:
            raise DeviceUnavailableError(f"{name}: no such GPU")

    monkeypatch.setattr("tinynet.program.runs.find_device", find)
    assert default_devices(most, ranks) == names
    if names.startswith("cuda"):
        mine = [devices_of_rank(names, rank).split(",") for rank in range(ranks)]
        apart = [name for each in mine for name in each]
        assert len({*apart}) == len(apart) and all(int(name[5:]) < gpus for name in apart)
    twice = [devices_of_rank("cuda:0,cuda:0", rank) for rank in range(2)]
    assert twice == ["cuda:0,cuda:0", "cuda:1,cuda:1"]
    assert devices_of_rank("cuda, cuda:1", 1) == "cuda:2,cuda:3"


def test_the_newest_run_is_that_of_the_newest_checkpoint(tmp_path):
    """Not the folder that something was written to last, nor the one of the best checkpoint."""
    old, new = (new_folder(tmp_path, "mini") for _ in range(2))
    for folder, when in ((new, 200), (old, 100)):
        write_config(folder, {}, "a net", Classification)
        for step in (1, 2):
            files.save(files.path_of(folder, step), Checkpoint({}))
            os.utime(files.path_of(folder, step), (when + step, when + step))
    files.keep_best(files.path_of(old, 1))
    os.utime(files.path_of(new, 1), (1, 1))
    os.utime(new, (50, 50))
    assert newest_folder(lambda config: True, tmp_path) == new


def test_a_runs_folder_is_held_while_it_is_used(tmp_path):
    """By a new run and by one that goes on; and let go of, whatever ends it."""
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError), start_in(folder, "mini") as mine:
        assert mine == folder
        write_config(folder, {}, "a net", Classification)
        for way in (start_in(folder, "mini"), go_on_in(folder, lambda config: True)):
            with pytest.raises(FolderInUseError), way:
                pass
        raise RuntimeError
    with go_on_in(folder, lambda config: False) as mine:  # named: nobody asks whose it is
        for way in (start_in(folder, "mini"), go_on_in(folder, lambda config: True)):
            with pytest.raises(FolderInUseError), way:
                pass
    with start_in(folder, "mini"):  # without a checkpoint it is no run yet
        pass
    files.save(files.path_of(folder, 0), Checkpoint({}))
    with pytest.raises(CheckpointError, match="holds a run already"), start_in(folder, "mini"):
        pass
    file = files.path_of(folder, 0)
    with pytest.raises(CheckpointError, match="a new name, got a file"), start_in(file, "mini"):
        pass
    with go_on_in(folder, lambda config: True):
        pass


def test_settings_newer_than_a_run_may_be_given(tmp_path):
    write_config(tmp_path, {"epochs": 3, "lr": None}, "a net", Classification)
    found = settings_of(tmp_path, {"colour": 0.5, "epochs": 4}, {"epochs"})
    assert found == {"epochs": 4, "lr": None, "colour": 0.5}
    with pytest.raises(CheckpointError, match="started with lr None, not 0.1: leave --lr out"):
        settings_of(tmp_path, {"lr": 0.1}, {"epochs"})
    assert settings_of(tmp_path, {"lr": None}, set()) == {"epochs": 3, "lr": None}


def test_data_of_a_run_or_those_that_are_named(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    write_config(run, {"data": "there", "crop": 5}, "a net", Classification)
    for path in (run, str(run), run / files.BEST, files.path_of(run, 3)):
        assert data_settings(path, None) == {"data": "there", "crop": 5}
        assert data_settings(path, "here") == {"data": "here"}
    assert data_settings(tmp_path / "alone.safetensors", None) == {"data": None}


def test_a_path_of_the_run_that_is_not_there_is_named_as_its(tmp_path):
    class Room:
        def open(self, settings):
            raise DataError("no data")

    gone, there = {"data": "gone"}, {"data": str(tmp_path)}
    told = "no data; the run runs/a was trained on gone: give --data PATH, where it is now"
    for settings, run, data, message in (
        (gone, "runs/a", None, told),
        (gone, "runs/a", "gone", "no data"),
        (gone, None, None, "no data"),
        (there, "runs/a", None, "no data"),
        ({"data": None}, "runs/a", None, "no data"),
    ):
        with pytest.raises(DataError) as error:
            open_data(Room(), settings, run, data)
        assert str(error.value) == message


def test_a_best_was_chosen_on_its_own_data_alone(tmp_path):
    for name, epochs, data in (("one", 1, None), ("two", 2, None), ("other", 3, "there")):
        run = tmp_path / name
        run.mkdir()
        write_config(run, {"data": data}, "a net", Classification)
        lines = [{"kind": kind} for kind in ["train", "test"] * epochs]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        files.save(files.path_of(run, 1), Checkpoint({}))
        files.keep_best(files.path_of(run, 1))
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    assert chosen_on([two], None) == f"{two / files.BEST} is the best of 2 epochs"
    assert chosen_on([one, other, two], None) == chosen_on([two / files.BEST], None) != ""
    assert chosen_on([other], "there").endswith("is the best of 3 epochs")
    for checkpoints, data in (
        ([one], None), ([two], "there"), ([other], None), ([], None),
        ([files.path_of(two, 1)], None),
    ):  # fmt: skip
        assert chosen_on(checkpoints, data) == ""


def test_devices_by_their_names(monkeypatch):
    """The last one is repeated; one GPU named twice is two logical devices, one CPU is one."""

    def find(name):
        kind = name.partition(":")[0]
        return SimpleNamespace(name=name, kind=kind, twin=lambda: f"twin of {name}")

    found = {}
    monkeypatch.setattr(
        "tinynet.program.runs.find_device", lambda name: found.setdefault(name, find(name))
    )
    assert [d.name for d in find_devices("cpu:0, cpu:1", 3)] == ["cpu:0", "cpu:1", "cpu:1"]
    first, second = find_devices("cuda:0,cuda:0", 2)
    assert first.name == "cuda:0" and second == "twin of cuda:0"
    for names in ("cuda:0,cuda:1", "cpu:0,cpu:0"):
        assert [d.name for d in find_devices(names, 2)] == names.split(",")
    one, two = find_devices("cuda:0", 2)
    assert one is two  # both halves on it, in one stream
