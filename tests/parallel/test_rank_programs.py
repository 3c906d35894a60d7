"""Evaluation, features and prepared data of several ranks: the same bytes as of one process."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
ALEXNET = EXAMPLES / "alexnet.py"


def picture_folder(folder: Path, count: int = 5, seed: int = 0) -> Path:
    """{train,val}/{a,b,c}/*.png with `count` pictures in each."""
    rng = np.random.default_rng(seed)
    for kind in (f"{split}/{name}" for split in ("train", "val") for name in "abc"):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(0, 255, (36, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(folder / kind / f"{i}.png")
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.slow
def test_a_run_is_evaluated_to_the_same_bytes(run, tmp_path):
    """Training by ranks ends with a report, too; --eval by one and by three."""
    few = ["--limit-pictures", "300,70", "--epochs", 1, "--limit-batches", 2]
    trained = run(2, ALEXNET, *few, "--batch-size", 8, "--out", "run")
    assert "2 ranks, 2 on" in trained.stdout and "has been through 1 of 1 epochs" in trained.stdout
    assert (tmp_path / "run" / "report.html").exists()
    assert '"mpiexec -n 2 python' in (tmp_path / "run" / "config.json").read_text()
    said = {}
    for ranks in (1, 3):
        of = ["--eval", "run", "--batch-size", 16, "--out", f"eval-{ranks}"]
        said[ranks] = run(ranks, ALEXNET, *of).stdout
    assert bytes_of(tmp_path / "eval-1") == bytes_of(tmp_path / "eval-3")
    views = re.findall(r".*view.*", said[1])
    assert views and views == re.findall(r".*view.*", said[3])


@pytest.mark.slow
def test_features_have_the_same_bytes(run, tmp_path):
    picture_folder(tmp_path / "data", 50)
    run(1, ALEXNET, "--data", "data", "--epochs", 1, "--limit-batches", 1, "--out", "run")
    for ranks in (1, 3):
        run(ranks, EXAMPLES / "features.py", "run", f"{ranks}.npy", "--data", "data")
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "3.npy").read_bytes()


@pytest.mark.slow
def test_data_are_prepared_to_the_same_bytes(run, tmp_path):
    picture_folder(tmp_path / "source", 9)
    for ranks in (1, 3):
        how = ["--size", 16, "--shard", 4, "--workers", 1]
        run(ranks, EXAMPLES / "prepare_imagenet.py", "source", f"out-{ranks}", *how)
    one, three = bytes_of(tmp_path / "out-1"), bytes_of(tmp_path / "out-3")
    assert one == three and sum(name.endswith(".tar") for name in one) > 10
    again = run(3, EXAMPLES / "prepare_imagenet.py", "source", "out-3", *how)
    assert "27 training" in again.stdout
    wrong = run(2, EXAMPLES / "prepare_imagenet.py", "--verify", "out-3", ok=False)
    assert wrong.returncode == 2 and wrong.stderr.count("one rank") == 1


@pytest.mark.parametrize(
    "program, more",
    [
        ("history/resnet.py", ["--limit-pictures", "64,20", "--epochs", "1", "--batch-size", "32"]),
        ("history/vae.py", ["--limit-pictures", "256,50", "--epochs", "1"]),
        ("history/perceptron.py", ["--epochs", "1", "--batch-size", "50"]),
    ],
)
@pytest.mark.slow
def test_other_programs_run_over_ranks(program, more, run, tmp_path):
    """In float32; the first losses agree as far as it reaches."""
    for ranks in (1, 2):
        run(ranks, EXAMPLES / program, *more, "--out", f"{ranks}")
    lines = [(tmp_path / f"{n}" / "metrics.jsonl").read_text().splitlines()[0] for n in (1, 2)]
    one, two = (float(re.findall(r'"loss": ([-\d.e]+)', line)[0]) for line in lines)
    assert one == pytest.approx(two, rel=1e-4)


def test_what_ranks_cannot_share_is_refused(run):
    done = run(2, EXAMPLES / "history" / "gan.py", "--limit-pictures", "100,20", ok=False)
    assert done.returncode == 2
    assert "expected one rank, got 2: `distance` compares" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [["paper/claims.py", "list"], ["report.py", "run"], ["similar.py", "run", "test:1"]]
)
def test_programs_for_one_process_are_refused(program, run):
    done = run(2, EXAMPLES / program[0], *program[1:], ok=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("expected one rank, got 2; start it without mpiexec") == 1


@pytest.mark.slow
def test_a_damaged_picture_is_left_out_of_its_rank_share(run, tmp_path):
    """The other rows of its batch count as in one process; without --skip-damaged the job ends."""
    picture_folder(tmp_path / "source", 12)
    prepare = [EXAMPLES / "prepare_imagenet.py", "source", "data", "--size", 32, "--workers", 1]
    run(1, *prepare)
    shard = tmp_path / "data" / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[1200] ^= 255
    shard.write_bytes(content)
    how = ["--data", "data", "--batch-size", 12, "--epochs", 1, "--workers", 0]
    lines = []
    for ranks in (1, 2):
        done = run(ranks, ALEXNET, *how, "--skip-damaged", 1, "--out", f"{ranks}")
        assert done.stdout.count("left out") == 1
        lines.append((tmp_path / f"{ranks}" / "metrics.jsonl").read_text().splitlines()[:2])
    for one, two in zip(*lines, strict=True):
        losses = [float(re.findall(r'"loss": ([\d.]+)', line)[0]) for line in (one, two)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    ended = run(2, ALEXNET, *how, "--out", "3", ok=False)
    assert ended.returncode == 2 and re.search(r"rank \d on \S+: error: .*damaged", ended.stderr)
