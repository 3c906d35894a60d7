"""A whole program on data and a task that are told beforehand: what comes of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from told_program import settings_in, weights_of

import tinynet
from tinynet import random
from tinynet.optim.lr_scheduler import MultiStep
from tinynet.parallel.ranks import Ranks
from tinynet.program import runs
from tinynet.program.options import interval, rising_numbers
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_config
from tinynet.training.trainer import Trainer


def test_a_recipes_values_where_nothing_is_given(told):
    assert told.run("--out", "a", "--preset", "second") == 0
    (trainer,) = told.trainers
    assert trainer.epochs == 4 and trainer.optimizer.lr == pytest.approx(0.005)
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.5
    assert isinstance(trainer.schedule, MultiStep) and trainer.schedule.milestones == [2, 3]
    assert trainer.about == {"preset": "second", "side": 1, "rows": 12}
    assert settings_in("a") == {
        "epochs": 4, "batch_size": 2, "lr": 0.5, "milestones": [2, 3], "story": [], "width": 3,
        "side": 1, "preset": "second", "device": runs.default_devices(2), "data": None, "seed": 0,
        "workers": None, "limit_batches": None, "skip_damaged": 0, "variant": None,
        "start_from": None, "scale_lr": None,
    }  # fmt: skip
    wanted = {"keep": 3, "max_minutes": None, "limit_batches": None, "skip_damaged": 0, "story": []}
    assert {name: trainer.options[name] for name in wanted} == wanted
    assert told.run("--out", "b") == 0
    assert told.trainers[1].options["advice"] == "Wait."
    assert told.trainers[1].optimizer.param_groups[0]["momentum"] == 0.9
    assert told.run("--out", "c", "--preset", "third", "--epochs", 8) == 0
    assert told.trainers[2].schedule.epochs == 8


def test_what_is_given_is_before_the_recipe(told):
    words = "--out a --preset second --epochs 3 --batch-size 3 --lr 0.125 --milestones 1 --seed 7"
    more = "--keep 1 --limit-batches 2 --max-time 2h --checkpoint-every 5 --width 0 --workers 0"
    assert told.run(*words.split(), *more.split()) == 0
    (trainer,) = told.trainers
    assert trainer.epochs == 3 and trainer.train.batch_size == 3
    assert trainer.schedule.milestones == [1] and trainer.optimizer.lr == pytest.approx(0.0125)
    assert trainer.batches == 2 and trainer.max_minutes == 120
    assert trainer.checkpoint_batches == 5 and trainer.checkpoint_minutes is None
    assert trainer.saver.keep == 1 and random.get_state()["seed"] == 7
    settings = settings_in("a")
    assert settings["seed"] == 7 and settings["width"] == 0 and settings["workers"] == 0
    assert told.rooms[1].asked[0][1]["width"] == 0


def test_training_pictures_train_and_test_pictures_test(told):
    assert told.run("--out", "a") == 0
    train, test = told.rooms[0].loaders
    assert train.train and not test.train
    assert max(train.rows) < 1 and min(test.rows) >= 100
    assert train.left and test.left
    (trainer,) = told.trainers
    assert trainer.train is train and trainer.test is test
    np.testing.assert_allclose(trainer.saver.arrays["mean"], np.mean(train.rows))


def test_the_seed_makes_the_first_weights(told):
    found = []
    for seed in (5, 5, 6):
        random.set_state({"seed": 123, "calls": len(found)})
        told.run("--out", f"run{len(found)}", "--seed", seed, "--keep", 9)
        found.append(weights_of(files.path_of(Path(f"run{len(found)}"), 0)))
    assert found[0] == found[1] != found[2]


def test_the_end_is_of_the_best_in_use_mode(told, capsys):
    """Tested once more, saved, then reported: the report has the evaluation in it."""
    told.rooms[0].tests[:] = [10.0, 20.0]
    assert told.run("--out", "a") == 0
    (found,) = told.rooms[0].evaluated
    assert found["weights"] == [weights_of(Path("a") / files.BEST)]
    assert found["weights"] != [weights_of(files.path_of(Path("a"), 6))]
    assert found["modes"] == [False] and found["full"] is False and min(found["rows"]) >= 100
    assert "12.50" in (Path("a") / "report.html").read_text()
    said = capsys.readouterr().out
    assert "has been through 2 of 2 epochs" in said and "is small" in said


def test_a_resume_keeps_what_it_was_started_with(told, capsys):
    told.run("--out", "a", "--preset", "second", "--seed", 3, "--lr", 0.25, "--milestones", "9")
    assert told.run("--resume", "--out", "a", "--epochs", 6, "--width", 5, "--keep", 1) == 0
    first, again = told.trainers
    assert again.epochs == 6 and again.optimizer.lr == 0.25 and random.get_state()["seed"] == 3
    assert again.schedule.milestones == [9] and again.step == 36
    assert settings_in("a") | {"width": 5, "epochs": 6} == settings_in("a")
    assert len(read_config(Path("a"))["commands"]) == 2
    assert len(files.all_in(Path("a"))) == 1
    assert told.run("--resume", "--out", "a", "--side", 2) == 2
    assert told.run("--resume", "--out", "a", "--lr", 0.5) == 2
    assert "started with lr 0.25, not 0.5: leave --lr out" in capsys.readouterr().err
    assert settings_in("a")["lr"] == 0.25
    assert (
        told.run("--resume", "--out", "a", "--seed", 3, "--lr", 0.25) == 0
    )  # the same is no change


def test_set_changes_the_run_after_it_was_read_back(told):
    told.run("--out", "a")
    words = "lr=0.0625,momentum=0.25"
    assert told.run("--resume", "--out", "a", "--epochs", 3, "--set", words) == 0
    again = told.trainers[-1]
    assert again.optimizer.lr == 0.0625 and again.optimizer.param_groups[0]["momentum"] == 0.25
    assert settings_in("a")["epochs"] == 3


def test_a_wrong_edit_leaves_the_settings_alone(told, capsys):
    told.run("--out", "a")
    before = (Path("a") / "config.json").read_text()
    assert told.run("--resume", "--out", "a", "--epochs", 9, "--set", "speed=3") == 2
    assert "speed=3" in capsys.readouterr().err
    assert (Path("a") / "config.json").read_text() == before


def test_without_out_a_run_has_a_folder_and_the_newest_goes_on(told, capsys):
    told.run()
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("-first")
    assert told.run("--resume", "--epochs", 3) == 0
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]
    assert told.trainers[-1].step == 9
    assert told.run("--out", folder) == 2
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_is_the_status_and_a_stop_by_time_is_a_run_that_ends(
    name, told, monkeypatch, capsys
):
    def stop(self, batch, real=Trainer._train_step):
        real(self, batch)
        if self.step == 3:
            os.kill(os.getpid(), signal.Signals[name])

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", stop)
        assert told.run("--out", "a") == 128 + signal.Signals[name]
    assert not told.rooms[0].evaluated and (Path("a") / "report.html").exists()
    assert capsys.readouterr().out.endswith(
        f"stopped by {name}\nsaved: a/step-00000004.safetensors\n"
        "to go on: python net.py --resume --out a\nreport: a/report.html\n"
    )
    assert told.run("--out", "b", "--max-time", "0.000001s") == 0
    assert len(told.rooms[0].evaluated) == 1
    said = capsys.readouterr().out
    assert "epochs (ended by --max-time)" in said and said.endswith("--resume --out b\n")


def test_mistakes_are_told_on_stderr_with_status_2(told, monkeypatch, capsys):
    assert told.run("--data", "bad", "--out", "a") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith("error: bad: expected rows, got none\n")
    assert said.err.count("\n") == 1 and not Path("a").exists()
    ended = []
    with monkeypatch.context() as patch:
        patch.setattr(Ranks, "abort", lambda self, status: ended.append(status))
        assert told.run("--data", "Ctrl-C", "--out", "a") == 130 == ended.pop()  # others, too
    assert told.run("--set", "lr=1", "--out", "a") == 2
    assert "needs --resume" in capsys.readouterr().err


def test_eval_is_of_all_nets_on_their_own_data_in_every_way(told, capsys):
    for seed in (1, 2):
        told.run("--out", f"run{seed}", "--seed", seed, "--data", "there", "--width", 7)
    capsys.readouterr()
    told.rooms[0].asked.clear()
    assert told.run("--eval", "run1", "run2", "--out", "deep/found", "--batch-size", 3) == 0
    found = told.rooms[0].evaluated[-1]
    assert found["weights"] == [weights_of(Path(f"run{seed}") / files.BEST) for seed in (1, 2)]
    assert found["weights"][0] != found["weights"][1]
    assert found["modes"] == [False, False] and found["full"] is True
    assert min(found["rows"]) >= 100 and not told.rooms[0].loaders[-1].train
    assert told.rooms[0].loaders[-1].batch_size == 3
    assert told.rooms[0].asked[0][1]["data"] == "there"
    assert told.rooms[0].asked[-1] == ("save", Path("deep/found"))
    assert "2 nets" in capsys.readouterr().out
    for full in (False, True):  # what could not be saved is not said to be there
        if full:
            told.rooms[0].save = lambda *each: Path("deep/found").rmdir()
        assert told.run("--eval", "run1", "--out", "deep/found") == 2 * full
        assert ("the same, in numbers" in capsys.readouterr().out) == (not full)
    assert told.run("--eval", "run1", "--data", "elsewhere") == 0
    opened = [settings for what, settings in told.rooms[0].asked if what == "open"]
    assert opened[-1]["data"] == "elsewhere"
    assert told.rooms[0].loaders[-1].batch_size == 128


def test_eval_refuses_nets_that_are_about_other_things(told, capsys):
    told.run("--out", "a")
    told.run("--out", "b", "--side", 9)
    assert told.run("--eval", "a", "b") == 2
    assert "side 1, as this run has, got 9" in capsys.readouterr().err


def test_predict_tells_of_every_file_by_the_best_net(told, capsys):
    told.run("--out", "a")
    Path("folder").mkdir()
    for name in ("x", "y"):
        (Path("folder") / name).touch()
    capsys.readouterr()
    assert told.run("--predict", "a", "one", "two", "folder") == 0
    mean = told.rooms[0].made.mean.tolist()
    assert capsys.readouterr().out.splitlines() == [
        f"{what}: False {mean}" for what in ("one", "two", "folder/x", "folder/y")
    ]
    assert told.run("--predict", "a", "one", "odd", "two") == 2
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and "odd: odd" in said.err
    (Path("folder") / "odd").touch()
    assert told.run("--predict", "a", "folder") == 2
    assert capsys.readouterr().err.endswith("1 of 3 could not be read\n")
    Path("none").mkdir()
    for folders in (["none"], ["folder", "none"], ["none", "folder"]):
        assert told.run("--predict", "a", *folders) == 2  # before anything is told
        said = capsys.readouterr()
        assert not said.out and "none: expected rows in this folder, got none" in said.err
    assert told.run("--predict", "a") == 2
    assert told.run("--predict", "a", "one", "--data", "x") == 2
    assert "does not take --data" in capsys.readouterr().err


def test_threads_are_set(told):
    before = tinynet.devices.threads.get_num_threads()
    try:
        assert told.run("--out", "a", "--threads", before + 1) == 0
        assert tinynet.devices.threads.get_num_threads() == before + 1
    finally:
        tinynet.set_num_threads(before)


def test_auto_is_a_size_that_fits_the_set_and_is_kept(told, monkeypatch, capsys):
    calls = []

    def fitting(step, devices, most):
        for count in (2, 4):
            step(count)
            calls.append(count)
        return 64, "there is room"

    monkeypatch.setattr("tinynet.program.starting.fitting_batch_size", fitting)
    assert told.run("--out", "a", "--batch-size", "auto") == 0
    assert settings_in("a")["batch_size"] == 8  # of 12 rows: 64, 32, 16 are too many
    assert told.trainers[0].train.batch_size == 8 and calls == [2, 4]
    assert "batch size 8: there are 12 rows to train on" in capsys.readouterr().out


def test_intervals_and_milestones():
    assert interval("500") == {"checkpoint_batches": 500, "checkpoint_minutes": None}
    assert interval("90s") == {"checkpoint_minutes": 1.5}
    assert rising_numbers("1,5,9") == [1, 5, 9]
    for wrong in ("0", "0,1", "2,1", "1,1", "", "x"):
        with pytest.raises(Exception, match="expected"):
            rising_numbers(wrong)
    for wrong in ("0", "-1", "1.5", "m"):
        with pytest.raises(Exception, match=f"a number of batches, or a time .*, got '{wrong}'"):
            interval(wrong)
