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


def test_ranks_agree_with_one_process_and_repetitions_have_the_same_bits(run, tmp_path):
    run(1, JOB, "normed", "one", "--epochs", 1)
    for name, ranks in (("two", 2), ("again", 2), ("four", 4)):
        run(ranks, JOB, "normed", name, "--epochs", 1, "--bucket", 20_000)
        assert_close(tmp_path / name, tmp_path / "one")
    again = arrays_of(tmp_path / "again")
    for name, array in arrays_of(tmp_path / "two").items():
        assert array.tobytes() == again[name].tobytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--factors",)])
@pytest.mark.parametrize("net", ["alexnet", "normed"])
def test_any_number_of_ranks_agrees(net, more, run, tmp_path):
    """Also where 8 examples are shares of 2, 3, 3, and where layers exchange factors."""
    run(1, JOB, net, "one")
    for ranks in (2, 3, 4):
        run(ranks, JOB, net, f"{ranks}", *more)
        assert_close(tmp_path / f"{ranks}", tmp_path / "one")
