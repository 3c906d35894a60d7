"""Every option: what it takes and gives at the borders, where it is refused, what its help says."""

from __future__ import annotations

import argparse
import importlib
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinynet.program import Pictures, Recipe, Variant
from tinynet.program import options as of
from tinynet.program.commandline import asked, in_words, make_parser, refuse_others

RECIPES = {
    "small": Recipe("a net", Pictures(), 2, 4, 0.25, milestones=(1,)),
    "large": Recipe("a net", Pictures(picture_size=64, crop=56), 9, 128, 0.5),
}
VARIANTS = {"plain": Variant("without shortcuts")}
EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = [
    file for file in sorted(EXAMPLES.rglob("*.py")) if "__main__" in file.read_text("utf-8")
]
TOLD = {
    "alexnet": "mini 8, photos 8, paper 90, cfg145 91",
    "gpt": "its last 10% are tested on (default: embedded, plays of Shakespeare)",
    "transformer": "the last 10% of the lines are tested on (default: made by the program)",
}


def parser(devices: int = 2, head: bool = True) -> of.Parser:
    return make_parser("Trains.", RECIPES, devices, VARIANTS, head)


TIME = dict(checkpoint_minutes=90.0)
# option, what is not taken, and each text that is taken with its value
TABLE = {
    "eval": ("", {"a b": ["a", "b"]}),
    "predict": ("", {"a b": ["a", "b"]}),
    "export": ("a", {"a b": ["a", "b"]}),
    "import": ("", {"f.onnx": "f.onnx"}),
    "looks": ("rgb", {"torchvision": "torchvision", "caffe": "caffe"}),
    "data": ("", {"there": "there"}),
    "val_share": ("0 1 -0.5 nan inf x", {"0.001": 0.001, "0.999": 0.999}),
    "picture_size": ("7 0 8.5", {"8": 8, "256": 256}),
    "crop": ("7 0 8.5", {"8": 8, "224": 224}),
    "colour": ("-0.1 nan inf x", {"0": 0.0, "0.1": 0.1}),
    "limit_pictures": ("0 1,0 1,2,3 1, x", {"1": [1], "4000,1": [4000, 1]}),
    "preset": ("huge", {"small": "small", "large": "large"}),
    "variant": ("huge", {"plain": "plain"}),
    "start_from": ("", {"there": "there"}),
    "device": ("", {"cpu:0,cpu:1": "cpu:0,cpu:1"}),
    "epochs": ("0 -1 1.5 x", {"1": 1, "90": 90}),
    "batch_size": ("0 -1 1.5 x Auto", {"1": 1, "auto": "auto"}),
    "lr": ("0 -1 nan inf x", {"1e-9": 1e-9, "10": 10.0}),
    "scale_lr": ("cubic", {"linear": "linear", "sqrt": "sqrt"}),
    "milestones": ("0 2,1 2,2 1,,2 x", {"1": [1], "1,2,30": [1, 2, 30]}),
    "seed": ("-1 1.5 x", {"0": 0, "7": 7}),
    "workers": ("-1 1.5 x", {"0": 0, "7": 7}),
    "threads": ("0 -1 x", {"1": 1}),
    "exchange": ("all", {"gradients": "gradients", "factors": "factors"}),
    "out": ("", {"there": Path("there")}),
    "set": ("lr lr= =1 a=1,b", {"lr=1": [("lr", "1")], "a=b=c,d = 2": [("a", "b=c"), ("d", "2")]}),
    "checkpoint_every": (
        "0 -1 1.5 x 0m", {"1": dict(checkpoint_batches=1, checkpoint_minutes=None), "1.5h": TIME}
    ),
    "keep": ("0 -1", {"1": 1}),
    "max_time": ("0s 5 m 1d -1m .5h 1e3s", {"90s": 1.5, "0.5m": 0.5, "1.5h": 90.0, "10m": 10.0}),
    "limit_batches": ("0 -1", {"1": 1}),
    "skip_damaged": ("-1 x", {"0": 0, "3": 3}),
}  # fmt: skip
SWITCHES = ("raw", "tf32", "resume")
HELP = {  # as it shows them
    "options": "help",
    "what to do, instead of training": "eval predict export raw import looks",
    "the pictures": "data val_share picture_size crop colour limit_pictures",
    "how to train": "preset variant start_from device epochs batch_size lr scale_lr milestones "
    "seed workers threads exchange tf32",
    "the run": "out resume set checkpoint_every keep max_time limit_batches skip_damaged",
}


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_the_table_has_all_options():
    there = {action.dest for action in parser()._actions} - {"help"}
    assert there == {*TABLE, *SWITCHES}
    less = {action.dest for action in parser(head=False)._actions}
    assert there - less == {"start_from"}


def test_the_help_shows_them_by_their_use_in_order():
    titles = [line[:-1] for line in parser().format_help().splitlines() if line[-1:] == ":"]
    assert titles == list(HELP)
    shown = re.split(r"^(?=\S.*:$)", parser().format_help(), flags=re.MULTILINE)[-len(HELP) :]
    for part, names in zip(shown, HELP.values(), strict=True):
        assert re.findall(r"^  (?:-h, )?(--[\w-]+)", part, re.MULTILINE) == [
            *map(flag, names.split())
        ]


@pytest.mark.parametrize("name", TABLE)
def test_what_an_option_takes(name, capsys):
    wrong, right = TABLE[name]
    for text in wrong.split():
        with pytest.raises(SystemExit) as left:
            parser().parse_args([flag(name), text])
        assert left.value.code == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and flag(name) in line, (text, line)
    several = isinstance(next(iter(right.values())), list) and name in ("eval", "predict", "export")
    for text, value in right.items():
        words = text.split() if several else [text]
        found = vars(parser().parse_args([flag(name), *words]))
        assert found[name] == value and type(found[name]) is type(value), text
        rest = vars(parser().parse_args([]))
        assert {**found, name: None} == {**rest, name: None}  # nothing else has changed


def test_what_stands_where_nothing_is_given():
    found = vars(parser().parse_args([]))
    switches = {"raw": False, "resume": False, "tf32": None}
    assert found == dict.fromkeys(TABLE) | switches | {"set": [], "checkpoint_every": {}}
    for name in SWITCHES:
        assert vars(parser().parse_args([flag(name)]))[name] is True


USES = {"eval": ["a"], "predict": ["a", "b"], "export": ["a", "b"], "import": ["a"]}
WITH = {
    "eval": "device threads tf32 data val_share batch_size workers out",
    "predict": "device threads tf32",
    "export": "device threads raw",
    "import": "looks data val_share out threads",
}


def refused(*words: str) -> str:
    try:
        refuse_others(parser().parse_args(words), parser())
    except ValueError as error:
        return str(error)
    return ""


def given(name: str) -> list[str]:
    """An option with a value that is not its default."""
    if name in SWITCHES:
        return [flag(name)]
    return [flag(name), *(USES[name] if name in USES else [next(iter(TABLE[name][1]))])]


@pytest.mark.parametrize("use", USES)
def test_what_a_use_takes_beside_it(use):
    for name in (*TABLE, *SWITCHES):
        if name == use:
            continue
        said = refused(flag(use), *USES[use], *given(name))
        if name in WITH[use].split() or (use, name) == ("import", "epochs"):
            assert said == "", (name, said)
        else:
            assert flag(name) in said or flag(use) in said, name
    assert not refused(flag(use), *USES[use])


def test_what_training_takes():
    for name in (*TABLE, *SWITCHES):
        if name in USES:
            continue
        said = refused(*given(name))
        assert bool(said) == (name in ("raw", "looks"))
        started = refused("--import", "a", "--epochs", "2", *given(name))
        assert bool(started) == (name in ("raw", "preset", "resume", "picture_size", "crop"))
    for other in ("eval", "predict", "export"):
        assert refused("--import", "a", "--epochs", "2", *given(other))


def test_names_of_a_programs_own():
    one = parser(devices=1).format_help()
    assert "--device D0\n" in one or "--device D0 " in one
    text = " ".join(parser().format_help().split())
    assert "D0[,D1]" in text and "plain: without shortcuts" in text
    assert "passes over the training data (small 2, large 9)" in text
    assert "(small 4, large 128); auto:" in text and "(small 0.25, large 0.5)" in text
    assert "(small 1, large none: the schedule of the recipe;" in text
    assert "(small as they are, large 64)" in text
    assert "all, large 56)" in text.split("side of what the net sees")[1].split("--colour")[0]
    assert asked(RECIPES) == Pictures.asks


@pytest.mark.parametrize(
    "values, words",
    [
        ({"a": 1, "b": 1}, "1"), ({"a": 1, "b": 2}, "a 1, b 2"), ({"a": None}, "none"),
        ({"a": [1, 2], "b": None}, "a 1,2, b none"), ({"a": 1.0, "b": 1}, "a 1.0, b 1"),
        ({"a": 0, "b": None}, "a 0, b none"), ({"a": [0], "b": 0.0}, "a 0, b 0.0"),
        ({"a": False, "b": [0, 1]}, "a False, b 0,1"), ({"a": [None]}, "None"), ({"a": ""}, ""),
    ],
)  # fmt: skip
def test_values_of_recipes_in_words(values, words):
    assert in_words(values) == words


def test_numbers_as_text():
    """What is no number is refused in one way, whatever it is."""
    for parse, texts in (
        (of.rate, "0 -0 nan inf -inf x"), (of.not_negative, "-1e-9 nan inf x"),
        (of.share, "0 1 nan x"), (of.at_least(2), "1 2.0 1e3 x"),
        (of.duration, "0s 0.0h 1 ss 1,5h"),
    ):  # fmt: skip
        for text in texts.split():
            with pytest.raises(argparse.ArgumentTypeError, match="expected, got"):
                parse(text)
    assert of.rate("5e-324") > 0 and of.not_negative("-0") == 0 and of.at_least(-3)("-3") == -3
    assert math.isclose(of.duration("0.5s"), 1 / 120)


@pytest.mark.parametrize("file", PROGRAMS, ids=lambda file: file.stem)
def test_every_program_parses_and_has_its_help(file, monkeypatch, capsys):
    """No option of two has one name; all values of all recipes can be told; a % is a %. And what it
    does is told: of a tool, in the words that its file begins with.
    """
    monkeypatch.syspath_prepend(str(file.parent))
    monkeypatch.setenv("COLUMNS", "999")
    program = importlib.import_module(file.stem)
    with pytest.raises(SystemExit) as left:
        program.main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    first = " ".join(program.__doc__.partition("\n\n")[0].split())
    does = getattr(getattr(program.main, "__self__", None), "description", first)
    assert f"\n\n{does}\n\n" in said
    said = " ".join(said.split())
    assert said.startswith("usage: ") and "show this help message" in said
    assert "{'" not in said and "%%" not in said and TOLD.get(file.stem, "") in said


@pytest.mark.parametrize("given", [["--epoch", "3"], ["--batchsize=8"], ["--ln", "1"], ["--xyz"]])
def test_options_have_their_whole_names(given, capsys):
    """Of one that is not known the nearest is told, if there is one that is near."""
    with pytest.raises(SystemExit):
        parser().parse_args(given)
    meant = {"--epoch": "--epochs", "--batchsize": "--batch-size", "--ln": "--lr"}
    near = meant.get(given[0].partition("=")[0])
    (line,) = capsys.readouterr().err.splitlines()
    assert "unrecognized arguments" in line and line.endswith(" (--help tells more)") == (not near)
    assert not near or line.endswith(f" (did you mean {near}? --help tells more)")


def test_what_predict_takes_is_that_of_all_recipes():
    both = ("FILE", "a class"), ("NUMBERS", "a sign"), ("FILE", "a class")
    recipes = {str(n): SimpleNamespace(data=SimpleNamespace(asks=a)) for n, a in enumerate(both)}
    assert asked(recipes) == ("FILE|NUMBERS", "a class; a sign")
