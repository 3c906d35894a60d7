"""Text: the embedded one, what is no text, and the pieces that nets learn from."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

import tinynet.data.text as module
from tinynet.data import Masked, Pairs, SequenceLoader, Vocabulary, Windows, read_text, shakespeare
from tinynet.data.loader import epoch_lanes, epoch_order
from tinynet.data.sequences import NOWHERE
from tinynet.errors import DataError

TEXT = "".join(chr(97 + k % 26) for k in range(211))
LETTERS = Vocabulary(sorted(set(TEXT)))


def test_shakespeare_is_what_its_note_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it lies beside the source, wherever the program runs
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
    with pytest.raises(DataError, match="here: expected .*, got '!'"):
        Windows("abc!" * 9, LETTERS, 10, "here")


def test_a_random_place_is_inside_the_text():
    data = Windows(TEXT[:205], LETTERS, 10)
    highest = np.full((1, 1), 2**32 - 1, np.uint32)
    assert data.batch(np.array([19]), highest)[1][0, -1] == data.tokens[-1]
    assert data.batch(np.array([0]), highest)[0][0, 0] == data.tokens[9]


def test_the_last_piece_has_a_next_token_too():
    assert [len(Windows(TEXT[:n], LETTERS, 10)) for n in (209, 210, 211)] == [20, 20, 21]
    _, targets = Windows(TEXT[:201], LETTERS, 10).batch(np.array([19]), None)
    assert LETTERS.decode(targets[0])[-1] == TEXT[200]


def test_every_batch_is_what_order_and_lanes_say():
    """Both of the seed and the epoch; the lanes of an example by its place in the data set."""
    data = Masked(TEXT, LETTERS, 10)
    for seed, epoch in ((3, 0), (3, 1), (4, 1)):
        order = epoch_order(seed, epoch, len(data))
        lanes = epoch_lanes(seed, epoch, len(data), data.lanes)
        batches = list(SequenceLoader(data, 8, train=True, seed=seed).epoch(epoch))
        assert len(batches) == 2  # an incomplete one is dropped
        for number, found in enumerate(batches):
            mine = order[8 * number : 8 * number + 8]
            for a, b in zip(found, data.batch(mine, lanes[mine]), strict=True):
                np.testing.assert_array_equal(a, b)
    tests = list(SequenceLoader(data, 8, train=False, seed=3).epoch(1))
    assert [len(batch[0]) for batch in tests] == [8, 8, 5]
    for found, expected in zip(zip(*tests, strict=True), data.batch(np.arange(21), None),
                               strict=True):  # fmt: skip
        np.testing.assert_array_equal(np.concatenate(found), expected)


def test_what_is_masked_is_what_the_lanes_say():
    data = Masked(TEXT, LETTERS, 10)
    lanes = epoch_lanes(5, 0, 21, data.lanes)
    seen, targets = data.batch(np.arange(21), lanes)
    for piece, (place, *drawn) in enumerate(lanes.tolist()):
        begin = min(10 * piece + (place * 10 >> 32), len(TEXT) - 10)
        rank, shows, other = drawn[:10], drawn[10:20], drawn[20:]
        asked = sorted(range(10), key=rank.__getitem__)[:2]
        for k, token in enumerate(data.tokens[begin : begin + 10]):
            share = shows[k] / 2**32
            shown = 26 if share < 0.8 else other[k] * 26 >> 32 if share < 0.9 else token
            assert targets[piece, k] == (token if k in asked else NOWHERE)
            assert seen[piece, k] == (shown if k in asked else token)


def test_pairs_begin_end_and_are_filled():
    one, other = Vocabulary([*module.SPECIAL, *"ab"]), Vocabulary([*module.SPECIAL, *"cde"])
    data = Pairs([(["a"], ["c", "d", "e"]), (["b", "a"], ["e"])], (one, other))
    words, said, targets = data.batch(np.array([1, 0]), None)
    pad, begin, end = range(3)
    assert words.tolist() == [[4, 3], [3, pad]]
    assert said.tolist() == [[begin, 5, pad, pad], [begin, 3, 4, 5]]
    assert targets.tolist() == [[5, end, NOWHERE, NOWHERE], [3, 4, 5, end]]


def test_at_least_one_token_of_a_piece_is_asked_for():
    seen, targets = Masked(TEXT, LETTERS, 2).batch(np.arange(50), None)
    assert ((targets != NOWHERE).sum(axis=1) == 1).all() and seen.shape == (50, 2)


def test_lines_of_other_systems_end_alike(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n")
    assert read_text(tmp_path / "a.txt") == "one\ntwo\n"


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
