"""The whole CUDA path: AlexNet `mini` trains on one GPU, two GPUs and one GPU twice, to the CPU's
losses.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import numpy as np
import pytest
from PIL import Image

import tinynet
import tinynet.functional as F
from tinynet.data import Batch, Loader
from tinynet.devices import Device
from tinynet.training import checkpoint
from tinynet.training.inputs import Inputs
from tinynet.training.metrics import read_config, read_metrics
from tinynet.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from alexnet import AlexNet, main  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_pictures")
N, STEPS = 4, 3


def devices(names: str) -> tuple[Device, Device]:
    return importlib.import_module("tinynet.program.runs").find_devices(names, 2)


def train(
    names: str, preset: str = "mini", steps: int = STEPS, batch: int = N
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A few steps from pictures as bytes to new weights: the losses, read at the end only, and the
    weights.
    """
    pair, data = devices(names), np.random.default_rng(5)
    tinynet.manual_seed(3)
    net = AlexNet(10, preset, pair)
    optimiser = tinynet.optim.SGD(net.param_groups(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    size = net.image_size
    mean = data.uniform(0, 255, (size + 2, size + 2, 3)).astype(np.float32)
    inputs = Inputs(pair[0], mean, size, 1 / 64, pair[1])
    losses = []
    for _ in range(steps):
        top, left = data.integers(0, 3, (2, batch), np.int32)
        x, labels = inputs(
            Batch(
                pictures=data.integers(0, 256, (batch, size + 2, size + 2, 3), np.uint8),
                labels=data.integers(0, 10, batch),
                top=top,
                left=left,
                flip=data.integers(0, 2, batch).astype(bool),
                colour=None,
                indices=np.arange(batch),
            )
        )
        loss = F.cross_entropy(net(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return np.array([loss.item() for loss in losses]), net.state_dict()


@pytest.mark.parametrize(
    "preset", ["mini", *(pytest.param(p, marks=pytest.mark.slow) for p in ("paper", "cfg145"))]
)
def test_two_gpus_train_to_the_losses_of_the_cpu(machine: fake_cupy.Machine, preset: str) -> None:
    steps, batch = (STEPS, N) if preset == "mini" else (1, 1)
    losses, weights = train("cuda:0,cuda:1", preset, steps, batch)
    if (
        preset == "paper"
    ):  # what crossed is what the split needs and no byte more, besides the probe of 1 MiB each way
        halves = 2 * 128 * 13 * 13 + 2 * 128 * 6 * 6 + 2 * 2048 + 2048
        assert machine.peer_bytes.total() - (2 << 20) == 4 * halves * 2 * batch * steps
    expected_losses, expected_weights = train("cpu:0,cpu:1", preset, steps, batch)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for name, expected in expected_weights.items():
        np.testing.assert_allclose(
            weights[name],
            expected,
            rtol=0,
            atol=1e-5 * max(1, np.abs(expected).max()),
            err_msg=name,
        )
    assert machine.peer_bytes[0, 1] and machine.peer_bytes[1, 0]
    assert all(
        machine.launches[kernel]
        for kernel in ("row_columns", "sum_of_rows", "gemm", "dropout_mask", "sgd_step")
    )


@pytest.mark.parametrize("names", ["cuda:0", "cuda:0,cuda:0"])
@pytest.mark.parametrize(
    "gpu", ["real CuPy", pytest.param("gpu", marks=pytest.mark.gpu)], indirect=True
)
def test_one_gpu_trains_to_the_losses_of_the_cpu(gpu: Device, names: str) -> None:
    """From pictures as bytes: uploads, twins, crossings, every kernel of the net, SGD."""
    losses, weights = train(names, steps=2)
    expected_losses, expected_weights = train("cpu", steps=2)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for name, expected in expected_weights.items():
        atol = 1e-4 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(weights[name], expected, rtol=0, atol=atol, err_msg=name)


@pytest.mark.gpu
def test_the_program_on_a_real_gpu(tmp_path: Path) -> None:
    """Trains, saves, resumes from the middle of an epoch to the same bits, and evaluates."""
    here = run(tmp_path, "cuda:0,cuda:0")
    whole = checkpoint.load(checkpoint.path_of(here, 8))
    for path in checkpoint.all_in(here)[:5]:
        path.unlink()
    assert program("--resume", "--out", here) == 0
    for name, array in checkpoint.load(checkpoint.path_of(here, 8)).model.items():
        np.testing.assert_array_equal(array, whole.model[name], err_msg=name)
    assert program("--eval", here, "--device", "cuda:0", "--out", tmp_path / "tested") == 0


def test_one_gpu_two_gpus_and_one_twice_give_the_same_bits(machine: fake_cupy.Machine) -> None:
    runs = [
        train(names, steps=2)
        for names in ("cuda:0", "cuda:0,cuda:1", "cuda:0,cuda:0", "cuda:0,cuda:0")
    ]
    for losses, weights in runs[1:]:
        np.testing.assert_array_equal(losses, runs[0][0])
        for name, expected in runs[0][1].items():
            np.testing.assert_array_equal(weights[name], expected, err_msg=name)


def test_nothing_waits_for_the_device_inside_a_step(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = importlib.import_module("tinynet.devices.cuda.uploads")
    monkeypatch.setattr(uploads, "SLOTS", 1000)  # a ring that is not full
    waits = []
    step = tinynet.optim.SGD.step

    def counting(self: Any) -> None:
        step(self)
        waits.append(machine.host_waits)

    monkeypatch.setattr(tinynet.optim.SGD, "step", counting)
    train("cuda:0,cuda:1")
    assert waits == [waits[0]] * STEPS


@pytest.mark.parametrize("names", ["cuda:0", "cuda:0,cuda:1"])
def test_a_step_goes_along_memory(machine: fake_cupy.Machine, names: str) -> None:
    """No large operand of CuPy's own operations is read against its order in memory."""
    train(names, steps=1)
    assert not machine.against_memory


def test_arithmetic_on_pictures_goes_along_memory(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    def arithmetic(x: tinynet.Tensor, scale: tinynet.Tensor) -> tinynet.Tensor:
        y = F.pad(x, (1, 2, 0, 1), 2.0)
        z = (y + y) * scale - y / (y * y + 3.0)
        parts = z.mean(), (-z).exp().max(axis=1).sum(), maximum(z, y).sum(axis=(2, 3)).sum()
        return sum(parts, (y**2).sum(keepdims=True).log().sum())

    maximum = importlib.import_module("tinynet.arithmetic").maximum
    pictures, scales = rng.uniform(1, 2, (3, 9, 9, 4)), rng.uniform(1, 2, (3, 1, 1))
    found = []
    for device in ("cpu", "cuda:0"):
        x = tinynet.tensor(np.moveaxis(pictures, -1, 0), device=device, requires_grad=True)
        scale = tinynet.tensor(scales, device=device, requires_grad=True)
        y = arithmetic(x, scale)
        y.backward()
        found.append([y.numpy(), x.grad.numpy(), scale.grad.numpy()])
    assert x.grad.data.strides == x.data.strides
    assert not machine.against_memory
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


# --- the program itself ---


def program(*arguments: object) -> int:
    """examples/alexnet.py's command line."""
    return main([str(a) for a in arguments])


def run(
    folder: Path,
    devices: str,
    *more: object,
    batch_size: object = 4,
    pictures: int = 8,
    status: int = 0,
) -> Path:
    """Two epochs of four batches over colour pictures in folders, so many of each class, a
    checkpoint a batch: the folder of the run, which ended with that status.
    """
    data, out = folder / "pictures", folder / devices.replace(":", "")
    rng = np.random.default_rng(1)
    for split, count in (("train", pictures), ("val", 3)) if not data.exists() else ():
        for label, name in enumerate(("dark", "light")):
            place = data / split / name
            place.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 120, (16, 16, 3)) + 20 * label
                Image.fromarray(picture.astype(np.uint8)).save(place / f"{number}.png")
    arguments = dict(
        preset="mini",
        data=data,
        batch_size=batch_size,
        epochs=2,
        checkpoint_every=1,
        keep=20,
        workers=0,
    )
    flags = [
        text for name, value in arguments.items() for text in (f"--{name.replace('_', '-')}", value)
    ]
    assert program("--device", devices, "--out", out, *flags, *more) == status
    return out


@pytest.mark.slow
def test_the_program_on_two_gpus(
    machine: fake_cupy.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trains, saves, resumes from the middle of an epoch and evaluates, as on the CPU."""
    monkeypatch.setitem(Trainer.__init__.__kwdefaults__, "log_every", 2)
    here, there = (run(tmp_path, devices) for devices in ("cuda:0,cuda:1", "cpu:0,cpu:1"))
    lines, expected = read_metrics(here), read_metrics(there)
    assert [line["kind"] for line in lines] == ["train", "train", "test"] * 2
    for line, on_cpu in zip(lines, expected, strict=True):
        assert line["loss"] == pytest.approx(on_cpu["loss"], rel=1e-4)
        assert line["top1_error"] == on_cpu["top1_error"]

    undisturbed = checkpoint.load(checkpoint.path_of(here, 8))
    for path in checkpoint.all_in(here)[:5]:
        path.unlink()
    assert program("--resume", "--out", here) == 0
    resumed = checkpoint.load(checkpoint.path_of(here, 8))
    for part, expected in (
        (resumed.model, undisturbed.model),
        (resumed.optimizer, undisturbed.optimizer),
    ):
        for name, array in expected.items():
            np.testing.assert_array_equal(part[name], array, err_msg=name)

    found = []
    for devices in ("cuda:0,cuda:1", "cpu:0,cpu:1"):
        assert program("--eval", here, "--device", devices, "--out", tmp_path / "tested") == 0
        found.append(json.loads((tmp_path / "tested" / "evaluation.json").read_text())["views"])
    for views in ("1", "10"):
        assert found[0][views] == pytest.approx(found[1][views], rel=1e-4)


def test_the_program_waits_for_no_gpu_inside_a_step(
    machine: fake_cupy.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But in one of 50, whose phases are timed; the first of them is here."""
    monkeypatch.setattr(
        importlib.import_module("tinynet.devices.cuda.uploads"), "SLOTS", 1000
    )  # a ring that is not full
    waits, step = [], Trainer._train_step

    def counting(self: Trainer, batch: Batch) -> int:
        before = machine.host_waits
        count = step(self, batch)
        waits.append(machine.host_waits - before)
        return count

    monkeypatch.setattr(Trainer, "_train_step", counting)
    run(tmp_path, "cuda:0,cuda:1", "--colour", 0.1)
    assert waits[0] > 0 and waits[1:] == [0] * 7


def test_a_label_out_of_range_ends_the_run(
    machine: fake_cupy.Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Nothing on a GPU looks at labels before they are used: the trainer finds the NaN that a wrong
    one makes, says in which batch, and what was good before is kept.
    """
    plan = Loader._plan

    def with_a_wrong_label(self: Loader, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(plan(self, epoch, start), start):
            if self.train and number == 2:
                batch.labels = np.array([0, 1, 2, 0])  # of two classes
            yield batch

    monkeypatch.setattr(Loader, "_plan", with_a_wrong_label)
    out = run(tmp_path, "cuda:0", status=2)
    said = capsys.readouterr().err.splitlines()[-1]
    assert "error: the loss is NaN or infinite: first in " in said and "epoch 1, batch 3;" in said
    kept = checkpoint.load(checkpoint.path_of(out, 2)).model.values()
    assert not checkpoint.path_of(out, 3).exists()
    assert all(np.isfinite(array).all() for array in kept)


@pytest.mark.slow
def test_the_program_finds_a_batch_size_that_fits(
    machine: fake_cupy.Machine, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    machine.memory = 9 << 20
    out = run(tmp_path, "cuda:0,cuda:1", batch_size="auto", pictures=16)
    said = capsys.readouterr().out.splitlines()[0]
    assert (
        said.startswith("batch size 16: 0.05 MB a picture on cuda:0; ")
        and "the recipe of mini has 64" in said
    )
    assert read_config(out)["settings"]["batch_size"] == 16


@pytest.mark.slow
def test_coarser_products_stay_with_a_run(
    machine: fake_cupy.Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume without --tf32 would go on with other bits; on a CPU there is no such thing."""
    asked: list[bool] = []
    monkeypatch.setattr(tinynet, "set_tf32", asked.append)
    out = run(tmp_path, "cuda:0", "--tf32", "--limit-batches", 1)
    assert asked and read_config(out)["settings"]["tf32"] is True
    asked.clear()
    assert program("--resume", "--out", out, "--epochs", 2) == 0
    assert asked == [True]
    asked.clear()
    assert program("--resume", "--out", out, "--epochs", 3, "--device", "cpu:0") == 0
    assert asked == []


def test_the_program_says_in_one_line_what_cannot_work(
    machine: fake_cupy.Machine, capsys: pytest.CaptureFixture
) -> None:
    machine.gpus = 1
    assert program("--device", "cuda:0,cuda:7") == 2
    assert capsys.readouterr().err.endswith("error: cuda:7: no such GPU; this machine has cuda:0\n")
    machine.driver = 12040
    assert program("--device", "cuda:1") == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "the driver knows CUDA 12.4, but this CuPy is built for CUDA 13" in said
    )
