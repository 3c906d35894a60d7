"""A data set prepared by several ranks, each its part of the shards: the same bytes as by one."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from tinynet.data.imagenet import open_source
from tinynet.data.prepare import Options, begin, jobs_of, plan_of, prepare, write_shards
from tinynet.errors import DataError
from tinynet.lock import locked


def prepare_over(
    ranks: Any,
    source: str | Path,
    out: str | Path,
    options: Options,
    *,
    workers: int | None = None,
    max_bad: float = 0.01,
) -> dict:
    """As prepare.prepare; `out` lies where all ranks (parallel.ranks) can write, and each can read
    the source. Rank r of R writes the shards number r, r + R, ... Then rank 0 checks them all and
    ends as one process does that goes on: what is missing it writes itself.
    """
    out = Path(out)

    def finish() -> dict:
        return prepare(source, out, options, workers=workers, max_bad=max_bad)

    if ranks.size == 1 or ranks.first((out / "dataset.json").exists):
        return ranks.first(finish)
    found = open_source(source, options.val_share, ranks.rank == 0)
    prints = ranks.gather(found.fingerprint())
    if len(set(prints)) > 1:
        raise DataError(f"{source}: expected the same pictures on all ranks, got different ones")
    with contextlib.ExitStack() as held:

        def start() -> None:
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(out))
            begin(out, {**plan_of(source, options), "fingerprint": prints[0]})

        ranks.first(start)
        mine = jobs_of(out, found, options)[ranks.rank :: ranks.size]
        if mine:
            write_shards(mine, workers, 1.0, ranks.rank == 0)
        ranks.gather(None)  # all shards are there
    return ranks.first(finish)
