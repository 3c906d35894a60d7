"""Preparing by several ranks, which are threads here: the same bytes, each shard written once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from small_tree import digests, picture

from tinynet.data import over_ranks
from tinynet.data import prepare as preparing
from tinynet.data.over_ranks import prepare_over
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import verify
from tinynet.errors import DataError, FolderInUseError
from tinynet.lock import locked

OPTIONS = Options(size=8, shard=4, val_share=0.25)


class Rank:
    """One of several, as parallel.ranks has them: threads that meet at a barrier."""

    def __init__(self, rank: int, met: threading.Barrier, slots: list) -> None:
        self.rank, self.size, self.met, self.slots = rank, len(slots), met, slots

    def gather(self, value: object) -> list:
        self.slots[self.rank] = value
        self.met.wait()
        found = list(self.slots)
        self.met.wait()
        return found

    def first(self, function: Callable) -> object:
        result = None
        if self.rank == 0:
            try:
                result = function(), None
            except Exception as error:
                result = None, error
        value, error = self.gather(result)[0]
        if error:
            raise error
        return value


def together(size: int, function: Callable) -> list:
    """What the function gives, or raises, on each rank."""
    met, slots, results = threading.Barrier(size, timeout=30), [None] * size, [None] * size

    def work(rank: int) -> None:
        try:
            results[rank] = function(Rank(rank, met, slots))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture
def source(tmp_path) -> Path:
    """Two classes of 20 pictures; no folder of test pictures."""
    for k, name in enumerate(("n01", "n02")):
        folder = tmp_path / "in/train" / name
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f"{i:02d}.jpg").write_bytes(picture(40 + 90 * k + i))
    return tmp_path / "in"


@pytest.fixture
def written(threads, monkeypatch) -> Counter:
    """How often each shard was written. Those of other ranks than the first take their time."""
    found, write = Counter(), preparing._write_shard

    def counted(job, pipe):
        found[job.shard.name] += 1
        with pytest.raises(FolderInUseError), locked(job.out):
            pass
        if job.number % 2:
            time.sleep(0.05)
        return write(job, pipe)

    monkeypatch.setattr(preparing, "_write_shard", counted)
    return found


def test_each_shard_is_written_once_and_the_bytes_are_those_of_one(
    tmp_path, source, written, monkeypatch
):
    right = prepare(source, tmp_path / "alone", OPTIONS, workers=1, progress=False)
    shards = {path.name for path in (tmp_path / "alone").glob("*.tar")}
    assert written == Counter(shards) and len(shards) >= 10
    for size in (1, 2, 13):
        out = tmp_path / f"not there yet {size}" / "out"

        def one(rank, out=out):
            return prepare_over(rank, source, out, OPTIONS, workers=1)

        written.clear()
        assert together(size, one) == [right] * size
        assert digests(out) == digests(tmp_path / "alone") and verify(out) == []
        assert written == Counter(shards)
    monkeypatch.setattr(over_ranks, "open_source", None)  # what is finished is not listed again
    assert together(2, one) == [right] * 2 and written == Counter(shards)
    stale = tmp_path / "a view of the disk that lacks the newest files"
    for size in (1, 2):
        found = together(
            size, lambda rank: prepare_over(rank, source, stale if rank.rank else out, OPTIONS)
        )
        assert found == [right] * size
    assert not stale.exists() and written == Counter(shards)


@pytest.mark.usefixtures("threads")
def test_rank_0_alone_shows_how_far_it_is(tmp_path, source, monkeypatch):
    shown, write = set(), over_ranks.write_shards

    def noted(jobs, workers, max_bad, progress):
        shown.add((jobs[0].number, progress))  # a rank's first shard has its number
        write(jobs, workers, max_bad, False)

    monkeypatch.setattr(over_ranks, "write_shards", noted)
    together(2, lambda rank: prepare_over(rank, source, tmp_path / "out", OPTIONS, workers=1))
    assert shown == {(0, True), (1, False)}


def test_unusable_pictures_count_over_all_ranks(tmp_path, source, written):
    """They may all be in one rank's shards, which then does not end alone."""
    for i in range(1, 4):
        (source / f"train/n01/{i:02d}.jpg").write_text("text")
    for max_bad, message in (
        (0.05, "share max_bad = 0.05 of unusable pictures, got 3 of 40"),
        (0.2, ""),
    ):
        found = together(
            2,
            lambda rank, max_bad=max_bad: prepare_over(
                rank, source, tmp_path / "out", OPTIONS, workers=1, max_bad=max_bad
            ),
        )
        for result in found:
            if message:
                assert isinstance(result, DataError) and message in str(result)
            else:
                assert result["left_out"] == 3
    assert max(written.values()) == 1  # the second time went on with what was done


def test_ranks_that_see_other_pictures_write_nothing(tmp_path, source, written, monkeypatch):
    opened, turn = over_ranks.open_source, iter(range(2))

    def open_source(*arguments):
        found = opened(*arguments)
        del found.val[next(turn) :]
        return found

    monkeypatch.setattr(over_ranks, "open_source", open_source)
    found = together(2, lambda rank: prepare_over(rank, source, tmp_path / "out", OPTIONS))
    for error in found:
        assert isinstance(error, DataError) and "the same pictures on all ranks" in str(error)
    assert not written and not (tmp_path / "out").exists()
