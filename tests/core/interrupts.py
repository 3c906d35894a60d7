"""Interrupts at every place where Python can deliver one, one after another.

Python runs the handler of a signal where it enters a function, after a call, and at the end of a
loop's turn. `at_every_place` raises KeyboardInterrupt at the first such place in some files, then
at the second, and so on, until the work ends undisturbed. coverage.py does not see what is traced
here: who wants it to know (tests/mutation/reach.py asks it) runs the work once before.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

OPEN = ("CALL", "RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE")  # instructions behind which it may come


def at_every_place(work: Callable[[], object], files: set[str], check: Callable[[], object]) -> int:
    """Run `work` again and again, and `check` after each interrupt: how many there were."""
    places = 0
    while _interrupted(work, files, places):
        places += 1
        check()
    return places


def _interrupted(work: Callable[[], object], files: set[str], place: int) -> bool:
    left, before = [place], {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            code = frame.f_code.co_code
            if before.get(frame, "").startswith(OPEN):
                if left[0] == 0:
                    left[0] = -1
                    raise KeyboardInterrupt
                left[0] -= 1
            before[frame] = dis.opname[code[frame.f_lasti]]
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(previous)
        before.clear()
    return False
