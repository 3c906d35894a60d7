"""MpiRanks over a stand-in for MPI: what it asks of it, and what it makes of the answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tinynet.errors import DataError
from tinynet.parallel import ranks
from tinynet.parallel.ranks import ALONE, TEXT, MpiRanks, RanksError


class World:
    """One rank's view of `size`; what the others say is given beforehand."""

    def __init__(self, rank: int = 0, size: int = 3, others: Any = None):
        self.rank, self.size, self.others = rank, size, others
        self.said: list[Any] = []
        self.ended: int | None = None
        self.ready = True

    def Split_type(self, kind: str) -> Any:
        assert kind == "shared memory"
        return SimpleNamespace(rank=1, size=2)

    def Dup(self) -> World:
        twin = World(self.rank, self.size, self.others)
        twin.ready = self.ready
        return twin

    def _all(self, mine: Any) -> list[Any]:
        told = list(self.others)
        told.insert(self.rank, mine)
        return told

    def allgather(self, value: Any) -> list[Any]:
        return self._all(value)

    def bcast(self, value: Any = None) -> Any:
        self.said.append(value)
        return value if self.rank == 0 else self.others

    def Iallreduce(self, mine: Any, array: np.ndarray) -> Any:
        assert mine == "in place"
        array += sum(self.others)
        return self._request()

    def Iallgather(self, mine: Any, whole: Any) -> Any:
        told = [bytes(part) for part in self._all(mine)]
        whole_bytes = memoryview(whole).cast("B")
        assert len(whole_bytes) == sum(map(len, told))
        whole_bytes[:] = b"".join(told)
        return self._request()

    def _request(self) -> Any:
        return SimpleNamespace(Test=lambda: self.ready, Wait=lambda: None)

    def Abort(self, status: int) -> None:
        self.ended = status


def job(world: World) -> Any:
    return MpiRanks(SimpleNamespace(COMM_WORLD=world, COMM_TYPE_SHARED="shared memory",
                                    IN_PLACE="in place"))  # fmt: skip


def test_who_and_where():
    of = job(World(2, 5))
    assert (of.rank, of.size, of.local, of.beside) == (2, 5, 1, 2)
    assert of.name == f"rank 2 on {of.host}"
    assert len({id(of.words), id(of.sums), id(of.ends)}) == 3
    of.abort(7)
    assert of.mpi.COMM_WORLD.ended == 7


def test_one_process_is_a_job_of_one_rank():
    assert (ALONE.rank, ALONE.size, ALONE.local, ALONE.beside) == (0, 1, 0, 1)
    assert ALONE.name == f"rank 0 on {ALONE.host}"
    assert ALONE.gather("mine") == ["mine"] and ALONE.first(lambda: 3) == 3 == ALONE.sum(3)
    assert ALONE.failures("full") == (["full"], True)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_values_and_sums_are_in_the_order_of_ranks(rank):
    assert job(World(rank, 3, ["x", "y"])).gather("mine") == ["x", "y"][:rank] + ["mine"] + [
        "x", "y"][rank:]  # fmt: skip
    told = [1e16, 1.0, -1e16]  # added from the first on: 0, not 1
    mine = told.pop(rank)
    assert job(World(rank, 3, map(np.float64, told))).sum(mine) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_of_all(dtype):
    rows = [np.full((2, 3), n, dtype) + np.arange(3, dtype=dtype) for n in range(3)]
    for rank in range(3):
        others = [part for n, part in enumerate(rows) if n != rank]
        request, whole = job(World(rank, 3, others)).begin_gather(rows[rank])
        request.Wait()
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole, np.concatenate(rows))
    total = rows[0].copy()
    job(World(0, 3, rows[1:])).begin_sum(total).Wait()
    np.testing.assert_array_equal(total, sum(rows))


class Unsendable(ValueError):
    def __init__(self, one: int, two: int):
        super().__init__(f"{one} and {two}")


def fail(error: Exception) -> Any:
    raise error


def test_what_rank_0_alone_does():
    world = World(0)
    assert job(world).first(lambda: {"a": 1}) == {"a": 1} and world.said == [({"a": 1}, None)]
    calls: list[int] = []
    assert job(World(1, 2, ("its", None))).first(lambda: calls.append(1)) == "its" and not calls
    assert job(World(1, 2, (None, None))).first(lambda: 3) is None


@pytest.mark.parametrize("error", [DataError("no such file"), KeyError("a"), Unsendable(1, 2)])
def test_what_rank_0_raises_is_raised_everywhere(error):
    world = World(0)
    with pytest.raises(type(error)) as caught:
        job(world).first(lambda: fail(error))
    assert caught.value is error and len(world.said) == 1  # the others do not wait for ever
    nothing, sent = world.said[0]
    assert nothing is None
    expected = RanksError if isinstance(error, Unsendable) else type(error)
    with pytest.raises(expected, match="1 and 2" if expected is RanksError else None) as caught:
        job(World(1, 2, (None, sent))).first(lambda: 3)
    assert str(error) in str(caught.value)


def words(text: str) -> bytes:
    return (text.encode() + b"\1").ljust(TEXT, b"\0")


def test_one_failure_of_all_and_several():
    same = job(World(0, 3, [words("full"), words("full")]))
    assert same.failures("full") == (["full"], True)
    other = [words("full"), words("the \u00e4 cable")]
    assert job(World(0, 3, other)).failures("full") == (
        ["rank 0: full", "rank 1: full", "rank 2: the \u00e4 cable"], True
    )  # fmt: skip
    assert job(World(2, 3, other)).failures("full") == ([], True)  # rank 0 speaks for all
    long = "x" * (TEXT - 2) + "\u00e4" * TEXT  # of the last one that fits, half
    cut = long.encode()[: TEXT - 1] + b"\1"
    assert job(World(0, 2, [cut])).failures(long) == (["x" * (TEXT - 2) + "\ufffd"], True)


def test_a_failure_of_one_is_told_by_it(monkeypatch):
    clock = iter(np.arange(0, 100, 0.5))
    monkeypatch.setattr(ranks.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(ranks.time, "sleep", lambda seconds: None)
    world = World(1, 2, [words("")])
    world.ready = False
    of = job(world)
    assert of.failures("full") == ([f"rank 1 on {of.host}: full"], False)
    assert ranks.PATIENCE < next(clock) - 0.5 <= ranks.PATIENCE + 1
    answers = iter([False, False, True])  # the others fail a little later
    monkeypatch.setattr(of.ends, "_request", lambda: SimpleNamespace(Test=lambda: next(answers)))
    assert of.failures("full") == ([], True) and not [*answers]


VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_RANK")


@pytest.mark.parametrize(
    "environment, size, said",
    [
        ({}, 1, None),
        ({"PMI_SIZE": "1"}, 1, None),
        ({"PMI_SIZE": "3"}, 3, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, 2, 2),
        ({"PMIX_RANK": "0"}, 2, 2),
        ({"PMIX_RANK": "0"}, 1, None),
        ({"PMI_SIZE": "4"}, 1, "expected 4 ranks, as the launcher says, got 1: mpi4py uses MPI 9,"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 1, "expected 4 ranks"),
        ({"PMI_SIZE": "2"}, None, "expected mpi4py, to join its processes"),
        ({}, None, None),
    ],
)
def test_which_job_a_process_belongs_to(environment, size, said, monkeypatch):
    """size: of the world that mpi4py joins; None where it is not installed."""

    def load(name: str) -> Any:
        assert name == "mpi4py.MPI"
        if size is None:
            raise ImportError("no mpi4py")
        return SimpleNamespace(
            COMM_WORLD=World(0, size), COMM_TYPE_SHARED="shared memory",
            Get_library_version=lambda: "MPI 9\nof today\0",
        )  # fmt: skip

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks.importlib, "import_module", load)
    start = ranks.start.__wrapped__
    if isinstance(said, str):
        with pytest.raises(RanksError, match=said):
            start()
    else:
        found = start()
        assert (found is ALONE) if said is None else (type(found), found.size) == (MpiRanks, said)
