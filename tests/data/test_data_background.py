"""What a thread makes in advance: in order, errors too, and closed with its user."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from tinynet.data.background import in_background


def test_items_come_in_order_and_an_error_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    seen = []
    with pytest.raises(ValueError, match="the sixth"):
        for item in in_background(items(), 2):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]


def test_the_source_is_closed_with_its_user() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    source = items()  # kept, so that nothing but a close ends it
    made = in_background(source, 1)
    assert next(made) == 0
    made.close()
    assert closed == [True] and next(source, None) is None


def test_a_program_ends_though_items_are_left() -> None:
    made = in_background((n for n in range(100)), 1)
    next(made)
    threads = [each for each in threading.enumerate() if each.name == "tinynet-background"]
    made.close()
    assert threads and all(thread.daemon for thread in threads)


def test_an_item_is_its_users_alone() -> None:
    """It is gone when the user lets go of it, also while the next one takes long."""
    slow = threading.Event()

    class Item:
        pass

    def items() -> Iterator[Item]:
        yield Item()
        slow.wait(60)
        yield Item()

    made = in_background(items(), 1)
    for _ in range(2):
        item = weakref.ref(next(made))
        for _ in range(1000):  # the thread may not have gone on yet
            if item() is None:
                break
            time.sleep(0.01)
        assert item() is None
        slow.set()
    assert next(made, None) is None
