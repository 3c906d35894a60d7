"""Schedules of the learning rate: their rates, one set of calls, saving, rates set by hand."""

from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest

from tinynet import nn, optim
from tinynet.optim import lr_scheduler
from tinynet.optim.lr_scheduler import Constant, Cosine, DivideOnPlateau, MultiStep, WarmUp


def optimizer(lr):
    return optim.SGD([nn.Parameter(np.ones(1))], lr=lr)


def rates(schedule, epochs, errors=None):
    found = []
    for i, epoch in enumerate(epochs):
        schedule.step(epoch, {} if errors is None else {"loss": 1.0, "top1_error": errors[i]})
        found.append(schedule.optimizer.lr)
    return found


EVERY = {
    "Constant": Constant,
    "MultiStep": lambda opt: MultiStep(opt, [2, 4]),
    "Cosine": lambda opt: Cosine(opt, 10, min_lr=0.01),
    "DivideOnPlateau": lambda opt: DivideOnPlateau(opt, patience=0),
    "DivideOnPlateau, patient": lambda opt: DivideOnPlateau(opt, patience=1),
    "WarmUp": lambda opt: WarmUp(MultiStep(opt, [4, 6]), 3),
    "WarmUp, plateau": lambda opt: WarmUp(DivideOnPlateau(opt, patience=0), 3),
    "WarmUp, patient plateau": lambda opt: WarmUp(DivideOnPlateau(opt, patience=1), 3),
}
every_schedule = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def test_every_schedule_is_here():
    public = {
        name
        for name, thing in vars(lr_scheduler).items()
        if inspect.isclass(thing) and issubclass(thing, lr_scheduler.Schedule)
    }
    assert public - {"Schedule", "OfEpoch"} == {name.split(",")[0] for name in EVERY}


ASKED = {
    MultiStep: dict(milestones=[1.5, 3], gamma=0.25),
    Cosine: dict(epochs=8, min_lr=0.2),
    DivideOnPlateau: dict(factor=3.0, patience=7, min_lr=0.01, metric="loss"),
    WarmUp: dict(epochs=4, start=0.5),
    Constant: {},
}


@pytest.mark.parametrize("kind", ASKED)
def test_all_that_was_asked_for_is_shown(kind):
    opt = optimizer(0.5)
    first, *names = inspect.signature(kind).parameters
    asked = ASKED[kind] | ({"after": Constant(opt)} if first == "after" else {})
    schedule = kind(**{"optimizer": opt} if first == "optimizer" else {}, **asked)
    assert names == list(ASKED[kind]) and schedule.options() == asked
    shown = [f"{name}={value!r}" for name, value in schedule.options().items()]
    assert repr(schedule) == f"{kind.__name__}({', '.join([*shown, f'lr={opt.lr}'])})"


@every_schedule
@pytest.mark.parametrize("at", range(1, 8))
def test_saved_in_the_middle_and_loaded_it_goes_on_alike(make, at):
    errors = [0.9, 0.95, 0.8, 0.85, 0.85, 0.7, 0.75, 0.75]
    epochs = np.arange(1, 9) / 1.5
    opt, other = optimizer(0.4), optimizer(0.4)
    whole, begun = make(opt), make(other)
    expected = rates(whole, epochs, errors)
    assert rates(begun, epochs[:at], errors[:at]) == expected[:at]
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = make(third := optimizer(0.4))
    resumed.load_state_dict(state)
    assert third.lr == expected[at - 1]
    assert rates(resumed, epochs[at:], errors[at:]) == expected[at:]


@every_schedule
def test_between_tests_there_are_no_metrics(make):
    """Asked after each batch as well, the rates at the ends of the epochs are the same."""
    errors = [0.9, 0.95, 0.8, 0.85]
    expected = rates(make(optimizer(0.4)), [1, 2, 3, 4], errors)
    schedule, found = make(optimizer(0.4)), []
    for epoch, error in enumerate(errors):
        rates(schedule, epoch + np.arange(5) / 5)
        found += rates(schedule, [epoch + 1], [error])
        rates(schedule, [epoch + 1.0])
    assert found == pytest.approx(expected, rel=1e-12)


@every_schedule
def test_a_rate_set_by_hand_is_the_rate_from_then_on(make):
    opt, twin = optimizer(0.4), optimizer(0.8)
    schedule, doubled = make(opt), make(twin)
    rates(schedule, [1.5]), rates(doubled, [1.5])
    now = opt.lr
    schedule.set_lr(3 * now, 1.5)
    assert opt.lr == 3 * now
    schedule.step(1.5, {})
    assert opt.lr == pytest.approx(3 * now)
    resumed = make(fourth := optimizer(0.4))
    resumed.load_state_dict(schedule.state_dict())
    assert fourth.lr == opt.lr
    before = make(third := optimizer(0.4))
    rates(before, [1.5])
    before.set_lr(third.lr, 1.5)  # to what it is: nothing changes
    plain = make(optimizer(0.4))
    rates(plain, [1.5])
    epochs, errors = [2.5, 3.5, 4.5, 9], [0.9, 0.9, 0.5, 0.5]
    assert rates(before, epochs, errors) == pytest.approx(rates(plain, epochs, errors))
    with pytest.raises(ValueError, match="expected lr to be a number of at least 0, got -1"):
        schedule.set_lr(-1, 1.5)


def test_constant():
    schedule = Constant(opt := optimizer(0.3))
    assert rates(schedule, [0, 0.5, 7], [1, 2, 3]) == [0.3] * 3
    schedule.set_lr(0.2, 7)
    assert rates(schedule, [8]) == [0.2] and opt.lr == 0.2
    assert repr(schedule) == "Constant(lr=0.2)"


def test_multi_step():
    opt = optimizer(0.1)
    schedule = MultiStep(opt, [4, 2])
    assert rates(schedule, range(6)) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rates(schedule, [1]) == pytest.approx([0.1])  # a function of the epoch alone
    assert rates(schedule, [1.99, 2.0]) == pytest.approx([0.1, 0.01])
    schedule = MultiStep(optimizer(0.1), iter([2, 2, 0.5]))  # one counts twice
    assert rates(schedule, [0.4, 0.5, 2]) == pytest.approx([0.1, 0.01, 1e-4])
    half = MultiStep(opt, [1], gamma=0.5)
    assert rates(half, [1]) == pytest.approx([0.005])
    half.set_lr(0.3, 1)
    assert rates(half, [1, 0]) == pytest.approx([0.3, 0.6])
    schedule = MultiStep(optimizer(0.1), [2, 4])
    schedule.set_lr(0.5, 3)  # later milestones still divide it
    assert rates(schedule, [3, 4]) == pytest.approx([0.5, 0.05])
    assert repr(schedule) == f"MultiStep(milestones=[2, 4], gamma=0.1, lr={schedule.optimizer.lr})"


def test_states_of_old_checkpoints_still_load():
    schedule = MultiStep(opt := optimizer(7.0), [1], gamma=0.5)
    schedule.load_state_dict({"first_lr": 0.1, "lr": 0.05})
    assert opt.lr == 0.05 and rates(schedule, [0]) == [0.1]
    schedule = DivideOnPlateau(opt := optimizer(7.0), patience=2)
    schedule.load_state_dict({"best": 11.5, "waited": 2, "lr": 0.05})
    assert opt.lr == 0.05
    assert rates(schedule, [1], [11.5]) == [0.005]


def test_cosine():
    schedule = Cosine(opt := optimizer(1.0), 8, min_lr=0.2)
    expected = [0.2 + 0.4 * (1 + math.cos(math.pi * e / 8)) for e in (0, 1, 4, 6.5, 8)]
    assert rates(schedule, [0, 1, 4, 6.5, 8]) == pytest.approx(expected)
    assert expected[0] == 1 and opt.lr == 0.2 and rates(schedule, [9, 100]) == [0.2, 0.2]
    schedule.set_lr(0.9, 4)  # half way down: 0.7 above the end, so 1.4 above it at first
    assert rates(schedule, [4, 0, 8]) == pytest.approx([0.9, 1.6, 0.2])
    with pytest.raises(ValueError, match=r"Cosine.set_lr: expected an epoch before .*, got 8; "):
        schedule.set_lr(0.9, 8)
    assert opt.lr == 0.2
    assert repr(Cosine(optimizer(1.0), 8)) == "Cosine(epochs=8, min_lr=0.0, lr=1.0)"
    assert rates(Cosine(optimizer(1.0), 2), [1, 2]) == pytest.approx([0.5, 0])
    assert rates(Cosine(optimizer(2.0), 2, min_lr=0.5), [0, 1, 2]) == pytest.approx([2, 1.25, 0.5])


def test_warm_up():
    schedule = WarmUp(Constant(opt := optimizer(2.0)), 4)
    assert opt.lr == pytest.approx(0.2)  # already for the first batch
    assert rates(schedule, [0, 1, 2, 3.5, 4, 5]) == pytest.approx([0.2, 0.65, 1.1, 1.775, 2, 2])
    schedule = WarmUp(Cosine(opt := optimizer(2.0), 8), 4, start=0.5)
    full = [1 + math.cos(math.pi * e / 8) for e in (2, 4, 6)]
    assert rates(schedule, [2, 4, 6]) == pytest.approx([0.75 * full[0], full[1], full[2]])
    schedule = WarmUp(DivideOnPlateau(optimizer(1.0), patience=0), 4, start=0.5)
    found = rates(schedule, [1, 2, 3, 4], [0.5, 0.5, 0.4, 0.4])  # divided twice
    assert found == pytest.approx([0.625, 0.075, 0.0875, 0.01])
    schedule = WarmUp(Constant(opt := optimizer(1.0)), 4, start=0.5)
    schedule.set_lr(0.3, 2)  # and it goes on rising from there
    assert opt.lr == 0.3 and rates(schedule, [2, 4]) == pytest.approx([0.3, 0.4])
    assert repr(WarmUp(Constant(optimizer(1.0)), 2, 0.5)) == (
        "WarmUp(after=Constant(lr=0.5), epochs=2, start=0.5, lr=0.5)"
    )


def test_divide_on_plateau():
    def tell(schedule, errors):
        return rates(schedule, range(1, len(errors) + 1), errors)

    opt = optimizer(1.0)
    schedule = DivideOnPlateau(opt, patience=2, min_lr=0.005)
    tell(schedule, [0.95, 0.96, 0.9, 0.91, 0.92, 0.8])  # an improvement begins the waiting again
    assert opt.lr == 1.0 and schedule.waited == 0
    errors = [0.8, 0.85, 0.81, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77, 0.78, 0.79]
    assert tell(schedule, errors) == pytest.approx(
        [1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.005]
    )
    low = DivideOnPlateau(optimizer(0.001), factor=2, patience=0, min_lr=0.005)
    assert tell(low, [1.0] * 3) == [0.001] * 3  # never upwards
    assert tell(DivideOnPlateau(optimizer(1.0), factor=2, patience=0), [1.0, math.nan])[1] == 0.5
    # a run that begins with a NaN waits from there on, for more than three epochs in vain
    plateau = DivideOnPlateau(optimizer(1.0))
    assert tell(plateau, [math.nan, *[0.5] * 5]) == [1, 1, 1, 1, 1, 0.1]
    assert tell(DivideOnPlateau(optimizer(1.0), patience=1), [math.nan] * 2) == [1, 0.1]
    assert DivideOnPlateau(opt).factor == 10
    schedule = DivideOnPlateau(opt := optimizer(1.0), patience=0, metric="loss")
    schedule.step(1, {"loss": 2.0, "top1_error": 3.0})
    schedule.step(2, {"loss": 2.0, "top1_error": 1.0})
    assert opt.lr == 0.1
    assert repr(schedule) == (
        "DivideOnPlateau(factor=10.0, patience=0, min_lr=0.0, metric='loss', lr=0.1)"
    )


@pytest.mark.parametrize("patience", range(4))
@pytest.mark.parametrize("warm", [False, True])
def test_a_plateau_is_counted_from_the_best_of_all_tests(patience, warm, rng):
    """A division, a rate set by hand, an epoch without a test or a warm-up forgets no error."""
    errors = rng.integers(20, 60, 60) / 64
    opt = optimizer(1.0)
    plateau = DivideOnPlateau(opt, factor=2, patience=patience, min_lr=0.25)
    schedule = WarmUp(plateau, 1e-9) if warm else plateau
    schedule.step(1, {})
    since, rate = 0, 1.0  # tests since the last division or new best
    for k, error in enumerate(errors):
        if k % 7 == 6:
            rate *= 3
            schedule.set_lr(rate, k)
            schedule.step(k + 0.5, {})
        schedule.step(k + 1, {"top1_error": error})
        since = 0 if k == 0 or error < errors[:k].min() else since + 1
        if since > patience:
            since, rate = 0, min(rate, max(rate / 2, 0.25))
        assert opt.lr == rate and plateau.best == errors[: k + 1].min(), k


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda opt: DivideOnPlateau(opt, factor=1), "DivideOnPlateau: .*factor above 1, got 1"),
        (
            lambda opt: DivideOnPlateau(opt, metric="miss").step(1, {"loss": 1, "error": 2}),
            "DivideOnPlateau.step: expected 'miss' among the metrics, got loss, error; name one",
        ),
        (lambda opt: Cosine(opt, 0), "Cosine: expected epochs to be a number above 0, got 0"),
        (lambda opt: Cosine(opt, math.inf), "Cosine: expected epochs .* above 0, got inf"),
        (lambda opt: Cosine(opt, math.nan), "Cosine: expected epochs .* above 0, got nan"),
        (lambda opt: WarmUp(Constant(opt), -1), "WarmUp: expected epochs .* got -1"),
        (lambda opt: WarmUp(Constant(opt), 1, start=0), "WarmUp: expected start .* got 0"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ValueError, match=message):
        call(optimizer(1.0))
