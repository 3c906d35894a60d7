"""The report: self-contained, complete when everything is there, made of whatever is there."""

from __future__ import annotations

import base64
import json
import os
import re

import numpy as np
import pytest

from tinynet.errors import DataError
from tinynet.training import checkpoint, report
from tinynet.training.metrics import MetricsLog, read_config, write_config
from tinynet.training.plots import draw_kernels
from tinynet.training.report import write_report
from tinynet.training.stopwatch import PHASES
from tinynet.training.task import Classification

SECONDS = dict.fromkeys(PHASES, 30.0)


def start(folder):
    settings = {"preset": "mini", "data": None, "note": "<script>"}
    write_config(folder, settings, "mini AlexNet", Classification)
    return MetricsLog(folder)


def test_the_whole_page(tmp_path, rng):
    log = start(tmp_path)
    log.write("train", 50, epoch=1.0, loss=1.5, top1_error=60.0, lr=0.01, images_per_second=1234.5)
    log.write(
        "test", 50, epoch=1, loss=1.4, top1_error=23.45, top5_error=6.78, lr=0.01,
        health={"conv1.weight": [0.0123, 4.5e-06]}, seconds=SECONDS,
    )  # fmt: skip
    log.close()
    draw_kernels(rng.normal(size=(2, 8, 1, 5, 5)), tmp_path / "kernels.png")
    (tmp_path / "evaluation.json").write_text(
        json.dumps(
            {
                "views": {"1": {"top1_error": 23.45}, "5": {"top1_error": 21.5}},
                "error_by_class": {"easy": 1.0, "hard & <b>": 66.6},
                "samples": {
                    "wrong": [
                        {"picture": "data:,x", "was": "cat", "said": "dog", "probability": 0.9}
                    ],
                    "right": [],
                },
            }
        )
    )
    page = write_report(tmp_path).read_text()
    for text in (
        "23.45 %",
        "6.78 %",
        "<b>21.50 %</b>top-1 error, 5 views",
        "1,23",
        "1.23e-02",
        "66.6",
        "was cat",
        "2 min 30 s",
    ):
        assert text in page, text
    assert page.index("hard &amp; &lt;b&gt;") < page.index("easy")  # the hardest first
    assert "<script>" not in page
    # nothing is fetched from elsewhere
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)', page))
    assert page.count("data:image/png;base64,") >= 1


def test_a_run_killed_in_its_first_epoch_has_a_report_too(tmp_path):
    start(tmp_path).close()
    page = write_report(tmp_path).read_text()
    assert "Configuration" in page
    assert "Health" not in page and "left out" not in page and "median" not in page


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match="not the folder of a run"):
        write_report(tmp_path)


def log_of(folder, tests=(), trains=(), kernels=(), **settings):
    """A run's folder with lines of metrics, each told by what is special of it."""
    write_config(folder, {"data": None, **settings}, "a net", Classification, kernels=kernels)
    log = MetricsLog(folder)
    for step, line in enumerate(trains, 1):
        figures = dict(epoch=step, loss=1.0, lr=0.1, images_per_second=9.0)
        log.write("train", step, **figures | line)
    for step, line in enumerate(tests, 1):
        figures = dict(epoch=step, loss=1.0, top1_error=50.0, lr=0.1, health={}, seconds=SECONDS)
        log.write("test", step, **figures | line)
    log.close()


@pytest.fixture
def no_curves(monkeypatch):
    """Which take long."""
    for name in ("draw_curves", "curves"):
        monkeypatch.setattr(report, name, lambda *args: [])


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [([0, 3, 1234], [0], "1,234"), ([2], [0, 5, 5], "5"), ([], [7], "7"), ([1], [], "1")],
)
def test_the_damaged_are_told_wherever_they_were_counted(train, test, said, tmp_path, no_curves):
    log_of(tmp_path, [{"damaged": n} for n in test], [{"damaged": n} for n in train])
    page = write_report(tmp_path).read_text()
    assert f"<b>{said}</b>pictures left out: they cannot be read" in page


def test_nothing_is_said_of_damaged_ones_where_there_are_none(tmp_path, no_curves):
    log_of(tmp_path, [{}], [{}])
    assert "left out" not in write_report(str(tmp_path)).read_text()  # a folder's name will do


def test_kernels_are_those_of_the_best_net(tmp_path, no_curves, rng):
    """Before the first test, of the newest; each picture is made anew."""
    weights = [rng.normal(size=(8, 1, 5, 5)).astype(np.float32) for _ in range(3)]
    log_of(tmp_path, kernels=["a.weight", "b.weight"])

    def save(step, weight):
        path = checkpoint.path_of(tmp_path, step)
        model = {"a.weight": weight, "b.weight": -weight, "other": np.zeros(1)}
        checkpoint.save(path, checkpoint.Checkpoint(model))
        return path

    def shown():
        page = write_report(tmp_path).read_text()
        return (tmp_path / "kernels.png").read_bytes(), re.findall(r"From ([^<]*)\.<", page)

    def drawn(weight):
        draw_kernels([weight, -weight], tmp_path / "expected.png")
        return (tmp_path / "expected.png").read_bytes()

    save(9, weights[0]), save(10, weights[1])
    assert shown() == (drawn(weights[1]), ["step-00000010.safetensors"])
    checkpoint.keep_best(checkpoint.path_of(tmp_path, 9))
    save(11, weights[2])
    assert shown() == (drawn(weights[0]), ["best.safetensors"])
    os.truncate(tmp_path / checkpoint.BEST, 100)
    assert "best.safetensors is damaged." in write_report(tmp_path).read_text()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tf32", None, "no"),
        ("tf32", False, "no"),
        ("tf32", True, "yes"),
        ("seed", 0, "0"),
        ("colour", 0.0, "0.0"),
        ("workers", None, "one a core, or none if the data lie in memory"),
        ("workers", 0, "0"),
        ("milestones", [], "by the schedule of the recipe"),
        ("milestones", [2, 4.5], "2, 4.5"),
        ("story", [[3, "freeze", "conv1"], [9, "lr", "0.1"]], "3 freeze conv1, 9 lr 0.1"),
        ("data", None, "the program's own"),
        ("limit_batches", None, "all"),
        ("a_new_one", None, "none"),
        ("a_new_one", "", ""),
    ],
)
def test_settings_in_words(name, value, words):
    title, said = report._setting(name, value)
    assert said == words
    assert title == report.SETTINGS.get(name, ("a new one",))[0]


@pytest.mark.parametrize("rows", [1, 12, 13, 1200])
def test_a_long_table_scrolls_and_says_so(rows, tmp_path, no_curves):
    log_of(tmp_path, [{"health": {f"layer {k}": [1.0, 0.5] for k in range(rows)}}])
    page = write_report(tmp_path).read_text()
    assert (f"{rows:,} rows: scroll to see them all." in page) == (rows > 12)
    assert page.count('class="scroll long"') == (rows > 12)
    assert page.count("<tr><td>layer ") == rows


def test_where_a_run_stands(tmp_path, no_curves):
    for tests, epochs, said in (
        (2, 5, "2 of 5 epochs"), (0, 5, "0 of 5 epochs"), (5, 5, None), (3, None, None)
    ):  # fmt: skip
        log_of(tmp_path, [{}] * tests, epochs=epochs)
        page = write_report(tmp_path).read_text()
        assert ("not at its end" in page) == (said is not None)
        assert said is None or f"not at its end: {said} are done" in page
    assert "<h1>a net</h1>" in page
    data = {"train": [60000, "a <b>"], "test": [10000, "c"]}
    write_config(tmp_path, {"data": None}, "a net", Classification, data=data)
    page = write_report(tmp_path).read_text()
    assert "60,000 pictures to train on (a &lt;b&gt;), 10,000 to test on (c)" in page
    assert "<h1>a net on a &lt;b&gt;</h1>" in page
    config = read_config(tmp_path)
    config["settings"]["data"] = "somewhere/d"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "<h1>a net on d</h1>" in write_report(tmp_path).read_text()


def test_texts_and_pictures_of_a_language_model(tmp_path, no_curves):
    log_of(tmp_path)
    (tmp_path / "heads.png").write_bytes(b"heads")
    found = {
        "texts": [["said <1>", "one\n <two>"], ["said 2", "three"]],
        "pictures": [["gone", "gone.png"], ["where & how", "heads.png"], ["gone", "gone.png"],
                     ["more", "more.png"]],
    }  # fmt: skip
    (tmp_path / "more.png").write_bytes(b"even more")
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    page = write_report(tmp_path).read_text()
    assert "<h2>said &lt;1&gt;</h2><pre>one\n &lt;two&gt;</pre>" in page
    assert "<h2>said 2</h2><pre>three</pre>" in page
    assert "where &amp; how" in page and "gone" not in page
    heads, more = (base64.b64encode(data).decode() for data in (b"heads", b"even more"))
    assert 0 < page.index(heads) < page.index("<h2>more</h2>") < page.index(more)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(DataError, match="evaluation.json is damaged; delete it"):
        write_report(tmp_path)
    (tmp_path / "evaluation.json").unlink()  # a run of old drew its confusion itself
    (tmp_path / "confusion.png").write_bytes(b"confused")
    page = write_report(tmp_path).read_text()
    assert "<h2>Confusion</h2>" in page and base64.b64encode(b"confused").decode() in page


@pytest.mark.parametrize("old", [False, True])
def test_the_evaluation_counts_more_than_pictures_of_before(old, tmp_path, no_curves, monkeypatch):
    """Also where it has no classes, and in a second report."""
    drawn = []

    def draw(table, classes, theme):
        drawn.append((table.tolist(), classes))
        return b"drawn %d" % len(drawn)

    monkeypatch.setattr(report, "confusion_picture", draw)
    log_of(tmp_path)
    if old:
        (tmp_path / "confusion.png").write_bytes(b"of before")
    for table in ([[1, 0], [2, 3]], [[0, 4], [5, 0]]):
        found = {"classes": ["a", "b"], "confusion": table}
        (tmp_path / "evaluation.json").write_text(json.dumps(found))
        drawn.clear()
        page = write_report(tmp_path).read_text()
        assert drawn == [(table, ["a", "b"])] * 2
        light, dark = (base64.b64encode(each).decode() for each in (b"drawn 1", b"drawn 2"))
        assert f' src="data:image/png;base64,{light}"' in page
        assert f' srcset="data:image/png;base64,{dark}"' in page
        assert base64.b64encode(b"of before").decode() not in page
    (tmp_path / "evaluation.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    assert (
        ("<h2>Confusion</h2>" in page) == (base64.b64encode(b"of before").decode() in page) == old
    )


def test_what_is_missing_ends_no_row(tmp_path, no_curves):
    """A net without mistakes, errors of one view before those of ten."""
    log_of(tmp_path)
    sample = {"picture": "data:,", "said": "cat", "was": "cat", "probability": 1.0}
    found = {
        "samples": {"wrong": [], "right": [sample]},
        "views": {"1": {"top1_error": 9.0}, "10": {"top1_error": 8.0}, "5": {"top1_error": 7.0}},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(found))
    page = write_report(tmp_path).read_text()
    assert "Taken for something else" not in page
    assert "<h2>Recognised</h2>" in page and "cat</span> 100%" in page
    assert "8.00 %</b>top-1 error, 10 views" in page and "7.00 %</b>top-1 error, 5 views" in page
    assert "9.00 %" not in page


def test_a_run_that_took_no_time(tmp_path, no_curves):
    """As of a clock that stands still."""
    log_of(tmp_path, [{"seconds": dict.fromkeys(PHASES, 0.0)}])
    page = write_report(tmp_path).read_text()
    assert "loading 0.0 % (0 s)" in page and "<b>0 s</b>time, tests included" in page


def test_a_figure_that_some_tests_lack_has_a_column(tmp_path, no_curves):
    """Blank where it is missing; one that no test has is not shown."""
    log_of(tmp_path, [{}, {"top5_error": 12.5}, {"top1_error": 40.0}])
    page = write_report(tmp_path).read_text()
    rows = re.findall(r"<tr><td>(\d)</td><td>1.0000</td><td>(.*?)</td><td>(.*?)</td>", page)
    assert rows == [("1", "50.00", ""), ("2", "50.00", "12.50"), ("3", "40.00", "")]
    assert "top-1 error, epoch 3, best of 3 epochs on these pictures" in page
    log_of(tmp_path, [{}])
    page = write_report(tmp_path).read_text()
    assert "top-5 error" not in page and "top-1 error, epoch 1<" in page
