"""The benchmarks that need a GPU: their host code runs on the stand-in; without one they say so."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_cupy
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    forget()
    yield importlib.import_module("gpu")
    forget()


def forget() -> None:
    """So that each test's benchmark sees its own stand-in."""
    for name in [n for n in sys.modules if n == "gpu" or n.split(".")[0] == "gpu_parts"]:
        del sys.modules[name]


@pytest.mark.slow
def test_the_one_command_in_a_small_form(
    machine: fake_cupy.Machine,
    gpu_benchmark: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Its parts run in this process, where the stand-in is."""
    monkeypatch.setattr(
        gpu_benchmark, "alone", lambda part, small, log: json.loads(json.dumps(part.find()))
    )
    out = tmp_path / "found.json"
    status = gpu_benchmark.main(["--small", "--skip-tests", "--out", str(out)])
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())["found"]
    for name in (
        "step as on the CPU",
        "cuda:0,cuda:0 as cuda:0",
        "cuda:0,cuda:0 as cuda:0,cuda:0",
        "cuda:0,cuda:1 as cuda:0",
    ):
        assert found[name]["ok"], found[name]
        assert f"{name:<34} ok" in printed
    assert {row["kernel"] for row in found["kernels fp32"]} >= {
        "gemm",
        "row_columns",
        "max_pool2d_forward",
        "sgd_step",
    }
    assert set(found["guesses"]) == {"rows.RUN", "response_norm.SEGMENT", "pictures.RUN"}
    assert {"rate tf32 2", "rate fp32 2 cuda:0,cuda:0", "rate fp32 2 cuda:0,cuda:1"} <= set(found)
    assert "conv2d.COLUMN_BYTES, tf32" in printed and "pictures/s" in printed
    assert "tf32 16 MiB" in found["pieces of columns"]
    assert status == 0


def test_one_part_alone(
    machine: fake_cupy.Machine, gpu_benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "found.json"
    assert gpu_benchmark.main(["--small", "--only", "memory", "--out", str(out)]) == 0
    assert list(json.loads(out.read_text())["found"]) == ["memory"]
    with pytest.raises(SystemExit):
        gpu_benchmark.main(["--only", "memories"])
    assert "expected one of memcheck of the kernels, " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("end", ["is killed", "takes too long", "stops in silence"])
def test_a_part_that_dies_harms_no_other(gpu_benchmark: Any, tmp_path: Path, end: str) -> None:
    """What it printed is kept, and what it started dies with it."""
    child = tmp_path / "child.py"
    child.write_text(
        "import os, subprocess, sys, time\n"
        + {
            "is killed": "print('illegal address', flush=True); os.abort()",
            "takes too long": "print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
            "time.sleep(60)",
            "stops in silence": "sys.exit(3)",
        }[end]
    )
    gpu_benchmark.__file__, log = str(child), tmp_path / "log"
    found = gpu_benchmark.alone(gpu_benchmark.Part("x", lambda: None, limit=2), True, log)
    said = log.read_text()
    if end == "is killed":
        assert found == "failed: exit status -6; illegal address" and "illegal address" in said
    elif end == "takes too long":
        assert found.startswith("failed: given up after 2 s; ")
        with pytest.raises(ProcessLookupError):
            for _ in range(100):  # the kernel takes a moment
                os.kill(int(said), 0)
                time.sleep(0.05)
    else:
        assert found == "failed: exit status 3; nothing was printed"
    gpu_table = importlib.import_module("gpu_parts.table")
    assert gpu_table.failed({"x": found}) and "FAILED" in gpu_table.table({"x": found})[0]


@pytest.mark.parametrize(
    "body, ok, result",
    [("pass", True, "1 passed"), ("assert 0", False, "1 failed"), (None, False, "no tests ran")],
)
def test_tests_that_pass_count_as_passed(
    gpu_benchmark: Any, tmp_path: Path, body: str | None, ok: bool, result: str
) -> None:
    checks = importlib.import_module("gpu_parts.checks")
    file = tmp_path / "test_it.py"
    file.write_text(
        f"import pytest\n\n@pytest.mark.gpu\ndef test_it():\n    {body}\n" if body else ""
    )
    found = checks._counted([*checks.PYTEST, "-c", str(checks.ROOT / "setup.cfg"), str(file)])
    assert found["ok"] is ok and result in found["result"]


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
    found |= {
        "rate fp32 128": dict(tinynet=8000.0),
        "rate fp32 128 cuda:0,cuda:1": dict(tinynet=16000.0),
    }
    results.write_text(json.dumps(dict(found=found)))
    assert model.main(["--rates", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "measured, rate fp32 128: 16.00 ms a step; by the model: one device " in printed
    assert "measured, rate fp32 128 cuda:0,cuda:1: 8.00 ms a step; by the model: pcie4 " in printed
    results.write_text("{}")
    assert model.main(["--rates", str(results)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pytorchs_side_runs(gpu_benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code, on the CPU: `.cuda()` does nothing here."""
    torch = pytest.importorskip("torch")
    for owner in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(owner, "cuda", lambda self: self)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    pytorch = importlib.import_module("gpu_parts.pytorch")
    found = pytorch.rates((2,), True, "mini", 0.0)
    assert found.keys() == {"2"} and all(rate > 0 for rate in found["2"].values())
    pytorch.precision(False)
    torch.backends.cudnn.benchmark = False


@pytest.mark.slow
def test_pytorch_is_measured_where_cupy_is_not(gpu_benchmark: Any) -> None:
    """A process that measures PyTorch imports no CuPy: each brings CUDA libraries of its own."""
    script = (
        "import sys, gpu; gpu.main(['--small', '--only', 'PyTorch fp32']); "
        "sys.exit('cupy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True)
    assert done.returncode == 0
