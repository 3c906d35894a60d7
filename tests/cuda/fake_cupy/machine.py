"""The machine that is simulated: what a test may set, and what it may count."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from fake_cupy.order import Clock

if TYPE_CHECKING:
    from fake_cupy.memory import Block

GPU_BYTES = 1 << 34


class CUDARuntimeError(RuntimeError):
    pass


class FakeOutOfMemoryError(MemoryError):
    pass


class Machine:
    """What a test may set: how many GPUs there are, which reach each other, the driver; and what it
    may count.
    """

    def __init__(self) -> None:
        self.restart(0)

    def restart(self, gpus: int) -> None:
        """Another machine, on which nothing has run yet."""
        self.lock = threading.RLock()  # held by whatever touches clocks or memory
        self.gpus, self.driver, self.runtime = gpus, 13000, 13000
        self.compute_capability = "90"
        self.peers, self.peers_lie = True, False
        self.no_way: set[tuple[int, int]] = set()  # (source, target) that cannot copy directly
        self.pinned = 1 << 40  # bytes of pinned memory that the host gives
        self.cublas_memory = True  # whether cuBLAS finds room for its workspace
        self.memory = GPU_BYTES
        self.host_waits = 0  # how often the host waited for a device
        self.gone_in_use = 0  # pinned memory that was freed while a copy still used it
        self.peer_bytes: Counter = Counter()  # (source, target) -> bytes copied directly
        # (its stream's number, what that stream knew) of every direct copy on a stream of its own
        self.copies: list[tuple[int, Clock]] = []
        self.launches: Counter = Counter()
        # "add (8, 3, 5, 5)" -> how often an operand of that many elements was read against memory
        self.against_memory: Counter = Counter()
        self.large = 256
        self.used_names: set[str] = set()  # of CuPy's functions
        self.broken_library = ""  # what CuPy says when it compiles
        self.host = Clock()
        self.blocks: list[tuple[int, weakref.ref[Block]]] = []  # by address
        self.idle: dict[tuple, list] = {}
        self.held: Counter = Counter()
        self.used: Counter = Counter()
        self.allocator: Any = None
        self.local = threading.local()


machine = Machine()
