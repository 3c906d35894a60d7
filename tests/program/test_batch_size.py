"""--batch-size auto: what fits is found from two small steps, said, written down, and used again at
a resume.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
import tinynet.functional as F
from tinynet.devices.cpu import CpuDevice
from tinynet.training.batch_size import fitting_batch_size
from tinynet.training.metrics import read_config

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def alexnet(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("alexnet")


def made_of(constant: int, slope: int, calls: list):
    """A step that takes constant + slope n bytes for n pictures."""

    def step(count: int) -> None:
        calls.append(count)
        tinynet.device("cpu").empty((constant + slope * count,), np.uint8)

    return step


@pytest.mark.parametrize(
    "room, expected", [(1e9, 128), (128, 128), (127, 64), (64, 64), (63, 32), (40, 32), (32, 32)]
)
def test_the_largest_half_that_fits(monkeypatch, room, expected):
    slope, calls = 1 << 17, []
    free = int((room - 32) * slope / 0.5)
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: free)
    size, reason = fitting_batch_size(made_of(1 << 22, slope, calls), [tinynet.device("cpu")], 128)
    assert size == expected and calls == [16, 16, 32]  # the first: gradients
    assert "0.13 MB a picture on cpu" in reason and f"room for {int(room):,}" in reason


def test_the_fullest_device_decides(monkeypatch):
    frees = {"cpu": 1 << 40, "cpu:1": 1 << 20}
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: frees[self.name])
    devices = [tinynet.device(name) for name in frees]
    size, reason = fitting_batch_size(made_of(0, 1 << 16, []), devices, 128)
    assert size == 32 and "cpu:1" in reason


@pytest.mark.parametrize("heavy", [0, 1, 2])
def test_each_device_is_measured_for_itself(heavy):
    """All have the same room; one takes more a picture. What one needed before does not count."""

    class Measured:
        def __init__(self, each):
            self.each, self.peak, self.name = each, 1 << 40, f"of {each}"
            self.reset_peak = lambda: setattr(self, "peak", 0)
            self.memory_stats = lambda: SimpleNamespace(peak=self.peak)
            self.free_memory = lambda: 2 * 40_000

    devices = [Measured(1000 if i == heavy else 10) for i in range(3)]

    def step(count):
        for device in devices:
            device.peak = max(device.peak, 500 + device.each * count)

    size, reason = fitting_batch_size(step, devices, 128)
    assert size == 64 and "0.00 MB a picture on of 1000" in reason and "room for 72" in reason


def test_where_less_than_nothing_is_free_one_picture_is_left(monkeypatch):
    """As where memory is promised that is not there: the search ends."""
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: -(1 << 30))
    assert fitting_batch_size(made_of(0, 1 << 16, []), [tinynet.device("cpu")], 128)[0] == 1


@pytest.mark.parametrize(
    "most, few, more", [(1, 1, 2), (3, 1, 2), (11, 1, 2), (12, 1, 3), (16, 2, 4), (128, 16, 32)]
)
def test_a_step_that_takes_nothing_fits(most, few, more, monkeypatch):
    """Tried with an eighth and a quarter; with 1 and 2, where these are none."""
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: 1 << 20)
    tried = []
    assert fitting_batch_size(tried.append, [tinynet.device("cpu")], most)[0] == most
    assert tried == [few, few, more]


def test_the_slope_of_two_small_steps_holds_for_a_large_one(alexnet):
    """AlexNet's memory does lie along a line."""
    cpu = tinynet.device("cpu")
    net = alexnet.AlexNet(10, "mini", (cpu, cpu), 1)
    peaks = {}
    for count in (8, 8, 16, 64):
        cpu.reset_peak()
        before = cpu.memory_stats().used
        pictures, labels = np.zeros((count, 1, 28, 28), np.float32), np.zeros(count, np.int64)
        F.cross_entropy(net(tinynet.tensor(pictures)), tinynet.tensor(labels)).backward()
        peaks[count] = cpu.memory_stats().peak - before
    expected = peaks[16] + (64 - 16) * (peaks[16] - peaks[8]) / 8
    assert peaks[64] == pytest.approx(expected, rel=0.2)


def test_the_program_says_what_it_chose_and_keeps_it(alexnet, monkeypatch, tmp_path, capsys, rng):
    for split, count in (("train", 10), ("val", 2)):
        for label in ("one", "two"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
                picture.save(tmp_path / "data" / split / label / f"{number}.png")
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: 1 << 18)
    run = [
        "--data",
        str(tmp_path / "data"),
        "--device",
        "cpu:0,cpu:1",
        "--workers",
        "0",
        "--out",
        str(tmp_path / "run"),
    ]
    assert alexnet.main([*run, "--batch-size", "auto", "--epochs", "1"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("batch size 16: ") and "the recipe of mini has 64" in said
    monkeypatch.setattr(CpuDevice, "free_memory", lambda self: 1 << 40)
    assert alexnet.main([*run, "--resume", "--epochs", "2"]) == 0
    assert "batch size" not in capsys.readouterr().out
    assert read_config(tmp_path / "run")["settings"]["batch_size"] == 16
    few = [*run[:-1], str(tmp_path / "few"), "--batch-size", "auto", "--epochs", "1"]
    assert alexnet.main(few) == 0  # memory for 64, but 20 pictures
    assert capsys.readouterr().out.startswith("batch size 16: there are 20 pictures to train on;")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch-size", "lots"], "a whole number of at least 1 was expected"),
        (["--batch-size", "auto", "--eval", "x"], "--eval takes a number"),
    ],
)
def test_mistakes_are_one_line(alexnet, capsys, arguments, message):
    try:
        status = alexnet.main(arguments)
    except SystemExit as end:  # argparse's way
        status = end.code
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1 and message in said
