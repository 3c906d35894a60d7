"""Repairing a prepared folder: what is damaged is written again, from the pictures it was made of.

Preparation gives the same bytes every time. So a damaged shard is written again alone, and is right
if its SHA-256 is again the one in SHA256SUMS. An index or a table holds something of every shard:
if one is damaged, all shards are written again.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

from tinynet.data.imagenet import open_source
from tinynet.data.prepare import Options, begin, jobs_of, prepare, write_shards
from tinynet.data.shards import differing, file_sha256, names_of, read_about, read_sums
from tinynet.errors import DataError
from tinynet.lock import locked

log = logging.getLogger("tinynet.data")


def repair(
    out: str | Path,
    source: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Mend a prepared folder; returns the names of the files that were damaged.

    `source` says where the pictures are now, if not where they were. A folder that is not prepared
    to the end is prepared to the end. DataError if the pictures are others than they were, or if
    dataset.json is damaged, which says how the folder was made.
    """
    out = Path(out)
    if not (out / "dataset.json").exists():
        plan = _begun(out)
        _prepare(out, plan, source, workers, progress)
        return []
    with locked(out):
        sums = read_sums(out)
        about = read_about(out, sums)
        damaged = differing(out, about, sums, progress)
        extra = set(sums) - names_of(about)
        if not damaged and not extra:
            return []
        plan = about["plan"]
        where, options = _source(out, plan, source), _options(out, plan)
        found = open_source(where, options.val_share, progress)
        if about.get("fingerprint", found.fingerprint()) != found.fingerprint():
            raise DataError(
                f"{where}: expected the pictures that {out} was prepared from, got others; bring "
                f"those back, or prepare these into another folder"
            )
        jobs = jobs_of(out, found, options)
        shards = [job for job in jobs if job.shard.name in damaged]
        plan = {"source": str(Path(where).resolve()), **asdict(options)}
        begin(out, {**plan, "fingerprint": found.fingerprint()})
        if len(shards) == len(damaged) and not extra:
            write_shards(shards, workers, 1.0, progress)
            if all(file_sha256(job.shard) == sums.get(job.shard.name) for job in shards):
                shutil.rmtree(out / "parts")
                return sorted(damaged)
            log.warning(
                "%s: shards come out otherwise than SHA256SUMS says (another version of Pillow?): "
                "all are written again",
                out,
            )
        (out / "dataset.json").unlink()  # from here on the folder is one being prepared
    _prepare(out, plan, source, workers, progress)
    return sorted(damaged) or ["SHA256SUMS"]


def _begun(out: Path) -> dict:
    """The plan of a folder that is not prepared to the end."""
    path = out / "parts" / "plan.json"
    try:
        plan = json.loads(path.read_bytes())
        plan["source"], plan["size"]
    except (OSError, ValueError, TypeError, KeyError):
        raise DataError(
            f"{out}: expected a prepared folder, or one begun, got neither dataset.json nor a "
            f"whole {path.relative_to(out)}; run prepare_imagenet.py with SOURCE and OUT"
        ) from None
    return plan


def _prepare(
    out: Path, plan: dict, source: str | Path | None, workers: int | None, progress: bool
) -> None:
    where, options = _source(out, plan, source), _options(out, plan)
    prepare(where, out, options, workers=workers, max_bad=1.0, progress=progress)


def _source(out: Path, plan: dict, source: str | Path | None) -> str | Path:
    where = source or plan["source"]
    if not Path(where).is_dir():
        raise DataError(
            f"{where}: expected the pictures that {out} was prepared from, got no folder; say "
            f"where they are now: `python examples/prepare_imagenet.py SOURCE --repair "
            f"{shlex.quote(str(out))}`"
        )
    return where


def _options(out: Path, plan: dict) -> Options:
    names = asdict(Options())
    try:
        return Options(**{name: value for name, value in plan.items() if name in names})
    except TypeError as error:  # of a crafted plan
        raise DataError(f"{out}: the plan it was prepared by is damaged ({error})") from error
