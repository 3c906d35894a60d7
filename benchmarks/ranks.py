"""How AlexNet scales over ranks on this machine, and what the links between them carry.

    python benchmarks/ranks.py                                   on the CPU, one thread a rank
    python benchmarks/ranks.py --device cuda:0 --ranks 1,2,4,8 --preset paper    on several GPUs

It starts mpiexec itself (pip install "tinynet[mpi]"). Strong scaling divides one batch among the
ranks; weak scaling gives each a batch of its own. First it checks that all ranks together learn
what one does. The table goes to stdout, all figures to benchmarks/results/ranks-*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# tinynet and examples, installed or not
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "examples"))

import numpy as np
from measure import describe, machine, result_path, write_json

import tinynet
import tinynet.functional as F
from tinynet.parallel import ranks, steps
from tinynet.program.runs import devices_of_rank, find_devices

CHECKED = 3  # steps after which the weights are compared
TOLERANCE = 1e-3  # in float32, of the largest weight


def link(how: Any, device: Any) -> dict[str, float]:
    """Bytes a second that leave a rank while an array of 32 MB is summed, by a ring; and seconds
    of a sum of one number.
    """
    found = {}
    for name, count, times in (("seconds", 1, 50), ("bytes_per_second", 8 << 20, 5)):
        with device.activate():
            array = device.xp.ones((count,), np.float32)
        for _ in range(2):  # the first time warms up
            how.ranks.gather(None)
            began, sent = time.perf_counter(), how.sent
            for _ in range(times):
                how._begin(array, device).Wait()
                device.synchronize()
            took = time.perf_counter() - began
        found[name] = took / times if count == 1 else (how.sent - sent) / took
    return found


def worker(task: dict[str, Any]) -> None:
    """A rank's life: some steps of training; rank 0 prints what it found as JSON."""
    from alexnet import PRESETS, AlexNet, sgd

    job = ranks.start()
    devices = find_devices(devices_of_rank(task["device"], job.local), 2)
    tinynet.set_num_threads(1)
    tinynet.manual_seed(1)
    net = AlexNet(10, task["preset"], devices)
    net.train()
    optimizer = sgd(net, 0.01)
    how: Any = steps.steps_of(job, net.parameters(), task["factors"])
    side = PRESETS[task["preset"]].image_size
    rng = np.random.default_rng(0)
    batch = task["batch"]
    mine = slice(batch * job.rank // job.size, batch * (job.rank + 1) // job.size)
    pictures = rng.normal(size=(batch, 3, side, side)).astype(np.float32)[mine]
    labels = rng.integers(0, 10, batch)[mine]

    def step() -> None:
        with how.share(len(labels), len(labels)):
            x = tinynet.tensor(pictures, device=devices[0])
            loss = F.cross_entropy(net(x), labels)
            optimizer.zero_grad()
            how.backward(loss, [loss.data])
        optimizer.step()

    for _ in range(CHECKED):
        step()
    weights = np.concatenate([p.numpy().ravel() for p in net.parameters()])
    for _ in range(2):  # the first time warms up
        for device in devices:
            device.synchronize()
        job.gather(None)
        began, done, sent = time.perf_counter(), 0, getattr(how, "sent", 0)
        while job.gather(time.perf_counter() - began)[0] < task["seconds"] / 2:
            step()
            done += 1
        for device in devices:
            device.synchronize()
        took = time.perf_counter() - began
    found = {
        "images_per_second": batch * done / took,
        "seconds_per_step": took / done,
        "bytes_per_step": (getattr(how, "sent", 0) - sent) / done,
        "link": link(how, devices[0]) if job.size > 1 else None,
    }
    if job.rank == 0:
        np.save(task["weights"], weights)
        print(json.dumps(found))


def run(count: int, task: dict[str, Any]) -> dict[str, Any]:
    """What `count` ranks found."""
    near = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    mpiexec = shutil.which("mpiexec", path=near)
    if mpiexec is None:
        sys.exit("mpiexec: expected it beside Python or on the PATH; pip install 'tinynet[mpi]'")
    command = [mpiexec, "-n", str(count), sys.executable, __file__, "--worker", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{count} ranks ended with status {done.returncode}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def differences(path: Path, other: Path) -> float:
    """The largest difference of two nets' weights, of the largest weight."""
    mine, its = np.load(path), np.load(other)
    return float(abs(mine - its).max() / abs(mine).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--ranks", default="1,2", help="how many (1,2)")
    parser.add_argument("--preset", default="mini", help="the net (mini)")
    parser.add_argument("--batch", type=int, default=128, help="of all, or of each (128)")
    parser.add_argument(
        "--device", default="cpu", metavar="D0[,D1]", help="of the first rank (cpu)"
    )
    parser.add_argument("--factors", action="store_true", help="as --exchange factors")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement (20)")
    args = parser.parse_args()
    if args.worker:
        return worker(json.loads(args.worker))
    about = machine()
    print(describe(about), f"\n{args.preset}, {args.device}", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        mine, its = Path(folder) / "mine.npy", Path(folder) / "alone.npy"
        for count in map(int, args.ranks.split(",")):
            for kind, batch in (("strong", args.batch), ("weak", args.batch * count)):
                task = dict(
                    preset=args.preset, device=args.device, batch=batch, factors=args.factors
                )
                found = run(count, {**task, "seconds": args.seconds, "weights": str(mine)})
                run(1, {**task, "seconds": 0.1, "weights": str(its)})
                rows.append(dict(ranks=count, kind=kind, batch=batch, **found))
                rows[-1]["difference"] = differences(mine, its)
                print(told(rows[-1], rows[0]), flush=True)
                if rows[-1]["difference"] > TOLERANCE:
                    sys.exit(f"{count} ranks expected to learn what one does; they do not")
    path = result_path("ranks", "json")
    write_json(path, dict(machine=about, options=vars(args), rows=rows))
    print(path)


def told(row: dict[str, Any], first: dict[str, Any]) -> str:
    """A row of a table."""
    times = row["images_per_second"] / first["images_per_second"]
    words = f"| {row['ranks']} | {row['kind']} | {row['batch']} "
    words += f"| {row['images_per_second']:,.1f} images/s | x {times:.2f} "
    words += f"| {row['bytes_per_step'] / 1e6:.1f} MB | {row['difference']:.0e} |"
    if row["link"]:
        speed, delay = row["link"]["bytes_per_second"] / 1e9, 1e6 * row["link"]["seconds"]
        words += f" {speed:.2f} GB/s, {delay:.0f} us |"
    return words


if __name__ == "__main__":
    main()
