"""The benchmarks that need a GPU: their host code runs on the stand-in; without one they say so."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import fake_cupy
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("gpu", None)
    yield importlib.import_module("gpu")
    sys.modules.pop("gpu", None)


def test_the_one_command_in_a_small_form(
    machine: fake_cupy.Machine, gpu_benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "found.json"
    status = gpu_benchmark.main(["--small", "--skip-tests", "--out", str(out)])
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())["found"]
    failures = {
        name: r for name, r in found.items() if isinstance(r, str) and r.startswith("failed")
    }
    assert not failures
    for name in (
        "step as on the CPU",
        "cuda:0,cuda:0 as cuda:0",
        "the same bits every run",
        "cuda:0,cuda:1 as cuda:0",
    ):
        assert found[name]["ok"], found[name]
        assert name in printed
    assert {row["kernel"] for row in found["kernels fp32"]} >= {
        "gemm",
        "im2col",
        "col2im",
        "max_pool2d_forward",
        "sgd_step",
    }
    assert set(found["guesses"]) == {"rows.RUN", "response_norm.SEGMENT", "pictures.RUN"}
    assert "conv2d.COLUMN_BYTES" in printed and "pictures/s" in printed
    assert status == 0


def test_without_a_gpu_it_says_so(
    machine: fake_cupy.Machine, gpu_benchmark: Any, capsys: pytest.CaptureFixture
) -> None:
    machine.gpus = 0
    assert gpu_benchmark.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "needs a GPU" in said.err


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("two_devices")


def test_the_model_counts_the_papers_multiply_adds_and_the_least_bytes(model: Any) -> None:
    layers = [layer for stage in model.network(1) if isinstance(stage, list) for layer in stage]
    assert sum(layer.macs * (1 if layer.name == "fc8" else 2) for layer in layers) == 724_406_816
    crossing = model.link_bytes(128)
    # each tower sends its half: 128 x 13 x 13, 128 x 6 x 6, 2048 values of every picture, and b its
    # 2048 of fc7
    halves = {"pool2": 2 * 21632, "pool5": 2 * 4608, "fc6": 2 * 2048, "fc7": 2048}
    assert {name: crossing[name] for name in halves} == {
        name: (4 * 128 * n, 4 * 128 * n) for name, n in halves.items()
    }


def test_the_model_of_two_devices(model: Any) -> None:
    rates = model.Rates()
    alone = model.one_device(128, rates)
    speed = {
        name: alone / max(s.end for s in model.two_devices(128, rates, link)[0])
        for name, link in model.LINKS.items()
    }
    assert 1 < speed["pcie4"] < speed["pcie5"] < speed["nvlink"] < 2
    assert speed["nvlink"] >= 1.7  # the goal
    for name, link in model.LINKS.items():
        spans, waits = model.two_devices(128, rates, link, pictures_cross=name == "pcie5")
        for device in (0, 1):  # busy, or waiting, and never two things at once
            mine = sorted((s for s in spans if s.where == device), key=lambda s: s.start)
            assert all(a.end <= b.start + 1e-12 for a, b in zip(mine, mine[1:], strict=False)), name
        assert all(wait >= 0 for wait in waits.values())


def test_the_models_program(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    picture = tmp_path / "lines.png"
    assert model.main(["--link", "pcie4", "--picture", str(picture)]) == 0
    assert picture.stat().st_size > 10_000 and "pool2" in capsys.readouterr().out
    products = dict(kernel="gemm", calls=10, seconds=1e-3, bytes=1, flops=4e10)
    rows = [products, dict(kernel="im2col", calls=10, seconds=1e-3, bytes=3e9, flops=0)]
    results = tmp_path / "gpu.json"
    results.write_text(json.dumps(dict(found={"kernels fp32": rows, "busy fp32": dict(host=1e-4)})))
    assert model.measured(results, False) == model.Rates(flops=4e13, bytes=3e12, launch=5e-6)
    found = json.loads(results.read_text())["found"]
    found |= {"rates fp32 128": dict(tinynet=8000.0), "two devices 128": dict(tinynet=16000.0)}
    results.write_text(json.dumps(dict(found=found)))
    assert model.main(["--rates", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "measured, rates fp32 128: 16.00 ms a step; by the model: one device " in printed
    assert "measured, two devices 128: 8.00 ms a step; by the model: pcie4 " in printed
    results.write_text("{}")
    assert model.main(["--rates", str(results)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pytorchs_side_runs(
    machine: fake_cupy.Machine, gpu_benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, on the CPU: `.cuda()` does nothing here."""
    torch = pytest.importorskip("torch")
    for owner in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(owner, "cuda", lambda self: self)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    for best in (False, True):
        gpu_benchmark.pytorch_precision(best)
        assert gpu_benchmark.rate(*gpu_benchmark.pytorch(2, "mini", best), 2, 0.0) > 0
    gpu_benchmark.pytorch_precision(False)
    torch.backends.cudnn.benchmark = False
