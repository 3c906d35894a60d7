"""Texts, translations, tables, pictures without classes as a program's data; what they show."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import nn, random
from tinynet.data import ArrayDataset, Masked, Vocabulary, Windows, shakespeare
from tinynet.data.text import BEGIN, END, PAD, SPECIAL
from tinynet.errors import CheckpointError, DataError
from tinynet.program import Made, Text, Translations, Unlabelled, unlabelled
from tinynet.program import text as texts
from tinynet.program.options import Parser
from tinynet.program.shown import Shown
from tinynet.recording import is_grad_enabled
from tinynet.training.inputs import batch_of
from tinynet.training.measure import Measure
from tinynet.training.objective import GLIMPSES

CPU = (tinynet.device("cpu"),)
GIVEN = {"batch_size": 2, "seed": 3, "workers": None, "data": None}


def forms(batch):
    """Shapes and types of a batch on trial: both say how much memory it takes."""
    return [(x.shape, x.dtype) for x in batch]


# --- A text ---------------------------------------------------------------------------------------


def speak(net, vocabulary, text):
    vocabulary.encode(text, "the text")
    return f"{text} of {len(vocabulary)}, {net}"


ROOM = Text(4, Windows, speak, ("ab", "?b", "b", "a?"))


def opened(tmp_path, text, room=ROOM):
    (tmp_path / "text.txt").write_text(text)
    return room.open({"data": str(tmp_path / "text.txt")})


@pytest.mark.parametrize("count", [50, 51, 59, 60, 61, 95, 99, 100, 101])
def test_the_last_tenth_of_a_text_is_tested_on(count, tmp_path):
    """Rounded down; the vocabulary is that of both parts."""
    text = "".join("ab"[k % 2] for k in range(count - 1)) + "z"
    train, test = opened(tmp_path, text)
    assert (train.text, test.text) == (text[: count - count // 10], text[count - count // 10 :])
    assert train.vocabulary.symbols == test.vocabulary.symbols == ["a", "b", "z"]
    assert train.source == test.source == str(tmp_path / "text.txt")
    assert ROOM.describe({}, train) == {"vocabulary": ["a", "b", "z"], "length": 4}


def test_without_a_file_it_is_the_embedded_text():
    train, test = ROOM.open({"data": None})
    assert train.text + test.text == shakespeare()
    assert train.source == test.source == "plays of Shakespeare"


def test_a_net_reads_other_texts_with_its_own_vocabulary(tmp_path):
    train, test = opened(tmp_path, "bd" * 40)
    about = {"vocabulary": ["a", "b", "c", "d"], "length": 4}
    loader = ROOM.loader(GIVEN, about, test, train=False)
    assert set(np.concatenate([b[0] for b in loader.epoch(0)]).ravel()) == {1, 3}
    assert type(loader.dataset) is Windows and loader.dataset.source == test.source
    with pytest.raises(DataError, match="got 'd'"):  # as many symbols, but others
        list(ROOM.loader(GIVEN, about | {"vocabulary": ["b", "c"]}, test, train=False).epoch(0))
    own = ROOM.loader(
        GIVEN | {"batch_size": 5, "seed": 9}, about | {"vocabulary": ["b", "d"]}, train, True
    )
    assert own.dataset is train and (own.batch_size, own.seed, own.train) == (5, 9, True)
    masked = Text(4, Masked, speak, ("ab",))
    assert (
        type(masked.loader(GIVEN, about, opened(tmp_path, "bd" * 40, masked)[1], False).dataset)
        is Masked
    )
    for workers in (1, 7):
        with pytest.raises(ValueError, match="--workers: expected none"):
            ROOM.loader(GIVEN | {"workers": workers}, about, test, False)
    assert ROOM.loader(GIVEN | {"workers": 0}, about, test, False)


def test_facts_of_a_net_that_reads():
    about = {"vocabulary": list("abc"), "length": 4}
    assert ROOM.task(about, {}, CPU).chance == pytest.approx(math.log(3))
    with pytest.raises(CheckpointError, match="sees 4 characters, got one of 5"):
        ROOM.task(about | {"length": 5}, {}, CPU)
    assert forms(ROOM.zeros(about, 7, CPU[0])) == [((7, 4), np.int64)] * 2
    feeding = ROOM.feeding("net", None, about, raw=False)
    (tokens,) = feeding.example
    assert (
        tokens.shape == (1, 4)
        and tokens.max() < 3
        and feeding.metadata == {"vocabulary": list("abc")}
    )
    assert feeding.takes.endswith("int64 (N, 4)") and feeding.result == "logits"
    with pytest.raises(ValueError, match="--raw is for pictures"):
        ROOM.feeding("net", None, about, raw=True)
    assert ROOM.asks == ("TEXT", "what the net makes of a text, such as 'a?'")
    assert ROOM.predict(["one", "two"], None, about, "ab") == ["ab of 3, one"]


def test_every_prompt_is_shown_or_why_it_cannot_be(tmp_path):
    _, test = opened(tmp_path, "ab" * 30)
    shown = ROOM.samples("net", None, SimpleNamespace(dataset=test))["texts"]
    assert list(shown) == ["from 'ab'", "from '?b'", "from 'b'", "from 'a?'"]
    assert shown["from 'ab'"] == "ab of 2, net" and shown["from 'b'"] == "b of 2, net"
    for wrong in (shown["from '?b'"], shown["from 'a?'"]):
        assert wrong.startswith("(") and "got '?'" in wrong


# --- Sentences and their translations -------------------------------------------------------------


class Small(nn.Module):
    """A layer that looks from a translation so far at its sentence."""

    def __init__(self):
        self.words, self.said = nn.Embedding(9, 8), nn.Embedding(9, 8)
        self.cross = nn.MultiHeadAttention(8, 2)

    def forward(self, source, said):
        mask = (source != PAD)[:, None] | np.zeros((said.shape[1], 1), bool)
        return self.cross(self.said(said), self.words(source), mask=mask)


def backwards(net, rows):
    """A translation: the same numbers from the last to the first."""
    return [[int(n) for n in row[::-1] if n != PAD] for row in rows]


PAIRS = [("one two".split(), "eins zwei".split()), ("two".split(), "zwei".split())]
TESTS = [("three".split(), "drei".split())]
BOTH = Translations(
    lambda: (PAIRS, TESTS), backwards, lambda net: net.cross, ("one two", "two one two"), str.split
)


def test_both_languages_have_the_words_of_both_parts():
    train, test = BOTH.open({"data": None})
    assert (train.pairs, test.pairs) == (PAIRS, TESTS)
    assert train.source == test.source == "sentences made by the program"
    for part in (train, test):
        assert [language.symbols for language in part.languages] == [
            [*SPECIAL, "one", "three", "two"], [*SPECIAL, "drei", "eins", "zwei"]
        ]  # fmt: skip
    assert BOTH.describe({}, train) == {
        "source": train.languages[0].symbols, "vocabulary": train.languages[1].symbols
    }  # fmt: skip


@pytest.mark.parametrize("count", [10, 11, 19, 20, 21])
def test_the_last_tenth_of_the_lines_is_tested_on(count, tmp_path):
    (tmp_path / "pairs").write_text("".join(f"w{n}\tv{n}\n" for n in range(count)))
    train, test = BOTH.open({"data": str(tmp_path / "pairs")})
    assert [pair[0][0] for pair in train.pairs] == [f"w{n}" for n in range(count - count // 10)]
    assert len(test.pairs) == count // 10 and train.source == str(tmp_path / "pairs")
    assert [len(language) for language in test.languages] == [count + len(SPECIAL)] * 2


@pytest.mark.parametrize("side", [0, 1])
def test_a_net_reads_other_sentences_with_its_own_vocabularies(side):
    train, _ = BOTH.open({"data": None})
    symbols = [language.symbols for language in train.languages]
    symbols[side] = [*SPECIAL, "a", *symbols[side][len(SPECIAL) :]]
    about = {"source": symbols[0], "vocabulary": symbols[1]}
    loader = BOTH.loader(GIVEN, about, train, train=False)
    assert [language.symbols for language in loader.dataset.languages] == symbols
    assert loader.dataset.source == train.source and loader.dataset.pairs == train.pairs
    same = BOTH.loader(GIVEN, BOTH.describe({}, train), train, train=False)
    assert same.dataset is train


def test_what_a_sheet_of_a_translation_shows(monkeypatch):
    drawn = []
    monkeypatch.setattr(texts, "share_pictures", lambda *each: drawn.append(each) or b"png")
    train, tests = BOTH.open({"data": None})
    net, loader = Small(), SimpleNamespace(dataset=tests)
    seen = []
    forward = Small.forward

    def watched(self, source, said):
        seen.append((source.tolist(), said.tolist()))
        return forward(self, source, said)

    monkeypatch.setattr(Small, "forward", watched)
    with tinynet.no_grad():  # as Shown.evaluate does
        shown = BOTH.samples(net, None, loader)
    source, target = train.languages
    one, two = source.encode(["one", "two"]).tolist()
    assert shown["texts"] == {
        "one two": " ".join(target.decode([two, one])),
        "two one two": " ".join(target.decode([two, one, two])),
    }
    assert list(shown["pictures"]) == ["attention when one two is translated"]
    assert seen == [([[one, two]], [[BEGIN, two, one]])]  # when the next word is said
    ((panels, spoken, asked),) = drawn
    assert spoken == [*target.decode([two, one]), SPECIAL[END]]
    assert asked == ["one", "two"] and [title for title, _ in panels] == ["head 1", "head 2"]
    words = np.array([[one, two]]), np.array([[BEGIN, two, one]])
    mask = np.ones((1, 3, 2), bool)
    with tinynet.no_grad():
        wanted = net.cross.shares(net.said(words[1]), net.words(words[0]), mask=mask).numpy()[0]
    np.testing.assert_allclose([share for _, share in panels], wanted, rtol=1e-6)
    assert "forward" not in vars(net.cross) and "forward" not in vars(net)
    few = Vocabulary([*SPECIAL, "one", "x"])  # not all words of the examples
    some = SimpleNamespace(languages=(few, target), pairs=[(["x"], ["drei"])])
    assert list(BOTH.samples(net, None, SimpleNamespace(dataset=some))["texts"]) == ["x"]
    other = SimpleNamespace(
        dataset=SimpleNamespace(
            languages=(Vocabulary([*SPECIAL, "x"]), target), pairs=[(["x"], ["drei"])]
        )
    )
    assert list(BOTH.samples(net, None, other)["texts"]) == ["x"]


def test_a_layer_is_left_as_it_was_though_the_net_fails():
    net = Small()
    with pytest.raises(AttributeError):
        BOTH.shares(net, np.array([[4]]), None)  # no translation
    assert "forward" not in vars(net.cross)


def test_facts_of_a_net_that_translates():
    about = {"source": [*SPECIAL, "one", "two"], "vocabulary": [*SPECIAL, "eins", "zwei", "drei"]}
    assert BOTH.predict(["net"], None, about, "two one") == ["two one: eins zwei"]
    with pytest.raises(ValueError, match="at least one word"):
        BOTH.predict(["net"], None, about, " ")
    with pytest.raises(DataError, match="got 'three'"):
        BOTH.predict(["net"], None, about, "three")
    parser = Parser()
    BOTH.add_options(parser, str)
    assert parser.parse_args(["--data", "there"]).data == "there"
    assert BOTH.asks == ("TEXT", "the translation of a text, such as 'one two'")
    figures = {"right": 90.456, "loss": 0.5, "exact": 33.333}
    said = "names 90.46 % of the tokens right: loss 0.5000"
    assert BOTH.reached({"figures": figures}) == f"translates 33.33 % exactly, {said}"
    del figures["exact"]
    assert BOTH.reached({"figures": figures}) == said
    task = BOTH.task(about, {}, CPU)
    assert task.translate is backwards and task.chance == pytest.approx(math.log(6))
    assert forms(BOTH.zeros(about, 3, CPU[0])) == [((3, 16), np.int64)] * 3
    feeding = BOTH.feeding("net", None, about, raw=False)
    source, said = feeding.example
    assert source.shape == said.shape == (1, 16) and feeding.metadata == about
    assert source[0, 0] != PAD == source[0, -1]  # so the mask is in the file
    assert source.max() < len(about["source"]) and said.max() < len(about["vocabulary"])
    assert feeding.takes.endswith("(N, 16) and (N, 16)")


# --- Tables ---------------------------------------------------------------------------------------


def figures(net, x, y):
    return {"loss": (net(x) - y).abs().mean(), "off": (net(x) - y).abs().max()}


def table(**more):
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    parts = (x, x[:, :1]), (x[:3] + 50, x[:3, :1] + 50)
    return Made(
        lambda: parts, figures, lambda net, x, y: {"texts": {"shown": f"{x.numpy()[0, 0]:g}"}},
        lambda net, what: f"{net} {what} {is_grad_enabled()}", ("TEXT", "it"), **more
    )  # fmt: skip


@pytest.mark.parametrize("sweeps, lengths", [(0, (6, 3)), (1, (1, 1)), (7, (7, 1))])
def test_rows_or_sweeps(sweeps, lengths):
    room = table(sweeps=sweeps)
    both = room.open({})
    assert tuple(map(len, both)) == lengths
    batch = both[0].batch(np.array([0] if sweeps else [4, 1]), None)
    wanted = both[0].arrays if sweeps else tuple(a[[4, 1]] for a in both[0].arrays)
    for found, array in zip(batch, wanted, strict=True):
        np.testing.assert_array_equal(found, array)
    about = room.describe({}, both[0])
    assert about == {"inputs": [2], "targets": [1]}
    assert forms(room.zeros(about, 5, CPU[0])) == [((5, 2), np.float32), ((5, 1), np.float32)]
    for size, train in ((1, True), (1, False), (3, False), (3, True)):
        settings = GIVEN | {"batch_size": size}
        if sweeps and train and size > 1:
            with pytest.raises(ValueError, match="--batch-size: expected 1"):
                room.loader(settings, about, both[not train], train)
        else:
            loader = room.loader(settings, about, both[not train], train)
            assert (loader.batch_size, loader.train, loader.seed) == (size, train, 3)
    with pytest.raises(ValueError, match="--workers: expected none"):
        room.loader(GIVEN | {"workers": 2}, about, both[1], False)


@pytest.mark.parametrize("sweeps", [0, 7])
def test_a_tables_task(sweeps):
    def glimpse(net):
        return b""

    measures = {"off": Measure("off")}
    room = table(sweeps=sweeps, best_by="off", measures=measures, glimpse=glimpse)
    task = room.task({}, {}, CPU)
    assert (task.function, task.measures, task.best_by) == (figures, measures, "off")
    assert (task.glimpse, task.unit) == (glimpse, "sweeps" if sweeps else "examples")
    assert bool(task.undivided) == bool(sweeps) and task.device == CPU[0]
    assert room.predict(["net"], task, {}, "0 1") == ["0 1: net 0 1 False"]
    feeding = room.feeding(None, task, {"inputs": [2], "targets": [1]}, raw=False)
    assert feeding.example.shape == (1, 2) and feeding.takes == "rows, float32 (N, 2)"
    with pytest.raises(ValueError, match="--raw is for pictures: leave it out"):
        room.feeding(None, task, {"inputs": [2], "targets": [1]}, raw=True)


@pytest.mark.parametrize(
    "room",
    [table(), ROOM, BOTH, Unlabelled(loss=None, show=None, say=None)],
    ids=lambda room: type(room).__name__,
)
def test_where_nothing_is_given_nothing_is_set(room):
    """Not even data: those of the program, which are told as embedded."""
    parser = Parser()
    room.add_options(parser, str)
    assert vars(parser.parse_args([])) == dict.fromkeys(["data", *room.settings()])


# --- What is shown of a test ----------------------------------------------------------------------


def test_a_test_is_the_first_epoch_of_the_first_net():
    """Of a mean of nets, where there is one."""
    tests = SimpleNamespace(epoch=lambda number: number)
    task = SimpleNamespace(test=lambda *each: each, measure=lambda *each: each)
    assert table().figures(["net"], task, tests) == ("net", 0)
    assert ROOM.figures(["net", "other"], task, tests) == (["net", "other"], 0)


class Lucky(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return x[:, :1] * self.weight


def test_a_test_shows_the_same_each_time_and_leaves_the_luck_alone(tmp_path):
    """Samples see no tape; the report's words come in order; further nets have no mean."""
    seen = []

    def show(net, x, y):
        seen.append((float(tinynet.rand(1).item()), is_grad_enabled()))
        texts_ = {"one": "1"}
        return {"words": ["and more"], "texts": texts_, "pictures": {"plane, it is": b"PNG"}}

    room = dataclasses.replace(table(measures={"off": Measure("most off", "%")}), show=show)
    task, (_, test) = room.task({}, {}, CPU), room.open({})
    tests = room.loader(GIVEN, {}, test, train=False)
    before = random.get_state()
    found = [room.evaluate([Lucky()], task, tests, full=full) for full in (True, False)]
    assert random.get_state() == before and seen[0] == seen[1] and seen[0][1] is False
    assert found[0] == found[1]
    assert found[0]["words"] == ["most off 0.00 %", "and more"]
    assert list(room.tell(found[0])) == ["test loss 0.0000, most off 0.00 %, and more", "one:\n1"]
    assert room.reached(found[0]) == "has test loss 0.0000, most off 0.00 %, and more"
    (tmp_path / GLIMPSES.format(1)).write_bytes(_png())
    room.save(found[0], tmp_path)
    assert (tmp_path / "plane.png").read_bytes() == b"PNG" and (tmp_path / "epochs.png").exists()
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written == found[0] | {
        "texts": [["one", "1"]],
        "pictures": [["plane, it is", "plane.png"], ["epochs 1, from above", "epochs.png"]],
    }
    with pytest.raises(CheckpointError, match="expected one run, got 2"):
        room.evaluate([Lucky(), Lucky()], task, tests, full=True)
    assert Shown.files(room, "what") == ["what"]
    few = {"loss": 2.0}  # a test that was stopped has no other figures
    task.test = lambda model, batches: few
    assert room.evaluate([Lucky()], task, tests, full=True)["words"] == ["and more"]
    task.steps = SimpleNamespace(ranks=SimpleNamespace(rank=1))  # which writes nothing
    seen.clear()
    assert room.evaluate([Lucky()], task, tests, full=True) == {"figures": few, "words": []}
    assert not seen


def _png():
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "PNG")
    return buffer.getvalue()


# --- Pictures without their classes ---------------------------------------------------------------


def unlabelled_room(**more):
    def show(net, x, labels, classes):
        return {"seen": (x.numpy(), labels, classes), "grad": is_grad_enabled()}

    def say(net, x):
        return f"{x.shape} {tinynet.rand(1).item():.4f} {is_grad_enabled()}"

    return Unlabelled(loss=lambda net, x: {"loss": x.mean()}, show=show, say=say, **more)


@pytest.mark.parametrize("batch", [1, 4, 5, 7, 30])
def test_so_many_test_pictures_are_shown_whatever_the_batch(batch, monkeypatch):
    """The first ones, with their labels; on a rank that has a share of each batch, too."""
    assert unlabelled.SHOWN == 1000
    monkeypatch.setattr(unlabelled, "SHOWN", 10)
    rng = np.random.default_rng(1)
    for count in (13, 6):
        tests = ArrayDataset(
            rng.integers(0, 256, (count, 8, 8, 1), np.uint8), np.arange(count) % 2, ["a", "b"]
        )
        room = unlabelled_room(grey=127.5, scale=0.5)
        about = room.describe(room.settings(), tests) | room.state()
        arrays = room.arrays(about, tests)
        assert (arrays["mean"] == 127.5).all() and arrays["mean"].shape == (8, 8, 1)
        task = room.task(about, arrays, CPU)
        loader = room.loader(
            {**room.settings(), **GIVEN, "batch_size": batch, "workers": 0}, about, tests, False
        )
        loader.share = (1, 2)
        epoch, given = type(loader).epoch, []
        seen, inputs = [], task.inputs
        task.inputs = lambda each: seen.append(len(each.labels)) or inputs(each)  # noqa: B023
        with monkeypatch.context() as patch:
            patch.setattr(room.__class__, "figures", lambda *each: {"loss": 0.0})
            patch.setattr(type(loader), "epoch", lambda *a: given.append(epoch(*a)) or given[-1])  # noqa: B023
            shown = room.evaluate([None], task, loader, full=True)
        assert [each.gi_frame for each in given] == [None]  # closed
        assert len(seen) == -(-min(count, 10) // batch)  # and no more are read
        x, labels, classes = shown["seen"]
        wanted = (tests.pictures[:10].transpose(0, 3, 1, 2) - np.float32(127.5)) / 2
        np.testing.assert_array_equal(x, wanted)
        np.testing.assert_array_equal(labels, tests.labels[:10])
        assert loader.share == (1, 2)  # as it was
        assert classes == ["a", "b"] and not shown["grad"]


def test_a_net_that_makes_pictures(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    pictures = ArrayDataset(
        rng.integers(0, 256, (6, 8, 8, 1), np.uint8), np.arange(6) % 2, ["a", "b"]
    )
    room = unlabelled_room(best_by="x", undivided="why", glimpse=len, measures={"x": Measure("x")})
    about = room.describe(room.settings(), pictures) | room.state()
    task = room.task(about, room.arrays(about, pictures), CPU)
    assert (task.best_by, task.undivided, task.glimpse, task.unit) == ("x", "why", len, "pictures")
    assert task.make_inputs.scale == 1 / 255 and list(task.measures) == ["x"]
    batch = dataclasses.replace(batch_of(list(pictures.pictures), 8), damaged={7: "why"})
    assert task.damaged(batch) == {7: "why"} and task.count(batch) == 6
    monkeypatch.setattr(task.make_inputs, "ahead", lambda batches: [batches])
    assert task.ahead("batches") == ["batches"]
    assert (task.arrays()["mean"] == 0).all()
    assert forms(room.zeros(about, 3, CPU[0])) == [((3, 1, 8, 8), np.float32)]
    for shape in ((6, 9, 9, 1), (6, 8, 8, 3)):
        other = ArrayDataset(np.zeros(shape, np.uint8), np.arange(6) % 2, ["a", "b"])
        settings = {**room.settings(), **GIVEN, "workers": 0}
        loader = room.loader(settings, room.describe(settings, other), other, False)
        with pytest.raises(CheckpointError, match=r"expected pictures of \(8, 8, 1\)"):
            room.evaluate([None], task, loader, full=False)
    path = tmp_path / "p.png"
    Image.fromarray(pictures.picture(0)[:, :, 0]).save(path)
    before = random.get_state()
    said = [room.predict([None], task, about, str(path)) for _ in range(2)]
    assert said[0] == said[1] and random.get_state() == before
    assert said[0][0].startswith(f"{path}: (1, 1, 8, 8) 0.") and said[0][0].endswith("False")
    assert room.feeding(None, task, about, raw=False).result == "y"
    maker = unlabelled_room(make=lambda net, z: z * 3, codes=5)
    feeding = maker.feeding(None, task, about, raw=False)
    assert feeding.example.shape == (1, 5) and feeding.result == "pictures"
    np.testing.assert_array_equal(feeding.call(feeding.example), 3 * feeding.example)
    with pytest.raises(ValueError, match="--raw is for nets that see pictures"):
        maker.feeding(None, task, about, raw=True)
