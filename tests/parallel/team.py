"""Ranks as threads of one process, which take turns: whoever waits for the others lets them run.

What each process has for itself, its share and its random numbers, is exchanged with the turn.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet import random, sharing
from tinynet.parallel.ranks import Ranks


class Member(Ranks):
    """One of a team. told: (what was asked of all, its type and size), in order."""

    def __init__(self, team: Team, rank: int):
        self.team, self.rank, self.size = team, rank, team.size
        self.told: list[tuple] = []
        self.own: Any = None, random.get_state()  # share, random numbers, while others run

    def gather(self, value: Any) -> list[Any]:
        self.told.append(("gather",))
        return self.team.collect(self, self.team.give(self, "now", value))

    def sum(self, array: Any) -> np.ndarray:
        return np.asarray(sum(self.gather(np.asarray(array))))

    def first(self, function: Callable[[], Any]) -> Any:
        return self.gather(function() if self.rank == 0 else None)[0]

    def begin_sum(self, array: np.ndarray) -> Request:
        self.told.append(("sum", array.dtype, array.size))
        return Request(self, array, lambda parts: array.__setitem__(..., sum(parts)))

    def begin_gather(self, array: np.ndarray) -> tuple[Request, np.ndarray]:
        self.told.append(("rows", array.dtype, array.shape))
        whole = np.full((self.size * len(array), *array.shape[1:]), np.nan, array.dtype)

        def put(parts: list[np.ndarray]) -> None:
            whole[...] = np.concatenate(parts)

        return Request(self, array, put), whole


class Request:
    """Done when it is waited for, in whatever order. Until then nobody may write to the array."""

    def __init__(self, member: Member, array: np.ndarray, put: Callable[[list], None]):
        self.member, self.array, self.put = member, array, put
        self.begun, self.waited = array.copy(), False
        self.place = member.team.give(member, "later", self.begun)

    def Test(self) -> bool:
        return False

    def Wait(self) -> None:
        assert not self.waited and np.array_equal(self.array, self.begun, equal_nan=True)
        self.waited = True
        self.put(self.member.team.collect(self.member, self.place))


class Team:
    def __init__(self, size: int):
        self.size, self.turn = size, 0
        self.here = threading.Condition()
        self.slots: dict[tuple[str, int], dict[int, Any]] = {}
        self.counts: Counter[tuple[str, int]] = Counter()
        self.over = [False] * size
        self.failed: BaseException | None = None

    def run(self, life: Callable[[Member], Any]) -> list[Any]:
        """What life(member) gave, by rank. All begin with the same random numbers."""
        members = [Member(self, rank) for rank in range(self.size)]
        given: list[Any] = [None] * self.size

        def live(member: Member) -> None:
            try:
                self._take(member)
                given[member.rank] = life(member)
            except BaseException as error:
                self.failed = self.failed or error
            self.over[member.rank] = True
            self._pass_on(member)

        before = sharing.current(), random.get_state()
        threads = [threading.Thread(target=live, args=(member,)) for member in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sharing._current = before[0]
        random.set_state(before[1])
        if self.failed:
            raise self.failed
        assert len({tuple(member.told) for member in members}) == 1  # all asked for the same
        return given

    def give(self, member: Member, kind: str, value: Any) -> tuple[str, int]:
        """Where it lies: beside what the others gave as their n-th of this kind."""
        place = kind, self.counts[kind, member.rank]
        self.counts[kind, member.rank] += 1
        self.slots.setdefault(place, {})[member.rank] = value
        return place

    def collect(self, member: Member, place: tuple[str, int]) -> list[Any]:
        """What all gave there, in the order of ranks; the others run until they have."""
        while len(self.slots[place]) < self.size:
            assert not all(o for r, o in enumerate(self.over) if r != member.rank), "left alone"
            self._pass_on(member)
            self._take(member)
        return [self.slots[place][rank] for rank in range(self.size)]

    def _take(self, member: Member) -> None:
        with self.here:
            self.here.wait_for(lambda: self.turn == member.rank or self.failed, 60)
            if self.failed:
                raise RuntimeError("another rank failed")
        sharing._current, state = member.own
        random.set_state(state)

    def _pass_on(self, member: Member) -> None:
        member.own = sharing.current(), random.get_state()
        with self.here:
            others = [(member.rank + i) % self.size for i in range(1, self.size + 1)]
            self.turn = next((rank for rank in others if not self.over[rank]), -1)
            self.here.notify_all()
