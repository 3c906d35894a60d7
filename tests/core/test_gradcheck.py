"""gradcheck itself: it must find what is wrong, say where, and not cry wolf."""

from __future__ import annotations

import re
import warnings
from contextlib import nullcontext

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import GradcheckError, gradcheck, nn
from tinynet.gradcheck import KinkWarning, PrecisionWarning, check, report
from tinynet.gradcheck.cases import CASES
from tinynet.gradcheck.layouts import like
from tinynet.gradcheck.numerical import Numerical, direction
from tinynet.gradcheck.subject import borrowed


def broken(backward, forward=lambda x: x * x):
    """A function whose backward is given: (dx as it should be, x) -> dx as it is."""

    class Broken(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return backward(2 * x * dy, x)

    return lambda picture: Broken.apply(picture)


@pytest.fixture
def x(rng):
    return rng.choice([-1, 1], (3, 4)) * rng.uniform(0.5, 1.5, (3, 4))


def test_what_is_wrong_is_counted_once():
    """Beside a kink, all inputs together are asked twice."""
    relu = broken(lambda dx, x: dx * np.nan, forward=lambda x: np.maximum(x, 0))
    with pytest.raises(GradcheckError, match="2 of 2 of all inputs together; the worst") as caught:
        gradcheck(relu, [np.array([0.0, 1, 2])])
    assert str(caught.value).count("all inputs together") == 1


def test_a_wrong_element_is_named_with_both_values(x):
    def one_wrong(dx, x):
        dx = dx.copy()
        dx[1, 2] *= 1.25
        return dx

    with pytest.raises(GradcheckError) as caught:
        gradcheck(broken(one_wrong), [x], atol=1e-7, rtol=0)
    text = str(caught.value)
    assert re.match(
        r"gradcheck: the gradient of picture\[1, 2\] is wrong: analytical (\S+), numerical (\S+); "
        r"absolute error \S+, "
        r"relative 0.25; allowed: 1e-07 \(complex step\)\n"
        r"  wrong: 1 of 12 of picture \(3, 4\), 2 of 2 of all inputs together; the worst of "
        r"picture, of the outputs weighted at random:\n",
        text,
    )
    assert text.count("\n") == 3  # one line of the table
    analytical, numerical = (
        float(v.strip(";,")) for v in re.findall(r"(?:analytical|numerical) (\S+)", text)[:2]
    )
    assert analytical == pytest.approx(1.25 * numerical)


def test_the_table_shows_the_worst_ten_worst_first(x):
    def wrong(dx, x):
        return dx + np.arange(12.0).reshape(3, 4)

    with pytest.raises(GradcheckError, match=r"picture\[2, 3\] is wrong") as caught:
        gradcheck(broken(wrong), [x])
    lines = str(caught.value).splitlines()
    assert "wrong: 11 of 12 of picture" in lines[1]
    assert [line.split("]")[0].strip() + "]" for line in lines[3:]] == [
        str([i // 4, i % 4]) for i in range(11, 1, -1)
    ]


def test_no_more_are_looked_at_twice_than_are_told(rng, monkeypatch):
    """By central differences, where the complex step found them wrong."""
    seen, central = [], Numerical.central
    monkeypatch.setattr(Numerical, "central", lambda self, u: seen.append(u) or central(self, u))
    with pytest.raises(GradcheckError, match="wrong: 30 of 30 of picture"):
        gradcheck(broken(lambda dx, x: 2 * dx), [rng.uniform(0.5, 1.5, 30)])
    assert len(seen) == report.WORST + check.TOGETHER


def test_what_is_right_by_its_own_tolerance_is_not_among_the_worst():
    """However large its difference: of a large gradient more is allowed."""
    square = broken(lambda dx, x: dx * [1.005, 1.5, 0.995, 2.5])
    sizes = tinynet.tensor([1000, 1, -2000, 2], np.float64)
    with pytest.raises(GradcheckError, match=r"picture\[3\] is wrong") as caught:
        gradcheck(lambda picture: (square(picture) * sizes).sum(), [np.ones(4)], rtol=0.01)
    lines = str(caught.value).splitlines()
    assert "wrong: 2 of 4 of picture" in lines[1]
    assert [line.split()[0] for line in lines[3:]] == ["[3]", "[1]"]


@pytest.mark.parametrize("error, noise, told", [(0.25, 0.0, 0.25), (0.01, 0.5, 0.5)])
def test_what_cannot_be_told_says_the_error_that_hides_it(error, noise, told):
    """That of the central differences, or the rounding of the function: the larger."""
    slopes = [check.Slope(1.0, e, "central differences", n) for e, n in ((0, 0), (error, noise))]
    ones = np.ones(2)
    c = report.Comparison("x", (2,), ["[0]", "[1]"], slopes, ones + [0, 0.2], ones, 0.1 * ones)
    with pytest.raises(GradcheckError, match=rf"x\[1\] cannot.* error of {told}, allowed is 0.1;"):
        report.verdict([c])


@pytest.mark.parametrize(
    "fault",
    [
        lambda dx, x: -dx,
        lambda dx, x: dx * 1.01,
        lambda dx, x: dx * 0,
        lambda dx, x: dx.T.reshape(dx.shape),
        lambda dx, x: np.roll(dx, 1, axis=0),
        lambda dx, x: dx * np.where(x > 0, 1, np.nan),
        lambda dx, x: dx + np.inf * (x == x[0, 0]),
    ],
)
@pytest.mark.parametrize("size", [(3, 4), (40, 30)])
def test_faults_are_found_in_small_and_in_large_inputs(fault, size, rng):
    x = rng.choice([-1, 1], size) * rng.uniform(0.5, 1.5, size)
    assert gradcheck(broken(lambda dx, x: dx), [x])
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(GradcheckError, match=r"picture\[\d+, \d+\] is wrong"),
    ):
        gradcheck(broken(fault), [x])


def test_an_infinite_element_is_the_only_wrong_one(x):
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(GradcheckError, match=r"wrong: 1 of 12 of picture"),
    ):
        gradcheck(broken(lambda dx, x: np.where(x == x[1, 2], np.inf, dx)), [x])


def test_one_wrong_element_among_thousands(rng):
    x = rng.uniform(0.5, 1.5, (60, 50))

    def fault(dx, x):
        dx = dx.copy()
        dx[17, 33] += 100
        return dx

    with pytest.raises(GradcheckError, match=r"picture\[17, 33\] is wrong"):
        gradcheck(broken(fault), [x])


def test_a_difference_that_no_single_element_shows(rng, monkeypatch):
    """Wrong along every direction, right in all elements looked at: the direction is named."""
    x = rng.uniform(0.5, 1.5, (100, 30))

    def fault(dx, x):  # the smallest of many, which are looked at by chance only
        dx = dx.copy()
        flat = np.argsort(np.abs(dx), axis=None)[:1]
        dx.reshape(-1)[flat] += 1e-3
        return dx

    monkeypatch.setattr(check, "SMALL", 2)
    with pytest.raises(
        GradcheckError, match=r"picture(\[\d+, \d+\]| along random direction \d+) is wrong"
    ):
        gradcheck(broken(fault), [x], atol=1e-9, rtol=0)


def test_a_function_that_is_not_analytic_gets_central_differences(rng):
    class Abs(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return np.abs(x)

        @staticmethod
        def backward(ctx, dy):
            return dy * np.sign(*ctx.saved_tensors)

    x = rng.choice([-1, 1], 5) * rng.uniform(0.5, 1.5, 5)
    assert gradcheck(lambda x: Abs.apply(x), [x])
    with pytest.raises(GradcheckError, match=r"\(central differences\)"):
        gradcheck(lambda x: Abs.apply(x) * broken(lambda dx, x: 1.5 * dx)(x), [x])

    def conjugate(x):  # complex in, complex out, but the derivative has the other sign
        return x.conj() * x

    assert gradcheck(broken(lambda dx, x: dx, forward=conjugate), [x])

    def real_only(x):
        return np.float64(x) * x if x.dtype == np.float64 else np.asarray(x.real)

    assert gradcheck(broken(lambda dx, x: dx, forward=lambda x: x.real * x), [x])
    with pytest.warns(PrecisionWarning, match="outputs of dtype float32 for .*, got float64; give"):
        widened = broken(lambda dx, x: dx, forward=lambda x: np.array(x, np.float64) * x)
        assert gradcheck(widened, [x])
    with pytest.warns(PrecisionWarning, match="in float32, where fn has other values"):
        assert gradcheck(broken(lambda dx, x: dx, forward=real_only), [x])


def test_kinks_are_told():
    with pytest.warns(
        KinkWarning,
        match=r"1 of 4 elements of x lie at a kink.*x\[1\] has slope 0 on the left and .*; "
        "what lies between, or 0, passes there",
    ):
        assert gradcheck(F.relu, [np.array([1.0, 0.0, -1.0, 1e-9])])
    with pytest.raises(
        GradcheckError, match="3 of 3 elements of x lie at a kink.*nothing is left to check"
    ):
        gradcheck(F.relu, [np.zeros(3)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(
            F.relu, [np.array([1.0, 3e-7, -1.0, -5e-7])]
        )  # near, but a smaller step sees past it
    with pytest.warns(KinkWarning, match="2 of 3 elements"):
        assert gradcheck(lambda x: x.max(), [np.array([1.0, 2.0, 2.0])])


@pytest.mark.parametrize("seed", [20, 126, 209, 405, 613])
def test_rounding_is_no_kink(seed):
    """Six below 0, 1 + tanh(x) keeps few digits and moves in steps: the one-sided slopes differ by
    rounding alone. These seeds once gave a kink, or a numerical gradient of 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fn, inputs in CASES["gelu"].make(np.random.default_rng(seed)):
            assert gradcheck(fn, inputs)


@pytest.mark.filterwarnings("error::RuntimeWarning")  # no word of a division by this 0
def test_a_kink_does_not_hide_a_wrong_gradient():
    class Relu(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return np.maximum(x, 0)

        @staticmethod
        def backward(ctx, dy):
            return dy

    with pytest.raises(GradcheckError, match=r"x\[1\] is wrong: analytical \S+, numerical 0;"):
        gradcheck(lambda x: Relu.apply(x), [np.array([0.0, -1.0, 2.0])])


def test_what_may_be_off_adds_up_whatever_the_sign():
    """Errors and noise of outputs, and how far apart the bounds are at kinks: no v of the other
    sign takes any of it away.
    """
    x = np.array([0.3, 0.0, 0.0, 1.1])

    def fn(x):  # kinks; and what is rounded to some ten digits
        return tinynet.concat([F.relu(x) * F.exp(x), F.exp(x) + 1e3 - 1e3])

    rng = np.random.default_rng(0)
    with borrowed(fn, [x]) as subject:
        v = rng.uniform(0.5, 1.5, 2 * x.size)
        numerical = Numerical(subject, v, check.EPS, rng)
        u = direction({0: np.array([1.0, -1.0, 1.0, 1.0])}, subject)
        of_v = numerical.central(u)
        assert of_v.kink and of_v.error > 0 and of_v.noise > 0
        for signs in ([1, -1] * 4, [-1, -1, 1, 1] * 2, [-1] * 8):
            other = numerical.upstream(v * signs).central(u)
            assert (other.error, other.noise) == pytest.approx((of_v.error, of_v.noise))
            assert other.high - other.low == pytest.approx(of_v.high - of_v.low)


def test_steep_and_strongly_bent_functions():
    assert gradcheck(lambda x: (x * 50).exp(), [np.array([0.1, -0.2])])
    assert gradcheck(lambda x: (x * 1e6) ** 2, [np.array([1.0, -2.0])])

    class Bent(tinynet.Function):  # no complex numbers; second derivative 1e6
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return 5e5 * np.square(x if x.dtype.kind == "f" else None)

        @staticmethod
        def backward(ctx, dy):
            return 1e6 * ctx.saved_tensors[0] * dy

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(lambda x: Bent.apply(x), [np.array([1e-4, 2.0])])


@pytest.mark.parametrize("beside", [tinynet.tensor([2.0, -3.0]), np.ones((0, 2))])
def test_only_inputs_to_be_checked_must_take_complex_numbers(beside):
    """A conjugate does not, as its derivative tells; and of no numbers there is none."""
    length = broken(None, lambda x: np.sum(x * x.conj()))
    with borrowed(lambda a, b: a * length(b), [np.ones(2), beside]) as subject:
        numerical = Numerical(subject, np.ones(2), check.EPS, np.random.default_rng(0))
    assert numerical.method == "complex step"


@pytest.mark.parametrize(
    "fn, x, sizes, steps",
    [
        (lambda x: x * x, 0.5, [1], 3),
        (lambda x: x * x, 2.0, [2], 3),
        (lambda x: x * 0 + 1, 0.5, [1], 3),  # nothing moves
        (lambda x: x.log(), 1e-10, [1, 1e-10], 8 + 3),
        (lambda x: x + 1e8 - 1e8, 2.0, [2], 8),  # nothing better is to be found
        (lambda x: x + 1e8 - 1e8, 0.5, [1, 0.5], 8 + 8),
    ],
)
def test_central_differences_take_no_more_steps_than_they_need(fn, x, sizes, steps, monkeypatch):
    """Small ones only where the large ones found no slope, and none after a good one."""

    def sizes_of(name):
        seen, own = [], getattr(Numerical, name)

        def spy(self, u, size, *rest):
            seen.append(size)
            return own(self, u, size, *rest)

        monkeypatch.setattr(Numerical, name, spy)
        return seen

    with borrowed(fn, [np.array(x)]) as subject, np.errstate(all="ignore"):
        numerical = Numerical(subject, np.ones(1), check.EPS, np.random.default_rng(0))
        began, moved = sizes_of("_approach"), sizes_of("_moved")
        numerical.central({0: np.array(1.0)})
    assert began == pytest.approx(sizes) and len(moved) == 2 * steps


def test_upstream_gradients_are_random():
    """All ones would let a softmax without any backward pass."""

    class Softmax(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return np.exp(x) / np.exp(x).sum()

        @staticmethod
        def backward(ctx, dy):
            return dy * 0

    with pytest.raises(GradcheckError):
        gradcheck(lambda x: Softmax.apply(x), [np.array([0.1, 0.5, -0.3])])


def test_every_input_output_and_parameter_is_checked(rng):
    def second_output_wrong(x):
        return x * 2, broken(lambda dx, x: dx * 2)(x)

    with pytest.raises(GradcheckError):
        gradcheck(second_output_wrong, [rng.uniform(1, 2, 3)])
    with pytest.raises(GradcheckError, match=r"the gradient of input 1\[\d\] is wrong"):
        gradcheck(lambda *xs: xs[0] * broken(lambda dx, x: dx * 2)(xs[1]), [np.ones(2), np.ones(2)])
    with pytest.raises(GradcheckError, match=r"wrong: 2 of 2 of a \(2,\), 2 of 2 of b \(2,\),"):
        gradcheck(lambda a, b: broken(lambda dx, x: dx * 2)(a * b), [np.ones(2), np.ones(2)])

    class Layer(nn.Module):
        def __init__(self):
            self.gain = nn.Parameter(np.ones(2, np.float32))
            self.frozen = nn.Parameter(np.ones(2, np.float32))
            self.frozen.requires_grad = False

        def forward(self, x):
            frozen = broken(lambda dx, x: 0 * dx)(self.frozen)  # not checked
            return x * broken(lambda dx, x: dx * self.fault)(self.gain) * frozen

    layer = Layer()
    layer.fault = 1
    layer.gain.grad = tinynet.tensor([5.0, 5.0])
    data, grad = layer.gain.data, layer.gain.grad
    assert gradcheck(layer, [np.ones(2)])
    assert layer.gain.data is data and layer.gain.grad is grad and data.dtype == np.float32
    assert gradcheck(layer, np.ones(2))
    layer.fault = 2
    with pytest.raises(GradcheckError, match=r"the gradient of gain\[\d\]"):
        gradcheck(layer, [np.ones(2)])
    assert layer.gain.data is data and layer.gain.grad is grad


def test_a_network_with_dropout(rng):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(8, 3)
    )
    state = tinynet.random.get_state()
    assert gradcheck(net, [rng.normal(size=(2, 1, 4, 4))])
    assert tinynet.random.get_state() == state


class Norm(nn.Module):
    """(x - mean over the batch) * gain + what the running mean was: it changes with each call."""

    def __init__(self, update, fault=1):
        self.gain = nn.Parameter(np.array([2.0, 3.0], np.float32))
        self.mean = nn.Buffer(np.array([5.0, 7.0], np.float32))
        self.calls = nn.Buffer(np.array(3))
        self.update, self.fault = update, fault

    def forward(self, x):
        mean = x.mean(0)
        y = (x - mean) * broken(lambda dx, x: dx * self.fault)(self.gain) + self.mean
        self.calls.data[...] += 1
        tinynet.random.next_call()  # as dropout draws
        self.update(self.mean, mean)
        return y


def replace(buffer, mean):
    buffer.data = 0.9 * buffer.data + 0.1 * mean.data  # complex in the complex step


def write(buffer, mean):
    buffer.data *= 0.9
    buffer.data += 0.1 * mean.data


def fail(buffer, mean):
    replace(buffer, mean)
    raise KeyError


@pytest.mark.parametrize(
    "update, fault, raises",
    [(replace, 1, None), (write, 1, None), (write, 2, GradcheckError), (fail, 1, KeyError)],
)
def test_buffers_are_put_back(update, fault, raises, rng):
    layer = Norm(update, fault)
    mean, calls = layer.mean.data, layer.calls.data
    tinynet.manual_seed(7)
    before = tinynet.random.get_state()
    with pytest.raises(raises) if raises else nullcontext():
        assert gradcheck(layer, rng.normal(size=(4, 2)))
    assert layer.mean.data is mean and mean.dtype == np.float32 and mean.tolist() == [5, 7]
    assert layer.calls.data is calls and calls.tolist() == 3 and layer.mean.grad is None
    assert tinynet.random.get_state() == before


def test_inputs_of_any_layout_keep_it(rng, monkeypatch):
    seen = []

    def real_only(x):
        if x.dtype.kind == "c":
            raise TypeError
        return look(x)

    def look(x):
        seen.append((x.shape, x.data.strides))
        return x * x

    base = rng.normal(size=(6, 8))
    for array in (
        base[::2, ::-1],
        base.T[:3],
        np.broadcast_to(base[0], (2, 8)),
        base[1],
        np.float64(base)[..., None],
    ):
        seen.clear()
        assert gradcheck(look, [array])
        assert seen[0][1] == array.strides or 0 in array.strides
    monkeypatch.setattr(check, "check_consistency", lambda consistency: None)  # it has other orders
    for array in (base[::2, ::-1], base.T[:3]):
        for fn in (look, real_only):  # the complex step, and central differences
            seen.clear()
            assert gradcheck(fn, [array])
            twice = tuple(2 * s for s in array.strides)  # of complex numbers
            assert {strides for _, strides in seen} <= {array.strides, twice}
    overlapping = np.lib.stride_tricks.sliding_window_view(base[0], 3)
    assert gradcheck(look, [overlapping])
    single = base.astype(np.float32)[:, ::-2]
    assert like(single, single.astype(np.float64)).strides == (64, -16)
    assert gradcheck(look, [tinynet.tensor(single, requires_grad=True)])


def test_an_input_that_has_no_influence_has_gradient_zero():
    assert gradcheck(lambda a, b: a * 2, [np.ones(3), np.ones(2)])
    assert gradcheck(lambda a, b: a * 2, [np.ones(3), np.ones((0, 2))])


def test_a_jump_does_not_excuse_everything():
    x = np.array([0.5, 1.5])
    jump = broken(lambda dx, x: 1.5 * dx, forward=lambda x: x * x + (x == 1.5))
    with pytest.raises(GradcheckError):
        gradcheck(jump, [x])


def test_inputs_that_are_not_checked_are_handed_on():
    target = np.array([0, 2])
    assert gradcheck(F.cross_entropy, [np.ones((2, 3)), target, "sum"])
    fixed = tinynet.tensor([1.0, 2.0, 3.0])
    assert gradcheck(
        lambda a, b: a * b, [np.ones(3), fixed]
    )  # taken as float64, with no gradient asked


class Scan:
    forward = True  # a direction, and no method

    def __call__(self, x):
        return x * x


def test_a_function_that_does_not_name_its_arguments_is_checked():
    assert gradcheck(getattr, [np.ones((2, 3)), "T"])
    assert gradcheck(Scan(), [np.ones(2)])


def test_other_devices():
    x = tinynet.tensor(np.linspace(-1, 1, 6), device="cpu:1", requires_grad=True)
    assert gradcheck(lambda x: ((x * x).to("cpu:0"), x), [x])


def test_the_worst_error_is_of_what_was_checked():
    """Relative to the largest gradient, which does not lie at the kink."""

    class Steep(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return np.where([True, False], 1e6 * np.maximum(x, 0), x)

        @staticmethod
        def backward(ctx, dy):
            return dy * np.array([1e6, 1.001])

    with pytest.warns(KinkWarning):
        error = check.worst_error(Steep.apply, [np.array([0.0, 1.0])], rtol=0.01)
    assert error == pytest.approx(1e-3, rel=1e-3)


def test_the_worst_error_is_no_mean():
    class Nearly(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, dy):
            return dy * 2.002

    error = check.worst_error(Nearly.apply, [np.ones(5)], rtol=0.01)
    assert error == pytest.approx(1e-3, rel=1e-3)


def test_the_worst_error_is_absolute_where_the_gradient_is_0():
    slopes, zero = [check.Slope(0.0, 0.0, "complex step")], np.zeros(1)
    c = report.Comparison("x", (1,), ["[0]"], slopes, zero + 1e-3, zero, zero + 0.01)
    assert report.verdict([c]) == 1e-3


@pytest.mark.parametrize("sum", [1e-4, 1e-6, 1e-8, 0])
def test_a_sum_that_cancels_is_compared_in_float32(sum, rng):
    """One seed in some hundreds: the loss of a few random numbers is as small as a float32's last
    digit of them."""
    x = rng.normal(size=5)
    x[0] += sum - x.sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(lambda x: x.sum(), [x])


def test_a_forgotten_return_and_what_fn_gave_are_named():
    with pytest.raises(GradcheckError, match="0 or None for all of picture: is there a return"):
        gradcheck(broken(lambda dx, x: (None,)), [np.ones(3)])
    with pytest.raises(RuntimeError, match="^Broken.backward: expected a gradient, got None"):
        gradcheck(broken(lambda dx, x: None), [np.ones(3)])
    with pytest.raises(ValueError, match="floats.*got ndarray of int64"):
        gradcheck(lambda x: x * 2, [np.ones(3, np.int64)])
    with pytest.raises(TypeError, match="expected fn to return a tensor or several, got ndarray"):
        gradcheck(lambda x: (x * 2).numpy(), [np.ones(3)])
