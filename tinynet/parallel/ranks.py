"""Ranks: the processes of one job, as MPI numbers them. Alone, there is one, number 0.

    mpiexec -n 4 python examples/alexnet.py

mpiexec starts four processes and tells each its number in the environment. `start` finds that, and
joins them through mpi4py.
"""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinynet.errors import TinynetError

Value = TypeVar("Value")

# How launchers tell a process that it is one of several: MPICH and Slurm, Open MPI, PRRTE.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
JOINED = (*SIZES, "PMIX_RANK")
PATIENCE = 2.0  # seconds in which all ranks must fail, to be one failure
TEXT = 4096  # bytes of a failure's words that the others see


class RanksError(TinynetError, RuntimeError):
    """Ranks that cannot work together."""


class Ranks:
    """The ranks of a job of one process; MpiRanks are those of a job of several.

    rank: the number of this one. size: how many there are. host: where this one runs. local: its
    number among the `beside` ranks on the same host.
    """

    rank, size = 0, 1
    local, beside = 0, 1
    host = socket.gethostname()

    @property
    def name(self) -> str:
        """Rank and host, for messages."""
        return f"rank {self.rank} on {self.host}"

    def gather(self, value: Value) -> list[Value]:
        """The values that all ranks gave, in their order. All must call it."""
        return [value]

    def first(self, function: Callable[[], Value]) -> Value:
        """What the function gives on rank 0, which alone calls it; what it raises is raised on all.
        All must call it.
        """
        return function()

    def sum(self, array: Any) -> np.ndarray:
        """The sum of an array of the host over all ranks, added in the order of the ranks."""
        return np.asarray(array)

    def begin_sum(self, array: np.ndarray) -> Any:
        """Begin to replace an array of the host by its sum over all ranks: a request with `Test()`
        and `Wait()`. All must begin the same sums in the same order.
        """
        raise NotImplementedError("one rank has nothing to sum")

    def begin_gather(self, array: np.ndarray) -> tuple[Any, np.ndarray]:
        """Begin to gather arrays (rows, width) of one size from all ranks: a request, and the array
        (all rows, width) that is theirs when it is done.
        """
        raise NotImplementedError("one rank has nothing to gather")

    def failures(self, text: str) -> tuple[list[str], bool]:
        """What this rank has to say of its failure, `text`, and whether all ranks have failed now.
        If all have, rank 0 speaks for all.
        """
        return [text], True

    def abort(self, status: int) -> None:
        """End all ranks at once, if there are others."""


class MpiRanks(Ranks):
    """The ranks of a job that mpiexec started."""

    def __init__(self, mpi: Any):
        self.mpi, world = mpi, mpi.COMM_WORLD
        self.rank, self.size = world.rank, world.size
        near = world.Split_type(mpi.COMM_TYPE_SHARED)
        self.local, self.beside = near.rank, near.size
        # Apart from each other: what runs behind the program's back, and what is said at its end.
        self.words, self.sums, self.ends = world, world.Dup(), world.Dup()

    def gather(self, value: Value) -> list[Value]:
        return self.words.allgather(value)

    def first(self, function: Callable[[], Value]) -> Value:
        told: Any = None
        if self.rank == 0:
            try:
                told = function(), None
            except Exception as error:
                told = None, _sendable(error)
                self.words.bcast(told)
                raise
        found, failed = self.words.bcast(told)
        if failed is not None:
            raise failed
        return found

    def sum(self, array: Any) -> np.ndarray:
        return functools.reduce(np.add, self.gather(np.asarray(array)))

    def begin_sum(self, array: np.ndarray) -> Any:
        return self.sums.Iallreduce(self.mpi.IN_PLACE, array)

    def begin_gather(self, array: np.ndarray) -> tuple[Any, np.ndarray]:
        whole = np.empty((self.size * len(array), *array.shape[1:]), array.dtype)
        return self.sums.Iallgather(array, whole), whole

    def failures(self, text: str) -> tuple[list[str], bool]:
        mine, all_of_them = bytearray(TEXT), bytearray(TEXT * self.size)
        words = text.encode()[: TEXT - 1]
        mine[: len(words) + 1] = words + b"\1"
        request = self.ends.Iallgather(mine, all_of_them)
        end = time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > end:
                return [f"{self.name}: {text}"], False
            time.sleep(0.01)
        told = [all_of_them[i : i + TEXT] for i in range(0, len(all_of_them), TEXT)]
        texts = [each.partition(b"\1")[0].decode(errors="replace") for each in told]
        if len(set(texts)) > 1:
            texts = [f"rank {rank}: {each}" for rank, each in enumerate(texts)]
        return list(dict.fromkeys(texts)) if self.rank == 0 else [], True

    def abort(self, status: int) -> None:
        self.mpi.COMM_WORLD.Abort(status)


def _sendable(error: Exception) -> Exception:
    """The error, or one with its words where it cannot be sent to other ranks."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RanksError(f"rank 0: {error}")
    return error


ALONE = Ranks()


@functools.cache
def start() -> Ranks:
    """The ranks of the job that this process belongs to: ALONE unless a launcher says otherwise.

    Raises RanksError where mpi4py is missing, or is of another MPI than the launcher.
    """
    told = next((int(os.environ[name]) for name in SIZES if name in os.environ), None)
    if told == 1 or not any(name in os.environ for name in JOINED):
        return ALONE
    try:
        mpi = importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        raise RanksError(
            f"mpiexec: expected mpi4py, to join its processes ({error}); pip install "
            "mpi4py mpich, and start with the mpiexec that comes with it"
        ) from None
    if mpi.COMM_WORLD.size == 1 and told != 1 and (told or "OMPI_COMM_WORLD_SIZE" in os.environ):
        library = mpi.Get_library_version().partition("\n")[0].strip("\0")
        raise RanksError(
            f"mpiexec: expected {told} ranks, as the launcher says, got 1: mpi4py uses {library}, "
            "the launcher is of another MPI; take the mpiexec of that one"
        )
    return MpiRanks(mpi) if mpi.COMM_WORLD.size > 1 else ALONE
