"""How fast pictures load: pictures a second, against plain Pillow and against torch's DataLoader.

    python benchmarks/loader.py [PREPARED] [--workers N] [--rounds N]

PREPARED is a folder that examples/prepare_imagenet.py made (256 x 256 JPEG is what is meant);
without it, 2,000 pictures of coloured noise with a photograph's spectrum are prepared in a
temporary folder. Measured in turns, several rounds, of which the median counts:

    plain    processes that decode the same JPEGs with Pillow in a loop and do nothing else
    loader   tinynet.data.Loader with N worker processes: decode, random 224 crop, flip, batches
    torch    torch.utils.data.DataLoader with N workers and the same transforms, if installed
    raw      Loader on the same pictures kept as pixels (`--raw`): nothing to decode
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinynet.data import Loader, open_data
from tinynet.data.pictures import keep_freed_memory
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import ShardDataset, shard_name
from tinynet.data.workers import Process
from tinynet.devices.cores import available_cores

BATCH = 128


def make_pictures(root: Path, count: int = 2000, size: int = 256) -> None:
    """Noise whose amplitude falls as 1/frequency, as in photographs: JPEGs of about 25 kB."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1
    for split, number in (("train", count), ("val", 10)):
        (root / split / "noise").mkdir(parents=True)
        for i in range(number):
            noise = rng.normal(size=(3, size, size // 2 + 1)) / frequency**1.2
            phase = np.exp(2j * np.pi * rng.random((3, size, size // 2 + 1)))
            field = np.fft.irfft2(noise * phase, s=(size, size)).transpose(1, 2, 0)
            pixels = np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / "noise" / f"{i}.jpg", quality=90)


def plain(dataset: ShardDataset, processes: int, seconds: float) -> Rate:
    """Pictures a second of Pillow alone, in so many processes at once."""
    crew = [Process(f"plain {n}", _plain, dataset, seconds) for n in range(processes)]
    for process in crew:
        process.pipe.recv()  # it is ready
    for process in crew:
        process.pipe.send("go")
    rates = [process.pipe.recv() for process in crew]
    for process in crew:
        process.end()
    return Rate(sum(wall for wall, _ in rates), sum(core for _, core in rates) / processes)


def _plain(pipe, dataset: ShardDataset, seconds: float) -> None:
    keep_freed_memory()  # as the loader's workers do; without it Pillow is up to 1.8 times slower
    files = []
    for row in dataset.index[:2000]:
        with open(dataset.root / shard_name("train", int(row["shard"])), "rb") as file:
            file.seek(int(row["offset"]))
            files.append(file.read(int(row["length"])))
    pipe.send("ready")
    pipe.recv()
    start, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        np.asarray(Image.open(io.BytesIO(files[count % len(files)])).convert("RGB"))
        count += 1
    pipe.send((count / (time.perf_counter() - start), count / (time.process_time() - used)))


class Rate(NamedTuple):
    wall: float  # pictures a second
    core: float  # pictures a second of processor time, of this process and its children


def children() -> list[int]:
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in lists for pid in path.read_text().split()]


def processor_time() -> float:
    """Seconds of processor time that this process and its living children have used."""
    ticks = 0
    for pid in ("self", *children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system
    return ticks / os.sysconf("SC_CLK_TCK")


def batches_a_second(batches, seconds: float) -> Rate:
    """The rate of an endless iterator of batches' sizes; the first two only warm it up."""
    count = 0
    for number, size in enumerate(batches):
        if number == 1:
            start, used = time.perf_counter(), processor_time()
        elif number > 1:
            count += size
            if time.perf_counter() - start > seconds:
                wall = time.perf_counter() - start
                return Rate(count / wall, count / (processor_time() - used))
    raise AssertionError("the iterator has an end")


def endless(loader: Loader):
    epoch = 0
    while True:
        for batch in loader.epoch(epoch):
            yield len(batch.labels)
        epoch += 1


class TorchView:
    """The same pictures and transforms as a torch data set."""

    def __init__(self, dataset: ShardDataset, crop: int):
        self.dataset, self.crop = dataset, crop

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int):
        import torch

        picture = self.dataset.picture(i)
        limit = picture.shape[0] - self.crop + 1
        top, left, flip = (int(torch.randint(n, ())) for n in (limit, limit, 2))
        cut = torch.from_numpy(picture.copy())[top : top + self.crop, left : left + self.crop]
        return cut.flip(1) if flip else cut, int(self.dataset.labels[i])


def torch_rate(dataset: ShardDataset, crop: int, workers: int, seconds: float) -> Rate | None:
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    loader = DataLoader(
        TorchView(dataset, crop), BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
    return batches_a_second((len(labels) for _ in range(1000) for _, labels in loader), seconds)


def memory() -> float:
    """MB in use by this process and its children, shared pages counted once."""
    total = 0
    for pid in ("self", *children()):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(text.split("Pss:")[1].split()[0])
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("prepared", nargs="?", help="a prepared folder of JPEG pictures")
    parser.add_argument(
        "--workers", type=int, default=available_cores(), help="default: one a core"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if args.prepared is None:
            make_pictures(root / "pictures")
            prepare(root / "pictures", root / "jpeg")
        jpeg = open_data(args.prepared or root / "jpeg")[0]
        size = jpeg.shape[0]
        crop = size * 7 // 8  # 224 of 256
        (root / "raw").mkdir()
        raw = make_raw(jpeg, root / "raw")
        cores = min(args.workers, available_cores())
        kilobytes = jpeg.index["length"].mean() / 1000
        print(f"{len(jpeg)} JPEGs of {size} x {size}, {kilobytes:.1f} kB; crops of {crop}")
        print(
            f"{args.workers} workers on {available_cores()} cores; pictures a second, median of "
            f"rounds"
        )
        results: dict[str, list[Rate]] = {}
        at_once = f"plain, {cores} at once"
        for _ in range(args.rounds):
            rates = {"plain, 1 process": plain(jpeg, 1, args.seconds)}
            rates[at_once] = plain(jpeg, cores, args.seconds)
            for name, dataset, workers in (
                ("loader", jpeg, args.workers),
                ("raw", raw, args.workers),
                ("raw, 1 worker", raw, 1),
            ):
                with Loader(dataset, BATCH, crop=crop, train=True, workers=workers) as loader:
                    rates[name] = batches_a_second(endless(loader), args.seconds)
            rates["torch"] = torch_rate(jpeg, crop, args.workers, args.seconds)
            for name, rate in rates.items():
                if rate:
                    results.setdefault(name, []).append(rate)
        for name, rates in results.items():
            wall, core = (statistics.median(values) for values in zip(*rates, strict=True))
            print(f"{name:18}{wall:8,.0f}, a second of processor time{core:8,.0f}", end="")
            if name in ("loader", "torch"):
                shares = [
                    statistics.median(
                        a[k] / b[k] for a, b in zip(rates, results[at_once], strict=True)
                    )
                    for k in (0, 1)
                ]
                print("   {:.0%} and {:.0%} of plain at once".format(*shares), end="")
            print()

        with Loader(jpeg, BATCH, crop=crop, train=True, workers=args.workers) as loader:
            used = []
            for epoch in range(10):
                for _ in loader.epoch(epoch):
                    pass
                used.append(memory())
        print("MB after each of 10 epochs: " + " ".join(f"{mb:.0f}" for mb in used))


def make_raw(dataset: ShardDataset, root: Path) -> ShardDataset:
    """The first 2,000 pictures of a data set, prepared again with form "raw"."""
    for split in ("train", "val"):
        (root / "in" / split / "x").mkdir(parents=True)
        for i in range(min(len(dataset), 2000 if split == "train" else 1)):
            Image.fromarray(dataset.picture(i)).save(root / "in" / split / "x" / f"{i:05d}.png")
    prepare(root / "in", root / "out", Options(dataset.size, "raw"))
    return ShardDataset(root / "out", "train")


if __name__ == "__main__":
    main()
