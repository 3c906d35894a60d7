"""Pictures as a program's data: every field and every setting reaches its place, for each use."""

from __future__ import annotations

import base64
import json
from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet.data import ArrayDataset, PaddedDataset, colour_axes
from tinynet.errors import CheckpointError
from tinynet.nn import Module
from tinynet.program import Pictures, Recipe, Text, Translations, Variant, published
from tinynet.program import pictures as module
from tinynet.program.made import Made
from tinynet.program.options import Parser
from tinynet.program.published import PublishedPictures
from tinynet.training.evaluate import Evaluation
from tinynet.training.inputs import batch_of

CPU = (tinynet.device("cpu"),)
GIVEN = {"batch_size": 4, "seed": 3, "workers": 0, "data": None}


def dataset(side: int, channels: int = 3, count: int = 9, classes: int = 3) -> ArrayDataset:
    rng = np.random.default_rng(side)
    pictures = rng.integers(0, 256, (count, side, side, channels), np.uint8)
    return ArrayDataset(pictures, np.arange(count) % classes, [f"c{k}" for k in range(classes)])


def about_of(data: Pictures, train, **given) -> dict:
    return {**data.describe({**data.settings(), **given}, train), **data.state()}


def task_of(data: Pictures, train, **given):
    about = about_of(data, train, **given)
    return data.task(about, data.arrays(about, train), CPU), about


# --- From settings to batches ---------------------------------------------------------------------

PLAIN = dict(
    batch_size=4, seed=3, workers=0, crop=14, flip=True, colour=None, colour_sigma=0.0,
    colour_story=[], crop_chunk=1, centred=False, skip_damaged=False,
)  # fmt: skip


@pytest.mark.parametrize(
    "fields, settings, channels, wanted, wanted_in_tests",
    [
        ({}, {}, 3, {}, {}),
        ({}, {}, 1, dict(crop=16, flip=False), dict(crop=16, flip=False)),
        (dict(flip=True), {}, 1, dict(crop=16), dict(crop=16)),
        (dict(flip=False), {}, 3, dict(flip=False), dict(flip=False)),
        (dict(crop_chunk=32), {}, 3, dict(crop_chunk=32), dict(crop_chunk=32)),
        (dict(centred=True), {}, 3, dict(centred=True), dict(centred=True)),
        (dict(crop=9), {}, 3, dict(crop=9), dict(crop=9)),
        (dict(crop=9), dict(crop=11), 3, dict(crop=11), dict(crop=11)),
        ({}, dict(batch_size=2, seed=8), 3, dict(batch_size=2, seed=8), dict(batch_size=2, seed=8)),
        ({}, dict(skip_damaged=0), 3, {}, {}),
        ({}, dict(skip_damaged=2), 3, dict(skip_damaged=True), dict(skip_damaged=True)),
        (dict(colour=0.5), {}, 3, dict(colour_sigma=0.5, colour="axes"), {}),
        (dict(colour=0.5), dict(colour=0.2), 3, dict(colour_sigma=0.2, colour="axes"), {}),
        (dict(colour=0.5), dict(colour=0.0), 3, {}, {}),
        ({}, dict(story=[[2, "colour", "0.25"], [3, "lr", "1"]]), 3,
         dict(colour_story=[(2, 0.25)], colour="axes"), {}),
        ({}, dict(story=[[2, "colour", "0"]]), 3, dict(colour_story=[(2, 0.0)]), {}),
    ],
)  # fmt: skip
def test_what_is_set_reaches_the_loader(fields, settings, channels, wanted, wanted_in_tests):
    data, pictures = Pictures(**fields), dataset(16, channels)
    settings = {**data.settings(), **GIVEN, **settings}
    about = {**data.describe(settings, pictures), **data.state()}
    for train, expected in ((True, wanted), (False, wanted_in_tests)):
        loader = data.loader(settings, about, pictures, train)
        found = {name: getattr(loader, name) for name in PLAIN}
        if found["colour"] is not None:
            axes = colour_axes(pictures.moments().covariance())
            np.testing.assert_array_equal(found["colour"], axes)
            found["colour"] = "axes"
        assert found == PLAIN | expected
        assert loader.train is train and loader.dataset is pictures


def test_a_border_has_no_colours():
    data, inner = Pictures(padding=3, colour=0.1), dataset(16)
    padded = PaddedDataset(inner, 3)
    settings = {**data.settings(), **GIVEN}
    loader = data.loader(settings, about_of(data, padded), padded, True)
    np.testing.assert_array_equal(loader.colour, colour_axes(inner.moments().covariance()))
    assert loader.crop == 16


@pytest.mark.parametrize(
    "given, in_memory, expected",
    [(0, True, 0), (0, False, 0), (2, True, 2), (2, False, 2), (None, True, 0), (None, False, 5)],
)
def test_processes_that_load(given, in_memory, expected, monkeypatch):
    monkeypatch.setattr(module, "Loader", lambda *arguments, **options: options["workers"])
    monkeypatch.setattr(module, "available_cores", lambda: 5)
    data, pictures = Pictures(), dataset(16)
    pictures.in_memory = in_memory
    settings = {**data.settings(), **GIVEN, "workers": given}
    assert data.loader(settings, about_of(data, pictures), pictures, True) == expected


# --- What a checkpoint says of them ---------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 9, 15, 16, 17, 20, 60, 63, 64, 256])
def test_the_side_that_a_net_sees(side):
    """Photographs lose an eighth, rounded down; drawings, and what a border surrounds, nothing."""
    photographs, drawings = dataset(side, 3, 2), dataset(side, 1, 2)
    assert about_of(Pictures(), photographs)["image_size"] == side - side // 8
    assert about_of(Pictures(), drawings)["image_size"] == side
    for inner in (photographs, drawings):
        found = about_of(Pictures(padding=2), PaddedDataset(inner, 2))
        assert (found["image_size"], found["picture_size"]) == (side, side)
    assert about_of(Pictures(), photographs, crop=side)["image_size"] == side


def test_a_crop_may_be_as_large_as_the_border_lets_it():
    padded = PaddedDataset(dataset(10), 3)
    for data, pictures, most in ((Pictures(padding=3), padded, 16), (Pictures(), dataset(10), 10)):
        assert about_of(data, pictures, crop=most)["image_size"] == most
        with pytest.raises(ValueError, match=f"--crop: expected at most {most}, .* got {most + 1}"):
            about_of(data, pictures, crop=most + 1)


def test_facts_of_the_pictures():
    found = about_of(Pictures(scale=1 / 64), dataset(16, 1, classes=2))
    assert found == {
        "classes": ["c0", "c1"], "in_channels": 1, "picture_size": 16, "image_size": 16,
        "scale": 1 / 64,
    }  # fmt: skip
    assert Pictures(noise_scale=0.5).state() == {"scale": 1.0, "noise_scale": 0.5}


def test_a_task_is_what_the_checkpoint_says_and_for_the_rest_the_recipe():
    data = Pictures(scale=2.0, noise_scale=0.5, border=3, label_smoothing=0.1, auxiliary=0.3)
    pictures = dataset(16, classes=7)
    about = about_of(data, pictures) | {"scale": 0.25}
    for stated, noise in (({"noise_scale": 0.75}, 0.75), ({}, 1.0)):
        del about["noise_scale"]
        about |= stated
        task = data.task(about, {"mean": np.ones((16, 16, 3), np.float32)}, CPU)
        inputs = task.make_inputs
        assert (inputs.scale, inputs.noise_scale) == (0.25, noise)
        assert (inputs.size, inputs.border, inputs.mean.mean()) == (14, 3, 1.0)
        assert (task.label_smoothing, task.auxiliary) == (0.1, 0.3)
        assert task.classes == about["classes"]
        about |= {"noise_scale": 0}
    for wrong in ({"picture_size": 0}, {"image_size": 0}, {"in_channels": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected at least 1, got 0"):
            data.task(about | wrong, {"mean": inputs.mean}, CPU)
    for scale in (np.inf, np.nan):
        with pytest.raises(ValueError, match="scale: expected a number"):
            data.task(about | {"scale": scale}, {"mean": inputs.mean}, CPU)


@pytest.mark.parametrize("kinds", [["cpu"], ["cpu", "cpu"], ["cuda"], ["cuda", "cuda"]])
def test_each_gpu_has_its_bytes_from_the_host(kinds, monkeypatch):
    """A CPU's second half takes the first one's floats."""
    data, pictures = Pictures(), dataset(16)
    monkeypatch.setattr(module, "Inputs", lambda *given, **more: given)
    monkeypatch.setattr(module, "Classification", lambda inputs, *more: inputs)
    devices = [SimpleNamespace(kind=kind) for kind in kinds]
    about = about_of(data, pictures)
    found = data.task(about, data.arrays(about, pictures), devices)
    assert found[0] is devices[0] and found[4] is (devices[-1] if kinds[0] == "cuda" else None)


@pytest.mark.parametrize("side, crop", [(16, 12), (16, 11), (15, 12), (15, 11), (9, 9)])
def test_the_centre_of_the_mean_lies_where_pictures_are_cut(side, crop):
    pictures = dataset(side)
    about = {"image_size": crop}
    whole = Pictures().arrays(about, pictures)["mean"]
    np.testing.assert_allclose(whole, pictures.pictures.mean(axis=0), rtol=1e-6)
    top = int(batch_of([pictures.picture(0)], crop).top[0])
    cut = Pictures(centre_mean=True).arrays(about, pictures)["mean"]
    np.testing.assert_array_equal(cut, whole[top : top + crop, top : top + crop])


def test_a_trial_batch_is_as_large_as_a_real_one():
    for border, channels in ((0, 1), (3, 3)):
        data = Pictures(border=border)
        task, about = task_of(data, dataset(16, channels))
        pictures, labels = data.zeros(about, 5, CPU[0])
        real, truth = task.inputs(
            batch_of([dataset(16, channels).picture(0)] * 5, task.make_inputs.size)
        )
        assert pictures.shape == real.shape and pictures.dtype == real.dtype
        assert labels.shape == truth.shape and labels.dtype == truth.dtype


# --- Where they come from -------------------------------------------------------------------------


@pytest.fixture
def sets(monkeypatch):
    """What was asked of the disk; both ways to open give pictures of 28 x 28."""
    asked = []

    def opened(*arguments):
        asked.append(arguments)
        return dataset(28, 1, 12), dataset(28, 1, 8)

    monkeypatch.setattr(module, "open_data", opened)
    monkeypatch.setattr(module, "fashion_mnist", opened)
    return asked


@pytest.mark.parametrize(
    "limit, counts", [(None, (12, 8)), ([6], (6, 8)), ([6, 2], (6, 2)), ([12, 8], (12, 8))]
)
@pytest.mark.parametrize("padding", [0, 2])
def test_parts_and_borders_of_both_sets(sets, limit, counts, padding):
    data = Pictures(padding=padding)
    both = data.open({"data": None, "picture_size": None, "limit_pictures": limit})
    assert tuple(map(len, both)) == counts
    for each in both:
        assert each.shape == (28 + 2 * padding, 28 + 2 * padding, 1)


def test_what_is_asked_of_the_disk(sets):
    data = Pictures(largest=64)
    old = {"data": "there", "picture_size": 20}  # as older versions wrote it
    data.open(old)
    data.open(old | {"val_share": 0.25})
    assert sets == [("there", 20, 64, None), ("there", 20, 64, 0.25)]


@pytest.mark.parametrize("side", [27, 29, 8])
def test_the_embedded_pictures_are_as_they_are(sets, side):
    Pictures().open({"data": None, "picture_size": 28})
    with pytest.raises(ValueError, match=f"sides of 28 pixels, not of {side}"):
        Pictures().open({"data": None, "picture_size": side})
    with pytest.raises(ValueError, match="--val-share is for folders"):
        Pictures().open({"data": None, "picture_size": None, "val_share": 0.1})


def test_damaged_ones_are_skipped_in_a_prepared_folder_alone(sets, monkeypatch):
    """Those of a plain folder are read at the start, where no limit is asked for."""
    given = {"data": "there", "picture_size": None}
    Pictures().open(given | {"skip_damaged": 0})
    with pytest.raises(
        ValueError, match="--skip-damaged: expected a folder that prepare_image.*--skip-damaged 0$"
    ):
        Pictures().open(given | {"skip_damaged": 1})
    with pytest.raises(ValueError, match="--skip-damaged: expected a folder that prepare_image"):
        Pictures().open(given | {"data": None, "skip_damaged": 1})
    prepared = dataset(28, 1, 12)
    prepared.in_memory = False
    monkeypatch.setattr(module, "open_data", lambda *arguments: (prepared, prepared))
    Pictures().open(given | {"skip_damaged": 1})


def test_options_give_what_settings_take():
    parser = Parser()
    Pictures().add_options(parser, lambda name: "none")
    words = "--data d --val-share 0.5 --picture-size 8 --crop 8 --colour 0 --limit-pictures 7,2"
    args = vars(parser.parse_args(words.split()))
    assert args == dict(
        data="d", val_share=0.5, picture_size=8, crop=8, colour=0.0, limit_pictures=[7, 2]
    )
    assert args.keys() - {"data"} == Pictures().settings().keys()
    for flag, values in {
        "--val-share": "0 1 -0.1 1.1 nan x", "--picture-size": "7 8.5", "--crop": "7 -8",
        "--colour": "-1 inf", "--limit-pictures": "0 1,0 1,2,3 ,1 1.5",
    }.items():  # fmt: skip
        for value in values.split():
            with pytest.raises(SystemExit):
                parser.parse_args([flag, value])


# --- What is said of them -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names, channels, said",
    [
        (["c0", "c2", "c1"], 3, "the classes that"),  # as many, in another order
        (["c0", "c1"], 3, "the classes that"), (["c0", "c1", "c2", "c3"], 3, "the classes that"),
        (["c0", "c1", "C2"], 3, "the classes that"), (["c0", "c1", "c2"], 1, "3 channels, .* 1 ch"),
    ],
)  # fmt: skip
def test_other_classes_or_channels_are_refused(names, channels, said):
    """Whichever of the two the net was trained on."""
    data, own = Pictures(), dataset(16)
    other = dataset(16, channels)
    other.classes = names
    settings = {**data.settings(), **GIVEN}
    for known, given in ((own, other), (other, own)):
        task, _ = task_of(data, known)
        tests = data.loader(settings, about_of(data, given), given, False)
        words = said if known is own else said.replace("3 channels, .* 1 ch", "1 channel, .* 3 ch")
        with pytest.raises(CheckpointError, match=words):
            data.evaluate([], task, tests, full=False)


@pytest.mark.parametrize("full, views", [(True, [1, 10]), (False, [1])])
def test_the_quick_test_is_the_centre_alone(full, views, monkeypatch):
    """Whole batches for each rank, whatever its share of them in training."""
    asked = []
    monkeypatch.setattr(module, "evaluate", lambda *each: asked.append(each) or each[4])
    data, pictures = Pictures(crop=12), dataset(16)
    task, about = task_of(data, pictures)
    tests = data.loader({**data.settings(), **GIVEN}, about, pictures, False)
    tests.share = (1, 2)
    task.steps = type("Steps", (), {"ranks": type("Ranks", (), {"rank": 1, "size": 2})})
    seen = []
    monkeypatch.setattr(
        type(tests), "epoch", lambda self, epoch: seen.append((self.share, self.every, epoch))
    )
    found = data.evaluate(["net"], task, tests, full)
    assert found == dict(zip(views, views, strict=True)) and list(found) == views
    assert seen == [((0, 1), (1, 2), 0)] * len(views) and tests.share == (1, 2)
    for models, _, each, classes, _, ranks in asked:
        assert (models, each, classes, ranks) == (
            ["net"],
            task.each,
            task.classes,
            task.steps.ranks,
        )


@pytest.mark.parametrize("classes", [2, 5, 6, 19, 20, 21])
def test_of_many_classes_twenty_are_named(classes):
    """And of more than five the top-5 error."""
    confusion = np.eye(classes, dtype=int)
    found = Evaluation([f"c{k}" for k in range(classes)], confusion, 0 * confusion[0], 1)
    for views, words in ((2, "two views:   "), (5, "five views:  "), (10, "ten views:   ")):
        lines = list(Pictures().tell({1: found, views: found}))
        assert lines[0].startswith("centre view: top-1") and lines[1].startswith(words + "top-1")
        assert len(lines) == 3 + min(classes, 20)
    one, *lines = Pictures().tell({1: found})
    assert lines[0].startswith("one view: ") and len(lines) == 2 + min(classes, 20)
    for said in (one, Pictures().reached({1: found})):
        assert ("top-5" in said) == (classes > 5)


def test_the_hardest_classes_come_first():
    wrong = np.array([1, 0, 4, 2])
    confusion = np.diag(4 - wrong)
    for k, count in enumerate(wrong):
        confusion[k, (k + 1) % 4] += count
    found = Evaluation(list("abcd"), confusion, wrong, 16)
    lines = list(Pictures().tell({1: found, 10: found}))
    assert [line.split("%")[1].strip() for line in lines[3:]] == ["c", "d", "a", "b"]
    assert [float(line.split("%")[0]) for line in lines[3:]] == [100, 50, 25, 0]
    assert lines[1].startswith("ten views:   top-1 error 43.75 %, loss 0.0000 (16 pictures)")


class Scores(Module):
    """Says of each picture what it was told."""

    def __init__(self, scores):
        self.scores = np.log(np.asarray(scores, np.float32))

    def forward(self, x):
        self.seen = x.numpy()
        return tinynet.tensor(np.repeat(self.scores[None], len(x), axis=0))


@pytest.mark.parametrize("channels, crop", [(1, None), (3, None), (3, 12)])
def test_the_likeliest_are_named_and_lost_colours_told(channels, crop, tmp_path):
    data, train = Pictures(padding=2), PaddedDataset(dataset(16, channels, 14, 7), 2)
    task, about = task_of(data, train, crop=crop)
    model = Scores([0.05, 0.3, 0.01, 0.2, 0.04, 0.35, 0.05])
    grey = np.full((16, 16, 3), 99)
    blue = grey.copy()
    blue[7, 3, 2] = 9  # one pixel
    for name, pixels in (("grey", grey), ("blue", blue)):
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        told, *lines = data.predict([model], task, about, str(path))
        assert [line.split()[-1] for line in lines[:3]] == ["c5", "c1", "c3"] and len(lines) == 5
        assert lines[0] == "   35.0 %  c5"
        lost = channels == 1 and name == "blue"
        assert told == str(path) + " (its colours are left out: the net knows grey pictures)" * lost
        whole = data.read(about, path)
        assert whole.shape == (20, 20, channels) and not whole[:2].any() and not whole[:, 18:].any()
        seen = task.inputs(batch_of([whole], crop or 16))[0].numpy()
        np.testing.assert_array_equal(model.seen, seen)


def test_files_of_folders_below_in_order(tmp_path):
    hidden = (".a/1.png", "b/.thumbs/x/2.png", "a/.3.png")
    for name in ("b/2.png", "b/1.jpg", "a/x/3.png", "z.png", "note.txt", "a/x/n.txt", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path) for path in Pictures().files(str(tmp_path))]
    wanted = ["z.png", "a/x/3.png", "b/1.jpg", "b/2.png"]
    assert found == [str(tmp_path / name) for name in wanted]
    assert Pictures().files("one.png") == ["one.png"]


def test_what_is_kept_of_an_evaluation(monkeypatch, tmp_path):
    """The figures by views; the confusion of the centre view, what is true down, what is said
    across.
    """
    drawn, saved = [], []
    monkeypatch.setattr(module, "draw_confusion", lambda *each: drawn.append(each))
    monkeypatch.setattr(module, "save_evaluation", lambda *each: saved.append(each))
    confusion = np.array([[2, 1], [0, 3]])
    centre = Evaluation(["a", "b"], confusion, np.array([1, 0]), 6)
    result = {1: centre, 10: Evaluation(["a", "b"], 2 * confusion, np.array([1, 0]), 6)}
    Pictures().save(result, tmp_path)
    assert saved == [(result, tmp_path)] and len(drawn) == 1
    matrix, classes, path = drawn[0]
    assert matrix is confusion and classes == ["a", "b"] and path == tmp_path / "confusion.png"


class Itself(Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("border", [0, 3])
@pytest.mark.parametrize("centre_mean", [False, True])
@pytest.mark.parametrize("crop", [None, 11])
def test_an_exported_file_is_fed_as_the_net_was(padding, border, centre_mean, crop):
    """Bytes, or floats, become what Inputs makes of the same picture; what the file says of them is
    enough to make it again.
    """
    data = Pictures(padding=padding, border=border, centre_mean=centre_mean, scale=0.5)
    inner = dataset(16)
    train = PaddedDataset(inner, padding) if padding else inner
    task, about = task_of(data, train, crop=crop)
    picture, side = inner.picture(4), about["image_size"]
    whole = np.pad(picture, [(padding, padding)] * 2 + [(0, 0)])
    wanted = task.inputs(batch_of([whole], side))[0].numpy()
    raw = data.feeding(Itself(), task, about, raw=True)
    found = raw.call(tinynet.tensor(picture[None])).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)
    assert raw.example.shape == (1, 16, 16, 3) and raw.example.dtype == np.uint8
    assert "tinynet" not in raw.metadata and "uint8 (N, 16, 16, 3)" in raw.takes
    plain = data.feeding(Itself(), task, about, raw=False)
    x = tinynet.tensor(wanted[:, :, :side, :side].copy())
    np.testing.assert_array_equal(plain.call(x).numpy(), wanted)  # the border is added
    assert plain.example.shape == (1, 3, side, side) and plain.example.dtype == np.float32
    assert plain.metadata["classes"] == ["c0", "c1", "c2"] and plain.metadata["crop"] == side
    assert plain.metadata["scale"] == 0.5
    assert all(len(f"{mean}".partition(".")[2]) <= 3 for mean in plain.metadata["mean"])
    part = "the centre of 16 x 16, " if side < 16 else ""
    words = f"pictures, float32 (N, 3, {side}, {side}), {part}less the mean, times 0.5"
    assert plain.takes == words
    np.testing.assert_allclose(
        plain.metadata["mean"], task.make_inputs.mean.mean(axis=(0, 1)), atol=1e-3
    )
    told = plain.metadata["tinynet"]
    shape = told["mean_shape"]
    mean = np.frombuffer(base64.b64decode(told["mean"]), "<f4").reshape(shape)
    whole_mean = inner.pictures.mean(axis=0)
    start = (16 - len(mean)) // 2  # 0, or of the centre
    inside = slice(start, start + len(mean))
    assert len(mean) == (side if centre_mean else 16)
    np.testing.assert_allclose(mean, whole_mean[inside, inside], rtol=1e-6)
    again, read = published._told("net.onnx", json.dumps(told), 3, side)
    assert again == {name: about[name] for name in again} and again["scale"] == 0.5
    np.testing.assert_array_equal(read, mean)


def test_nothing_else_of_a_recipe_changes_with_a_variant():
    data = Pictures(picture_size=9, crop=8, colour=0.5, padding=2, scale=3.0, border=1, flip=False)
    recipe = Recipe("net", data, 3, 4, 0.5, milestones=(2,), advice="wait")
    varied = Variant("about", data=dict(centred=True)).of(recipe, "row")
    assert varied == replace(recipe, title="net (row)", data=replace(data, centred=True))


def test_recipes_and_their_data_stay_as_they_are():
    """All runs of a program share them."""
    both, text = Translations(*"abcde"), Text(4, None, None, ())
    for each, name in (
        (Recipe("a net", Pictures(), 3, 4, 0.5), "epochs"), (Variant("about"), "about"),
        (Pictures(), "crop"), (text, "length"), (both, "read"), (PublishedPictures(), "mean"),
        (Made(*"abcde"), "make"),
    ):  # fmt: skip
        with pytest.raises(FrozenInstanceError):
            setattr(each, name, getattr(each, name))
