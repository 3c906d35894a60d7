"""The benchmarks of the CPU in a tiny form: they run, and their files have the right rows. Nothing
timed is asserted.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARKS / program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def run_cpu(out: Path, rounds: int, *arguments: object) -> tuple[list[dict], str]:
    done = run("cpu.py", "--smoke", "--rounds", rounds, "--out", out, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())["results"], done.stdout


@pytest.mark.slow
@needs_torch
def test_a_row_has_every_side_its_spread_and_its_goals(tmp_path):
    results, printed = run_cpu(tmp_path / "cpu.json", 2, "--rows", "train-128")
    assert [r.get("side", r.get("ratio")) for r in results] == [
        "tinynet at 4", "PyTorch at 4", "GEMM alone at 4",
        "rate of tinynet at 4 / PyTorch at 4", "rate of tinynet at 4 / GEMM alone at 4",
    ]  # fmt: skip
    assert [r.get("goal") for r in results] == [None, None, None, "at least 3.2", "at least 0.8"]
    for r in results:
        assert len(r["values"]) == 2
        assert 0 < r["min"] <= r["median"] <= r["max"]
    ours, theirs = results[0]["values"], results[1]["values"]
    assert results[3]["values"] == pytest.approx([a / b for a, b in zip(ours, theirs, strict=True)])
    assert "same net: PyTorch, mini net:" in printed


@pytest.mark.slow
@needs_torch
def test_a_single_operation_has_a_limit_of_its_own(tmp_path):
    results, printed = run_cpu(tmp_path / "cpu.json", 1, "--rows", "add", "conv-64")
    assert [r.get("goal") for r in results] == [
        "at most 4 ms", None, None, None, None, "at least 1.2",
    ]  # fmt: skip
    assert [r.get("unit") for r in results] == ["ms", "ms", None] * 2
    assert results[0]["reached"] == (results[0]["median"] <= 4)
    assert "same net" not in printed  # there is none


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("net", ["lenet", "mlp", "resnet20"])
def test_small_nets_are_the_same_on_both_sides(net):
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import turns; "
        f"turns.compare(turns.Side('PyTorch', 'train', 2, {net!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    said = json.loads(done.stdout)
    assert said["error"] <= said["tolerance"] == 1e-9, done.stderr


def test_every_row_that_compares_has_a_goal_and_quick_rows_exist():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import cpu
    finally:
        sys.path.remove(str(BENCHMARKS))
    rows = cpu.make_rows(smoke=False)
    assert set(cpu.QUICK) <= set(rows)
    assert [key for key, row in rows.items() if not (row.goals or row.most)] == ["train-256"]
    for key, row in rows.items():
        assert set(row.goals) <= {side.program for side in row.sides}, key
        assert all(side.module for side in row.sides[:1]), key


@pytest.mark.slow
def test_memory_has_a_line_over_the_batch_size(tmp_path):
    results, printed = run_cpu(tmp_path / "cpu.json", 1, "--rows", "memory")
    ours = {
        r["side"]: r["median"]
        for r in results
        if r.get("unit") == "MB" and r["side"].startswith("tinynet")
    }
    assert ours.keys() == {"tinynet at 1", "tinynet at 2", "tinynet at 4", "tinynet at 8"}
    line = results[-1]
    for side, mb in ours.items():
        batch = int(side.split()[-1])
        assert (
            abs(line["constant_mb"] + batch * line["mb_a_picture"] - mb)
            <= line["furthest_mb"] + 1e-6
        )
    assert "MB a picture" in printed


@pytest.mark.parametrize(
    ("program", "package"), [("PyTorch", "torch"), ("ONNX Runtime", "onnxruntime")]
)
def test_a_program_that_is_not_installed_has_a_row_that_says_so(program, package, tmp_path):
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / f"{package}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n"
    )
    code = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(BENCHMARKS)!r}]; "
        f"import turns; turns.work(turns.Side({program!r}, 'train', 1, 'mini'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"missing": f"{package} is not installed"}, done.stderr


@needs_torch
@pytest.mark.slow
def test_the_paper_s_net_is_the_same_on_all_sides():
    """The full table's: its dropout, too, has one form."""
    code = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import cpu
cpu.check_same_nets([cpu.make_rows(smoke=False)["forward-1"]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "PyTorch, paper net" in done.stdout, done.stderr


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("error", ["1e-3", "float('nan')"])
def test_another_net_is_not_timed(error):
    """A net that is compared in earnest, and an answer that is changed on the way."""
    code = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import cpu
class Worker(cpu.Worker):
    def __enter__(self):
        worker = super().__enter__()
        assert 0 <= worker.first["error"] <= worker.first["tolerance"] < 1e-3
        worker.first["error"] = {error}
        return worker
cpu.Worker = Worker
cpu.check_same_nets([cpu.make_rows(smoke=True)["mini-128"]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "another net, and nothing was timed" in done.stderr
    assert "Traceback" not in done.stderr


def test_kernels_have_forward_and_backward_and_a_picture(tmp_path):
    out = tmp_path / "kernels.json"
    done = run("kernels.py", "--smoke", "--batch", 2, "--rounds", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())["results"]
    found = {(r["kernel"], r["phase"]) for r in results}
    both = [*(f"conv{i}" for i in range(1, 6)), "lrn1", "lrn2", "pool1", "pool2",
            "pool5", "fc6", "fc7", "fc8", "dropout6", "dropout7", "loss"]  # fmt: skip
    assert found == {(name, phase) for name in both for phase in ("forward", "backward")} | {
        ("pictures", "forward"), ("sgd (fc6)", "forward")
    }  # fmt: skip
    conv2 = next(r for r in results if (r["kernel"], r["phase"]) == ("conv2", "forward"))
    assert conv2["flops"] == 2 * 32 * (16 * 9) * (
        14 * 14 * 2
    )  # 2 O K P of mini's conv2, two pictures
    assert conv2["bytes"] == 4 * (16 * 14 * 14 * 2 + 32 * 16 * 9 + 32 * 14 * 14 * 2)
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
