"""The report: self-contained, complete when everything is there, made of whatever is there."""

from __future__ import annotations

import json
import re

import pytest

from tinynet.errors import DataError
from tinynet.training.metrics import MetricsLog, write_config
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
                "views": {"1": {"top1_error": 23.45}, "10": {"top1_error": 21.5}},
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
        "21.50 %",
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
    assert "Health" not in page


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match="not the folder of a run"):
        write_report(tmp_path)
