"""Rates that are changed when a run goes on, and schedules that are asked for another length."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_trainer

import tinynet
from tinynet import nn
from tinynet.optim import SGD, Adam
from tinynet.optim.lr_scheduler import Constant, Cosine, WarmUp
from tinynet.tensor import tensor
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_metrics
from tinynet.training.replay import first_nonfinite
from tinynet.training.saving import TrainingError, edit
from tinynet.training.task import Task


def with_schedule(make, folder, **options):
    trainer = make_trainer(folder, schedule=None, log_every=1, **options)
    trainer.schedule = trainer.saver.schedule = make(trainer.optimizer)
    return trainer


def rates(folder):
    return [line["lr"] for line in read_metrics(folder) if line["kind"] == "train"]


def test_a_rate_set_inside_an_epoch_is_the_rate_of_that_moment(tmp_path):
    """Not of the epoch's begin: the next batch's would jump."""
    one = with_schedule(lambda o: Cosine(o, 1), tmp_path, epochs=1, checkpoint_batches=3, keep=9)
    one.fit()
    for path in files.all_in(tmp_path)[:1]:
        path.unlink()
    again = with_schedule(lambda o: Cosine(o, 1), tmp_path, epochs=1)
    again.resume()
    assert again.batch == 3
    again.edit([("lr", "0.5")])  # in the middle, where the cosine is at a half
    again.fit()
    expected = [(1 + np.cos(np.pi * batch / 6)) / 2 for batch in (3, 4, 5)]
    np.testing.assert_allclose(rates(tmp_path)[3:], expected)


@pytest.mark.parametrize(
    "make",
    [lambda o, epochs: Cosine(o, epochs), lambda o, epochs: WarmUp(Cosine(o, epochs), 0.5)],
    ids=["cosine", "warm-up"],
)
def test_more_epochs_stretch_a_schedule_from_the_first_batch_on(make, tmp_path):
    """The cosine of one epoch has come down to 0; that of three is at 3/4 there."""
    with_schedule(lambda o: make(o, 1), tmp_path, epochs=1).fit()
    longer = with_schedule(lambda o: make(o, 3), tmp_path, epochs=3)
    longer.resume()
    longer.fit()
    assert rates(tmp_path)[6] == pytest.approx(0.05 * 0.75)


def test_fewer_epochs_than_there_were_are_refused(tmp_path):
    make_trainer(tmp_path, epochs=2).fit()
    with pytest.raises(ValueError, match="been through 2 epochs: expected at least as many, got 1"):
        make_trainer(tmp_path, epochs=1).resume()


def test_an_edit_is_saved_at_once(tmp_path):
    """A run killed before its next checkpoint goes on with it."""
    make_trainer(tmp_path, epochs=1).fit()
    again = make_trainer(tmp_path, epochs=2)
    again.resume()
    again.edit([("momentum", "0.25")])
    again._train_epoch = lambda: (_ for _ in ()).throw(KeyboardInterrupt)  # as a kill would
    with pytest.raises(KeyboardInterrupt):
        again.fit()
    third = make_trainer(tmp_path, epochs=2)
    third.resume()
    assert third.optimizer.param_groups[0]["momentum"] == 0.25


@pytest.mark.parametrize("rule", [SGD, Adam])
@pytest.mark.parametrize("name", ["name", "params", "betas", "nesterov", "speed"])
def test_only_numbers_can_be_set(rule, name):
    """The groups hold other things too, which a number would spoil."""
    optimizer = rule(nn.Linear(2, 2).parameters(), 0.1)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=f"{rule.__name__} has no {name}.*lr, .*weight_decay"):
        edit(optimizer, Constant(optimizer), 0, [(name, "1")])
    assert optimizer.param_groups == before


def test_a_number_that_the_rule_refuses_is_not_set():
    class Below(SGD):
        def check(self, group):
            super().check(group)
            self.not_negative("momentum", group["momentum"], below=1)

    optimizer = Below(nn.Linear(2, 2).parameters(), 0.1, momentum=0.5)
    with pytest.raises(ValueError, match="momentum"):
        edit(optimizer, Constant(optimizer), 0, [("momentum", "2")])
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_groups_without_names_cannot_be_frozen_by_name():
    optimizer = SGD(nn.Linear(2, 2).parameters(), 0.1)
    with pytest.raises(ValueError, match="freeze=fc: expected named groups"):
        edit(optimizer, Constant(optimizer), 0, [("freeze", "fc")])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_replay_has_the_rates_of_the_run(tmp_path):
    """A warm-up from next to nothing to far too much: with the first rate nothing happens."""
    trainer = with_schedule(
        lambda o: WarmUp(Constant(o), 1, start=1e-30), tmp_path, epochs=1, lr=1e25
    )
    with pytest.raises(TrainingError, match="first in "):
        trainer.fit()


class Squares(Task):
    """The mean square of what the net says."""

    device = tinynet.device("cpu")

    def loss(self, model, x):
        y = model(x)
        return (y * y).mean(), []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_running_variance_overflows_before_the_output():
    model = nn.Sequential(nn.BatchNorm1d(2))
    model[0].running_var.data[:] = np.inf
    x = tensor(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
    found = first_nonfinite(Squares(), model, SGD(model.parameters(), 0.1), (x,))
    assert found == "layers.0.running_var"
