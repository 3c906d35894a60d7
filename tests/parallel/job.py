"""A small run for tests, over the ranks that mpiexec starts: job.py NET FOLDER [OPTIONS].

All in float64, so that what ranks change in the order of sums shows in the last bits alone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from alexnet import MINI, AlexNet

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.data import SequenceLoader
from tinynet.optim import SGD
from tinynet.parallel import ranks, steps
from tinynet.program.made import Table
from tinynet.program.together import fail
from tinynet.training.measure import Measure
from tinynet.training.objective import Objective
from tinynet.training.saving import TrainingError
from tinynet.training.trainer import Trainer


class Normed(nn.Module):
    """Batch normalisation, random numbers in the batch's shape, and a layer that is used twice."""

    def __init__(self) -> None:
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, relu=True)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4 * 28 * 28, 10)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        x = x + 0.1 * tinynet.randn(*x.shape, dtype=np.float64)
        x = self.twice(self.twice(self.norm(self.conv(x))))
        return self.fc(F.dropout(self.norm2(x).flatten(1), 0.3, self.training))


NETS = {
    "alexnet": lambda: AlexNet(10, MINI, in_channels=1),
    "normed": Normed,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)),
}


def table(count: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    pictures = rng.normal(size=(count, 1, 28, 28)) + labels[:, None, None, None] / 5
    return Table((pictures, labels), sweeps=0)


def loss(net: Any, x: Any, labels: Any) -> dict[str, Any]:
    logits = net(x)
    wrong = tinynet.tensor(100.0 * (logits.data.argmax(1) != labels.data).mean())
    return {"loss": F.cross_entropy(logits, labels.data), "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("net", choices=NETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--bucket", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--factors", action="store_true")
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--nan", type=int, nargs=2, metavar=("RANK", "STEP"))
    parser.add_argument("--raise", type=int, nargs=2, metavar=("RANK", "STEP"))
    parser.add_argument("--kill", type=int, nargs=2, metavar=("RANK", "STEP"))
    parser.add_argument("--kill-after", type=float, nargs=2, metavar=("RANK", "SECONDS"))
    parser.add_argument("--drift", type=int, nargs=2, metavar=("RANK", "STEP"))
    parser.add_argument("--rotten", type=int, nargs=2, metavar=("RANK", "ROW"))
    args = parser.parse_args()
    if args.bucket:
        steps.BUCKET = args.bucket
    tinynet.set_num_threads(1)
    job = ranks.start()
    if job.rank == 0:
        args.folder.mkdir(parents=True, exist_ok=True)
    if args.kill_after and args.kill_after[0] == job.rank:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, max(args.kill_after[1], 1e-3))
    tinynet.manual_seed(3)
    net = NETS[args.net]()
    for parameter in [*net.parameters(), *(buffer for _, buffer in net.named_buffers())]:
        parameter.data = parameter.data.astype(np.float64)
    task = Objective(tinynet.device("cpu"), loss, {"wrong": Measure("wrong", "%")})
    task.steps = steps.steps_of(job, net.parameters(), args.factors)
    loaders = [
        SequenceLoader(table(48, 1), 8, train=True, seed=5),
        SequenceLoader(table(21, 2), 8, train=False),
    ]
    if args.rotten and args.rotten[0] == job.rank:
        loaders[0].dataset.arrays[0][args.rotten[1]] = np.nan
    for loader in loaders:
        loader.share = job.rank, job.size
    trainer = Trainer(
        net,
        SGD(net.parameters(), 0.01, momentum=0.9),
        *loaders,
        task,
        args.folder,
        epochs=args.epochs,
        about={},
        checkpoint_batches=2,
        log_every=1,
    )
    if args.resume:
        said = trainer.resume()
        if job.rank == 0:
            print(said)
    step = trainer._train_step

    def disturbed(batch: Any) -> int:
        if args.nan == [job.rank, trainer.step]:
            batch[0][0] = np.nan
        if vars(args)["raise"] == [job.rank, trainer.step]:
            raise OSError("the cable was pulled")
        if args.kill == [job.rank, trainer.step]:
            os.kill(os.getpid(), signal.SIGKILL)
        count = step(batch)
        if args.drift == [job.rank, trainer.step]:
            next(net.parameters()).data.ravel()[0] += 1e-15
        if args.stop_at and trainer.step >= args.stop_at:
            trainer.max_minutes = 1e-9
        return count

    trainer._train_step = disturbed  # type: ignore[method-assign]
    try:
        print(trainer.fit() if job.rank == 0 else trainer.fit() * 0)
    except TrainingError as error:
        return fail(job, str(error), lambda text: print(text, file=sys.stderr))
    return 0


if __name__ == "__main__":
    sys.exit(main())
