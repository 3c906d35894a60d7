"""Wrong calls that each function has of its own: the message names the argument, what was expected
and what came. What every operation must refuse: test_wrong_calls_of_all.py.
"""

from __future__ import annotations

import re

import pytest
import wrong_layers
import wrong_tensors
from wrong_layers import x4

import tinynet
import tinynet.functional as F
from tinynet.errors import TinynetError

CALLS = wrong_tensors.CALLS | wrong_layers.CALLS

CASES = [(name, number) for name, calls in CALLS.items() for number in range(len(calls))]


@pytest.mark.parametrize("name, number", CASES, ids=lambda v: str(v))
def test_a_wrong_call_says_what_is_wrong(name, number):
    call, exception, parts = CALLS[name][number]
    with pytest.raises(exception) as caught:
        call()
    text = str(caught.value)
    assert re.search(".*".join(re.escape(part) for part in parts), text, re.DOTALL), text
    assert "\n" not in text  # one line


def test_nothing_is_half_done_by_a_wrong_call():
    threads, state = tinynet.get_num_threads(), tinynet.random.get_state()
    for call in (
        lambda: tinynet.set_num_threads(0),
        lambda: tinynet.manual_seed(-1),
        lambda: F.dropout(x4, 2),
    ):
        with pytest.raises(ValueError):
            call()
    assert tinynet.get_num_threads() == threads and tinynet.random.get_state() == state


def test_the_family_of_errors():
    import builtins

    for error, base in [
        (tinynet.DeviceMismatchError, RuntimeError),
        (tinynet.DeviceUnavailableError, RuntimeError),
        (tinynet.OutOfMemoryError, MemoryError),
        (tinynet.DataError, ValueError),
        (tinynet.CheckpointError, ValueError),
        (tinynet.GradcheckError, AssertionError),
    ]:
        assert issubclass(error, TinynetError) and issubclass(error, base)
        assert not hasattr(builtins, error.__name__)
    assert all(hasattr(tinynet, name) for name in tinynet.__all__)


@pytest.mark.parametrize(
    "words, told",
    [
        ("é 中\n\x1b[31m\u202e", r"é 中\n\x1b[31m\u202e"), ("a" * 1000, "a" * 1000),
        ("a" * 1001, "a" * 1000 + " ..."), ("", ""),
    ],
)  # fmt: skip
def test_a_strangers_words_are_one_line_that_a_terminal_prints(words, told):
    assert str(tinynet.ModelFileError(words)) == told
