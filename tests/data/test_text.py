"""Text: the embedded one, what is no text, and the pieces that nets learn from."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

import tinynet.data.text as module
from tinynet.data import Masked, SequenceLoader, Vocabulary, Windows, read_text, shakespeare
from tinynet.data.sequences import NOWHERE
from tinynet.errors import DataError

TEXT = "".join(chr(97 + k % 26) for k in range(211))
LETTERS = Vocabulary(sorted(set(TEXT)))


def test_shakespeare_is_what_its_note_says():
    text = shakespeare()
    assert len(text) == 1_000_000 and len(set(text)) == 65 and text.startswith("First Citizen:")
    note = (Path(module.__file__).parent / "shakespeare" / "NOTE").read_text()
    assert hashlib.sha256(text.encode()).hexdigest() in note.split()


@pytest.mark.parametrize(
    "name, data, said",
    [
        ("a.txt", b"ab\xff", "byte 0xff at place 2"),
        ("a.gz", b"no gzip", "damaged"),
        ("a.gz", gzip.compress(b"a long text" * 99, mtime=0)[:-9], "damaged"),
        ("a.gz", gzip.compress(b"\xff", mtime=0), "another encoding"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, name, data, said):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=said) as error:
        read_text(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    with pytest.raises(DataError, match="none: expected a file of text, got nothing"):
        read_text(tmp_path / "none")
    with pytest.raises(DataError, match="expected a file of text, got a folder"):
        read_text(tmp_path)


def test_windows_say_what_comes_next():
    data = Windows(TEXT, LETTERS, 10)
    assert len(data) == 21
    seen, targets = data.batch(np.arange(21), None)
    assert "".join(LETTERS.decode(seen.ravel())) == TEXT[:210]
    assert "".join(LETTERS.decode(targets.ravel())) == TEXT[1:211]
    begins = set()
    for epoch in range(40):
        loader = SequenceLoader(data, 7, train=True, seed=3)
        for batch in loader.epoch(epoch):
            assert all("".join(LETTERS.decode(row)) in TEXT for row in batch[0])
            np.testing.assert_array_equal((batch[0] + 1) % 26, batch[1])
            begins |= set(batch[0][:, 0].tolist())
    assert begins == set(range(26))
    with pytest.raises(DataError, match="at least 11 characters"):
        Windows("abc", LETTERS, 10)
    with pytest.raises(DataError, match="got '!'"):
        Windows("abc!" * 9, LETTERS, 10)


def test_a_random_place_is_inside_the_text():
    data = Windows(TEXT[:205], LETTERS, 10)
    highest = np.full((1, 1), 2**32 - 1, np.uint32)
    assert data.batch(np.array([19]), highest)[1][0, -1] == data.tokens[-1]
    assert data.batch(np.array([0]), highest)[0][0, 0] == data.tokens[9]


def test_an_epoch_begun_anywhere_is_the_same():
    loader = SequenceLoader(Masked(TEXT, LETTERS, 10), 4, train=True, seed=1)
    whole, part = list(loader.epoch(2)), list(loader.epoch(2, start=3))
    assert len(whole) == len(loader) == 5 and len(part) == 2
    for expected, got in zip(whole[3:], part, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_array_equal(a, b)
    other = next(loader.epoch(3))
    assert (other[0] != whole[0][0]).any()


def test_masked_shares():
    """Two of ten places are asked for; of these 80 % are hidden, 10 % show any character."""
    text = TEXT * 100
    data = Masked(text, LETTERS, 10)
    for train in (True, False):
        hidden = same = count = 0
        for seen, targets in SequenceLoader(data, 64, train=train).epoch(0):
            asked = targets != NOWHERE
            assert (asked.sum(axis=1) == 2).all()
            assert ((seen == targets) | (seen != 26))[~asked].all()
            hidden += (seen == 26)[asked].sum()
            same += (seen == targets)[asked].sum()
            count += asked.sum()
        assert 0.78 < hidden / count < 0.82
        assert 0.085 < same / count < 0.125  # 10 % shown, and 1 in 26 of those drawn
    small, large = (
        np.concatenate([b[1] for b in SequenceLoader(data, size, train=False).epoch(5)])
        for size in (7, 100)
    )
    np.testing.assert_array_equal(small, large)  # a test does not depend on its batches
