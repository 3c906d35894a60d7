"""Rates that are changed when a run goes on, and schedules that are asked for another length."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import Net, make_trainer

import tinynet
from tinynet import nn
from tinynet.optim import SGD, Adam, AdamW, RMSprop
from tinynet.optim.lr_scheduler import Constant, Cosine, WarmUp
from tinynet.parallel.ranks import Ranks
from tinynet.tensors import tensor
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_metrics
from tinynet.training.replay import first_nonfinite, replay
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
    with pytest.raises(
        ValueError, match="been through 2 epochs: expected at least as many, got 1; give"
    ):
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
    with pytest.raises(ValueError, match="freeze=fc: expected named groups, got none"):
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
    for weight in (1.0, 1e38):  # with the second, the outputs are finite and their squares are not
        model[0].weight.data[:] = weight
        found = first_nonfinite(Squares(), model, SGD(model.parameters(), 0.1), (x,))
        assert found == "layers.0.running_var"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_output_overflows_before_what_is_averaged_of_it():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].weight.data[:] = 3e38
    x = tensor(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
    found = first_nonfinite(Squares(), model, SGD(model.parameters(), 0.1), (x,))
    assert found == "the output of layers.0"
    assert not np.isfinite(model[1].running_mean.data).all()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("bad", [None, 0, 2])
def test_a_replay_says_which_rank_it_was(ranks, bad):
    """The first of those whose value is not finite; alone, nobody needs to be named."""

    class Several(Ranks):
        size = ranks

        def gather(self, value):
            others = [(value[0], f"rank {k} on b") for k in range(1, ranks)] if value else []
            return [None, *others] if value and ranks > 1 else [value] * ranks

    task, model = Squares(), nn.Linear(2, 1)
    task.steps = SimpleNamespace(
        ranks=Several(),
        share=lambda count, weight: contextlib.nullcontext(count),
        backward=task.steps.backward,
    )
    task.count, task.inputs = len, lambda batch: (tensor(batch),)
    batches = np.ones((4, 3, 2), np.float32)
    if bad is not None:
        batches[bad, 1, 0] = np.nan
    found = replay(task, model, SGD(model.parameters(), 0.01), batches)
    where = "the inputs" + " of rank 1 on b" * (ranks > 1)
    assert found == ((None, 3) if bad is None else (where, bad))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_parameter_that_nobody_used_is_no_place():
    """Nor is the whole net, whose output is the loss's own input."""

    class Half(nn.Module):
        def __init__(self):
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x) * self.by

    model, x = Half(), tensor(np.ones((3, 2), np.float32))
    for model.by, found in ((1.0, None), (float("inf"), "the loss")):
        assert first_nonfinite(Squares(), model, SGD(model.parameters(), 0.1), (x,)) == found


@pytest.mark.parametrize("bad", range(3))
def test_every_input_is_looked_at(bad):
    """The pictures of two devices, and what stands beside them."""
    given = [tensor(np.ones((2, 2), np.float32)) for _ in range(3)]
    task, model = Squares(), nn.Linear(2, 1)
    task.loss = lambda model, x, y: ((model(x[0]) + model(x[1]) * y.sum()).mean(), [])
    optimizer = SGD(model.parameters(), 0.1)
    assert first_nonfinite(task, model, optimizer, ((given[0], given[1]), given[2])) is None
    given[bad].data[1, 0] = np.inf
    found = first_nonfinite(task, model, optimizer, ((given[0], given[1]), given[2]))
    assert found == "the inputs"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_watched_module_is_called_as_it_is_and_gives_what_it_gives():
    """With keywords; several outputs, of which one is not finite; inner modules come first."""

    class Two(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(2, 2)

        def forward(self, x, *, by):
            y = self.inner(x)
            return [y, (y * by,)]

    class Outer(nn.Module):
        def __init__(self):
            self.two, self.last = Two(), nn.Linear(2, 1)

        def forward(self, x):
            y, (z,) = self.two(x, by=self.by)
            return self.last(y) + z.sum()

    model = Outer()
    x = tensor(np.ones((3, 2), np.float32))
    for model.by, found in ((1.0, None), (float("inf"), "the output of two")):
        assert first_nonfinite(Squares(), model, SGD(model.parameters(), 0.1), (x,)) == found
        assert not any("forward" in vars(module) for _, module in model.named_modules())


def grouped(**bias):
    """Two layers, biases without weight decay, as AlexNet has its groups."""
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [
        dict(name="fc6.weight", params=[a.weight], lr_scale=10.0),
        dict(name="fc6.bias", params=[a.bias], weight_decay=0.0, **bias),
        dict(name="fc7.weight", params=[b.weight]),
        dict(name="fc7.bias", params=[b.bias], weight_decay=0.0, **bias),
    ]
    return SGD(groups, 0.1, 0.9, 5e-4)


def change(optimizer, **edits):
    edit(optimizer, Constant(optimizer), 0, [(k.replace("__", "."), v) for k, v in edits.items()])
    return [optimizer.rate(group) for group in optimizer.param_groups]


def test_what_is_thawed_has_its_own_rate_again():
    optimizer = grouped(fixed_lr=0.02)
    assert change(optimizer) == [1.0, 0.02, 0.1, 0.02]
    assert change(optimizer, freeze="fc6") == [0, 0, 0.1, 0.02]
    assert change(optimizer, lr="0.01", thaw="fc") == pytest.approx([0.1, 0.02, 0.01, 0.02])


def test_the_rate_of_one_layer():
    """No schedule changes it, and a rate for all does not either; a frozen layer stays frozen."""
    optimizer = grouped()
    assert change(optimizer, fc6__lr="1e-5") == [1e-5, 1e-5, 0.1, 0.1]
    assert change(optimizer, fc7__bias__lr="0.5", lr="0.01") == [1e-5, 1e-5, 0.01, 0.5]
    assert change(optimizer, freeze="fc6", fc6__lr="0.3")[:2] == [0, 0]
    assert change(optimizer, thaw="fc6")[:2] == [0.3, 0.3]


def test_a_layer_is_named_by_its_beginning():
    """fc6 is fc6.weight and fc6.bias; what stands in the middle of a name is none."""
    optimizer = grouped()
    change(optimizer, freeze="fc6")
    assert [group["frozen"] for group in optimizer.param_groups] == [True, True, False, False]
    change(optimizer, freeze="fc7.b", thaw="fc6.weight")
    assert [group["frozen"] for group in optimizer.param_groups] == [False, True, False, True]
    for name in ("c6", "6.weight", "bias", "fc6.weight.all", "FC6"):
        with pytest.raises(
            ValueError, match=f"thaw={name}: expected the beginning of a name among"
        ):
            change(optimizer, thaw=name)


def test_every_change_is_asked_of_the_rule():
    """Of all rules and all numbers of theirs: what the constructor refuses no edit sets."""
    rules = SGD, Adam, AdamW, RMSprop
    tried = 0
    for rule in rules:
        numbers = rule(nn.Linear(2, 2).parameters(), 0.1).param_groups[0].items()
        for name in [k for k, v in numbers if type(v) is float and k != "lr_scale"]:
            for value in (0.5, 1.0, 3.0):
                optimizer = rule(nn.Linear(2, 2).parameters(), 0.1)
                before = dict(optimizer.param_groups[0])
                try:
                    rule(nn.Linear(2, 2).parameters(), 0.1, **{name: value})
                except ValueError:
                    with pytest.raises(ValueError, match=f"expected {name} to be"):
                        edit(optimizer, Constant(optimizer), 0, [(name, str(value))])
                    assert optimizer.param_groups[0] == before
                    tried += 1
                else:
                    edit(optimizer, Constant(optimizer), 0, [(name, str(value))])
                    assert optimizer.param_groups[0] == before | {name: value}
    assert tried  # RMSprop's alpha is below 1


def test_what_old_checkpoints_say_of_groups(tmp_path):
    """A scale of 0 froze a group, before one could be frozen: thawed, it learns at scale 1."""
    with_groups(tmp_path).fit()
    path, found, _ = files.newest_whole(tmp_path)
    for group, scale in zip(found.state["groups"], (0.0, 2.0), strict=True):
        del group["frozen"], group["fixed_lr"]
        group["lr_scale"] = scale
    files.save(path, found)
    again = with_groups(tmp_path)
    for group in again.optimizer.param_groups:
        group |= {"frozen": True, "fixed_lr": 7.0}  # of another run
    again.resume()
    groups = again.optimizer.param_groups
    assert [(g["lr_scale"], g["frozen"], g["fixed_lr"]) for g in groups] == [
        (1.0, True, None),
        (2.0, False, None),
    ]
    again.edit([("thaw", "conv")])
    assert [again.optimizer.rate(group) for group in groups] == [0.05, 0.1]


def test_groups_without_weight_decay_stay_without():
    optimizer = grouped()
    for value in ("0", "0.5"):
        change(optimizer, weight_decay=value)
        decays = [group["weight_decay"] for group in optimizer.param_groups]
        assert decays == [float(value), 0, float(value), 0]
    change(optimizer, fc7__weight_decay="0.1", fc6__momentum="0.2")
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0, 0.1, 0]
    assert [group["momentum"] for group in optimizer.param_groups] == [0.2, 0.2, 0.9, 0.9]
    with pytest.raises(ValueError, match="fc7.bias.weight_decay=1: .* got those made without"):
        change(optimizer, fc7__bias__weight_decay="1")


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("fc9.lr", "1", "fc9.lr=1: expected the beginning of a name among fc6.weight, fc6.bias"),
        *(
            (n, v, f"{n}={v}: expected a number of at least 0")
            for n in ("fc6.lr", "lr", "momentum")
            for v in ("x", "", "-1", "-1e-9", "nan", "inf", "-inf", "1,5")
        ),
        ("fc6.speed", "1", "SGD has no speed that is a number; it has lr, weight_decay, momentum"),
        ("lr_scale", "1", "SGD has no lr_scale"),  # it would give all layers one rate
        ("thaw", "conv", "thaw=conv: expected the beginning of a name"),
    ],
)
def test_one_wrong_edit_and_nothing_is_changed(name, value, message):
    optimizer = grouped()
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=message):
        edit(optimizer, Constant(optimizer), 0, [("lr", "5"), ("momentum", "0.1"), (name, value)])
    assert optimizer.param_groups == before and optimizer.lr == 0.1


def with_groups(folder, **options):
    trainer = make_trainer(folder, epochs=3, schedule=None, **options)
    model = trainer.model
    groups = [
        dict(name="conv", params=[model.conv.weight, model.conv.bias]),
        dict(name="fc", params=[model.fc.weight, model.fc.bias]),
    ]
    trainer.optimizer = trainer.saver.optimizer = SGD(groups, 0.05)
    trainer.schedule.optimizer = trainer.optimizer
    return trainer


STORY = [(1, "conv.lr", "1e-5"), (2, "freeze", "conv")]


def test_a_story_is_followed_and_a_frozen_layer_shows_no_step(tmp_path, capsys):
    trainer = with_groups(tmp_path)
    trainer.story = STORY
    trainer.fit()
    tests = [line["health"] for line in read_metrics(tmp_path) if line["kind"] == "test"]
    first, slowed, frozen = (health["conv"][1] for health in tests)
    assert 0 < slowed < first / 100 and frozen == 0
    assert all(health["fc"][1] > 0 for health in tests)
    said = capsys.readouterr().out
    assert said.count("as the recipe has it") == len(STORY)  # each once, at its epoch
    assert said.index("conv.lr=1e-5") < said.index("epoch 2/3") < said.index("freeze=conv")
    groups = files.newest_whole(tmp_path)[1].state["groups"]
    assert [group["frozen"] for group in groups] == [True, False]
    assert [group["fixed_lr"] for group in groups] == [1e-5, None]


@pytest.mark.parametrize("stop", [5, 6, 7, 12])  # batches; an epoch has 6
def test_a_story_goes_on_after_a_kill(stop, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        trainer = with_groups(folder, checkpoint_batches=1, keep=99)
        trainer.story = STORY
        trainer.fit()
    for path in files.all_in(cut):
        if int(path.stem.split("-")[1]) > stop:
            path.unlink()
    (cut / files.BEST).unlink()
    again = with_groups(cut)
    again.story = STORY
    again.resume()
    assert again.step == stop
    again.fit()
    ends = [files.newest_whole(folder)[1] for folder in (whole, cut)]
    assert ends[0].state["step"] == ends[1].state["step"] == 18
    assert ends[0].state["groups"] == ends[1].state["groups"]
    for name, array in ends[0].model.items():
        np.testing.assert_array_equal(array, ends[1].model[name])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_running_mean_that_is_not_finite_is_not_saved(value, tmp_path):
    class Normed(Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

    trainer = make_trainer(tmp_path, model=Normed)
    trainer.model.norm.running_mean.data[1] = value
    with pytest.raises(TrainingError, match="norm.running_mean holds NaN or infinite values"):
        trainer.fit()
    assert not files.all_in(tmp_path)


def test_a_mistake_in_a_story_is_found_at_the_start(tmp_path):
    with pytest.raises(ValueError, match="freeze=conv9"):
        make_trainer(tmp_path, story=[(99, "freeze", "conv9")])
