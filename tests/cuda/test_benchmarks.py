"""The benchmarks that need a GPU: their host code runs on the stand-in; without a GPU they say so."""

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
    failures = {name: r for name, r in found.items() if isinstance(r, str) and r.startswith("failed")}
    assert not failures
    for name in ("step as on the CPU", "cuda:0,cuda:0 as cuda:0", "the same bits every run", "cuda:0,cuda:1 as cuda:0"):
        assert found[name]["ok"], found[name]
        assert name in printed
    assert {row["kernel"] for row in found["kernels fp32"]} >= {"gemm", "im2col", "col2im", "max_pool2d_forward", "sgd_step"}
    assert "pieces of columns" in printed and "pictures/s" in printed
    assert status == 0


def test_without_a_gpu_it_says_so(
    machine: fake_cupy.Machine, gpu_benchmark: Any, capsys: pytest.CaptureFixture
) -> None:
    machine.gpus = 0
    assert gpu_benchmark.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "needs a GPU" in said.err
