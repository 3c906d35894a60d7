"""The lines a run writes, and what remains of them after a kill."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from tinynet.errors import DataError
from tinynet.training.metrics import (
    MetricsLog,
    NoMetricsLog,
    read_config,
    read_metrics,
    versions,
    write_config,
)
from tinynet.training.task import Classification


def test_lines_after_the_checkpoint_are_cut_off(tmp_path):
    log = MetricsLog(tmp_path)
    log.write("train", 50, loss=2.0)
    size = log.sync()
    log.write("train", 100, loss=1.5)
    log.close()
    with open(log.path, "a") as file:
        file.write('{"kind": "train", "st')  # killed in the middle of a line
    assert [line["step"] for line in read_metrics(tmp_path)] == [50, 100]
    log = MetricsLog(tmp_path, size)
    log.write("train", 100, loss=1.25)
    log.close()
    assert read_metrics(tmp_path) == [
        {"kind": "train", "step": 50, "loss": 2.0},
        {"kind": "train", "step": 100, "loss": 1.25},
    ]
    log.path.unlink()  # by its user: the run goes on, with a file of new lines
    log = MetricsLog(tmp_path, size)
    log.write("train", 150)
    log.close()
    assert read_metrics(tmp_path) == [{"kind": "train", "step": 150}]


def test_every_line_is_in_the_file_at_once(tmp_path):
    """A kill loses none; who watches a run sees it go on."""
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.write("train", step)
        assert len(read_metrics(tmp_path)) == step
    log.close()


def test_a_config_is_replaced_whole(tmp_path, monkeypatch):
    write_config(tmp_path, {"lr": 1}, "a net", Classification)
    before = (tmp_path / "config.json").read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_config(tmp_path, {"lr": 2}, "a net", Classification)
    assert (tmp_path / "config.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_fresh_run_starts_an_empty_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old\n")
    MetricsLog(tmp_path).close()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path / "nowhere") == []


def test_a_line_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": \xff\xfe}\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 2: expected JSON.*delete this line"):
        read_metrics(tmp_path)
    path.write_bytes('{"step": "ü"}\n{"step": "€'.encode()[:-1])  # a kill cut a letter in two
    assert read_metrics(tmp_path) == [{"step": "ü"}]
    path.write_bytes(b'{"step": 1}')  # whole as it looks, but its end is missing
    assert read_metrics(tmp_path) == []


def test_a_resume_keeps_the_start_and_replaces_what_it_goes_on_with(tmp_path, monkeypatch):
    """Every entry is the first start's or the last resume's."""

    class Other(Classification):
        measures, best_by, unit = {}, "loss", "others"

    def write(argv, resumed, task, **options):
        monkeypatch.setattr("sys.argv", argv)
        write_config(tmp_path, {"lr": argv[1]}, argv[0], task, resumed=resumed, **options)
        return json.loads((tmp_path / "config.json").read_text())

    first = write(["a.py", "1"], False, Classification, data={"train": [9, "x"]}, kernels=["w"])
    monkeypatch.setattr("time.strftime", lambda *args: "later")
    monkeypatch.setattr("platform.machine", lambda: "another")
    again = write(
        ["b.py", "2 3"], True, Other, data={"train": [8, "y"]}, kernels=("v", "u"), ranks=4
    )
    went_on = {"settings", "data", "kernels", "commands"}
    assert {name for name in first | again if first.get(name) != again.get(name)} == went_on
    assert again["settings"] == {"lr": "2 3"} and again["kernels"] == ["v", "u"]
    assert again["data"] == {"train": [8, "y"]}
    assert [command.split("python")[0] for command in again["commands"]] == ["", "mpiexec -n 4 "]
    assert again["commands"][1].endswith("b.py '2 3'")
    new = write(["b.py", "2"], False, Other)
    assert new["commands"] == [new["commands"][0]] and "mpiexec" not in new["commands"][0]
    assert (new["started"], new["unit"], new["title"]) == ("later", "others", "b.py")
    assert new["data"] == {} and new["kernels"] == [] and new["best_by"] == "loss"


def test_config_remembers_every_command(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["alexnet.py", "--seed", "1"])
    write_config(tmp_path, {"seed": 1}, "a net", Classification)
    monkeypatch.setattr("sys.argv", ["alexnet.py", "--resume"])
    write_config(tmp_path, {"seed": 1, "epochs": 9}, "other", Classification, resumed=True)
    config = read_config(tmp_path)
    assert config["settings"] == {"seed": 1, "epochs": 9}  # the next resume goes on with them too
    assert config["title"] == "a net"
    assert [command.split(" ", 1)[1] for command in config["commands"]] == [
        "alexnet.py --seed 1",
        "alexnet.py --resume",
    ]
    assert {"python", "numpy"} <= config["versions"].keys()
    assert config["measures"] == Classification.measures and config["best_by"] == "top1_error"
    assert json.loads((tmp_path / "config.json").read_text())["title"] == "a net"


@pytest.mark.parametrize("text", ["{", "", "[1]", "{}", "7"])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match="config.json is damaged"):
        read_config(tmp_path)


def test_a_new_run_keeps_nothing_of_one_that_was_never_saved(tmp_path):
    """Killed between its config and its first checkpoint: its folder may be used again."""
    for rate in (1.0, 0.1):
        write_config(tmp_path, {"lr": rate}, "a net", Classification)
    config = read_config(tmp_path)
    assert config["settings"] == {"lr": 0.1} and len(config["commands"]) == 1


def test_a_config_from_before_there_were_tasks_is_one_of_pictures(tmp_path):
    (tmp_path / "config.json").write_text('{"settings": {"preset": "mini"}}')
    config = read_config(tmp_path)
    assert config["title"] == "mini" and config["unit"] == "pictures"
    assert config["measures"] == Classification.measures and config["best_by"] == "top1_error"


def test_numbers_go_to_tensorboard_where_it_is_installed(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            written.append((self.folder, name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    log = MetricsLog(tmp_path)
    log.write("train", 50, loss=2.0, health={"conv1": [1, 2]}, epoch=3, name="text")
    log.close()
    folder = str(tmp_path / "tensorboard")
    assert written == [(folder, "train/loss", 2.0, 50), (folder, "train/epoch", 3, 50), "closed"]


@pytest.mark.parametrize("missing", ["", "numpy", "cupy-cuda12x", "cupy-cuda13x"])
def test_versions_of_what_is_there(missing, monkeypatch):
    def version(package):
        if package == missing:
            raise PackageNotFoundError(package)
        return f"1 of {package}"

    monkeypatch.setattr("tinynet.training.metrics.metadata.version", version)
    packages = {"tinynet", "numpy", "pillow", "cupy-cuda12x", "cupy-cuda13x"} - {missing}
    found = versions()
    assert found.pop("python") == platform.python_version()
    assert found == {package: f"1 of {package}" for package in packages}


def test_the_log_of_a_rank_that_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = NoMetricsLog()
    log.write("train", 1, loss=2.0)
    assert log.sync() == 0
    log.close()
    assert not list(tmp_path.iterdir())
