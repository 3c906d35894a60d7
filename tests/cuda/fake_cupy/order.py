"""What is certain to be over when: clocks of streams, and who used a piece of memory last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_cupy.streams import Stream


class Unordered(AssertionError):
    """Two streams touch the same memory, and nothing orders them."""


class Clock(dict):
    """stream -> how many of its operations are known to be done."""

    def join(self, other: dict) -> None:
        for stream, time in other.items():
            if time > self.get(stream, 0):
                self[stream] = time

    def knows(self, moment: tuple[int, int]) -> bool:
        return self.get(moment[0], 0) >= moment[1]


class History:
    """Who wrote a piece of memory last, and who has read it since."""

    def __init__(self) -> None:
        self.write, self.reads = (0, 0), {}

    def read_by(self, stream: Stream, what: str) -> None:
        if not stream.clock.knows(self.write):
            raise Unordered(
                f"{what} on {stream} reads what stream {self.write[0]} wrote; nothing makes it "
                f"wait for that"
            )
        self.reads[stream.number] = stream.clock[stream.number]

    def written_by(self, stream: Stream, what: str) -> None:
        for moment in [self.write, *self.reads.items()]:
            if not stream.clock.knows(moment):
                raise Unordered(
                    f"{what} on {stream} writes what stream {moment[0]} still uses; nothing makes "
                    f"it wait"
                )
        self.write, self.reads = (stream.number, stream.clock[stream.number]), {}
