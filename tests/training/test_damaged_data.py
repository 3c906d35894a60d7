"""Examples that cannot be read: named with what to do, or passed over and counted."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_trainer, pictures

from tinynet.data import Loader
from tinynet.errors import DataError
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_metrics
from tinynet.training.saving import TrainingError
from tinynet.training.trainer import LINES


class Damaged:
    """A data set some of whose pictures cannot be read."""

    def __init__(self, dataset, *places):
        self.dataset, self.places = dataset, places

    def __getattr__(self, name):
        if name.startswith("__") or name in ("dataset", "places"):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self):
        return len(self.dataset)

    def picture(self, i):
        if i in self.places:
            raise (DataError if i % 2 else OSError)(f"shard.tar: picture {i} is damaged")
        return self.dataset.picture(i)


def trainer_of(folder, train=(), test=(), workers=0, **options):
    trainer = make_trainer(folder, **options)
    skip = bool(options.get("skip_damaged"))
    trainer.train = Loader(
        Damaged(pictures(), *train), 16, crop=8, train=True, seed=3, flip=False, workers=workers,
        skip_damaged=skip,
    )  # fmt: skip
    trainer.test = Loader(
        Damaged(pictures(40, seed=6), *test), 16, crop=8, train=False, skip_damaged=skip
    )
    return trainer


def weights(trainer):
    return {name: array.tobytes() for name, array in trainer.model.state_dict().items()}


@pytest.mark.parametrize("place", [7, 8])
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_unreadable_picture_is_named_with_the_last_good_checkpoint(split, place, tmp_path):
    trainer = trainer_of(tmp_path, **{split: (place,)}, checkpoint_batches=1)
    with pytest.raises(TrainingError) as error:
        trainer.fit()
    assert isinstance(error.value.__cause__, DataError)
    assert f"shard.tar: picture {place} is damaged" in str(error.value)
    assert f"last good checkpoint is {trainer.saver.last}" in str(error.value)
    assert trainer.saver.last.exists()
    whole = make_trainer(tmp_path)  # repaired
    whole.resume()
    whole.fit()
    quiet = make_trainer(tmp_path / "quiet")
    quiet.fit()
    assert weights(whole) == weights(quiet)


def test_damaged_pictures_are_passed_over_counted_and_told_once(tmp_path, capsys):
    trainer = trainer_of(tmp_path, (7, 8, 50), (3,), skip_damaged=4)
    trainer.fit()
    said = capsys.readouterr().out
    assert said.count("left out: ") == 4 and said.count("picture 50 is damaged") == 1
    lines = read_metrics(tmp_path)
    counts = [line.get("damaged", 0) for line in lines]
    assert counts == sorted(counts) and counts[-1] == 4
    assert trainer.task._found.count == 39
    found = files.newest_whole(tmp_path)[1].state["damaged"]
    assert sorted(found["train"]) == [7, 8, 50] and found["test"] == [3]


def test_what_is_left_out_is_told_before_a_test_fails(tmp_path, capsys, monkeypatch):
    trainer = trainer_of(tmp_path, (), (3,), skip_damaged=4)

    def fails(model, batches):
        next(batches)
        raise ZeroDivisionError

    monkeypatch.setattr(trainer.task, "test", fails)
    with pytest.raises(ZeroDivisionError):
        trainer.fit()
    assert "left out: shard.tar: picture 3 is damaged" in capsys.readouterr().out


def test_one_more_than_allowed_ends_the_run(tmp_path):
    with pytest.raises(TrainingError, match="at most 2 that cannot be read, this is number 3"):
        trainer_of(tmp_path, (7, 8, 50), skip_damaged=2).fit()


def test_the_number_of_workers_changes_nothing(tmp_path):
    found = []
    for workers in (0, 2):
        trainer = trainer_of(tmp_path / str(workers), (7, 8), workers=workers, skip_damaged=2)
        with trainer.train:
            trainer.fit()
        found.append(weights(trainer))
    assert found[0] == found[1]


def test_a_resumed_run_counts_on(tmp_path):
    trainer_of(tmp_path, (7, 8), skip_damaged=2, epochs=1).fit()
    resumed = trainer_of(tmp_path, (7, 8, 9), skip_damaged=2)
    resumed.resume()
    with pytest.raises(TrainingError, match="picture 9 is damaged.*this is number 3"):
        resumed.fit()


def test_a_batch_of_nothing(tmp_path):
    with pytest.raises(TrainingError, match="no other picture of its batch can be read"):
        trainer_of(tmp_path, range(96), skip_damaged=999).fit()
    with pytest.raises(TrainingError, match="no other picture of its batch can be read"):
        trainer_of(tmp_path, (), range(40), skip_damaged=999, epochs=1).fit()
    trainer = trainer_of(tmp_path / "part", (), range(7), skip_damaged=999, epochs=1)
    trainer.fit()
    assert trainer.task._found.count == 33


def test_a_batch_without_its_damaged_rows():
    (batch,) = Loader(
        Damaged(pictures(10), 4, 7), 10, crop=8, train=False, skip_damaged=True
    ).epoch(0)
    assert batch.indices.tolist() == [0, 1, 2, 3, 5, 6, 8, 9]
    assert set(batch.damaged) == {4, 7} and len(batch.labels) == len(batch.top) == 8
    np.testing.assert_array_equal(batch.pictures[4], pictures(10).picture(5))


def test_a_limit_cuts_training_alone_and_a_small_set_has_a_curve(tmp_path):
    trainer = make_trainer(tmp_path, epochs=2, limit_batches=2, log_every=None)
    trainer.fit()
    assert trainer.task._found.count == 40  # all test pictures
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 3, 4]
    for batches, expected in ((2, 1), (3 * LINES, 3), (10_000, 50)):
        trainer.batches = batches
        assert trainer.lines_every() == expected
