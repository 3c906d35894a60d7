"""The lines a run writes, and what remains of them after a kill."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from tinynet.errors import DataError
from tinynet.training.metrics import MetricsLog, read_config, read_metrics, write_config
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


def test_a_fresh_run_starts_an_empty_file(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old\n")
    MetricsLog(tmp_path).close()
    assert read_metrics(tmp_path) == []
    assert read_metrics(tmp_path / "nowhere") == []


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
    log.write("train", 50, loss=2.0, health={"conv1": [1, 2]})
    log.close()
    assert written == [(str(tmp_path / "tensorboard"), "train/loss", 2.0, 50), "closed"]
