"""Stopping by a signal."""

from __future__ import annotations

import signal
import threading

import pytest

from tinynet.training.signals import STOPS, StopSignals


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


@pytest.mark.parametrize("ignored", STOPS)
def test_what_was_ignored_stays_so_and_others_are_put_back(ignored):
    """Whether a signal came or not: nohup has ignored SIGHUP, and a terminal's end ends nothing."""

    def own(number, frame):
        raise AssertionError

    before = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN if number == ignored else own)
        given = [signal.getsignal(number) for number in STOPS]
        for received in (None, *STOPS):
            with StopSignals() as stop:
                assert signal.getsignal(ignored) == signal.SIG_IGN
                if received is not None:
                    signal.raise_signal(received)
                assert stop.received == (None if received == ignored else received)
                assert signal.getsignal(ignored) == signal.SIG_IGN
            assert [signal.getsignal(number) for number in STOPS] == given
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
