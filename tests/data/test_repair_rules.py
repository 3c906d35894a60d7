"""Rules of repairing: the same bytes, and old ones never beside new ones that differ."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from small_tree import digests, larger_tree, made, picture
from test_data_prepare import InThread

from tinynet.data import prepare as preparing
from tinynet.data.imagenet import open_source
from tinynet.data.pictures import decode
from tinynet.data.repair import repair
from tinynet.data.shards import verify
from tinynet.errors import DataError


@pytest.fixture
def source(tmp_path, rng, monkeypatch) -> Path:
    """Shards are written by threads of this process."""
    monkeypatch.setattr("tinynet.data.prepare.Process", InThread)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    return larger_tree(tmp_path / "in", rng)


def test_shards_that_come_out_otherwise_are_all_written_again(
    tmp_path, source, monkeypatch, caplog
):
    """As where Pillow is another version: one of two shards differs, so no old one is mixed in."""
    out, convert = tmp_path / "out", preparing._convert
    made(source, out)
    before = digests(out)
    for name in ("train-000000.tar", "train-000002.tar"):
        (out / name).write_bytes(b"damaged")

    def otherwise(entry, options):
        content, skip, pixels, notes = convert(entry, options)
        if entry.name == "n02/4.jpg":  # in train-000002
            content = picture(7, (16, 16))
            pixels = decode(content, "x")
        return content, skip, pixels, notes

    monkeypatch.setattr(preparing, "_convert", otherwise)
    with caplog.at_level(logging.WARNING):
        found = repair(out, workers=1, progress=False)
    assert found == ["train-000000.tar", "train-000002.tar"]
    assert "shards come out otherwise than SHA256SUMS says" in caplog.text
    assert verify(out) == [] and not (out / "parts").exists()
    now = digests(out)
    assert now["train-000000.tar"] == before["train-000000.tar"]
    assert now["train-000002.tar"] != before["train-000002.tar"]
    assert now["train.npy"] != before["train.npy"]


def test_other_pictures_of_the_same_number_are_other_pictures(tmp_path, source, rng):
    out = tmp_path / "out"
    made(source, out)
    (out / "train-000001.tar").unlink()
    for path in ("train/n02/3.jpg", "val/n01/0.jpg"):
        whole = (source / path).read_bytes()
        (source / path).write_bytes(whole + b"x")
        with pytest.raises(DataError, match="expected the pictures that .* was prepared from, got"):
            repair(out, workers=1, progress=False)
        (source / path).write_bytes(whole)
    assert repair(out, workers=1, progress=False) == ["train-000001.tar"]


def test_everything_about_an_entry_is_in_the_fingerprint(source):
    """But not where its file lies."""
    found = open_source(source)
    prints = {found.fingerprint()}
    for entries in (found.train, found.val):
        for field, value in (("offset", 512), ("size", 3), ("name", "n01/x.jpg"), ("label", 2)):
            kept, entries[1] = entries[1], entries[1]._replace(**{field: value})
            prints.add(found.fingerprint())
            entries[1] = kept
        entries.append(entries[0])
        prints.add(found.fingerprint())
        del entries[-1]
        entries[0], entries[1] = entries[1], entries[0]
        prints.add(found.fingerprint())
        entries[0], entries[1] = entries[1], entries[0]
        entries[1] = entries[1]._replace(file="elsewhere")
    found.classes[0] = ("n01", "another name")
    prints.add(found.fingerprint())
    found.classes[0] = ("n01", "n01")
    assert len(prints) == 2 * 6 + 2 and found.fingerprint() in prints
