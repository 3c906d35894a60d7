"""Every rule against its definition; rates, frozen groups, the last step."""

from __future__ import annotations

import copy
import inspect
import itertools

import numpy as np
import pytest
from rules import adam, adamw, nesterov, rmsprop, sgd, steps

import tinynet
from tinynet import nn, optim
from tinynet.kernels import layout

RULES = [
    (optim.SGD, sgd, dict(lr=0.1)),
    (optim.SGD, sgd, dict(lr=0.1, momentum=0.9)),
    (optim.SGD, sgd, dict(lr=0.1, weight_decay=0.05)),
    (optim.SGD, sgd, dict(lr=0.1, momentum=0.9, weight_decay=0.05)),
    (optim.SGD, nesterov, dict(lr=0.1, momentum=0.8, nesterov=True)),
    (optim.SGD, nesterov, dict(lr=0.1, momentum=0.8, weight_decay=0.05, nesterov=True)),
    (optim.Adam, adam, {}),
    (optim.Adam, adam, dict(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3)),
    (optim.Adam, adam, dict(lr=0.1, betas=(0.5, 0.3), weight_decay=0.3, amsgrad=True)),
    (optim.AdamW, adamw, {}),
    (optim.AdamW, adamw, dict(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.3)),
    (optim.AdamW, adamw, dict(lr=0.1, betas=(0.5, 0.3), weight_decay=0.3, amsgrad=True)),
    (optim.RMSprop, rmsprop, {}),
    (optim.RMSprop, rmsprop, dict(lr=0.1, alpha=0.8, eps=0.01, weight_decay=0.3, momentum=0.7)),
    (
        optim.RMSprop,
        rmsprop,
        dict(lr=0.1, alpha=0.8, momentum=0.7, weight_decay=0.3, centered=True),
    ),
]
every_rule = pytest.mark.parametrize(
    "rule, definition, options",
    RULES,
    ids=[f"{rule.__name__} {' '.join(options)}" for rule, _, options in RULES],
)


def test_every_rule_has_a_definition():
    public = {thing for thing in vars(optim).values() if inspect.isclass(thing)}
    assert public - {optim.Optimizer} == {rule for rule, _, _ in RULES}
    assert {rule.__name__ for rule, _, _ in RULES} <= set(optim.__all__)


@every_rule
def test_rules(rule, definition, options, rng, set_pieces):
    set_pieces(layout, "PIECE", 7)  # of 12 and of 5 elements
    start = [rng.normal(size=s) for s in ((3, 4), (5,))]
    parameters = [nn.Parameter(w) for w in start]
    opt = rule(parameters, **options)
    gradients = [[rng.normal(size=w.shape) for w in start] for _ in range(5)]
    for t, i in ((0, 1), (2, 0)):  # decay and what is kept of earlier steps go on
        gradients[t][i][:] = 0
    expected = [
        list(definition(w, [g[i] for g in gradients], **options)) for i, w in enumerate(start)
    ]
    for t, gradient in enumerate(gradients):
        before = [p.numpy() for p in parameters]
        steps(opt, parameters, [gradient])
        for i, p in enumerate(parameters):
            np.testing.assert_allclose(p.numpy(), expected[i][t], rtol=1e-11, atol=1e-14)
            step = opt.last_step(p)
            assert (step.shape, step.dtype, step.device) == (p.shape, p.dtype, p.device)
            np.testing.assert_allclose(step.numpy(), p.numpy() - before[i], rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _, _ in RULES))
def test_a_group_goes_by_its_own_options(rule, rng):
    """Each step and `last_step` as the definition has them, whatever the other group asks for."""
    kinds = [(definition, options) for r, definition, options in RULES if r is rule]
    start, gradients = rng.normal(size=(2, 3)), rng.normal(size=(4, 2, 3))
    for first, second in itertools.permutations(kinds, 2):
        parameters = [nn.Parameter(w) for w in start]
        groups = [
            {**options, "params": [p]}
            for p, (_, options) in zip(parameters, (first, second), strict=True)
        ]
        opt = rule(groups, lr=0.5)
        expected = []
        for group, w, g, (definition, options) in zip(
            opt.param_groups, start, gradients.swapaxes(0, 1), (first, second), strict=True
        ):
            expected.append(list(definition(w, g, **{**options, "lr": opt.rate(group)})))
        for t, gradient in enumerate(gradients):
            before = [p.numpy() for p in parameters]
            steps(opt, parameters, [gradient])
            for p, old, wanted in zip(parameters, before, expected, strict=True):
                np.testing.assert_allclose(p.numpy(), wanted[t], rtol=1e-10, atol=1e-14)
                np.testing.assert_allclose(opt.last_step(p).numpy(), p.numpy() - old, atol=1e-12)


def test_the_last_step_of_sgd_is_no_copy():
    """What a rule keeps anyway is shown as it is: of a large net a copy is large, too."""
    for look_ahead in (False, True):
        p = nn.Parameter(np.ones(3))
        opt = optim.SGD([p], 0.5, momentum=0.9, nesterov=look_ahead)
        steps(opt, [p], [[np.ones(3)]])
        assert np.shares_memory(opt.last_step(p).data, opt.last_step(p).data)


@every_rule
def test_resumed_in_the_middle_a_rule_gives_the_same_bits(rule, definition, options, rng):
    start = [rng.normal(size=s).astype(np.float32) for s in ((3, 4), (5,), ())]
    gradients = [[rng.normal(size=w.shape).astype(np.float32) for w in start] for _ in range(6)]
    gradients[1][1] = None  # so that this parameter has taken one step less
    parameters = [nn.Parameter(w) for w in start]
    opt = rule(parameters, **options)
    steps(opt, parameters, gradients[:3])
    state, saved = opt.state_dict(), [p.numpy() for p in parameters]
    twins = [nn.Parameter(w) for w in saved]
    twin = rule(twins, **options)
    # As a file has them: in another order, of another type.
    wide = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in state.items()}
    twin.load_state_dict(dict(reversed(wide.items())))
    for p, q in zip(parameters, twins, strict=True):
        np.testing.assert_array_equal(opt.last_step(p).numpy(), twin.last_step(q).numpy())
    for array in state.values():
        array[...] = 99  # copies both ways
    steps(opt, parameters, gradients[3:])
    steps(twin, twins, gradients[3:])
    for p, q in zip(parameters, twins, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    ours, theirs = opt.state_dict(), twin.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours[name].dtype == (np.int64 if name.startswith("steps") else np.float32)


@every_rule
def test_what_is_frozen_or_has_no_gradient_stays(rule, definition, options, rng):
    a, b, c = (nn.Parameter(rng.normal(size=4)) for _ in range(3))
    start = [p.numpy() for p in (a, b, c)]
    opt = rule([{"params": [a, b]}, {"params": [c]}], **options)
    gradients = [[rng.normal(size=4) for _ in range(3)] for _ in range(3)]
    steps(opt, [a, b, c], gradients[:1])
    opt.param_groups[1]["lr_scale"] = 0.0
    before, state = [p.numpy() for p in (a, b, c)], opt.state_dict()
    steps(opt, [a, b, c], [[gradients[1][0], None, gradients[1][2]]])
    assert (a.numpy() != before[0]).all() and opt.last_step(a).numpy().all()
    for p, w in [(b, before[1]), (c, before[2])]:
        np.testing.assert_array_equal(p.numpy(), w)
        assert not opt.last_step(p).numpy().any()
    for name, array in opt.state_dict().items():
        if not name.endswith(".0.0"):
            np.testing.assert_array_equal(array, state[name])
    opt.param_groups[1]["lr_scale"] = 1.0  # thawed, it goes on as if nothing had been between
    steps(opt, [a, b, c], [gradients[2]])
    *_, expected = definition(start[2], [gradients[0][2], gradients[2][2]], **options)
    np.testing.assert_allclose(c.numpy(), expected, rtol=1e-11, atol=1e-14)


@every_rule
def test_a_moved_parameter_takes_its_state_along(rule, definition, options, rng):
    start, gradients = rng.normal(size=3), rng.normal(size=(3, 3))
    p = nn.Parameter(start)
    opt = rule([p], **options)
    steps(opt, [p], [[g] for g in gradients[:2]])
    before = opt.last_step(p).numpy()
    p.move(tinynet.device("cpu:1"))
    assert opt.last_step(p).device == "cpu:1"
    np.testing.assert_array_equal(opt.last_step(p).numpy(), before)
    p.move(tinynet.device("cpu:2"))
    steps(opt, [p], [[gradients[2]]])
    *_, expected = definition(start, list(gradients), **options)
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-11, atol=1e-14)
    assert all(tensor.device == "cpu:2" for tensor in opt.state[p].values())


def test_copies_of_an_optimiser_go_their_own_ways(rng):
    p = nn.Parameter(np.ones(3))
    opt = optim.Adam([p], amsgrad=True)
    steps(opt, [p], [[np.ones(3)]])
    q, twin = copy.deepcopy((p, opt))
    steps(twin, [q], [[np.ones(3)]])
    assert (p.numpy() > q.numpy()).all() and (opt.steps[p], twin.steps[q]) == (1, 2)


def test_before_the_first_step_nothing_has_changed():
    p = nn.Parameter(np.ones(2))
    for opt in (optim.SGD([p], 0.1), optim.Adam([p]), optim.RMSprop([p], centered=True)):
        assert not opt.last_step(p).numpy().any()
        opt.load_state_dict(new := opt.state_dict())
        assert not opt.last_step(p).numpy().any()
        p.data[:] = 1
        steps(opt, [p], [[np.ones(2)]])
        first = p.numpy()
        opt.load_state_dict(new)  # begun once more, the first step is the same
        assert opt.steps == {p: 0}
        p.data[:] = 1
        steps(opt, [p], [[np.ones(2)]])
        np.testing.assert_array_equal(p.numpy(), first)


def test_after_loading_a_frozen_group_shows_no_step():
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    opt = optim.SGD([{"params": [a]}, {"params": [b]}], 0.1, 0.9)
    steps(opt, [a, b], [[np.ones(2)] * 2])
    opt.load_state_dict(opt.state_dict())
    opt.param_groups[1]["lr_scale"] = 0
    np.testing.assert_allclose(opt.last_step(a).numpy(), -0.1)
    assert not opt.last_step(b).numpy().any()


@pytest.mark.parametrize("rule", [optim.SGD, optim.Adam, optim.RMSprop])
def test_a_fixed_rate_and_a_frozen_group(rule):
    """No change of the common rate reaches a fixed one; what is frozen neither moves nor counts."""
    one = np.ones(2)
    a, b, c, d = (nn.Parameter(one) for _ in range(4))
    opt = rule([{"params": [a]}, {"params": [b], "fixed_lr": 0.5}, {"params": [c]}], lr=0.25)
    alone = rule([d], lr=0.5)
    opt.lr = 0.0
    opt.param_groups[2]["frozen"] = True
    steps(opt, [a, b, c], [[one] * 3] * 2)
    steps(alone, [d], [[one]] * 2)
    np.testing.assert_array_equal(b.numpy(), d.numpy())
    assert not np.array_equal(b.numpy(), one)
    for p in (a, c):
        np.testing.assert_array_equal(p.numpy(), one)
        assert not opt.last_step(p).numpy().any() and opt.steps[p] == 0
    opt.lr, opt.param_groups[2]["frozen"] = 0.25, False
    assert [opt.rate(group) for group in opt.param_groups] == [0.25, 0.5, 0.25]
    again = rule(opt.param_groups, lr=0.25)  # groups can be handed on
    assert [again.rate(group) for group in again.param_groups] == [0.25, 0.5, 0.25]
    assert "fixed_lr=0.5" in repr(opt) and "frozen" not in repr(opt)


@pytest.mark.parametrize(
    "options, rate",
    [
        ({}, 0.5),
        ({"lr_scale": 4}, 2.0),
        ({"lr": 0.25}, 0.25),
        ({"fixed_lr": 0.125, "lr_scale": 4}, 0.125),
        ({"fixed_lr": 0.0}, 0),
        ({"frozen": True, "lr_scale": 4}, 0),
        ({"frozen": True, "fixed_lr": 0.125}, 0),
    ],
)
def test_the_rate_of_a_group(options, rate):
    opt = optim.SGD([{"params": [nn.Parameter(np.ones(2))], **options}], 0.5)
    assert opt.rate(opt.param_groups[0]) == rate


@pytest.mark.parametrize(
    "option, message",
    [
        ({"fixed_lr": -1.0}, "expected fixed_lr to be a number of at least 0, got -1.0"),
        ({"fixed_lr": "a"}, "expected fixed_lr to be a number"),
        ({"frozen": 1}, "expected frozen to be True or False, got 1"),
    ],
)
def test_wrong_options_of_a_group(option, message):
    with pytest.raises(ValueError, match=message):
        optim.SGD([{"params": [nn.Parameter(np.ones(2))], **option}], 0.1)


def test_sgd_is_plain_gradient_descent_if_not_told_otherwise():
    p = nn.Parameter(np.array([2.0]))
    steps(optim.SGD([p], lr=0.5), [p], [[np.array([1.0])], [np.array([3.0])]])
    assert p.item() == 2 - 0.5 * (1 + 3)


def test_the_last_step_of_sgd_is_its_velocity(rng):
    p = nn.Parameter(rng.normal(size=3).astype(np.float32))
    opt = optim.SGD([p], 0.1, 0.9)
    steps(opt, [p], [[rng.normal(size=3).astype(np.float32)] for _ in range(2)])
    np.testing.assert_array_equal(opt.last_step(p).numpy(), opt.state_dict()["velocity.0.0"])


def test_a_change_of_the_rate_acts_on_later_gradients_only(rng):
    p = nn.Parameter(np.zeros(1))
    opt = optim.SGD([p], lr=1.0, momentum=0.5)
    steps(opt, [p], [[np.array([1.0])]])
    opt.lr = 0.1
    steps(opt, [p], [[np.array([1.0])]])
    assert p.item() == pytest.approx(-1 - (0.5 + 0.1))  # PyTorch's rule would give -1 - 0.15


def test_the_last_step_is_at_the_rate_of_that_step():
    p = nn.Parameter(np.zeros(1))
    opt = optim.Adam([p], lr=0.5, eps=0.0)
    steps(opt, [p], [[np.array([3.0])]])
    opt.lr = 0.1
    assert opt.last_step(p).item() == pytest.approx(-0.5)


def test_a_weight_of_any_layout_is_changed(rng):
    values = np.asfortranarray(rng.normal(size=(3, 4)))
    w = tinynet.tensor(values, requires_grad=True)
    steps(optim.SGD([w], 1.0), [w], [[np.ones((4, 3)).T]])
    np.testing.assert_array_equal(w.numpy(), values - 1)


def test_rates_that_are_numpy_numbers_keep_float32():
    p = nn.Parameter(np.ones(3, np.float32))
    opt = optim.AdamW([p], lr=np.float64(0.1), eps=np.float64(1e-8))
    steps(opt, [p], [[np.ones(3, np.float32)]])
    assert p.dtype == opt.last_step(p).dtype == np.float32
    assert type(opt.lr) is float  # a checkpoint's JSON knows no other


@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_stays_near_its_definition_in_float32(amsgrad, rng):
    w, gradients = rng.normal(size=50), list(rng.normal(size=(30, 50)))
    p = nn.Parameter(w.astype(np.float32))
    opt = optim.Adam([p], amsgrad=amsgrad)
    steps(opt, [p], [[g.astype(np.float32)] for g in gradients])
    *_, expected = adam(w, gradients, amsgrad=amsgrad)
    np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "rule, options",
    [(optim.Adam, dict(betas=(0.0, 0.0))), (optim.RMSprop, dict(alpha=0.0)),
     (optim.RMSprop, dict(alpha=0.0, centered=True))],
)  # fmt: skip
def test_without_memory_a_small_gradient_counts_after_a_large_one(rule, options):
    """What is left of the large one's square by rounding must not stand in for the small one's."""
    w, gradients = np.zeros(1), [np.full(1, 3.0, np.float32), np.full(1, 1e-5, np.float32)]
    p = nn.Parameter(w.astype(np.float32))
    opt = rule([p], lr=1.0, eps=1e-3, **options)
    steps(opt, [p], [[g] for g in gradients])
    last = 1e-5 / 1e-3 if options.get("centered") else 1e-5 / (1e-5 + 1e-3)
    np.testing.assert_allclose(opt.last_step(p).numpy(), -last, rtol=1e-5)


def test_a_variance_that_rounding_made_negative_counts_as_zero():
    p = nn.Parameter(np.zeros(1))
    opt = optim.RMSprop([p], lr=1.0, eps=0.5, centered=True)
    opt.load_state_dict(
        {"square.0.0": np.ones(1) - 1e-6, "mean.0.0": np.ones(1), "velocity.0.0": np.zeros(1)}
    )
    steps(opt, [p], [[np.ones(1)]])
    assert p.item() == -1 / 0.5
