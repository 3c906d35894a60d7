"""Stopping by a signal."""

from __future__ import annotations

import signal
import threading

from tinynet.training.signals import StopSignals


def test_signals_are_received_in_the_main_thread_alone():
    """A run in another thread trains all the same; its signals are the main thread's business."""
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with StopSignals() as stop:
            seen.append((stop.received, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_the_first_signal_is_noted_and_the_second_is_the_systems():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before
