"""A loop's items, made in a thread while the loop is busy with those before."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator
from typing import Any, TypeVar

Item = TypeVar("Item")


def in_background(items: Generator[Item, None, None], ahead: int) -> Generator[Item, None, None]:
    """What `items` yields, computed in a thread that runs at most `ahead` items in advance. An
    error comes where its item would have come. `items` is closed at the end, or when this is.
    """
    ready: queue.Queue = queue.Queue(ahead)
    stop = threading.Event()

    def put(kind: str, what: Any = None) -> None:
        while not stop.is_set():
            try:
                return ready.put((kind, [what]), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    put("item", item)
                    del item  # or it would be held on to while the next one is made
                    if stop.is_set():
                        return
            put("end")
        except BaseException as error:  # handed on to whoever consumes the items
            put("error", error)

    thread = threading.Thread(target=work, name="tinynet-background", daemon=True)
    thread.start()
    try:
        while True:
            kind, held = ready.get()
            if kind == "error":
                raise held.pop()
            if kind == "end":
                return
            yield held.pop()  # and so not held on to while its user is busy with it
    finally:
        stop.set()
        thread.join()
