"""Leaving in good order when asked to: SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal has gone)."""

from __future__ import annotations

import signal
import threading
from typing import Any

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopSignals:
    """While entered, the first of STOPS only sets `received`; the loop saves and leaves.

    The second one finds the system's own handler again and so ends the process at once, even
    inside a long call into C. A signal that was ignored before (nohup ignores SIGHUP) stays so.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            for number in STOPS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        self.received = signal.Signals(number)
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
