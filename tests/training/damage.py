"""Kills a whole program at random moments, damages what it reads in between, follows what it says.

    python tests/training/damage.py FOLDER KILLS SEED

A small net is trained by its command line on a prepared folder. Before some of the attempts a shard
or a checkpoint is cut short, or one of its bits is turned. The program then either goes on, or ends
with status 2 and one line that says what to do; that is done (--repair of the data, a new run where
no checkpoint is whole), and nothing else. Every run that comes to its end is compared with an
undisturbed one: the same bytes in its weights, its optimiser, its metrics and its evaluation.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from kill import die_while_saving, result

import tinynet.functional as F
from tinynet import nn
from tinynet.data.prepare import Options, prepare
from tinynet.data.repair import repair
from tinynet.optim import SGD
from tinynet.program import Pictures, Program, Recipe
from tinynet.training import checkpoint as files

SIDE = 8
OPTIONS = Options(size=SIDE, form="raw", shard=8)


class Net(nn.Module):
    """Convolution, dropout, linear: small, yet with all that must survive."""

    def __init__(self, classes: int):
        self.conv = nn.Conv2d(3, 4, 3)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 6 * 6, classes)

    def forward(self, x):
        return self.fc(self.dropout(F.relu(self.conv(x)).flatten(1)))


PROGRAM = Program(
    "A net of two layers.",
    {
        "tiny": Recipe(
            "tiny net", Pictures(crop=SIDE, scale=0.01), epochs=3, batch_size=8, lr=0.05,
            milestones=(1, 2), optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.9),
        )
    },
    lambda about, devices: Net(len(about["classes"])),
    kernels=["conv.weight"],
)  # fmt: skip


def make_pictures(folder: Path, rng: np.random.Generator) -> None:
    """{train,val}/<one of four classes>/*.png"""
    for split, count in (("train", 12), ("val", 5)):
        for label in range(4):
            place = folder / split / f"class {label}"
            place.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 160, (SIDE, SIDE, 3))
                top, left = divmod(label, 2)
                picture[4 * top : 4 * top + 4, 4 * left : 4 * left + 4] += 90
                Image.fromarray(picture.astype(np.uint8)).save(place / f"{number}.png")


def train(run: Path, data: Path) -> int:
    """The command line that starts the run in `run`, or goes on with it; its status."""
    way = ["--resume"] if files.to_go_on_from(run) else ["--data", str(data), "--workers", "0"]
    with contextlib.redirect_stdout(io.StringIO()):
        return PROGRAM.main([*way, "--out", str(run), "--checkpoint-every", "2", "--device", "cpu"])


def child(run: Path, data: Path, armed: np.random.Generator | None = None) -> int:
    """Train in a forked process; its pid. What it says on stderr goes to a file beside the run."""
    pid = os.fork()
    if pid == 0:
        status = 70  # a traceback
        try:
            os.dup2(os.open(said_by(run), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
            if armed is not None:
                die_while_saving(armed)
            status = train(run, data)
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def said_by(run: Path) -> Path:
    return run.with_name(run.name + ".txt")


def harm(path: Path, rng: np.random.Generator) -> None:
    """Cut a file short, or turn one of its bits; another name of the same file stays as it was."""
    content = bytearray(path.read_bytes())
    if rng.integers(2):
        del content[int(rng.integers(len(content))) :]
    else:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    other = path.with_name("harmed")
    other.write_bytes(content)
    os.replace(other, path)


def damage(run: Path, data: Path, rng: np.random.Generator) -> str:
    """Harm a shard, or a checkpoint of the run; returns which kind."""
    if rng.integers(2) and (found := files.to_go_on_from(run)):
        for path in found[: int(rng.integers(1, len(found) + 1))]:  # the newest first
            harm(path, rng)
        return "checkpoints"
    shards = sorted(data.glob("*.tar"))
    harm(shards[int(rng.integers(len(shards)))], rng)
    return "shards"


def follow(run: Path, data: Path) -> str:
    """Do what the one line of an attempt with status 2 says; returns what it was."""
    lines = [line for line in said_by(run).read_text().splitlines() if "error:" in line]
    assert len(lines) == 1, said_by(run).read_text()
    (line,) = lines
    if "--repair" in line:
        assert repair(data, workers=1, progress=False), line
        return "repaired"
    assert "start a new run" in line, line
    shutil.rmtree(run)
    return "started again"


def run(folder: Path, kills: int, seed: int) -> dict:
    """Kills `kills` times; raises AssertionError where an end differs. Returns what was done."""
    rng = np.random.default_rng(seed)
    data = folder / "data"
    make_pictures(folder / "pictures", rng)
    prepare(folder / "pictures", data, OPTIONS, workers=1, progress=False)
    quiet = folder / "undisturbed"
    began = time.perf_counter()
    assert os.waitpid(child(quiet, data), 0)[1] == 0, said_by(quiet).read_text()
    duration = time.perf_counter() - began
    expected = all_of(quiet)
    done = dict.fromkeys(
        ("kills", "runs compared", "checkpoints", "shards", "repaired", "started again"), 0
    )
    target = folder / "run"
    while done["kills"] < kills or not done["runs compared"]:
        if done["kills"] < kills and rng.integers(2):
            done[damage(target, data, rng)] += 1
        kill = done["kills"] < kills
        timed = kill and bool(rng.integers(2))
        pid = child(target, data, rng if kill and not timed else None)
        if timed:
            time.sleep(float(rng.uniform(0, duration)))
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == -signal.SIGKILL:
            done["kills"] += 1
        elif status == 2:
            done[follow(target, data)] += 1
        else:
            assert status == 0, (status, said_by(target).read_text())
            done["runs compared"] += 1
            found = all_of(target)
            assert expected.keys() == found.keys()
            for name, value in expected.items():
                assert value == found[name], f"{name} differs"
            shutil.rmtree(target)
    return done


def all_of(run: Path) -> dict:
    """What must be equal at the end."""
    arrays, lines = result(run)
    found = {name: array.tobytes() for name, array in arrays.items()}
    return found | {"metrics": lines, "evaluation": (run / "evaluation.json").read_bytes()}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
