"""Preparing a data set: from archives or folders of photographs to shards of one size.

The work is cut into shards of some thousand pictures. Each is written by one process, aside, then
renamed; what was learnt in writing it goes into `parts/` in the same way. So a run killed at any
moment loses only the shards it was writing, and one that goes on gives the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import zlib
from dataclasses import asdict, dataclass
from multiprocessing import connection
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from tinynet.data.dataset import Moments
from tinynet.data.imagenet import Entry, Source, open_source
from tinynet.data.pictures import decode, keep_freed_memory, oddities, open_picture
from tinynet.data.shards import INDEX, VERSION, file_sha256, shard_name, write_file
from tinynet.data.tar import BLOCK, tar_member
from tinynet.data.workers import Process
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError


@dataclass(frozen=True)
class Options:
    """How pictures are kept: the shorter side becomes `size` and the centre square is cut, as
    JPEG of `quality`. `form` "full" keeps the whole picture, "raw" keeps the square's pixels."""

    size: int = 256
    form: str = "square"
    quality: int = 90
    shard: int = 2000  # pictures a shard

    def __post_init__(self):
        if not 1 <= self.size <= 4096:
            raise DataError(f"Options: expected a size of 1 to 4096, got {self.size}")
        if self.form not in ("square", "full", "raw"):
            raise DataError(
                f'Options: expected the form "square", "full" or "raw", got {self.form!r}'
            )
        if not 1 <= self.quality <= 95:
            raise DataError(f"Options: expected a quality of 1 to 95, got {self.quality}")


@dataclass
class _Job:
    """One shard to write."""

    out: Path
    split: str
    number: int
    first: int  # of its pictures, the place in the split
    entries: list[Entry]
    options: Options

    @property
    def shard(self) -> Path:
        return self.out / shard_name(self.split, self.number)

    @property
    def part(self) -> Path:
        return self.out / "parts" / f"{self.split}-{self.number:06d}.npz"

    def done(self) -> bool:
        return self.part.exists() and self.shard.exists()


def prepare(
    source: str | Path,
    out: str | Path,
    options: Options = Options(),  # noqa: B008 (it is frozen)
    *,
    workers: int | None = None,
    max_bad: float = 0.01,
    progress: bool = True,
) -> dict:
    """Prepare what lies at `source` into the folder `out`; see shards.py for what it then holds.

    A run that was interrupted goes on where it stopped; for a folder that is finished nothing is
    done. Pictures that cannot be used are left out and listed in report.tsv; DataError when they
    are more than the share `max_bad`. Returns the content of dataset.json.
    """
    out = Path(out)
    plan = {"source": str(Path(source).resolve()), **asdict(options)}
    if (out / "dataset.json").exists():
        about = json.loads((out / "dataset.json").read_bytes())
        if about.get("plan") != plan:
            raise DataError(
                f"{out} holds a data set of another source or other options; choose another OUT"
            )
        shutil.rmtree(out / "parts", ignore_errors=True)
        return about

    found = open_source(source)
    (out / "parts").mkdir(parents=True, exist_ok=True)
    _check_plan(out / "parts" / "plan.json", {**plan, "fingerprint": found.fingerprint()})
    for aside in (*out.glob(".*.tar.*"), *(out / "parts").glob(".*")):
        aside.unlink(missing_ok=True)  # what a killed run was writing
    jobs = [
        _Job(out, split, number, first, entries[first : first + options.shard], options)
        for split, entries in (("train", found.train), ("val", found.val))
        for number, first in enumerate(range(0, len(entries), options.shard))
    ]
    _run(jobs, workers or available_cores(), max_bad, progress)
    return _finish(out, found, jobs, options, plan)


def _check_plan(path: Path, plan: dict) -> None:
    """A folder begun with other pictures or options must not be gone on with."""
    if not path.exists():
        write_file(path, json.dumps(plan).encode())
    elif json.loads(path.read_bytes()) != plan:
        raise DataError(
            f"{path.parent.parent} was begun with another source or other options; "
            f"finish that, remove the folder, or choose another OUT"
        )


# ---- the processes


def _run(jobs: list[_Job], workers: int, max_bad: float, progress: bool) -> None:
    """Have every job done that is not, on `workers` processes."""
    total = sum(len(job.entries) for job in jobs)
    waiting = [job for job in reversed(jobs) if not job.done()]
    bad = [line for job in jobs if job.done() for line in _left_out(job)]
    done = total - sum(len(job.entries) for job in waiting)
    crew = [Process(f"worker {n}", _work) for n in range(min(workers, len(waiting)))]
    doing: dict[Process, _Job] = {}
    bar = tqdm(total=total, initial=done, unit=" pictures", disable=not progress, smoothing=0.1)
    try:
        idle = list(crew)
        while True:
            if len(bad) > max_bad * total:
                raise DataError(
                    f"prepare: expected at most the share max_bad = {max_bad:g} of unusable "
                    f"pictures, got {len(bad)} of {total} pictures; the first: {bad[0]}"
                )
            while idle and waiting:
                worker = idle.pop()
                doing[worker] = waiting.pop()
                with contextlib.suppress(OSError):  # it died: so reading from it, below, will say
                    worker.pipe.send(doing[worker])
            if not doing:
                return
            pipes = {worker.pipe: worker for worker in doing}
            for pipe in connection.wait(list(pipes)):
                worker = pipes[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    raise DataError(
                        f"{worker.died_of()} while it wrote {doing[worker].shard}; is there enough "
                        f"memory? Run the same command again to go on"
                    ) from None
                if kind == "pictures":
                    bar.update(value)
                elif kind == "error":
                    raise DataError(value)
                else:
                    bad += _left_out(doing.pop(worker))
                    idle.append(worker)
    finally:
        bar.close()
        for worker in crew:
            worker.end()


def _left_out(job: _Job) -> list[str]:
    with np.load(job.part) as part:
        return [line for line in part["report"].tolist() if "\tleft out\t" in line]


def _work(pipe: connection.Connection) -> None:
    """A process's life: write the shards it is told, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    keep_freed_memory()
    while True:
        try:
            job = pipe.recv()
            try:
                _write_shard(job, pipe)
                pipe.send(("done", None))
            except DataError as error:
                pipe.send(("error", str(error)))
            except OSError as error:  # disk full, source gone; or the parent is, then this fails
                pipe.send(("error", f"{job.shard}: {error}"))
        except (EOFError, OSError):
            return


# ---- one shard


def _write_shard(job: _Job, pipe: connection.Connection) -> None:
    aside = job.shard.with_name(f".{job.shard.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            learnt = _write_pictures(job, file, pipe)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, job.shard)
    finally:
        aside.unlink(missing_ok=True)  # when it failed, or when the parent is gone
    part = io.BytesIO()
    np.savez(part, sha256=file_sha256(job.shard), size=job.shard.stat().st_size, **learnt)
    write_file(job.part, part.getvalue())


def _write_pictures(job: _Job, file: BinaryIO, pipe: connection.Connection) -> dict:
    """Write the shard's pictures; returns its rows of the index, its report, its moments."""
    rows, report = [], []
    moments = Moments((job.options.size, job.options.size, 3))
    for place, entry in enumerate(job.entries, job.first):
        # The number keeps keys apart where two classes hold pictures of the same name.
        key = f"{place:08d}-{re.sub('[^A-Za-z0-9_-]', '_', Path(entry.name).stem)[:60]}"
        try:
            content, skip, picture, notes = _convert(entry, job.options)
        except DataError as error:
            reason = str(error).removeprefix(f"{entry.name}: ")
            report.append(_line(job.split, entry.name, "left out", reason))
        else:
            report += [_line(job.split, entry.name, "converted", note) for note in notes]
            ending = "npy" if job.options.form == "raw" else "jpg"
            offset, data = file.tell() + BLOCK + skip, content[skip:]
            rows.append((job.number, offset, len(data), entry.label, zlib.crc32(data)))
            file.write(tar_member(f"{key}.{ending}", content))
            file.write(tar_member(f"{key}.cls", str(entry.label).encode()))
            moments.add(picture[None])
        pipe.send(("pictures", 1))
    file.write(bytes(2 * BLOCK))  # the end of a tar
    index, report = np.array(rows, INDEX), np.array(report, dtype=str)
    return {"index": index, "report": report, **moments.arrays()}


def _convert(entry: Entry, options: Options) -> tuple[bytes, int, np.ndarray, list[str]]:
    """The file to store, how many of its bytes come before what the index points at, the picture
    that a reader will get of it, and what was odd about it."""
    name, size, full = entry.name, options.size, options.form == "full"
    data = entry.read()
    image = open_picture(data, name)
    notes = oddities(image, name, size)
    picture = decode(data, name, size, whole=full)
    if options.form == "raw":
        content = _npy(picture)
        return content, len(content) - picture.nbytes, picture, notes
    plain = image.format == "JPEG" and not any("EXIF" in note or "CMYK" in note for note in notes)
    if not (plain and image.size == picture.shape[1::-1] and len(data) <= picture.nbytes):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=options.quality)
        data = buffer.getvalue()
    # Else it is of the right size already: its bytes are kept, and no quality is lost.
    return data, 0, decode(data, name, size), notes


def _line(split: str, name: str, what: str, why: str) -> str:
    """A line of report.tsv. Names come from archives: what is not printable is escaped."""
    fields = (split, name, what, why)
    return "\t".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in f) for f in fields)


# ---- the end


def _finish(out: Path, source: Source, jobs: list[_Job], options: Options, plan: dict) -> dict:
    """Put the parts together: index, statistics, tables, checksums."""
    moments = Moments((options.size, options.size, 3))
    indexes: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    shards: dict[str, list[int]] = {"train": [], "val": []}
    report, sums = ["split\tpicture\twhat\twhy"], {}
    for job in jobs:
        with np.load(job.part) as part:
            indexes[job.split].append(part["index"])
            shards[job.split].append(int(part["size"]))
            report += part["report"].tolist()
            sums[job.shard.name] = str(part["sha256"])
            if job.split == "train":
                moments.merge(Moments.from_arrays(part))
    rows = ((str(label), *names) for label, names in enumerate(source.classes))
    table = "".join("\t".join(" ".join(text.split()) for text in row) + "\n" for row in rows)
    content = {"classes.tsv": table.encode("utf-8", "backslashreplace")}
    content["report.tsv"] = "".join(line + "\n" for line in report).encode()
    for split, parts in indexes.items():
        index = np.concatenate(parts)
        if len(index) == 0:
            raise DataError(f"{out}: not one {split} picture could be used; see report.tsv")
        content[f"{split}.npy"] = _npy(index)
    buffer = io.BytesIO()
    np.savez(buffer, mean=moments.mean(), covariance=moments.covariance(), **moments.arrays())
    content["moments.npz"] = buffer.getvalue()
    about = {
        "version": VERSION,
        "size": options.size,
        "form": options.form,
        "classes": len(source.classes),
        "pictures": {split: sum(map(len, parts)) for split, parts in indexes.items()},
        "left_out": sum("\tleft out\t" in line for line in report),
        "channel_means": moments.mean().mean(axis=(0, 1)).round(3).tolist(),
        "shards": shards,
        "plan": plan,
    }
    content["dataset.json"] = json.dumps(about, indent=1).encode() + b"\n"
    sums |= {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    last = content.pop("dataset.json")
    content["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    for name, data in content.items():
        write_file(out / name, data)
    write_file(out / "dataset.json", last)  # from here on the folder counts as finished
    shutil.rmtree(out / "parts")
    return about


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
