"""Whether operations are being recorded on the tape: for each thread, switched off by `no_grad`."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator
from typing import Any


class _Recording(threading.local):
    paused = 0  # how many no_grad this thread is in


this_thread = _Recording()


def is_grad_enabled() -> bool:
    """Whether operations are being recorded on this thread."""
    return not this_thread.paused


class no_grad:
    """Within it, or in a function or generator decorated with it, operations of this thread are not
    recorded: quicker, and nothing is saved.
    """

    def __enter__(self) -> None:
        this_thread.paused += 1

    def __exit__(self, *exception: object) -> None:
        this_thread.paused -= 1

    def __call__(self, function: Callable) -> Callable:
        """`function`, decorated. TypeError for an async one: others run while it waits."""
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"no_grad: expected a function or a generator to decorate, got the async "
                f"{function.__name__}; write `with no_grad():` in it, between two awaits"
            )
        if inspect.isgeneratorfunction(function):
            return functools.wraps(function)(self._steps(function))

        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            with self:
                return function(*args, **options)

        return call

    def _steps(self, function: Callable[..., Generator]) -> Callable[..., Generator]:
        """Not recorded while it runs, recorded while its caller does."""

        def generator(*args: Any, **options: Any) -> Generator:
            run = function(*args, **options)
            step: Callable = run.send
            sent: Any = None
            while True:
                try:
                    with self:
                        value = step(sent)
                except StopIteration as stop:
                    return stop.value
                try:
                    step, sent = run.send, (yield value)
                except GeneratorExit:
                    with self:
                        run.close()
                    raise
                except BaseException as error:
                    step, sent = run.throw, error

        return generator
