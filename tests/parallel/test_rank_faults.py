"""A job that cannot go on ends, says why and where, and leaves a whole checkpoint."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import INSTALLED, arguments, environment
from test_rank_programs import picture_folder
from test_shared_steps import JOB, arrays_of, assert_close

from tinynet.training import checkpoint as files

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
ALEXNET = Path(__file__).parents[2] / "examples" / "alexnet.py"


def test_a_killed_rank_ends_the_job_and_another_number_of_ranks_goes_on(run, tmp_path):
    run(1, JOB, "normed", "quiet", "--epochs", 2)
    killed = run(4, JOB, "normed", "run", "--epochs", 2, "--kill", 2, 5, ok=False)
    assert killed.returncode != 0
    assert "RUNNING AT" in killed.stdout + killed.stderr  # the launcher names the host
    went_on = run(2, JOB, "normed", "run", "--epochs", 2, "--resume")
    assert re.search(r"resuming from run/step-00000004.safetensors: epoch 1", went_on.stdout)
    assert_close(tmp_path / "run", tmp_path / "quiet")


@pytest.mark.parametrize("ranks", [(4, 1), (1, 4), (2, 3)])
@pytest.mark.slow
def test_a_stopped_run_goes_on_with_another_number_of_ranks(ranks, run, tmp_path):
    run(1, JOB, "normed", "quiet", "--epochs", 2)
    stopped = run(ranks[0], JOB, "normed", "run", "--epochs", 2, "--stop-at", 7)
    assert "time" in stopped.stdout
    run(ranks[1], JOB, "normed", "run", "--epochs", 2, "--resume")
    assert_close(tmp_path / "run", tmp_path / "quiet")


def test_a_nan_is_named_by_its_rank(run, tmp_path):
    done = run(4, JOB, "normed", "run", "--nan", 2, 5, ok=False)
    assert done.returncode == 2
    assert "the loss is NaN or infinite" in done.stderr
    assert "step-00000004.safetensors" in done.stderr and done.stderr.count("NaN") == 1
    files.load(tmp_path / "run" / "step-00000004.safetensors")


@pytest.mark.slow
def test_a_rank_whose_weights_drift_is_named(run):
    done = run(3, JOB, "linear", "run", "--drift", 2, 4, ok=False)
    assert done.returncode == 2
    assert re.search(r"rank 2 on \S+: expected the weights of rank 0, got others", done.stderr)


@pytest.mark.slow
def test_a_nan_that_comes_back_is_found_by_the_replay(run, tmp_path):
    done = run(2, JOB, "linear", "run", "--rotten", 1, 30, ok=False)
    assert done.returncode == 2
    assert re.search(r"first in the inputs of rank 1 on \S+, epoch 1, batch \d+", done.stderr)


def test_an_exception_of_a_rank_is_named_by_it(run):
    done = run(3, JOB, "linear", "run", "--raise", 1, 3, ok=False)
    assert done.returncode != 0
    said = r"rank 1 on \S+: the cable was pulled; the last good checkpoint is run/step-00000002"
    assert re.search(said, done.stderr)


@pytest.mark.parametrize(
    "more, said",
    [
        (["--seed", "1"], "expected --seed 'None', as rank 0 has, got '1'"),
        slow(["--preset", "photos"], "expected --preset 'None', as rank 0 has, got 'photos'"),
        slow(["--limit-pictures", "500"], "expected --limit-pictures '\\[200, 50\\]'"),
    ],
)
def test_ranks_that_differ_are_refused(more, said, run):
    one = [sys.executable, ALEXNET, "--limit-pictures", "200,50", "--out", "run"]
    done = run(2, *one[1:], ":", "-n", "1", *one, *more, ok=False)
    assert done.returncode == 2
    assert re.search(rf"rank 2 on \S+: {said}", done.stderr), done.stderr
    assert done.stderr.count("expected") == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_ranks_with_other_data_are_refused(run, tmp_path):
    for seed, name in enumerate(("one", "two")):
        picture_folder(tmp_path / name, 4, seed)
    one = [sys.executable, ALEXNET, "--batch-size", "4", "--out", "run", "--data"]
    done = run(2, *one[1:], "one", ":", "-n", "1", *one, "two", ok=False)
    assert done.returncode == 2
    assert re.search(r"rank 2 on \S+: expected the fingerprint of training data", done.stderr)


@pytest.mark.parametrize(
    "mistake",
    [
        ["--data", "nowhere"],
        slow(["--nonsense"]),
        slow(["--predict", "run", "file"]),
        slow(["--batch-size", "2", "--limit-pictures", "9,9"]),
        slow(["--device", "nowhere"]),
        slow(["--resume", "--out", "nowhere"]),
    ],
)
def test_a_mistake_of_all_ranks_is_told_once(mistake, run):
    done = run(3, ALEXNET, *mistake, ok=False)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_without_mpi4py_one_line_says_what_to_install(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c",
         "import sys; sys.modules['mpi4py'] = None; sys.argv[0] = 'alexnet.py'\n"
         "import alexnet; sys.exit(alexnet.main([]))"],
        env=environment(PMI_SIZE="4", PMI_RANK="1"), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2 and "pip install mpi4py mpich" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_launcher_of_another_mpi_is_refused(tmp_path):
    if not INSTALLED:
        pytest.skip("mpi4py is not installed")
    alone = {name: "" for name in ("PMI_RANK", "PMI_SIZE", "PMI_FD")}
    environ = environment(OMPI_COMM_WORLD_SIZE="4", OMPI_COMM_WORLD_RANK="1")
    done = subprocess.run(
        [sys.executable, ALEXNET], capture_output=True, text=True, cwd=tmp_path,
        env={name: value for name, value in environ.items() if name not in alone},
    )  # fmt: skip
    assert done.returncode == 2 and "expected 4 ranks, as the launcher says, got 1" in done.stderr


@pytest.mark.slow
def test_a_signal_saves_and_ends_all_ranks(tmp_path):
    if not INSTALLED:
        pytest.skip("mpi4py or mpiexec is not installed: pip install mpi4py mpich")
    job = subprocess.Popen(
        arguments(2, JOB, "normed", "run", "--epochs", 1000), env=environment(), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while len(files.all_in(tmp_path / "run")) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGTERM)
    said, _ = job.communicate(timeout=30)
    assert "SIGTERM" in said
    arrays_of(tmp_path / "run")


@pytest.mark.slow
def test_twenty_kills(rng, run, tmp_path):
    """At any moment, of any rank, goes on with any number: the end is that of a quiet run."""
    if not INSTALLED:
        pytest.skip("mpi4py or mpiexec is not installed: pip install mpi4py mpich")
    run(1, JOB, "normed", "quiet", "--epochs", 4)
    kills = 0
    while kills < 20:
        ranks = int(rng.choice([2, 4]))
        resume = ["--resume"] * bool(files.all_in(tmp_path / "run"))
        kill = ["--kill-after", rng.integers(ranks), f"{rng.uniform(0.0, 2.0):.3f}"]
        done = run(ranks, JOB, "normed", "run", "--epochs", 4, *resume, *kill, ok=False)
        kills += done.returncode != 0
        if done.returncode == 0:
            assert_close(tmp_path / "run", tmp_path / "quiet")
            for file in (tmp_path / "run").iterdir():
                file.unlink()
    run(2, JOB, "normed", "run", "--epochs", 4, "--resume")
    assert_close(tmp_path / "run", tmp_path / "quiet")
