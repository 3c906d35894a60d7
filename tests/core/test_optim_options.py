"""Every option of every rule and schedule: its default, what it refuses, where it goes."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import tinynet
from tinynet import nn, optim
from tinynet.optim import lr_scheduler

EMPTY = inspect.Parameter.empty
# As torch.optim has them; of AdamW, eps and betas among them, not those of Adam.
DEFAULTS = {
    "SGD": dict(lr=EMPTY, momentum=0.0, weight_decay=0.0, nesterov=False),
    "Adam": dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False),
    "AdamW": dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False),
    "RMSprop": dict(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False),
}
SCHEDULES = {
    "Constant": {},
    "MultiStep": dict(milestones=EMPTY, gamma=0.1),
    "Cosine": dict(epochs=EMPTY, min_lr=0.0),
    "DivideOnPlateau": dict(factor=10.0, patience=3, min_lr=0.0, metric="top1_error"),
    "WarmUp": dict(epochs=EMPTY, start=0.1),
}
RULES = [getattr(optim, name) for name in DEFAULTS]


def parameter(dtype=np.float32, device="cpu"):
    return nn.Parameter(np.ones((2, 3), dtype), device=device)


def defaults_of(function):
    found = {k: v.default for k, v in inspect.signature(function).parameters.items()}
    return {k: v for k, v in found.items() if k not in ("params", "optimizer", "after")}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_torch(name):
    rule = getattr(optim, name)
    assert defaults_of(rule) == DEFAULTS[name]
    made = rule([parameter()], 0.5)
    (group,) = made.param_groups
    options = {k: v for k, v in DEFAULTS[name].items() if k != "lr"}
    own = {"name": "", "lr_scale": 1.0, "fixed_lr": None, "frozen": False}
    assert {k: v for k, v in group.items() if k != "params"} == options | own and made.lr == 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_defaults_of_schedules(name):
    assert defaults_of(getattr(lr_scheduler, name)) == SCHEDULES[name]


@pytest.mark.parametrize("rule", RULES)
def test_every_option_goes_where_its_name_says(rule):
    """By name and by place; a group's own wins, in its group alone."""
    options = {k: v for k, v in DEFAULTS[rule.__name__].items() if k != "lr"}
    odd = {}
    for number, (name, value) in enumerate(options.items(), 1):
        odd[name] = (
            not value if isinstance(value, bool)
            else (0.1 * number, 0.2 * number) if isinstance(value, tuple) else 0.01 * number
        )  # fmt: skip
    for made in (rule([parameter()], 0.5, **odd), rule([parameter()], 0.5, *odd.values())):
        assert {name: made.param_groups[0][name] for name in odd} == odd
    for name, value in odd.items():
        groups = [{"params": [parameter()], name: value}, {"params": [parameter()]}]
        first, second = rule(groups, 0.5).param_groups
        assert {k: first[k] for k in odd} == {**options, name: value}
        assert {k: second[k] for k in odd} == options


@pytest.mark.parametrize("rule", RULES)
def test_every_option_refuses_what_makes_no_sense(rule):
    """For all parameters, and for a group; one line that names the rule, the option, the value."""
    below_one = {"alpha"}
    numbers = [-1, -1e-9, math.nan, math.inf, True, "1", None, 1j, [0.1]]
    flags = [0, 1, None, "yes", np.True_]
    pairs = [0.9, (0.9,), (0.9, 0.99, 0.999), (1.0, 0.5), (0.5, 1.0), (-0.1, 0.5), ("a", 0.5), None]
    options = DEFAULTS[rule.__name__] | {"frozen": False, "lr_scale": 1.0, "fixed_lr": 1.0}
    for name, default in options.items():
        bad = flags if isinstance(default, bool) else pairs if name == "betas" else numbers
        bad = [*bad, 1.0] if name in below_one else bad
        for value in bad:
            calls = [lambda v=value, n=name: rule([{"params": [parameter()], n: v}], 0.5)]
            if name in DEFAULTS[rule.__name__]:
                others = {} if name == "lr" else {"lr": 0.5}
                calls.append(lambda v=value, n=name, o=others: rule([parameter()], **o, **{n: v}))
            if name == "fixed_lr" and value is None:
                calls = []
            for call in calls:
                with pytest.raises(ValueError, match=rf"^{rule.__name__}: expected .*") as error:
                    call()
                assert "\n" not in str(error.value)
                assert name.removesuffix("s") in str(error.value) or name == "lr"


@pytest.mark.parametrize("rule", RULES)
def test_every_option_takes_what_makes_sense(rule):
    """0 and what lies far above 1, of any type of numbers."""
    numbers = [0, 0.0, 1, 2.5, np.float32(0.5), np.float64(3), np.int64(1)]
    for name, default in (DEFAULTS[rule.__name__] | {"lr_scale": 1.0, "fixed_lr": 1.0}).items():
        good = [(0, 0), [0.5, 0.999], (np.float32(0.5), 0.0)] if name == "betas" else numbers
        good = [True, False] if isinstance(default, bool) else good
        for value in [0, 0.0, 0.999, np.float32(0.5)] if name == "alpha" else good:
            if name in DEFAULTS[rule.__name__]:
                rule([parameter()], **{"lr": 0.5, name: value})
            if name != "lr":
                (group,) = rule([{"params": [parameter()], name: value}], 0.5).param_groups
                assert group[name] == value


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("flag", [False, True])
def test_every_parameter_keeps_its_type_and_its_device(rule, flag, rng):
    """Its state too, through a step, a state dict and a load."""
    flags = [name for name, value in DEFAULTS[rule.__name__].items() if isinstance(value, bool)]
    options = dict.fromkeys(flags, flag)
    kinds = [(np.float32, "cpu"), (np.float64, "cpu"), (np.float64, "cpu:1"), (np.float32, "cpu:1")]
    parameters = [parameter(*kind) for kind in kinds]
    made, again = rule(parameters, 0.1, **options), rule(parameters, 0.1, **options)

    def check(rule):
        for p, (dtype, device) in zip(parameters, kinds, strict=True):
            for each in (p, made.last_step(p), *rule.state[p].values()):
                assert (each.dtype, each.device) == (dtype, tinynet.device(device))

    for _ in range(2):
        for p in parameters:
            p.grad = tinynet.tensor(rng.normal(size=p.shape).astype(p.dtype), device=p.device)
        made.step()
        check(made)
    state = made.state_dict()
    again.load_state_dict({name: array.astype(np.float64) if array.shape else array
                           for name, array in state.items()})  # fmt: skip
    check(again)
    for name, array in again.state_dict().items():
        assert array.dtype == state[name].dtype
        np.testing.assert_array_equal(array, state[name])


def test_a_result_among_the_parameters_is_refused():
    """No step would change what it was made from."""
    w = parameter()
    for given in ([w * 2], [w, w * 2], [{"params": [w]}, {"params": [w * 2]}]):
        with pytest.raises(
            ValueError, match="SGD: expected leaves, got the result of an operation"
        ):
            optim.SGD(given, 0.1)


def test_clipped_gradients_keep_their_types(rng):
    """Each is multiplied in its own: the first one's precision is not that of all."""
    for order in (0, 1):
        parameters = [parameter(dtype) for dtype in (np.float32, np.float64, np.float32)][order:]
        given = [rng.normal(size=(2, 3)).astype(p.dtype) for p in parameters]
        for p, g in zip(parameters, given, strict=True):
            p.grad = tinynet.tensor(g.copy())
        norm = optim.clip_grad_norm(parameters, 0.25).item()
        squares = sum((g.astype(np.float64) ** 2).sum() for g in given)
        assert norm == pytest.approx(squares**0.5, rel=1e-14)
        for p, g in zip(parameters, given, strict=True):
            assert p.grad.dtype == p.dtype
            found, expected = p.grad.numpy().astype(np.float64), 0.25 / norm * g.astype(np.float64)
            np.testing.assert_allclose(found, expected, rtol=3 * np.finfo(p.dtype).eps)


def test_what_max_norm_may_be():
    for limit in (2, 2.0, np.float32(2), np.float64(2), np.int64(2)):
        p = parameter()
        p.grad = tinynet.tensor(np.full((2, 3), 4.0, np.float32))
        assert optim.clip_grad_norm(p, limit).item() == pytest.approx(4 * 6**0.5)
        np.testing.assert_allclose(p.grad.numpy(), 2 / 6**0.5, rtol=1e-6)
    for limit in (-1, 0.0, np.nan, None, "1", np.True_, [1.0]):
        with pytest.raises(ValueError, match="clip_grad_norm: expected max_norm to be a number"):
            optim.clip_grad_norm(p, limit)


@pytest.mark.parametrize(
    "make",
    [
        lr_scheduler.Constant,
        lambda o: lr_scheduler.MultiStep(o, [1]),
        lambda o: lr_scheduler.Cosine(o, 4, 0.01),
        lr_scheduler.DivideOnPlateau,
        lambda o: lr_scheduler.WarmUp(lr_scheduler.Cosine(o, 4), 2),
    ],
)
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf, None, "1", True])
def test_a_rate_that_makes_no_sense_changes_nothing(make, bad):
    """Neither the rate now nor what comes later."""
    made = [optim.SGD([parameter()], 0.1) for _ in range(2)]
    one, other = map(make, made)
    for schedule in (one, other):
        schedule.step(0.5, {})
    with pytest.raises(ValueError, match="expected lr to be a number of at least 0"):
        one.set_lr(bad, 0.5)
    assert one.state_dict() == other.state_dict()
    for epoch in (1, 2, 3):
        one.step(epoch, {"top1_error": 9.0}), other.step(epoch, {"top1_error": 9.0})
        assert made[0].lr == made[1].lr


@pytest.mark.parametrize("after", ["Cosine", "DivideOnPlateau", "MultiStep", "Constant"])
def test_a_state_sets_the_rate_of_its_moment(after):
    """Loading alone, before the next step: the warm one, not that of what comes after."""

    def made():
        o = optim.SGD([parameter()], 0.4)
        options = {"Cosine": (4,), "MultiStep": ([1],)}.get(after, ())
        return o, lr_scheduler.WarmUp(getattr(lr_scheduler, after)(o, *options), 3)

    one, schedule = made()
    for epoch in (0.5, 1, 1.5, 2.5, 3.5):
        schedule.step(epoch, {"top1_error": 1.0} if epoch == 1 else {})
        other, again = made()
        other.lr = 77.0
        again.load_state_dict(schedule.state_dict())
        assert other.lr == one.lr and again.state_dict() == schedule.state_dict()


def test_a_schedule_that_misses_its_figure_says_so():
    schedule = lr_scheduler.DivideOnPlateau(optim.SGD([parameter()], 0.1), metric="loss")
    with pytest.raises(ValueError, match="expected 'loss' among the metrics, got error, top5"):
        schedule.step(1, {"error": 1.0, "top5": 2.0})
    schedule.step(1.5, {})  # between tests there is none
    assert schedule.waited == 0
