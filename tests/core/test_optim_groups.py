"""Groups of parameters, states that are kept, wrong calls, clipping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rules import sgd, steps

import tinynet
from tinynet import nn, optim
from tinynet.kernels import layout


def test_parameter_groups(rng):
    a, b, c, d = (nn.Parameter(np.ones(2)) for _ in range(4))
    opt = optim.SGD(
        [
            {"params": [a], "name": "weights"},
            {"params": b, "lr_scale": 2.0, "weight_decay": 0.0, "momentum": 0.0},
            {"params": [c], "lr_scale": 0.0},
            {"params": (p for p in [d]), "lr": 0.4},
        ],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.5,
    )
    assert [g["name"] for g in opt.param_groups] == ["weights", "", "", ""]
    assert opt.param_groups[3]["lr_scale"] == pytest.approx(4) and "lr" not in opt.param_groups[3]
    ones = np.ones(2)
    steps(opt, [a, b, c, d], [[ones] * 4, [ones] * 4])
    for p, lr, m, decay in [
        (a, 0.1, 0.9, 0.5),
        (b, 0.2, 0.0, 0.0),
        (c, 0.0, 0.9, 0.5),
        (d, 0.4, 0.9, 0.5),
    ]:
        *_, w = sgd(np.ones(2), [ones] * 2, lr, m, decay)
        np.testing.assert_allclose(p.numpy(), w, rtol=1e-12, atol=1e-14)
    assert not opt.state_dict()["velocity.2.0"].any()
    assert set(opt.state_dict()) == {f"velocity.{g}.0" for g in range(4)}


def test_one_parameter_and_groups_of_different_options():
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    opt = optim.SGD(p, 0.1, 0.9)
    assert opt.param_groups[0]["params"] == [p]
    mixed = optim.SGD([{"params": p}, {"params": q, "nesterov": True}], 0.1, 0.9)
    assert set(mixed.state_dict()) == {"velocity.0.0", "velocity.1.0", "step.1.0"}
    steps(mixed, [p, q], [[np.ones(2)] * 2])
    np.testing.assert_allclose(p.numpy(), 0.9)
    np.testing.assert_allclose(q.numpy(), 1 - 0.1 * 1.9)


def test_groups_stay_as_they_were_given():
    """They may be handed to a second rule, and a list that grows later is not the group's."""
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    given = [{"params": [a], "lr": 0.2}]
    opt = optim.SGD(given, 0.1, momentum=0.9)
    assert given == [{"params": [a], "lr": 0.2}]
    given[0]["params"].append(b)
    assert opt.param_groups[0]["params"] == [a]


def test_which_groups_take_a_decay_for_all():
    """Not the one that was given 0 of its own."""
    groups = [{"params": [nn.Parameter(np.ones(2))], **o} for o in ({}, {"weight_decay": 0.0})]
    assert optim.SGD(groups, 0.1).decays == optim.SGD(groups, 0.1, 0, 1.0).decays == [True, False]


def test_zero_grad_forgets_all_gradients():
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    opt = optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    a.grad, b.grad = tinynet.tensor(np.ones(2)), tinynet.tensor(np.ones(2))
    opt.zero_grad()
    assert a.grad is None and b.grad is None


def test_a_parameter_without_a_gradient_does_not_stop_those_after_it():
    a, b = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    opt = optim.SGD([a, b], lr=0.1)
    b.grad = tinynet.tensor(np.ones(2))
    opt.step()
    assert a.numpy().tolist() == [1, 1] and b.numpy().tolist() == [0.9, 0.9]


def test_what_an_optimiser_says_of_itself():
    a, b = nn.Parameter(np.ones((3, 500))), nn.Parameter(np.ones(3))
    opt = optim.SGD([{"params": [a], "name": "conv1"}, {"params": [b], "lr_scale": 2}], 0.1, 0.9)
    assert repr(opt).splitlines() == [
        "SGD(lr=0.1): 2 parameters, 1,503 values in 2 groups",
        "  conv1: 1 parameter, 1,500 values, lr_scale=1.0, weight_decay=0.0, momentum=0.9, "
        "nesterov=False",
        "  1: 1 parameter, 3 values, lr_scale=2, weight_decay=0.0, momentum=0.9, nesterov=False",
    ]


def test_states_that_do_not_fit_are_refused_whole(rng):
    net = nn.Linear(3, 2)
    opt = optim.Adam(net.parameters())
    steps(opt, list(net.parameters()), [[np.ones((2, 3), np.float32), np.ones(2, np.float32)]])
    good = opt.state_dict()
    assert good["steps.0.1"] == 1 and good["steps.0.1"].shape == ()
    for wrong, message in [
        ({}, r"Adam.load_state_dict: expected \['mean.0.0', .* got \[\]"),
        ({**good, "mean.0.0": np.ones(3)}, r"expected mean.0.0 of shape \(2, 3\), got \(3,\)"),
        ({**good, "steps.0.1": np.ones(1)}, r"expected steps.0.1 of shape \(\), got \(1,\)"),
        ({**good, "mean.1.0": np.ones(3)}, "got .*mean.1.0"),
        ({**good, "mean.0.0": 9 * good["mean.0.0"], "mean.0.1": np.array(["a", "b"])}, "mean.0.1"),
        ({**good, "mean.0.1": np.ones(2, object)}, "mean.0.1: expected numbers, got ndarray"),
        ({**good, "steps.0.1": np.array(2.5)}, "steps.0.1 to be an integer .* got 2.5"),
        ({**good, "steps.0.1": np.array(-1)}, "steps.0.1 to be an integer .* got -1"),
    ]:
        if "mean.0.0" in wrong and wrong["mean.0.0"].shape == (2, 3):
            wrong["mean.0.0"] = wrong["mean.0.0"] + 1  # right, and before the wrong one
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict(wrong)
        for name, array in opt.state_dict().items():
            np.testing.assert_array_equal(array, good[name])


@pytest.mark.parametrize(
    "rule, option", [(optim.SGD, "nesterov"), (optim.Adam, "amsgrad"), (optim.RMSprop, "centered")]
)
@pytest.mark.parametrize("on", [False, True])
def test_an_option_that_needs_other_arrays_cannot_change_in_the_middle(rule, option, on):
    """Else amsgrad would be ignored, and the kernels of others called with too few arrays."""
    parameters = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))]
    groups = [{"params": [p], option: on} for p in parameters]
    opt = rule(groups, 0.1)
    steps(opt, parameters, [[np.ones(2)] * 2])
    before = parameters[0].numpy()
    opt.param_groups[1][option] = not on
    with pytest.raises(ValueError, match=f"{rule.__name__}.step: .* parameter 1.0 .* make a new"):
        opt.step()
    np.testing.assert_array_equal(parameters[0].numpy(), before)
    assert set(opt.steps.values()) == {1}  # and nothing else is changed either
    np.testing.assert_allclose(opt.last_step(parameters[0]).numpy(), before - 1)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"lr": 0.0}, ["'lr'; write optimizer.lr = ..., or group['lr_scale']"]),
        ({"lrr": 0.5}, ["'lrr'; write optimizer.lr = ..."]),
        ({"momentun": 0.5}, ["among name, params", "'momentun'; write 'momentum'"]),
        ({"momentum": "x"}, ["expected momentum to be a number", "'x'"]),
        ({"lr_scale": math.nan}, ["expected lr_scale to be a number", "nan"]),
        ({"params": [nn.Parameter(np.ones(2)) for _ in range(2)]}, ["parameter 1.0", "make a new"]),
    ],
)
def test_what_was_set_in_a_group_is_checked_before_a_step(change, words):
    """A rate in a group, torch's habit, was ignored; so was any unknown name."""
    parameters = [nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))]
    opt = optim.SGD([{"params": p} for p in parameters], 0.1)
    for p in parameters:
        p.grad = tinynet.tensor(np.ones(2))
    opt.param_groups[1].update(change)
    with pytest.raises(ValueError) as error:
        opt.step()
    said = str(error.value)
    assert said.startswith("SGD") and "\n" not in said and all(word in said for word in words), said
    assert parameters[0].numpy().tolist() == [1, 1] and set(opt.steps.values()) == {0}


def test_an_option_that_a_group_lacks_is_told():
    (group,) = optim.SGD([nn.Parameter(np.ones(2))], 0.1).param_groups
    for name, write in [("lr", "optimizer.lr = "), ("momentun", "'momentum'"), (0, "got 0")]:
        with pytest.raises(ValueError, match=f"^group: expected the options .*{write}"):
            group[name] *= 0.5
    assert group.get("lr") is None and "lr" not in group


@pytest.mark.parametrize("name", ["momentum", "weight_decay", "learning_rate", "lrr", "betas"])
def test_a_name_that_an_optimiser_lacks_cannot_be_set(name):
    for rule in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop):
        opt = rule([nn.Parameter(np.ones(2))], 0.1)
        option = name if name in opt.param_groups[0] else "weight_decay"
        with pytest.raises(AttributeError) as error:
            setattr(opt, name, 0.5)
        said = str(error.value)
        assert f"{rule.__name__}: expected the name" in said and "\n" not in said
        assert all(word in said for word in (f"got {name!r}", "optimizer.lr = ", f"[{option!r}] ="))
        assert not hasattr(opt, name)


@pytest.mark.parametrize("bad", [-1, "x", math.nan, math.inf, None, True])
def test_a_rate_is_checked_where_it_is_set(bad):
    opt = optim.SGD([nn.Parameter(np.ones(2))], 0.1)
    with pytest.raises(ValueError, match="SGD: expected lr to be a number of at least 0"):
        opt.lr = bad
    opt.lr = np.float32(0.5)
    assert type(opt.lr) is float and opt.lr == 0.5


@pytest.mark.parametrize(
    "given, words",
    [
        (lambda net: list(net.parameters())[:0], "got none; a generator is empty after its first"),
        (
            lambda net: net.parameters(),
            r"got as number 0.1 a Parameter (2,) that requires none; to leave out what is frozen "
            "write [p for p in net.parameters() if p.requires_grad]",
        ),
        (lambda net: net.named_parameters(), "number 0.0 a name; write net.parameters()"),
        (lambda net: net.state_dict(), "number 0.0 a name; write net.parameters()"),
        (lambda net: [{"params": net.weight}, {"params": [W.data]}], "number 1.0 an array (2,);"),
        (lambda net: [net], "number 0.0 a Linear; write net.parameters()"),
    ],
)
def test_what_is_no_parameter_is_named(given, words):
    net = nn.Linear(3, 2)
    net.bias.requires_grad = False
    with pytest.raises(ValueError) as error:
        optim.SGD(given(net), 0.1)
    said = str(error.value)
    assert said.startswith("SGD: expected ") and "\n" not in said and words in said, said
    assert len(optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1).state) == 1


def test_a_rule_of_ones_own():
    """It keeps its last step as "step", and changes the weights itself."""

    class Own(optim.Optimizer):
        def arrays(self, group):
            return ("step",)

    p = nn.Parameter(np.ones(2))
    own = Own([p], 0.5)
    p.grad = tinynet.tensor(np.array([1.0, 2.0]))
    with pytest.raises(NotImplementedError, match="Own needs an update"):
        own.step()
    with pytest.raises(NotImplementedError, match="Optimizer needs an arrays"):
        optim.Optimizer([p], 0.5)

    def update(kernels, w, g, state, group, rate, steps):
        state["step"][...] = -rate * steps * g
        w += state["step"]

    own = Own([p], 0.5)
    own.update, own.of_ones_own = update, 1
    own.step(), own.step()
    assert own.param_groups[0]["weight_decay"] == 0
    assert own.last_step(p).numpy().tolist() == own.state_dict()["step.0.0"].tolist() == [-1, -2]
    assert p.numpy().tolist() == [-0.5, -2] and own.steps[p] == 2


W = nn.Parameter(np.ones(2))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: optim.Adam([]), ["Adam: expected at least one parameter"]),
        (lambda: optim.Adam([W], lr=-1), ["Adam: expected lr to be a number of at least 0", "-1"]),
        (lambda: optim.Adam([W], betas=0.9), ["Adam: expected betas to be a pair", "0.9"]),
        (
            lambda: optim.Adam([W], betas=(0.9, 1)),
            ["beta2 to be", "at least 0 and below 1", "got 1"],
        ),
        (lambda: optim.Adam([W], betas=(-0.1, 0.9)), ["Adam: expected beta1", "-0.1"]),
        (lambda: optim.Adam([W], eps=-1), ["Adam: expected eps", "-1"]),
        (lambda: optim.Adam([W], amsgrad=1), ["Adam: expected amsgrad to be True or False", "1"]),
        (lambda: optim.AdamW([W], weight_decay="x"), ["AdamW: expected weight_decay", "'x'"]),
        (lambda: optim.RMSprop([W], alpha=1.0), ["RMSprop: expected alpha", "below 1", "1.0"]),
        (lambda: optim.RMSprop([W], eps=None), ["RMSprop: expected eps", "None"]),
        (lambda: optim.RMSprop([W], momentum=-1), ["RMSprop: expected momentum", "-1"]),
        (lambda: optim.RMSprop([W], centered=None), ["RMSprop: expected centered", "None"]),
        (lambda: optim.SGD([W], 0.1, nesterov="yes"), ["SGD: expected nesterov", "'yes'"]),
        (
            lambda: optim.SGD([{"params": [W], "decay": 0}], 1),
            ["SGD: expected", "among", "'decay'"],
        ),
        (
            lambda: optim.SGD([{"weights": [W]}], 1),
            ["SGD: expected groups", "'params'", "'weights'"],
        ),
        (lambda: optim.SGD([{"params": [W]}, W], 1), ["SGD: expected groups", "got Parameter"]),
        (lambda: optim.SGD([W], 1).last_step(np.ones(2)), ["SGD.last_step: expected", "ndarray"]),
        (lambda: optim.SGD([W], 1).last_step(tinynet.tensor(1.0)), ["SGD.last_step", "Tensor"]),
        (lambda: optim.clip_grad_norm([W], 0), ["clip_grad_norm: expected max_norm", "got 0"]),
        (lambda: optim.clip_grad_norm([W], math.nan), ["clip_grad_norm: expected", "got nan"]),
        (lambda: optim.clip_grad_norm([W], math.inf), ["clip_grad_norm: expected", "got inf"]),
        (lambda: optim.clip_grad_norm([W], True), ["clip_grad_norm: expected", "got True"]),
    ],
)
def test_wrong_calls(call, words):
    with pytest.raises(ValueError) as error:
        call()
    said = str(error.value)
    assert "\n" not in said and all(word in said for word in words), said


# The norm of all gradients


def with_grads(rng, *shapes, device="cpu"):
    parameters = [nn.Parameter(np.zeros(shape, np.float32), device=device) for shape in shapes]
    for p in parameters:
        p.grad = tinynet.tensor(rng.normal(size=p.shape).astype(np.float32), device=device)
    return parameters


def test_clip_grad_norm(rng, set_pieces):
    from tinynet.kernels import clip

    set_pieces(clip, "PIECE", 7)
    parameters = with_grads(rng, (3, 5), (4,)) + with_grads(rng, (2,), (), device="cpu:1")
    parameters.append(nn.Parameter(np.ones(3)))  # no gradient
    grads = [p.grad.numpy() for p in parameters[:4]]
    norm = math.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in grads))
    found = optim.clip_grad_norm(iter(parameters), 2 * norm)
    assert found.item() == pytest.approx(norm, rel=1e-14) and found.device == "cpu"
    assert found.shape == () and found.dtype == np.float64
    for p, g in zip(parameters, grads, strict=False):
        np.testing.assert_array_equal(p.grad.numpy(), g)  # within the limit: the same bits
    assert optim.clip_grad_norm(parameters, norm / 4).item() == pytest.approx(norm, rel=1e-14)
    for p, g in zip(parameters, grads, strict=False):
        np.testing.assert_allclose(p.grad.numpy(), g / 4, rtol=1e-6)
        assert p.grad.dtype == np.float32
    assert parameters[4].grad is None


@pytest.mark.parametrize("threads", [2, 3])
def test_the_norm_does_not_depend_on_the_number_of_threads(threads, rng):
    (p,) = with_grads(rng, (5, layout.PIECE))
    before, norms = tinynet.get_num_threads(), []
    for number in (1, threads):
        tinynet.set_num_threads(number)
        norms.append(optim.clip_grad_norm(p, 1e9).item())
    tinynet.set_num_threads(before)
    assert norms[0] == norms[1]


def test_clipping_of_special_gradients(rng):
    (p,) = with_grads(rng, (4,))
    p.grad.data[:] = 0
    assert optim.clip_grad_norm(p, 1.0).item() == 0
    p.grad.data[:] = 1e30  # the squares overflow in float32
    assert optim.clip_grad_norm(p, 1.0).item() == pytest.approx(2e30)
    np.testing.assert_allclose(p.grad.numpy(), 0.5, rtol=1e-6)
    for bad in (np.inf, np.nan):  # left as they are
        p.grad.data[:] = [3, bad, 5, 7]
        assert not math.isfinite(optim.clip_grad_norm(p, 1.0).item())
        np.testing.assert_array_equal(p.grad.numpy(), [3, bad, 5, 7])
    p.grad = None
    assert optim.clip_grad_norm([p], 1.0).item() == 0 == optim.clip_grad_norm([], 1.0).item()
    grad = rng.normal(size=(3, 4)).T  # of a layout of its own
    p = nn.Parameter(np.zeros((4, 3)))
    p.grad = tinynet.tensor(grad)
    norm = optim.clip_grad_norm(p, 1e-3).item()
    np.testing.assert_allclose(p.grad.numpy(), grad * 1e-3 / norm, rtol=1e-12, atol=1e-14)
