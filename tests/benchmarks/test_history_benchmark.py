"""benchmarks/history.py: its rows, its comparison of losses, and what it refuses. Nothing timed is
asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.slow


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARKS / "history.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_row_has_both_sides_and_their_first_losses(tmp_path):
    pytest.importorskip("torch")
    done = run("lenet5", "perceptron", "--rounds", 2, "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    first, second = json.loads((tmp_path / "out.json").read_text())["results"]
    assert (first["name"], second["name"]) == ("lenet5", "perceptron")
    assert 0 < first["first"] < 1e-5
    for clock in ("seconds", "processor"):
        ours, theirs = (first[clock][side]["values"] for side in ("ours", "theirs"))
        expected = [b / a for a, b in zip(ours, theirs, strict=True)]
        assert len(ours) == 2 and first[clock]["ratio"]["values"] == pytest.approx(expected)


def test_the_losses_of_many_steps_under_the_recipes_schedule(tmp_path):
    """Among them SGD with momentum and a warm-up, whose rate stands elsewhere in PyTorch."""
    pytest.importorskip("torch")
    done = run("backprop", "gpt", "--losses", 20, "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    for row in json.loads((tmp_path / "out.json").read_text())["results"]:
        assert len(row["all"]) == 20 and abs(row["training"]["off"]) < 1e-4
        assert row["all"][-1][0] != row["all"][0][0]


def test_a_whole_recipe_and_a_test(tmp_path):
    pytest.importorskip("torch")
    done = run("perceptron/xor", "--test", "--out", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert row["steps"] == 100 == len(row["all"])
    assert row["test"]["ours"] == pytest.approx(row["test"]["theirs"]) and row["test"]["ours"] > 0
    done = run("gan", "--test")
    assert done.returncode == 1 and "batch normalisation" in done.stderr


def test_another_net_is_not_timed(tmp_path):
    pytest.importorskip("torch")
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import history; "
        "from sides import pytorch_history as p; whole = p.LOSSES['perceptron']; "
        "p.LOSSES['perceptron'] = lambda *given: 1.01 * whole(*given); "
        "history.time_steps(['perceptron'], 1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "nothing was timed" in done.stderr


def test_mistakes_are_one_line():
    for arguments, said in (
        (["lenet6"], "got 'lenet6'"),
        (["gpt/bert"], "expected a preset of gpt (gpt/gpt, gpt/gpt-mini), got 'gpt/bert'"),
        (["gpt", "--losses", "0"], "--losses: expected at least 1, got 0"),
    ):
        done = run(*arguments)
        assert done.returncode == 2 and said in done.stderr.splitlines()[-1]


def test_runs_are_compared_after_the_last_epoch_that_all_have_finished(tmp_path):
    for name, losses in (("plain", [3.0, 2.0, 1.0]), ("deep", [4.0, 5.0])):
        lines = []
        for epoch, loss in enumerate(losses, start=1):
            for step in (2 * epoch - 1, 2 * epoch):
                lines.append({"kind": "train", "step": step, "loss": loss + step % 2})
            lines.append({"kind": "test", "step": 2 * epoch, "top1_error": 10.0 * loss})
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        (tmp_path / name / "config.json").write_text(json.dumps({"settings": {"preset": name}}))
    command = [sys.executable, BENCHMARKS / "degradation.py", "plain", "deep", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head == "after epoch 2:" and [row.split() for row in rows] == [
        ["plain", "training", "loss", "2.5000,", "test", "error", "20.00", "%"],
        ["deep", "training", "loss", "5.5000,", "test", "error", "50.00", "%"],
    ]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    command[2:] = ["nowhere", "out.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 2 and "a run with an epoch behind it" in done.stderr
