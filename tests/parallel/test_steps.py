"""1, 2 and 4 ranks take the same steps: gradients, random numbers, batch norms, order of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_metrics

JOB = Path(__file__).parent / "job.py"


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    _, found, _ = files.newest_whole(folder)
    return found.model | found.optimizer


def assert_close(folder: Path, other: Path) -> None:
    """To 1e-12: all weights and velocities, and every figure of the metrics."""
    mine, its = arrays_of(folder), arrays_of(other)
    assert mine.keys() == its.keys()
    for name, array in mine.items():
        assert array.dtype == np.float64
        np.testing.assert_allclose(array, its[name], rtol=0, atol=1e-12, err_msg=name)
    lines, its_lines = read_metrics(folder), read_metrics(other)
    assert len(lines) == len(its_lines) > 0
    for line, its_line in zip(lines, its_lines, strict=True):
        assert line.keys() == its_line.keys()
        for name in ("kind", "step", "epoch"):
            assert line[name] == its_line[name]
        for name in ("loss", "wrong", "lr"):
            assert line[name] == pytest.approx(its_line[name], rel=1e-12, abs=1e-12), name


@pytest.mark.parametrize("net", ["alexnet", "normed"])
def test_ranks_agree_with_one_process(net, run, tmp_path):
    run(1, JOB, net, "one", "--epochs", 1)
    for ranks in (2, 4):
        run(ranks, JOB, net, f"{ranks}", "--epochs", 1, "--bucket", 20_000)
        assert_close(tmp_path / f"{ranks}", tmp_path / "one")
    assert "unused.weight" not in arrays_of(tmp_path / "one") or net == "normed"


def test_a_repetition_has_the_same_bits(run, tmp_path):
    for name in ("first", "second"):
        run(3, JOB, "normed", name, "--epochs", 1)  # 8 examples in shares of 2, 3, 3
    first, second = (arrays_of(tmp_path / name) for name in ("first", "second"))
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name
    run(1, JOB, "normed", "one", "--epochs", 1)
    assert_close(tmp_path / "first", tmp_path / "one")
