"""What is given reaches whom it is for, once: data, trainer, rates, checkpoints, further nets."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from told_program import Room, Set, Told, settings_in, weights_of

import tinynet
from tinynet import nn, random
from tinynet.optim import SGD
from tinynet.parallel.ranks import Ranks
from tinynet.program import Pictures, Program, Recipe
from tinynet.program import program as module
from tinynet.program.published import PUBLISHED
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_config


def test_eval_opens_what_the_run_was_given_or_what_is_said_now(told):
    told.run("--out", "a", "--data", "there", "--width", 7, "--side", 1, "--seed", 5)
    told.rooms[0].asked.clear()
    now = {"skip_damaged": 0, "batch_size": 128, "workers": 0, "seed": 0, "picture_size": None}
    assert told.run("--eval", "a") == 0
    (first,) = (settings for what, settings in told.rooms[0].asked if what == "open")
    of_run = {"data": "there", "width": 7, "side": 1, "lr": 0.25, "epochs": 2}
    assert {name: first[name] for name in {**of_run, **now}} == {**of_run, **now}
    words = "--data here --val-share 0.5 --batch-size 3 --workers 2"
    assert told.run("--eval", "a", *words.split()) == 0
    last = told.rooms[0].asked[-1][1]
    of_recipe = {"data": "here", "width": 2, "val_share": 0.5}
    wanted = {**of_recipe, **now, "batch_size": 3, "workers": 2}
    assert {name: last[name] for name in wanted} == wanted
    assert told.rooms[0].loaders[-1].settings == last and told.rooms[0].loaders[-1].left


def test_eval_says_what_was_chosen_on_these_rows(told, capsys):
    told.run("--out", "a", "--data", "there")
    told.run("--out", "one", "--data", "there", "--epochs", 1)
    for words, chosen in (
        (["a"], True), (["a", "--data", "there"], True), (["a", "--data", "elsewhere"], False),
        (["one"], False), (["one", "a"], True), ([files.path_of(Path("a"), 6)], False),
        ([Path("a") / files.BEST], True),
    ):  # fmt: skip
        capsys.readouterr()
        assert told.run("--eval", *words) == 0
        said = capsys.readouterr().out
        assert ("a/best.safetensors is the best of 2 epochs on these rows" in said) == chosen, words


def test_a_batch_size_that_is_tried_takes_no_luck_of_the_run(told, monkeypatch):
    def fitting(model, recipe, about, devices, task, examples):
        random.generator().normal(size=7)
        assert (about["side"], len(devices), examples) == (1, 2, 12)
        return 4

    monkeypatch.setattr(module, "batch_size_that_fits", fitting)
    for out, size in (("a", 4), ("b", "auto")):
        assert told.run("--out", out, "--seed", 5, "--batch-size", size) == 0
    assert weights_of(files.path_of(Path("a"), 6)) == weights_of(files.path_of(Path("b"), 6))
    assert settings_in("b")["batch_size"] == 4 == told.rooms[0].loaders[-2].batch_size


def test_a_story_is_of_the_data_or_of_the_trainer(told):
    """At the same shares of the run; a change by hand ends what the story would change."""
    recipe = told.program.recipes["first"]
    story = ((1, "lr", "0.1"), (2, "width", "9"))
    told.program.recipes["first"] = told.program._known["first"] = replace(
        recipe, epochs=3, story=story
    )
    assert told.run("--out", "a", "--epochs", 4) == 0
    rows = [[1, "lr", "0.1"], [3, "width", "9"]]
    assert settings_in("a")["story"] == rows == told.rooms[0].loaders[0].settings["story"]
    assert told.trainers[0].options["story"] == rows[:1]
    assert told.run("--resume", "--out", "a", "--epochs", 5) == 0
    assert settings_in("a")["story"] == rows
    assert told.run("--resume", "--out", "a", "--epochs", 6, "--width", 4) == 0
    assert settings_in("a")["story"] == rows[:1] == told.trainers[-1].options["story"]
    assert told.rooms[0].loaders[-2].settings["story"] == rows[:1]


def test_every_edit_is_told_and_that_of_a_finished_run_counts_later(told, capsys):
    assert told.run("--out", "a", "--epochs", 2) == 0
    several = "--set", "lr=0.5,weight_decay=0", "--set", "momentum=0.25"
    for epochs, later in ((2, ", once a larger --epochs goes on"), (3, "")):
        capsys.readouterr()
        assert told.run("--resume", "--out", "a", "--epochs", epochs, *several) == 0
        expected = f"now lr=0.5, weight_decay=0, momentum=0.25{later}"
        assert expected in capsys.readouterr().out.splitlines()
    assert told.run("--resume", "--out", "a", "--epochs", 4) == 0
    assert "now " not in capsys.readouterr().out


def test_a_mistake_in_an_edit_is_told_alone(told, capsys):
    told.run("--out", "a", "--epochs", 2)
    capsys.readouterr()
    assert told.run("--resume", "--out", "a", "--epochs", 3, "--set", "lr=abc") == 2
    assert capsys.readouterr().out == ""


def test_a_net_that_is_all_frozen_is_told(told, capsys):
    """Whoever has frozen the last layer, and whoever goes on so."""
    recipe = told.program.recipes["first"]

    def named(net, lr):
        return SGD([dict(params=[p], name=name) for name, p in net.named_parameters()], lr)

    told.program.recipes["first"] = told.program._known["first"] = replace(recipe, optimizer=named)
    assert told.run("--out", "a", "--epochs", 2) == 0
    for epochs, edit, said in (
        (3, ["--set", "freeze=bias"], False), (4, ["--set", "freeze=weight"], True),
        (5, [], True), (6, ["--set", "thaw=bias"], False),
    ):  # fmt: skip
        capsys.readouterr()
        assert told.run("--resume", "--out", "a", "--epochs", epochs, *edit) == 0
        assert ("all layers are frozen: none learns" in capsys.readouterr().out) == said


def test_other_data_and_a_rate_just_given(told, capsys, monkeypatch):
    """The first are told once, by the run that meets them; of the second there is no advice."""
    told.run("--out", "a", "--preset", "second", "--milestones", 1)
    opened, more = told.rooms[1].open, Set(np.arange(6.0))
    for room, line in ((lambda settings: (opened(settings)[0], more), 1), (opened, 1), (opened, 0)):
        monkeypatch.setattr(told.rooms[1], "open", room)
        for edits in ((), ("--set", "lr=0.5")):
            capsys.readouterr()
            assert told.run("--resume", "--out", "a", *edits) == 0
            said = capsys.readouterr().out
            assert (
                said.count("other rows than this run had: those were 12 to train on and ") == line
            )
            assert ("--set lr=RATE" in said) == (not edits)
            line = 0


def test_weights_are_lent_once(told, capsys):
    """At the start; a run that goes on has its own."""
    told.program.head = "head"
    told.run("--out", "lender", "--seed", 1)
    monkeys = []
    real = module.begin_from
    module.begin_from = lambda *a: monkeys.append(a[2:]) or "lent"
    try:
        assert told.run("--out", "a", "--start-from", "lender") == 0
        assert told.run("--resume", "--out", "a", "--epochs", 3) == 0
    finally:
        module.begin_from = real
    assert monkeys == [("lender", "head")] and settings_in("a")["start_from"] == "lender"
    assert capsys.readouterr().out.count("lent\n") == 1


@pytest.mark.parametrize("rule, factor", [("linear", 3.0), ("sqrt", 3.0**0.5), (None, 1.0)])
def test_all_rates_are_scaled_once(rule, factor, told):
    recipe = told.program.recipes["first"]

    def own(net, lr):
        groups = [dict(params=[net.weight]), dict(params=[net.bias], fixed_lr=0.125)]
        return SGD(groups, lr)

    told.program.recipes["first"] = told.program._known["first"] = replace(recipe, optimizer=own)
    given = ["--scale-lr", rule] if rule else []
    assert told.run("--out", "a", "--batch-size", 12, *given) == 0
    assert told.run("--resume", "--out", "a", "--epochs", 3) == 0
    for trainer in told.trainers:
        assert trainer.optimizer.lr == pytest.approx(0.25 * factor)
        fixed = [group["fixed_lr"] for group in trainer.optimizer.param_groups]
        assert fixed == [None, pytest.approx(0.125 * factor)]


def test_further_nets_bring_their_own_arrays(told, monkeypatch):
    told.run("--out", "a")
    told.run("--out", "b", "--seed", 2)
    also = []
    monkeypatch.setattr(Told, "also", lambda self, task: also.append((self, task)), raising=False)
    loaded = told.program.load(["a", "b", "a"])
    assert [pair[0] for pair in also] == [loaded.task] * 2
    assert len({id(pair[1]) for pair in also} | {id(loaded.task)}) == 3
    assert len(loaded.models) == 3 and loaded.about["preset"] == "first"


def test_an_imported_nets_arrays_are_its_own(told):
    recipe, about = told.program.recipes["first"], {"preset": "torchvision", "in_channels": 3}
    about |= {"picture_size": 9, "image_size": 8}
    imported = SimpleNamespace(about=dict(about), mean=np.array([5.0]))
    saved = Path("x"), SimpleNamespace(arrays={"mean": 7})
    rows = Set([1.0, 3.0])
    arrays = told.program._arrays
    assert arrays(recipe, about, rows, None, imported) == {"mean": imported.mean}
    assert arrays(recipe, about, rows, saved, None) == {"mean": 7}
    own = about | {"preset": "first"}
    for before in (saved, None):
        assert arrays(recipe, own, rows, before, None)["mean"].tolist() == [2.0, 2.0]
    for name in ("in_channels", "picture_size", "image_size"):
        with pytest.raises(ValueError, match=f"--import: expected {name} {about[name]}, .* got 77"):
            arrays(recipe, about | {name: 77}, rows, None, imported)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_imported_net_states_what_it_is_and_the_scale_of_its_pictures(name):
    """Also where it goes on: then its checkpoint says both."""
    program = Program("nets", {"first": Recipe("a net", Pictures(), 1, 1, 1.0)}, None)
    imported = SimpleNamespace(net={"kind": name}, about={"scale": 0.625})
    stated = program._stated(name, None, None, imported)
    assert (stated["net"], stated["scale"]) == (imported.net, 0.625)
    assert stated.keys() == {*Pictures().state(), "net"}
    saved = Path("step-1.safetensors"), SimpleNamespace(state={"about": stated | {"else": 3}})
    assert program._stated(name, None, saved, None) == stated


def test_what_a_checkpoint_states_is_kept(told):
    """Today's recipe for a new run; the checkpoint's for one that goes on, and what old ones do not
    say is not said.
    """
    program = told.program
    program.state = lambda preset, variant: {"of": preset, "as": variant}
    told.rooms[0].state = lambda: {"scale": 2.0, "noise_scale": 0.5}
    today = {"scale": 2.0, "noise_scale": 0.5, "net": {"of": "first", "as": None}}
    assert program._stated("first", None, None, None) == today

    def saved(about):
        return Path("step-1.safetensors"), SimpleNamespace(state={"about": about})

    before = {"scale": 1.0, "noise_scale": 0.25, "net": {"old": 1}, "else": 3}
    assert program._stated("first", None, saved(before), None) == {
        "scale": 1.0, "noise_scale": 0.25, "net": {"old": 1}
    }  # fmt: skip
    assert program._stated("first", None, saved({"scale": 1.0}), None) == {"scale": 1.0}
    with pytest.raises(tinynet.CheckpointError, match="step-1.safetensors"):
        program._stated("first", None, saved({"net": {}}), None)


def test_the_way_on_is_offered_where_there_is_one(told, monkeypatch, capsys):
    assert told.run("--out", "a", "--lr", 1e30) == 2  # a loss that is no number
    assert capsys.readouterr().err.rstrip().endswith("--resume --out a --set lr=...")

    def full(path, checkpoint):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save", full)  # nothing is saved that one could go on from
    assert told.run("--out", "b") == 2
    said = capsys.readouterr().err
    assert "No space left" in said and "--resume" not in said


def test_coarser_products_are_for_gpus_and_stay_with_the_run(told, monkeypatch, capsys):
    coarse = []
    monkeypatch.setattr(tinynet, "set_tf32", coarse.append)
    assert told.run("--out", "a", "--tf32", "--device", "cpu") == 2
    assert "--tf32 is for GPUs" in capsys.readouterr().err and not coarse
    monkeypatch.setattr(
        told.program, "find_devices", lambda names: (SimpleNamespace(kind=(names or "x")[:4]),)
    )
    assert told.run("--out", "a", "--tf32", "--device", "cuda:0") == 0
    assert coarse and all(coarse)
    coarse.clear()
    assert told.run("--resume", "--out", "a", "--epochs", 3) == 0 and coarse == [True]
    coarse.clear()
    assert told.run("--resume", "--out", "a", "--epochs", 4, "--device", "cpu:0") == 0
    assert told.run("--out", "b", "--device", "cuda:0") == 0 and not coarse
    for use in (["--eval", "a"], ["--predict", "a", "one"]):
        capsys.readouterr()
        assert told.run(*use, "--device", "cuda:0") == 0 and not coarse
        assert told.run(*use, "--tf32", "--device", "cpu:0") == 2 and not coarse
        assert "--tf32 is for GPUs" in capsys.readouterr().err
        assert told.run(*use, "--tf32", "--device", "cuda:0") == 0 and coarse == [True]
        coarse.clear()


def test_a_net_of_a_variant_is_used_with_the_variants_data(told, capsys):
    """Tested, asked and exported; nets of several variants are fed as the first is."""
    plain, wide = told.rooms[0], Room(5)
    told.program.variants = {
        "wide": SimpleNamespace(
            about="rows of five",
            of=lambda recipe, name: replace(recipe, title=f"{recipe.title} ({name})", data=wide),
        )
    }
    assert told.run("--out", "w", "--variant", "wide") == 0 and told.run("--out", "p") == 0
    assert [*map(len, (wide.loaders, plain.loaders))] == [2, 2]
    for first, other, room in (("w", "p", wide), ("p", "w", plain)):
        for paths in ([first], [first, first], [first, other]):
            wide.made = plain.made = None
            loaded = told.program.load(paths)
            assert loaded.recipe.data is room and room.made is not None
            assert (wide.made is None or plain.made is None) == (other not in paths)
            assert loaded.recipe.title == "first net" + " (wide)" * (first == "w")
            assert loaded.about.get("variant") == ("wide" if first == "w" else None)
            assert len(loaded.models) == len(paths)
            before = len(room.evaluated)
            for more in ([], ["--data", "here"]):
                assert told.run("--eval", *paths, *more) == 0
                assert room.asked[-1][1]["width"] == room.width
            assert len(room.evaluated) == before + 2
        capsys.readouterr()
        room.predict = lambda *each, first=first: [f"as {first}"]
        assert told.run("--predict", first, "one") == 0
        assert capsys.readouterr().out == f"as {first}\n"
    told.program.variants = {"narrow": told.program.variants["wide"]}
    wrong = r"^w/best.safetensors: expected a net of this program \(narrow\), got wide$"
    with pytest.raises(tinynet.CheckpointError, match=wrong):
        told.program.load(["p", "w"])


def test_nets_of_others_are_for_programs_of_pictures(told, capsys):
    of_pictures = Program("nets", {"first": Recipe("a net", Pictures(), 1, 1, 1.0)}, None)
    for name, recipe in PUBLISHED.items():
        run = {"title": recipe.title, "settings": {"preset": name}}
        assert of_pictures.recipe(name) is recipe and of_pictures.owns(run)
        assert not told.program.owns(run)
        with pytest.raises(
            tinynet.CheckpointError,
            match=rf"^recipe: .*program \(first, second, third\), got {name}$",
        ):
            told.program.recipe(name)
    with pytest.raises(SystemExit):
        told.run("--out", "a", "--import", "net.onnx")
    assert "unrecognized arguments: --import" in capsys.readouterr().err


def test_what_a_batch_cannot_be(told, monkeypatch, capsys):
    assert told.run("--out", "a", "--lr", 1, "--scale-lr", "sqrt") == 2
    assert "--scale-lr is of the recipe's rate: leave it out, or --lr" in capsys.readouterr().err
    several = Ranks()
    several.size = 2
    monkeypatch.setattr(module.together, "started", lambda: several)
    begun = []
    monkeypatch.setattr(module.together, "begin", lambda *each: begun.append(each))
    monkeypatch.setattr(module.together, "check_alike", lambda *each: None)
    assert told.run("--out", "a", "--batch-size", "auto") == 2
    ((ranks, args),) = begun  # before anything else
    assert ranks is several and args.batch_size == "auto"
    assert "--batch-size auto is for one rank" in capsys.readouterr().err
    assert not Path("a").exists()


def test_a_run_without_a_head_lends_nothing(told):
    with pytest.raises(SystemExit):
        told.run("--out", "a", "--start-from", "b")


def test_devices_of_settings_and_of_uses(told, capsys):
    def build(about, devices):
        net = nn.Linear(2, 1)
        net.seen = nn.Buffer(np.zeros(7, np.float32), devices[0])  # no parameter
        return net

    told.program.build = build
    told.run("--out", "a", "--device", "cpu:1")
    told.run("--resume", "--out", "a", "--device", "cpu:0,cpu:1", "--epochs", 3)
    names = [[str(d) for d in task] for task in (told.rooms[0].made.devices,)]
    assert names == [["cpu", "cpu:1"]] and settings_in("a")["device"] == "cpu:0,cpu:1"
    told.rooms[0].feeding = lambda *each: None
    for words in (["--eval", "a"], ["--predict", "a", "one"], ["--export", "f.safetensors", "a"]):
        told.rooms[0].made = None
        assert told.run(*words, "--device", "cpu:1") == 0
        assert [str(d) for d in told.rooms[0].made.devices] == ["cpu:1", "cpu:1"]
    assert capsys.readouterr().out.endswith("f.safetensors: 3 parameters by name\n")
    assert {*tinynet.load("f.safetensors")} == {"weight", "bias", "seen"}


# --- What is told and written ---------------------------------------------------------------------


class Drawn(nn.Linear):
    """A net that has a first layer as nets of others have it."""

    def __init__(self):
        super().__init__(2, 1)
        self.net = nn.Sequential()
        self.net.conv1 = nn.Linear(1, 1)


def test_a_run_says_what_it_is_trained_and_tested_on(told, monkeypatch):
    """How many there are, and where; the weights that its report draws."""
    monkeypatch.setattr(module, "write_report", lambda folder: folder / "report.html")
    told.program.kernels = ["weight", "gone"]
    told.program.build = lambda about, devices: Drawn()
    told.run("--out", "a")
    config = read_config(Path("a"))
    assert config["data"] == {"train": [12, "a set of 12"], "test": [8, "a set of 8"]}
    assert config["kernels"] == ["weight", "net.conv1.weight"] and config["title"] == "first net"


@pytest.mark.parametrize(
    "epochs, done, words, chosen",
    [
        (1, 1, "To train it for longer: python net.py --resume --out a --epochs N", ""),
        (2, 2, "To train it for longer: python net.py --resume --out a --epochs N",
         ", the best of 2 epochs on these rows,"),
        (2, 1, "To go on: python net.py --resume --out a", ""),
        (9, 8, "To go on: python net.py --resume --out a", ", the best of 8 epochs on these rows,"),
    ],
)  # fmt: skip
def test_the_end_says_how_far_it_came(epochs, done, words, chosen, told, capsys):
    trainer = SimpleNamespace(
        out=Path("a"), model=nn.Linear(2, 1), epoch=done, epochs=epochs,
        test=SimpleNamespace(rows=[]), task=SimpleNamespace(unit="rows"),
    )  # fmt: skip
    told.run("--out", "a")
    capsys.readouterr()
    told.program._finish(trainer, told.program.recipes["first"])
    said = capsys.readouterr().out
    ended = "" if done == epochs else " (ended by --max-time)"
    assert f"has been through {done} of {epochs} epochs{ended}. Its checkpoint a/best" in said
    assert f"best.safetensors{chosen} is small. Look at a/report.html" in said
    assert said.endswith(words + "\n") and "(3 parameters)" in said
    assert "To use it: --predict a ROW, for what the net says of rows." in said


def test_mistakes_leave_no_run_behind(told, capsys):
    def fails(*arguments, **options):
        raise ValueError("no")

    for room, name in ((told.rooms[0], "loader"), (told.rooms[0], "task"), (told.program, "build")):
        real = getattr(room, name)
        setattr(room, name, fails)
        assert told.run("--out", "a") == 2 and not Path("a").exists()
        setattr(room, name, real)
        assert capsys.readouterr().err.endswith("error: no\n")

    def full(*arguments):
        raise MemoryError

    told.rooms[0].open = full
    assert told.run("--out", "a") == 2
    assert capsys.readouterr().err.endswith("error: out of memory\n")


def test_what_cannot_be_read_does_not_end_the_rest(told, capsys):
    told.run("--out", "a")
    real = told.rooms[0].predict

    def predict(models, task, about, what):
        if what == "gone":
            raise FileNotFoundError(2, "No such file or directory")
        return real(models, task, about, what)

    told.rooms[0].predict = predict
    capsys.readouterr()
    assert told.run("--predict", "a", "one", "gone", "odd", "gone", "odd", "two") == 2
    said = capsys.readouterr()
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["one", "two"]
    lines = ["gone cannot be read: No such file or directory", "odd: odd"] * 2
    assert said.err.splitlines() == [
        *(f"net.py: error: {line}" for line in lines), "net.py: 4 of 6 could not be read"
    ]  # fmt: skip
    assert told.run("--predict", "a", "odd") == 2
    assert capsys.readouterr().err == "net.py: error: odd: odd\n"
    assert told.run("--predict", "a", "odd", "two") == 2
    assert capsys.readouterr().err.endswith("odd\nnet.py: 1 of 2 could not be read\n")
    Path("none").mkdir()
    assert told.run("--predict", "a", "none") == 2
    assert "none: expected rows in this folder, got none" in capsys.readouterr().err


def test_a_mean_of_nets_is_called_so(told, capsys):
    for seed in (1, 2):
        told.run("--out", f"run{seed}", "--seed", seed)
    for count in (1, 2):
        capsys.readouterr()
        assert told.run("--eval", *["run1", "run2"][:count]) == 0
        said = capsys.readouterr().out
        assert said.startswith("the average of 2 nets:\n2 nets" if count == 2 else "1 nets\n")


def test_settings_of_a_run_that_starts_from_a_file(told):
    program = told.program
    program._known["caffe"] = replace(program.recipes["second"], title="of others")
    imported = SimpleNamespace(preset="caffe", about={"picture_size": 9, "image_size": 8})

    def settings(**given):
        args = dict.fromkeys(("resume", "set"), False) | given
        return program._settings(argparse.Namespace(**args), imported)

    found = settings(epochs=8)
    assert (found["preset"], found["picture_size"], found["crop"]) == ("caffe", 9, 8)
    assert found["milestones"] == [4, 6] and found["lr"] == 0.5
    for name in ("variant", "start_from"):
        with pytest.raises(ValueError, match="--import: expected no --variant or --start-from"):
            settings(**{name: "x"})


def test_devices_where_nothing_is_said(told, monkeypatch):
    asked = []
    monkeypatch.setattr(module.runs, "default_devices", lambda *each: asked.append(each) or "cpu")
    told.program.ranks = SimpleNamespace(beside=3, local=1)
    args = argparse.Namespace(resume=False, set=[])
    assert told.program._settings(args, None)["device"] == "cpu"
    told.program.find_devices(None)
    assert asked == [(2, 3), (2, 3)]
    seen = []
    monkeypatch.setattr(module.runs, "devices_of_rank", lambda *each: seen.append(each) or "cpu:1")
    assert [str(d) for d in told.program.find_devices("cpu:0,cpu:1")] == ["cpu:1", "cpu:1"]
    assert seen == [("cpu:0,cpu:1", 1)]


def test_ranks_compare_their_data_and_their_nets(told, monkeypatch):
    """Before anything is made; --eval its test data alone, and each of its nets."""
    compared = []
    for what in ("of_data", "of_net"):
        monkeypatch.setattr(module.together, what, lambda *each: {each[0]: each[-1]})
    monkeypatch.setattr(
        module.together, "check_alike", lambda ranks, facts: compared.append((ranks, facts()))
    )
    told.run("--out", "a")
    (ranks, data), (_, net) = compared
    assert data == {
        "training": told.rooms[0].loaders[0].rows,
        "test": told.rooms[0].loaders[1].rows,
    }
    assert [*net] == [told.trainers[0].model] and ranks is told.program.ranks
    compared.clear()
    told.run("--eval", "a", "a")
    data, *nets = (facts for _, facts in compared)
    assert data == {"test": told.rooms[0].loaders[-1].rows} and len(nets) == 2


def test_what_a_net_of_a_whole_batch_needs(told):
    """One rank; and factors are exchanged between several."""
    share, net = told.program._share, nn.Linear(2, 1)
    one, many = SimpleNamespace(undivided=""), SimpleNamespace(undivided="it sees all")
    share(many, net)
    with pytest.raises(ValueError, match="--exchange is for several ranks"):
        share(one, net, "factors")
    told.program.ranks = SimpleNamespace(size=2)
    with pytest.raises(ValueError, match="expected one rank, got 2: it sees all"):
        share(many, net)
