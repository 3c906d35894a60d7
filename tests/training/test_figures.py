"""What a run writes down, says and saves, figure by figure, by a clock of our own."""

from __future__ import annotations

import numpy as np
import pytest
from told import Told, make, of_kind, set_clock, stop_at

from tinynet import nn
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import MultiStep
from tinynet.training import checkpoint as files
from tinynet.training import console, saving
from tinynet.training.saving import TrainingError


@pytest.fixture
def clock(monkeypatch):
    return set_clock(monkeypatch)


@pytest.mark.parametrize("stops", [(), (3,), (2, 5, 9)])
def test_a_line_is_the_mean_over_its_batches(stops, tmp_path, clock):
    """Also over an epoch's end, and over stops in the middle of a line."""
    for stop in stops:
        trainer = make(tmp_path, Told(), clock, log_every=3)
        if trainer.saver.folder.joinpath("metrics.jsonl").exists():
            trainer.resume()
        stop_at(trainer, stop)
    trainer = make(tmp_path, Told(), clock, log_every=3)
    if stops:
        trainer.resume()
    assert trainer.fit() == "done"
    values = np.array([0, 1, 2, 3, 4, 10, 11, 12, 13]).reshape(3, 3).mean(axis=1)
    lines = of_kind(tmp_path, "train")
    assert [line["step"] for line in lines] == [3, 6, 9]
    np.testing.assert_allclose([line["loss"] for line in lines], values + 0.5, rtol=1e-6)
    np.testing.assert_allclose([line["error"] for line in lines], values * 2, rtol=1e-6)
    np.testing.assert_allclose([line["epoch"] for line in lines], [0.6, 1.2, 1.8])
    assert all(line["lr"] == 0.5 for line in lines)


def test_rates_are_of_training_alone(tmp_path, clock):
    """Four rows in ten seconds; tests and what came before a resume do not count."""
    stop_at(make(tmp_path, Told(), clock), 3)
    clock.now += 1e6  # the night
    again = make(tmp_path, Told(), clock)
    again.resume()
    again.fit()
    assert [line["images_per_second"] for line in of_kind(tmp_path, "train")] == [0.4] * 5
    seconds = [line["seconds"]["testing"] for line in of_kind(tmp_path, "test")]
    assert seconds == [100.0, 200.0]


def test_the_best_is_the_first_of_the_lowest(tmp_path, clock, capsys):
    """Not the last, not the lowest loss, not an equal one; its file lies beside, keep=1 or not."""
    errors = [30.0, 20.0, 20.0, 40.0, 20.0, 10.0, 15.0]
    bests = [1, 2, 2, 2, 2, 6, 6]
    for epochs in range(1, 8):
        trainer = make(tmp_path, Told(errors[epochs - 1 :]), clock, epochs=epochs, keep=1)
        if epochs > 1:
            trainer.resume()
        trainer.fit()
        best = {"error": errors[bests[epochs - 1] - 1], "size": 0.25}
        assert trainer.best == {**best, "epoch": bests[epochs - 1], "step": 5 * bests[epochs - 1]}
        state = files.load(tmp_path / files.BEST).state
        assert state["step"] == 5 * bests[epochs - 1] and state["best"]["step"] == state["step"]
        assert [p.name for p in files.all_in(tmp_path)] == [f"step-{5 * epochs:08d}.safetensors"]
    said = [line for line in capsys.readouterr().out.splitlines() if "test loss" in line]
    assert ["best so far" in line for line in said] == [epoch in (1, 2, 6) for epoch in range(1, 8)]
    assert said[3] == "epoch 4/4: test loss 60.0000, error 40.0 %, size 0.250 m, lr 0.5"


def test_a_best_whose_second_name_a_kill_took(tmp_path, clock):
    make(tmp_path, Told([30.0]), clock, epochs=1).fit()
    (tmp_path / files.BEST).unlink()
    make(tmp_path, Told(), clock, epochs=2).resume()
    assert files.load(tmp_path / files.BEST).state["step"] == 5


def test_a_resume_that_is_not_the_best_leaves_the_best_alone(tmp_path, clock):
    make(tmp_path, Told([30.0, 60.0]), clock).fit()
    again = make(tmp_path, Told(), clock, epochs=3)
    again.resume()
    assert files.load(tmp_path / files.BEST).state["step"] == 5


def steps_saved(folder):
    return sorted(files.load(path).state["step"] for path in files.all_in(folder))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(checkpoint_minutes=None), [0, 5, 10]),
        (dict(checkpoint_batches=3, checkpoint_minutes=None), [0, 3, 5, 6, 9, 10]),
        (dict(checkpoint_minutes=0.5), [0, 4, 5, 9, 10]),  # more than 30 s after the last one
        (dict(checkpoint_minutes=0.495), [0, 3, 5, 8, 10]),  # 29.7 s
        (dict(checkpoint_minutes=9.0), [0, 5, 10]),
    ],
)
def test_when_it_saves(options, expected, tmp_path, clock):
    make(tmp_path, Told(), clock, keep=99, **options).fit()
    assert steps_saved(tmp_path) == expected


@pytest.mark.parametrize(("minutes", "step"), [(2.75, 7), (2.65, 6), (2.5, 6)])
def test_minutes_are_minutes(minutes, step, tmp_path, clock):
    """Seven batches and a test are 170 s, more than 2.75 minutes; six, 160 s, are less and more
    than 2.65. Five, 150 s, are not yet more than 2.5.
    """
    trainer = make(tmp_path, Told(), clock, max_minutes=minutes)
    assert trainer.fit() == "time"
    assert trainer.step == step and steps_saved(tmp_path)[-1] == step


def test_a_stop_in_a_test_is_no_test(tmp_path, clock):
    trainer = make(tmp_path, Told([1.0]), clock)
    trainer.task.test = lambda model, batches: (
        setattr(clock, "now", clock.now + 1e9) or {"error": 0}
    )
    trainer.max_minutes = 1e6
    assert trainer.fit() == "time"
    assert trainer.best["step"] == -1 and not of_kind(tmp_path, "test")
    assert (trainer.epoch, trainer.batch) == (0, 5)


def test_modes_and_epochs(tmp_path):
    """Training in train mode, tests in eval mode, each epoch its own batches, loaders closed."""
    task = Told()
    trainer = make(tmp_path, task)
    trainer.fit()
    assert task.modes == ([True] * 5 + [False]) * 2
    assert task.seen == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert trainer.train.open == trainer.test.open == 0


def test_gradients_do_not_pile_up(tmp_path):
    """d loss / d w is the mean of the rows, in each batch that batch's alone."""

    class Sum(Told):
        def loss(self, model, x):
            return model(x).mean(), [np.float32(0)]

    trainer = make(tmp_path, Sum(), lr=1.0, epochs=1)
    before = trainer.model.weight.numpy()
    trainer.fit()
    np.testing.assert_allclose(
        trainer.model.weight.numpy(), before - (0 + 1 + 2 + 3 + 4), rtol=1e-5
    )


def test_stuck_is_counted_in_batches_over_stops_and_told_once(tmp_path, capsys):
    """Eight batches at the loss of chance, in spite of a stop after five; then silence."""
    options = dict(stuck_after=8, advice="Go on.", log_every=2, epochs=4)
    stop_at(make(tmp_path, Told(chance=2.0, loss=2.01), **options), 5)
    assert "warning" not in capsys.readouterr().out
    again = make(tmp_path, Told(chance=2.0, loss=1.985), **options)
    again.resume()
    assert again._stuck == 4
    again.fit()
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [
        "warning: for 8 batches the loss has been 2.00, that of a net that says the same of all "
        "rows. Go on."
    ]


@pytest.mark.parametrize("loss", [1.88, 2.12, 0.5])
def test_a_loss_beside_chance_is_not_stuck(loss, tmp_path, capsys):
    make(tmp_path, Told(chance=2.0, loss=loss), stuck_after=2).fit()
    assert "warning" not in capsys.readouterr().out


def test_a_batch_that_is_learnt_begins_the_count_again(tmp_path, capsys):
    task = Told(chance=2.0, loss=2.0)
    trainer = make(tmp_path, task, stuck_after=8, epochs=3)
    step = trainer._train_step

    def other(batch):
        task.told = 1.0 if trainer.step in (6, 7) else 2.0
        step(batch)

    trainer._train_step = other
    trainer.fit()
    assert "warning" not in capsys.readouterr().out
    assert trainer._stuck == 6


# ---- where a NaN began


class Bomb(nn.Module):
    """Values become infinite at one batch, in train mode only."""

    def __init__(self, mark):
        self.first, self.mark = nn.Linear(2, 1), mark

    def forward(self, x):
        y = self.first(x)
        return y * float("inf") if self.training and x.data[0, 0] == self.mark else y


class Outer(nn.Module):
    def __init__(self, mark):
        self.bomb, self.last = Bomb(mark), nn.Linear(1, 1)

    def forward(self, x):
        return self.last(self.bomb(x))


class Mean(Told):
    def loss(self, model, x):
        y = model(x)
        return (y * y).mean(), [np.float32(0)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("mark", "every", "place"),
    [
        (13.0, None, "epoch 2, batch 4"),
        (13.0, 7, "epoch 2, batch 4"),  # from a checkpoint inside the epoch
        (10.0, 3, "epoch 2, batch 1"),
        (4.0, 3, "epoch 1, batch 5"),  # the epoch's last
    ],
)
def test_a_replay_names_the_epoch_the_batch_and_the_first_layer(
    mark, every, place, tmp_path, clock
):
    trainer = make(
        tmp_path, Mean(), clock, model=Outer(mark), lr=1e-4, log_every=1,
        checkpoint_batches=every, checkpoint_minutes=None,
    )  # fmt: skip
    with pytest.raises(TrainingError, match=f"first in the output of bomb, {place};") as error:
        trainer.fit()
    assert str(trainer.saver.last) in str(error.value)
    way_back = (
        f"; if not, move step-*.safetensors out of {tmp_path}, to go on from best.safetensors"
    )
    # where the last one is not the best itself
    assert (f"{way_back} (epoch 1)" in str(error.value)) == (every == 7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_every_value_that_is_not_finite_ends_the_run(value, tmp_path):
    trainer = make(tmp_path, Told(loss=value), log_every=2)
    with pytest.raises(TrainingError, match="the loss is NaN or infinite: first in the loss"):
        trainer.fit()
    weights = make(tmp_path / "x", Told())
    weights.model.weight.data[0, 1] = value
    with pytest.raises(TrainingError, match="weight holds NaN or infinite values"):
        weights.fit()


def test_a_write_that_fails_is_not_the_last_good_one(tmp_path, monkeypatch):
    trainer = make(tmp_path, Told())
    stop_at(trainer, 2)
    good = trainer.saver.last
    again = make(tmp_path, Told(), checkpoint_batches=4)
    again.resume()
    assert again.saver.last == good

    def full(path, checkpoint):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.files, "save", full)
    again.saver.keep = 1
    with pytest.raises(TrainingError, match=f"last good checkpoint is {good}"):
        again.fit()
    assert good in files.all_in(tmp_path)  # the old ones go when the new one is there


# ---- what is printed


class Bar:
    """Stands for tqdm's bar, and remembers."""

    made: list = []
    disable = False  # it is shown

    def __init__(self, **options):
        self.options, self.count, self.said = options, options["initial"], []
        Bar.made.append(self)

    def update(self, count):
        self.count += count

    def set_description_str(self, text):
        self.said.append(text)

    def set_postfix_str(self, text):
        self.said.append(text)

    @staticmethod
    def write(text):
        Bar.made[-1].said.append(text)

    def close(self):
        self.said.append("closed")


def test_the_bar(tmp_path, clock, monkeypatch):
    """Examples of the whole run, where it stands, epochs from 1 on, means as of now."""
    monkeypatch.setattr(console, "tqdm", Bar)
    stop_at(make(tmp_path, Told([30.0]), clock, epochs=1), 3)
    again = make(tmp_path, Told([30.0]), clock, epochs=1)
    again.resume()
    again.fit()
    bar = Bar.made[-1]
    assert bar.options["total"] == 20 and bar.options["initial"] == 12 and bar.count == 20
    shown = [text for text in bar.said if "|w|" not in text]
    assert shown == [
        "epoch 1/1",
        "loss 3.000, error 5.0 %",  # batches 3 and 4: a line
        "loss 4.500, error 8.0 %",
        "testing 1/1",
        "epoch 1/1: test loss 70.0000, error 30.0 %, size 0.250 m, lr 0.5 (best so far)",
        "closed",
    ]


def test_health_is_of_named_groups_or_of_parameters(tmp_path, monkeypatch):
    monkeypatch.setattr(console, "tqdm", Bar)
    model = nn.Linear(2, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    trainer = make(tmp_path, Told(), model=model, epochs=1)
    trainer.optimizer = trainer.saver.optimizer = SGD(groups, 0.5)
    trainer.schedule = trainer.saver.schedule = type(trainer.schedule)(trainer.optimizer)
    model.weight.data[...] = [[0.5, -0.25]]
    model.bias.data[...] = [-4.0]
    assert trainer.health() == {"weight": (0.375, 0.0), "bias": (4.0, 0.0)}
    trainer.optimizer.param_groups[0]["name"] = "whole"
    trainer.optimizer.param_groups[0]["params"].append(model.bias)
    assert trainer.health()["whole"] == (4.75 / 3, 0.0)  # of all values, not of the means
    trainer.optimizer.param_groups[0]["params"].pop()
    trainer._console = console.Console(trainer.task, 1, 1, 0)
    trainer._console.health({"a.weight": (0.5, 0.25), "a.bias": (9.0, 9.0), "b": (2.0, 1.0)})
    assert Bar.made[-1].said == ["  mean |w|, |step|: a 5.0e-01 2.5e-01  b 2.0e+00 1.0e+00"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_replay_after_a_test_is_one_of_training(tmp_path, clock):
    """Nobody reads the loss of the epoch's last batch: the checkpoint after the test is refused."""
    trainer = make(tmp_path, Mean(), model=nn.Sequential(Outer(4.0)), lr=1e-4, log_every=99)
    with pytest.raises(
        TrainingError, match="first in the output of layers.0.bomb, epoch 1, batch 5;"
    ):
        trainer.fit()


def test_a_replay_ends_with_the_batches_that_were_trained(tmp_path, clock):
    """A batch beyond --limit-batches is none of them."""
    trainer = make(tmp_path, Mean(), model=Outer(3.0), lr=1e-4, log_every=99, limit_batches=3)
    test = trainer.task.test

    def spoil(model, batches):
        model.last.weight.data[...] = np.nan
        return test(model, batches)

    trainer.task.test = spoil
    with pytest.raises(TrainingError, match="though not when replayed, epoch 1, batch 3;"):
        trainer.fit()


def test_every_batch_has_the_rate_of_its_moment(tmp_path, clock):
    """The first batch of an epoch has the new epoch's, and so have the checkpoints between."""
    rates = []
    trainer = make(tmp_path, Told(), clock, epochs=3, keep=99, checkpoint_batches=1)
    trainer.schedule = trainer.saver.schedule = MultiStep(trainer.optimizer, [1, 2.2], 0.5)
    step = trainer._train_step
    trainer._train_step = lambda batch: (rates.append(trainer.optimizer.lr), step(batch))
    trainer.fit()
    assert rates == [0.5] * 5 + [0.25] * 6 + [0.125] * 4
    saved = [files.load(path).state["lr"] for path in files.all_in(tmp_path)[::-1]]
    assert saved == [*rates, 0.125]  # each checkpoint has the next batch's
