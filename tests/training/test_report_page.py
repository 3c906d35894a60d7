"""The report read back: what stands where, whose figures they are; no name becomes HTML."""

from __future__ import annotations

import base64
import io
import json
import platform
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.data import ArrayDataset, Loader
from tinynet.devices import find_device
from tinynet.tensors import Tensor
from tinynet.training import plots, report
from tinynet.training.evaluate import evaluate, save_evaluation
from tinynet.training.inputs import Inputs
from tinynet.training.measure import Measure
from tinynet.training.metrics import MetricsLog, versions, write_config
from tinynet.training.plots import draw_confusion
from tinynet.training.report import PHASES, write_report
from tinynet.training.task import Task

TAGS = set(
    "html meta title style h1 h2 p div b table tr th td code pre picture source img figure span br "
    "i".split()
)


SHARES = 0.1, 0.2, 0.3, 0.1, 0.3  # of the time, by phase


class Told(Task):
    measures = {"error": Measure("error <of>", "%", 1), "size": Measure("size", "m<", 3)}
    best_by = "error"
    unit = "rows & columns"


class Page(HTMLParser):
    """The tags and the text of a page, and its tables as rows of cells."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.tables, self.attributes = [], [], [], []
        self.feed(text)
        self.whole = " ".join(self.text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attributes]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        self.text.append(data)
        if "table" in self.tags and self.tables and self.tables[-1] and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag):
        if tag == "table":  # what follows is of no cell
            self.tables.append([])

    def table(self, first: str) -> list[list[str]]:
        """The rows below the head of the table whose head begins so."""
        return next(rows[1:] for rows in self.tables if rows and rows[0] and rows[0][0] == first)


def seconds(total):
    return {name: total * share for name, share in zip(PHASES, SHARES, strict=True)}


EVIL = "<b>&amp;</b><script>alert(1)</script>"


def make_run(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr("sys.argv", ["net.py", f"--note={EVIL}"])
    write_config(folder, {"data": f"sets/{EVIL}", f"key{EVIL}": EVIL}, f"net {EVIL}", Told)
    log = MetricsLog(folder)
    rates = (900.0, 300.0, 100.0, 200.0, 1000.0)  # neither the middle nor the end is the median
    for step, rate in enumerate(rates, 1):
        log.write(
            "train", step, epoch=step / 2, loss=1.0, error=60.0, lr=0.1, images_per_second=rate
        )
    tests = [(1, 2.5, 31.0, 0.5, 0.1), (2, 1.5, 20.0, 0.25, 0.0123), (3, 0.5, 24.0, 0.125, 0.001)]
    for epoch, loss, error, size, lr in tests:
        health = {f"conv{EVIL}": [0.5 * epoch, 0.001 * epoch], "dead": [0.0, 0.0]}
        log.write(
            "test", epoch, epoch=epoch, loss=loss, error=error, size=size, lr=lr, health=health,
            seconds=seconds(6000.0 * epoch),
        )  # fmt: skip
    log.close()
    sample = {"picture": "data:image/png;base64,AAAA", "probability": 0.875}
    evaluation = {
        "views": {
            "1": {"top1_error": 20.0, "top5_error": 1.0},
            "10": {"top1_error": 18.5, "top5_error": 2.5},
        },
        "classes": ["a", "b"],
        "confusion": [[1, 2], [3, 4]],
        "error_by_class": {"easy": 1.25, f"hard{EVIL}": 66.5, "middle": 30.0},
        "samples": {
            "wrong": [{**sample, "was": f"cat{EVIL}", "said": f"dog{EVIL}"}],
            "right": [{**sample, "was": f"owl{EVIL}", "said": f"owl{EVIL}"}],
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "kernels.png").write_bytes(b"kernels")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / EVIL.replace("/", "")
    with pytest.MonkeyPatch.context() as monkeypatch:
        return Page(write_report(make_run(folder, monkeypatch)).read_text())


def test_no_name_becomes_html(page):
    assert set(page.tags) <= TAGS  # no script, and no element but ours
    for what in ("net ", "sets/", "key", "hard", "cat", "dog", "owl", "conv", "--note="):
        assert what + EVIL in page.whole, what


def test_the_first_figures_are_those_of_the_best_epoch(page):
    """Not of the last, nor of the lowest loss; the rate is the median, the time is the last's."""
    start = page.text.index("20.0 %")
    best = "epoch 2, best of 3 epochs on these rows & columns"
    assert page.text[start : start + 10] == [
        "20.0 %", f"error <of>, {best}", "0.250 m<", f"size, {best}", "18.50 %",
        "top-1 error, 10 views", "300", "rows & columns/s in training (median)", "5 h 0 min",
        "time, tests included",
    ]  # fmt: skip


def test_tables(page):
    assert page.table("epoch") == [
        ["1", "2.5000", "31.0", "0.500", "0.1"],
        ["2", "1.5000", "20.0", "0.250", "0.012"],
        ["3", "0.5000", "24.0", "0.125", "0.001"],
    ]
    assert page.table("class") == [[f"hard{EVIL}", "66.5"], ["middle", "30.0"], ["easy", "1.2"]]
    assert page.table("parameters") == [
        [f"conv{EVIL}", "1.50e+00", "3.00e-03", "2.0e-03"],
        ["dead", "0.00e+00", "0.00e+00", ""],
    ]
    heads = [rows[0] for rows in page.tables if rows]
    assert ["epoch", "test loss", "error <of>, %", "size, m<", "learning rate"] in heads


def test_samples_say_what_was_said_and_what_it_was(page):
    words = [text for text in page.text if EVIL in text and text[:3] in ("dog", "was", "owl")]
    assert words == [f"dog{EVIL}", f"was cat{EVIL}", f"owl{EVIL}"]
    titles = [text for text in page.text if text in ("Taken for something else", "Recognised")]
    assert titles == ["Taken for something else", "Recognised"]
    assert page.whole.index("Taken for something else") < page.whole.index("dog")
    assert page.whole.index("was cat") < page.whole.index("Recognised") < page.whole.index("owl")
    assert page.text.count(" 88%") == 2


def test_when_and_with_what_it_was_started(page):
    cells = [row for rows in page.tables for row in rows]
    for row in (*versions().items(), (f"key{EVIL}", EVIL)):
        assert list(row) in cells
    (machine,) = (words for name, words in filter(lambda row: row[0] == "machine", cells))
    assert re.fullmatch(rf"{platform.system()} {platform.machine()}, \d+ cores", machine)
    day = r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
    assert re.search(day, page.whole)
    command = f"{Path(sys.executable).name} net.py '--note={EVIL}'"
    assert page.text[page.text.index("Commands") + 1] == command


def test_where_the_time_went(page):
    """Of the last test: 18,000 s, a tenth of it loading."""
    key = [text for text in page.text if " % (" in text]
    assert key == [
        "loading 10.0 % (30 min 0 s)",
        "forward 20.0 % (1 h 0 min)",
        "backward 30.0 % (1 h 30 min)",
        "update 10.0 % (30 min 0 s)",
        "testing 30.0 % (1 h 30 min)",
    ]
    widths = [v.split(";") for tag, k, v in page.attributes if tag == "div" and k == "style"]
    colours = [v.split(":")[1] for tag, k, v in page.attributes if tag == "i" and k == "style"]
    shares = ("10.00%", "20.00%", "30.00%", "10.00%", "30.00%")
    assert widths == [
        [f"width:{w}", f"background:{c}"] for w, c in zip(shares, colours, strict=True)
    ]
    assert len(set(colours)) == 5


def test_pictures_are_inside_in_light_and_in_dark(page):
    """Three panels of curves, the kernels, two samples, the confusion; nothing from elsewhere."""
    found = {
        name: [
            base64.b64decode(v.partition("base64,")[2]) for t, k, v in page.attributes if k == name
        ]
        for name in ("src", "srcset")
    }
    assert all(v.startswith("data:") for _, k, v in page.attributes if k in ("src", "srcset"))
    names = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    curve = "a curve over the epochs"
    assert names == [curve, curve, curve, "kernels", "", "", "confusion"]
    light = [*found["src"][:3], found["src"][-1]]
    assert found["src"][3] == b"kernels" and len(found["srcset"]) == 4
    for pair in zip(light, found["srcset"], strict=True):  # white paper, dark paper
        means = [np.asarray(Image.open(io.BytesIO(each)).convert("L")).mean() for each in pair]
        assert means[0] > 150 > means[1]


@pytest.mark.parametrize(
    ("total", "text"),
    [(59.4, "59 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7380, "2 h 3 min")],
)
def test_durations(total, text, tmp_path, monkeypatch):
    for name in ("draw_curves", "curves"):  # they take long
        monkeypatch.setattr(report, name, lambda *args: [])
    write_config(tmp_path, {"data": None}, "a net", Told)
    log = MetricsLog(tmp_path)
    figures = dict(epoch=1, loss=1.0, lr=0.1, health={}, seconds=seconds(total))
    log.write("test", 1, error=1.0, **figures)
    log.close()
    assert text in Page(write_report(tmp_path).read_text()).text


# ---- confusion: rows are the truth, columns what was said


def sure(scores):
    """A net that knows its answers by heart: by the picture's first pixel."""
    return lambda x: Tensor(scores[x.data[:, 0, 0, 0].astype(int)], find_device("cpu"))


@pytest.fixture
def confused(tmp_path, monkeypatch):
    """Six pictures of class 0, three taken for 1, one for 2; two of class 1, right; one of 2, too.

    Returns the evaluation's JSON and the figure that was drawn.
    """
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    labels, said = np.array([0] * 6 + [1] * 2 + [2]), np.array([0, 0, 1, 1, 1, 2, 1, 1, 2])
    pictures = np.broadcast_to(
        np.arange(9, dtype=np.uint8)[:, None, None, None], (9, 4, 4, 1)
    ).copy()
    dataset = ArrayDataset(pictures, labels, ["zero, null", "one", "two"])
    scores = 5 * np.eye(3, dtype=np.float32)[said]
    inputs = Inputs("cpu", np.zeros((4, 4, 1), np.float32), 4)
    batches = Loader(dataset, 5, crop=4, train=False).epoch(0)
    result = evaluate([sure(scores)], batches, inputs, dataset.classes)
    other = evaluate(
        [sure(scores[:, ::-1])], Loader(dataset, 9, crop=4, train=False).epoch(0), inputs,
        dataset.classes,
    )  # fmt: skip
    save_evaluation({1: result, 10: other}, tmp_path)
    draw_confusion(result.confusion, result.classes, tmp_path / "confusion.png")
    return json.loads((tmp_path / "evaluation.json").read_text()), figures[0]


def test_confusion_counts_truth_by_row(confused):
    found, _ = confused
    assert found["confusion"] == [[2, 3, 1], [0, 2, 0], [0, 0, 1]]
    assert found["error_by_class"] == {"zero, null": pytest.approx(200 / 3), "one": 0, "two": 0}
    one = found["views"]["1"]
    assert one["top1_error"] == pytest.approx(400 / 9) and one["top5_error"] == 0
    assert one["pictures"] == 9
    right, wrong = np.exp(5) / (np.exp(5) + 2), 1 / (np.exp(5) + 2)
    assert one["loss"] == pytest.approx(-(5 * np.log(right) + 4 * np.log(wrong)) / 9, rel=1e-5)
    assert found["views"]["10"]["top1_error"] == pytest.approx(600 / 9)
    samples = found["samples"]
    assert [(s["was"], s["said"]) for s in samples["wrong"]] == [("zero, null", "one")]
    assert [s["was"] for s in samples["right"]] == ["zero, null", "one", "two"]
    assert all(s["probability"] == pytest.approx(right, rel=1e-5) for s in samples["wrong"])


def test_confusion_is_drawn_truth_by_row(confused):
    """Shares of the row's pictures, written where they belong, white on dark."""
    _, figure = confused
    axes = figure.axes[0]
    np.testing.assert_allclose(
        axes.images[0].get_array(), [[100 / 3, 50, 50 / 3], [0, 100, 0], [0, 0, 100]]
    )
    assert axes.images[0].get_clim() == (0, 100)  # so that two pictures can be compared
    assert axes.get_ylabel() == "it was" and axes.get_xlabel() == "the net said"
    names = ["zero", "one", "two"]
    assert [t.get_text() for t in axes.get_yticklabels()] == names
    assert [t.get_text() for t in axes.get_xticklabels()] == names
    written = {t.get_position(): (t.get_text(), t.get_color()) for t in axes.texts}  # x, y
    assert written == {
        (0, 0): ("33", "black"), (1, 0): ("50", "black"), (2, 0): ("17", "black"),
        (1, 1): ("100", "white"), (2, 2): ("100", "white"),
    }  # fmt: skip


def test_two_evaluations_share_nothing():
    dataset = ArrayDataset(np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1]), ["a", "b", "none"])
    inputs = Inputs("cpu", np.zeros((4, 4, 1), np.float32), 4)
    for said in (0, 1):
        scores = np.eye(3, dtype=np.float32)[[said, said]]
        batches = Loader(dataset, 2, crop=4, train=False).epoch(0)
        found = evaluate([sure(scores)], batches, inputs, dataset.classes)
        assert list(found.samples["right"]) == [said] and found.wrong.tolist() == [
            said,
            1 - said,
            0,
        ]
        assert found.error_by_class() == {"a": 100 * said, "b": 100 - 100 * said}  # no "none"


def test_draw_confusion_of_many_classes_has_no_names(tmp_path, monkeypatch):
    figures, make = [], plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: figures.append(make(*size)) or figures[-1])
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **options: None)
    for count in (30, 31):
        draw_confusion(
            np.eye(count, dtype=int), [f"k{n}" for n in range(count)], tmp_path / "c.png"
        )
    assert [len(figure.axes[0].texts) for figure in figures] == [30, 0]
