"""Preparing a data set: from archives or folders of photographs to shards of one size.

The work is cut into shards of some thousand pictures. Each is written by one process, aside, then
renamed; what was learnt in writing it goes into `parts/` in the same way. So a run killed at any
moment loses only the shards it was writing, and one that goes on gives the same bytes. It takes as
done what has the size and the SHA-256 that were noted, and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tinynet.data.dataset import Moments
from tinynet.data.folder import check_classes
from tinynet.data.imagenet import Entry, Source, open_source
from tinynet.data.pictures import decode, keep_freed_memory, oddities, open_picture, with_end
from tinynet.data.progress import bar
from tinynet.data.shards import (
    INDEX,
    SMALL_FILES,
    VERSION,
    check_sizes,
    check_small_files,
    file_sha256,
    read_about,
    read_sums,
    shard_name,
    write_file,
)
from tinynet.data.tar import BLOCK, tar_member
from tinynet.data.workers import Process, leave_signals_to_parent
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError
from tinynet.lock import NAME as LOCK
from tinynet.lock import locked

log = logging.getLogger("tinynet.data")

_ASIDE = re.compile(rf"\.((train|val)-\d+\.tar|SHA256SUMS|{'|'.join(SMALL_FILES)})\.\d+")


@dataclass(frozen=True)
class Options:
    """How pictures are kept: the shorter side becomes `size` and the centre square is cut, as
    JPEG of `quality`. `form` "full" keeps the whole picture, "raw" keeps the square's pixels.
    `chroma` "4:2:0" keeps colours at half the resolution, as most JPEGs do, "4:4:4" at the whole.
    `val_share` splits validation pictures off a folder tree (see folder.py)."""

    size: int = 256
    form: str = "square"
    quality: int = 90
    shard: int = 2000  # pictures a shard
    chroma: str = "4:2:0"
    val_share: float | None = None

    def __post_init__(self):
        if not 1 <= self.size <= 4096:
            raise DataError(f"Options: expected a size of 1 to 4096, got {self.size}")
        if self.form not in ("square", "full", "raw"):
            raise DataError(
                f'Options: expected the form "square", "full" or "raw", got {self.form!r}'
            )
        if not 1 <= self.quality <= 95:
            raise DataError(f"Options: expected a quality of 1 to 95, got {self.quality}")
        if self.shard < 1:
            raise DataError(f"Options: expected at least 1 picture a shard, got {self.shard}")
        if self.chroma not in ("4:2:0", "4:4:4"):
            raise DataError(f'Options: expected the chroma "4:2:0" or "4:4:4", got {self.chroma!r}')


@dataclass
class Job:
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

    def learnt(self) -> dict[str, np.ndarray] | None:
        """What was learnt in writing the shard; None if that is missing or damaged."""
        names = ("sha256", "size", "index", "report", "count", "sum", "products")
        try:
            with np.load(self.part) as part:
                return {name: part[name] for name in names}  # each is compared with its CRC-32
        except Exception:  # zipfile and NumPy may raise anything over a damaged file
            return None

    def left_out(self) -> list[str] | None:
        """The report's lines on pictures left out; None if the shard is not done, or damaged."""
        learnt = self.learnt()
        if learnt is None or not self.shard.is_file():
            return None
        if (
            self.shard.stat().st_size != learnt["size"]
            or file_sha256(self.shard) != learnt["sha256"]
        ):
            return None
        return [line for line in learnt["report"].tolist() if "\tleft out\t" in line]


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
    are more than the share `max_bad`, or if a finished folder is damaged. Returns the content of
    dataset.json.
    """
    out = Path(out)
    if not 0 <= max_bad <= 1:
        raise DataError(f"prepare: expected max_bad of 0 to 1, got {max_bad}")
    if out.resolve() == Path(source).resolve():
        raise DataError(f"{out}: expected a folder beside the source, got the source itself")
    plan = plan_of(source, options)
    about = _finished(out, plan)
    if about and not (out / "parts").exists() and not (out / LOCK).exists():
        return about
    found = None if about else open_source(source, options.val_share, progress)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        # Another process that held it until now may have ended it, or begun to mend it.
        about = _finished(out, plan)
        if not about:
            found = found or open_source(source, options.val_share, progress)
            begin(out, {**plan, "fingerprint": found.fingerprint()})
            jobs = jobs_of(out, found, options)
            write_shards(jobs, workers, max_bad, progress)
            about = _finish(out, found, jobs, options, plan)
        shutil.rmtree(out / "parts", ignore_errors=True)
        return about


def plan_of(source: str | Path, options: Options) -> dict:
    """What a folder says that it is made of."""
    return {"source": str(Path(source).resolve()), **asdict(options)}


def jobs_of(out: Path, source: Source, options: Options) -> list[Job]:
    """The shards that a source makes."""
    return [
        Job(out, split, number, first, entries[first : first + options.shard], options)
        for split, entries in (("train", source.train), ("val", source.val))
        for number, first in enumerate(range(0, len(entries), options.shard))
    ]


def _finished(out: Path, plan: dict) -> dict | None:
    """The content of dataset.json, if the folder was prepared to the end as planned. DataError if
    it was so otherwise, or if a file is damaged, or a shard not of its size."""
    if not (out / "dataset.json").exists():
        return None
    sums = read_sums(out)
    about = read_about(out, sums)
    if other := _differences(about["plan"], plan):
        raise DataError(
            f"{out} holds a data set of another source or other options ({other}); choose another "
            f"OUT"
        )
    check_small_files(out, sums)
    check_sizes(out, about, "train", "val")
    return about


def begin(out: Path, plan: dict) -> None:
    """Make the folder one that is being prepared by this plan, and clear away what a killed run was
    writing. DataError if it was begun with other pictures or options."""
    parts = out / "parts"
    if parts.exists():
        try:
            begun = json.loads((parts / "plan.json").read_bytes())
            known = not plan.keys() - (asdict(Options()) | begun).keys()
        except (OSError, ValueError, TypeError):
            known = False
        if not known:
            shutil.rmtree(parts)
            if not (out / "dataset.json").exists():
                path = parts / "plan.json"
                log.warning("%s: damaged or missing: what was done is done again", path)
                for split in ("train", "val"):
                    for shard in out.glob(f"{split}-[0-9]*.tar"):
                        shard.unlink()
        elif other := _differences(begun, plan):
            raise DataError(
                f"{out} was begun with another source or other options ({other}); finish that, "
                f"remove the folder, or choose another OUT"
            )
    parts.mkdir(exist_ok=True)
    write_file(parts / "plan.json", json.dumps(plan).encode())
    # The processes of a killed run may live a moment longer, and rename one of these meanwhile.
    for aside in out.glob(".*"):
        if _ASIDE.fullmatch(aside.name):
            aside.unlink(missing_ok=True)
    for aside in parts.glob(".*"):
        aside.unlink(missing_ok=True)


def _differences(begun: dict, plan: dict) -> str:
    """What differs between two plans, in words; the older one may lack options of today. Where the
    same pictures lie does not matter.
    """
    begun = asdict(Options()) | begun
    if "fingerprint" in plan and begun.get("fingerprint") == plan["fingerprint"]:
        begun["source"] = plan["source"]
    return ", ".join(
        "the pictures" if name == "fingerprint" else f"{name} {begun.get(name)}, not {value}"
        for name, value in plan.items()
        if begun.get(name) != value
    )


# ---- the processes


def write_shards(jobs: list[Job], workers: int | None, max_bad: float, progress: bool) -> None:
    """Have every job done that is not, on `workers` processes (default: one a core)."""
    total = sum(len(job.entries) for job in jobs)
    begun = [job for job in jobs if job.part.exists()]
    shown = progress and bool(begun)
    checked = bar(total=len(begun), desc="checking", unit=" shards", shown=shown)
    with ThreadPoolExecutor(available_cores()) as pool, checked:
        # hashing runs outside the interpreter lock
        done = {}
        for job, left_out in zip(begun, pool.map(Job.left_out, begun), strict=True):
            checked.update()
            if left_out is not None:
                done[job.shard] = left_out
    if damaged := len(begun) - len(done):
        log.warning("%s: %d damaged shards: written again", jobs[0].out, damaged)
    waiting = [job for job in reversed(jobs) if job.shard not in done]
    bad = [line for left_out in done.values() for line in left_out]
    ready = total - sum(len(job.entries) for job in waiting)
    workers = min(workers or available_cores(), len(waiting))
    crew = [Process(f"worker {n}", _work) for n in range(workers)]
    doing: dict[Process, Job] = {}
    made = bar(
        total=total, initial=ready, unit=" pictures", shown=progress, leave=True, smoothing=0.1
    )
    try:
        idle = list(crew)
        while True:
            if len(bad) > max_bad * total:
                raise DataError(
                    f"prepare: expected at most the share max_bad = {max_bad:g} of unusable "
                    f"pictures, got {len(bad)} of {total} pictures; mend them, or allow more "
                    f"(--max-bad); the first: {bad[0]}"
                )
            while idle and waiting:
                worker = idle.pop()
                doing[worker] = waiting.pop()
                with contextlib.suppress(OSError):  # it died: so reading from it, below, will say
                    worker.pipe.send(doing[worker])
            if not doing:
                return
            pipes = {worker.pipe: worker for worker in doing}
            answered: list[Any] = list(connection.wait(list(pipes)))
            for pipe in answered:
                worker = pipes[pipe]
                try:
                    kind, value = pipe.recv()
                except (EOFError, OSError):
                    raise DataError(
                        f"{worker.died_of()} while it wrote {doing[worker].shard}; is there enough "
                        f"memory? Run the same command again to go on"
                    ) from None
                if kind == "pictures":
                    made.update(value)
                elif kind == "error":
                    raise DataError(value)
                else:
                    bad += value
                    doing.pop(worker)
                    idle.append(worker)
    finally:
        made.close()
        for worker in crew:
            worker.end()


def _work(pipe: connection.Connection) -> None:
    """A process's life: write the shards it is told, until the pipe closes."""
    leave_signals_to_parent()
    keep_freed_memory()
    while True:
        try:
            job = pipe.recv()
            try:
                pipe.send(("done", _write_shard(job, pipe)))
            except DataError as error:
                pipe.send(("error", str(error)))
            except OSError as error:  # disk full, source gone; or the parent is, then this fails
                pipe.send(("error", f"{job.shard}: {error}"))
        except (EOFError, OSError):
            return


# ---- one shard


def _write_shard(job: Job, pipe: connection.Connection) -> list[str]:
    """Write it; returns the report's lines on pictures left out."""
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
    return [line for line in learnt["report"].tolist() if "\tleft out\t" in line]


def _write_pictures(job: Job, file: BinaryIO, pipe: connection.Connection) -> dict:
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
    lines = np.array(report, dtype=str)
    return {"index": np.array(rows, INDEX), "report": lines, **moments.arrays()}


def _convert(entry: Entry, options: Options) -> tuple[bytes, int, np.ndarray, list[str]]:
    """The file to store, how many of its bytes come before what the index points at, the picture
    that a reader will get of it, and what was odd about it."""
    name, size, full = entry.name, options.size, options.form == "full"
    stored = entry.read()
    data = with_end(stored)
    image = open_picture(data, name)
    notes = oddities(image, name, size)
    if data is not stored:
        notes.append("given the end marker it lacked")
    picture = decode(data, name, size, whole=full)
    if options.form == "raw":
        content = _npy(picture)
        return content, len(content) - picture.nbytes, picture, notes
    plain = image.format == "JPEG" and not any("EXIF" in note or "CMYK" in note for note in notes)
    if not (plain and image.size == picture.shape[1::-1] and len(data) <= picture.nbytes):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(
            buffer, "JPEG", quality=options.quality, subsampling=options.chroma
        )
        data = buffer.getvalue()
    # Else it is of the right size already: its bytes are kept, and no quality is lost.
    return data, 0, decode(data, name, size), notes


def _line(split: str, name: str, what: str, why: str) -> str:
    """A line of report.tsv. Names come from archives: what is not printable is escaped."""
    fields = (split, name, what, why)
    return "\t".join("".join(c if c.isprintable() else ascii(c)[1:-1] for c in f) for f in fields)


# ---- the end


def _finish(out: Path, source: Source, jobs: list[Job], options: Options, plan: dict) -> dict:
    """Put the parts together: index, statistics, tables, checksums."""
    moments = Moments((options.size, options.size, 3))
    indexes: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    shards: dict[str, list[int]] = {"train": [], "val": []}
    report, sums = ["split\tpicture\twhat\twhy"], {}
    for job in jobs:
        if (learnt := job.learnt()) is None:
            raise DataError(f"{job.part}: damaged since it was written; run the same command again")
        indexes[job.split].append(learnt["index"])
        shards[job.split].append(int(learnt["size"]))
        report += learnt["report"].tolist()
        sums[job.shard.name] = str(learnt["sha256"])
        if job.split == "train":
            moments.merge(Moments.from_arrays(learnt))
    names = [name for name, _ in source.classes]
    rows = ((str(label), *both) for label, both in enumerate(source.classes))
    table = "".join("\t".join(" ".join(text.split()) for text in row) + "\n" for row in rows)
    content = {"classes.tsv": table.encode("utf-8", "backslashreplace")}
    content["report.tsv"] = "".join(line + "\n" for line in report).encode()
    write_file(out / "report.tsv", content["report.tsv"])  # which says why, should a class be empty
    for split, parts in indexes.items():
        index = np.concatenate(parts)
        share = options.val_share if split == "val" else None
        check_classes(index["label"], names, f"{out}: {split}", share)
        content[f"{split}.npy"] = _npy(index)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = moments.arrays()
    np.savez(buffer, mean=moments.mean(), covariance=moments.covariance(), **arrays)
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
        "fingerprint": source.fingerprint(),
    }
    last = {"dataset.json": json.dumps(about, indent=1).encode() + b"\n"}
    sums |= {name: hashlib.sha256(data).hexdigest() for name, data in (content | last).items()}
    content["SHA256SUMS"] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    for name, data in (content | last).items():  # with the last one the folder counts as finished
        write_file(out / name, data)
    return about


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
