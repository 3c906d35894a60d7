"""Values at the edge: NaN, 0 to a power, axes without elements. What they give is torch's; its
values stand here (PyTorch 2.13).
"""

from __future__ import annotations

import warnings
from operator import add, mul, sub, truediv

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet.operations import OPERATIONS

nan, inf = np.nan, np.inf


def leaf(values, **options):
    return tinynet.tensor(values, requires_grad=True, **options)


def test_nan_through_relu():
    x = leaf([nan, 1.0, 0.0, -1.0])
    y = F.relu(x)
    y.sum().backward()
    np.testing.assert_array_equal(y.data, np.float32([nan, 1, 0, 0]))
    np.testing.assert_array_equal(x.grad.data, [1, 1, 0, 0])


def test_nan_through_a_relu_inside_other_operations():
    """dy passes where y is a NaN: seen in the gradient of the bias."""
    x, w = tinynet.tensor([[nan], [1.0], [-1.0]]), tinynet.tensor([[1.0]])
    b = leaf([0.0])
    F.linear(x, w, b, relu=True).sum().backward()
    assert b.grad.item() == 2
    b.zero_grad()
    pictures = x.reshape(3, 1, 1, 1)
    F.conv2d(pictures, w.reshape(1, 1, 1, 1), b, relu=True).sum().backward()
    assert b.grad.item() == 2
    b.zero_grad()
    zeros, ones = tinynet.tensor([0.0]), tinynet.tensor([1.0])
    F.batch_norm(x, zeros, ones, ones, b, training=False, relu=True).sum().backward()
    assert b.grad.item() == 2


def test_nan_through_maximum():
    a, b = leaf([nan, 1.0, 2.0, nan, 3.0]), leaf([1.0, nan, 2.0, nan, 1.0])
    F.maximum(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad.data, [1, 1, 0.5, 1, 1])
    np.testing.assert_array_equal(b.grad.data, [1, 1, 0.5, 1, 0])


def test_nan_through_max():
    x = leaf([[1.0, nan, nan], [1.0, 2.0, 2.0]])
    x.max().backward()
    np.testing.assert_array_equal(x.grad.data, [[0, 0.5, 0.5], [0, 0, 0]])
    x.zero_grad()
    y = x.max(1)
    y.sum().backward()  # torch's amax gives a row of NaN; here a row is what max gives it alone
    np.testing.assert_array_equal(y.data, np.float32([nan, 2]))
    np.testing.assert_array_equal(x.grad.data, [[0, 0.5, 0.5], [0, 0.5, 0.5]])


@pytest.mark.parametrize(
    "p, gradient",
    [
        (0, [0, 0]),
        (0.0, [0, 0]),
        (1, [1, 1]),
        (2, [0, 4]),
        (3.0, [0, 12]),
        (0.5, [inf, 2**-1.5]),
        (-1, [-inf, -0.25]),
    ],
)
def test_powers_at_zero(p, gradient):
    x = leaf([0.0, 2.0])
    with np.errstate(divide="ignore"):
        (x**p).sum().backward()
    np.testing.assert_allclose(x.grad.data, np.float32(gradient), rtol=1e-6)


def test_powers_of_numbers_of_either_sign():
    x, p = leaf([-2.0, 0.0, 2.0]), leaf([2.0, 2.0, 2.0])
    with np.errstate(invalid="ignore"):
        (x**p).sum().backward()
    np.testing.assert_allclose(x.grad.data, [-4, 0, 4])
    np.testing.assert_allclose(p.grad.data, [nan, 0, 4 * np.log(2)], rtol=1e-6)


def test_anything_to_the_power_0_is_1_and_has_the_gradient_0():
    for zero in (0, tinynet.zeros(5), tinynet.zeros(5, dtype="uint8"), [0.0] * 5):
        x = leaf([-2.0, 0.0, 2.0, inf, nan])
        y = x**zero
        y.sum().backward()
        assert y.tolist() == [1] * 5 and x.grad.tolist() == [0] * 5


def test_0_to_any_power_that_is_not_below_0_has_the_gradient_0_by_it():
    p = leaf([0.0, 0.5, 1.0, 3.0])
    (tinynet.zeros(4, dtype=p.dtype) ** p).sum().backward()
    assert p.grad.tolist() == [0] * 4


@pytest.mark.parametrize("operation", [F.softmax, F.log_softmax])
@pytest.mark.parametrize("shape", [(3, 0), (0, 3), (0,), (2, 0, 3)])
def test_softmax_over_an_axis_without_elements(operation, shape):
    for dim in range(-1, len(shape)):
        x = leaf(np.zeros(shape, np.float32))
        y = operation(x, dim)
        y.sum().backward()
        assert y.shape == x.grad.shape == shape and y.dtype == np.float32


@pytest.mark.parametrize("operation", [add, sub, mul, truediv, F.maximum])
@pytest.mark.parametrize(
    "a, b", [((3, 1), (3, 0)), ((1,), (0,)), ((2, 1, 1), (0, 4)), ((), (0, 2)), ((1, 1), (1, 0))]
)
def test_broadcast_against_an_axis_without_elements(operation, a, b):
    """The gradient of what was repeated zero times is a sum of nothing, in the operand's shape."""
    for first, second in ((a, b), (b, a)):
        x, y = leaf(np.ones(first, np.float32)), leaf(np.ones(second, np.float32))
        z = operation(x, y)
        assert z.size == 0
        z.sum().backward()
        assert x.grad.shape == first and y.grad.shape == second
        assert not x.grad.data.any() and not y.grad.data.any()


def test_an_infinite_gradient_where_it_is_not_chosen():
    """The slope of a root is infinite at 0: nothing of it may come to what was not chosen."""
    x = leaf([4.0, -1.0])
    with np.errstate(divide="ignore"):
        tinynet.where(x > 0, x, 0.0).sqrt().sum().backward()
    np.testing.assert_array_equal(x.grad.data, [0.25, 0])
    x.zero_grad()
    a, condition = leaf([1.0, 2.0]), x > 0
    tinynet.where(condition, a, x).backward([inf, -inf])
    np.testing.assert_array_equal(a.grad.data, [inf, 0])
    np.testing.assert_array_equal(x.grad.data, [0, -inf])
    for dtype in ("float32", "float64"):
        x = leaf([[[[1.0, 2.0], [4.0, 3.0]]]], dtype=dtype)
        F.max_pool2d(x, 2).backward([[[[inf]]]])
        np.testing.assert_array_equal(x.grad.data, [[[[0, 0], [inf, 0]]]])


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_limits_and_borders_of_whole_numbers(kind):
    """What no whole number of the kind can be is no limit, and no border."""
    x, ends = tinynet.tensor([1, 2, 3], dtype=kind), np.iinfo(kind)
    for limits, expected in (
        ((-inf, inf), [1, 2, 3]), ((-inf, 2), [1, 2, 2]), ((2, inf), [2, 2, 3]),
        ((ends.min - 1, ends.max + 1), [1, 2, 3]), ((None, ends.min - 5), [ends.min] * 3),
        ((ends.max + 5, None), [ends.max] * 3), ((2.0, None), [2, 2, 3]),
    ):  # fmt: skip
        y = x.clip(*limits)
        assert y.dtype == kind and y.tolist() == expected, limits
    assert x.clip(1.5, inf).tolist() == [1.5, 2, 3] and x.clip(1, 2.5).dtype == np.float32
    with pytest.raises(ValueError, match="clip: expected limits that are numbers, got a NaN"):
        x.clip(nan, 3)
    for value in (ends.min, ends.max, True, 2.0):
        assert F.pad(x, (0, 1), value).tolist() == [1, 2, 3, int(value)]
    for value in (ends.min - 1, ends.max + 1, 0.5, nan, inf):
        with pytest.raises(ValueError, match=f"pad: expected a value that {kind} can hold"):
            F.pad(x, (1, 0), value)
    assert F.pad(x > 1, (1, 0), 1).tolist() == [True, False, True, True]
    with pytest.raises(ValueError, match="pad: expected a value that bool can hold, got 2"):
        F.pad(x > 1, (1, 0), 2)
    with pytest.raises(TypeError, match="pad: expected value to be a number, got NoneType"):
        F.pad(x, (1, 0), None)


@pytest.mark.parametrize("name", ["argmax", "argmin", "max", "min"])
def test_the_largest_of_nothing_is_refused(name):
    for shape, axes in (((2, 0), (None, 1, -1)), ((0, 2), (None, 0)), ((0,), (None, 0))):
        for axis in axes:
            with pytest.raises(ValueError, match=f"{name}: expected at least one element along"):
                getattr(tinynet.zeros(shape), name)(axis)
    assert getattr(tinynet.zeros(0, 2), name)(1).shape == (0,)


def test_a_tensor_without_elements_is_neither_true_nor_false():
    for shape in ((0,), (2, 0), (2,)):
        with pytest.raises(ValueError, match=r"bool\(\): expected a tensor of one element"):
            bool(tinynet.zeros(*shape))
    assert bool(tinynet.ones(1, 1)) and not bool(tinynet.zeros(()))


def test_axes_that_are_none_or_named_twice():
    x = tinynet.zeros(2, 3)
    for name in ("sum", "mean", "max", "all", "squeeze"):
        for axis in ((0, 0), (0, -2), [1, -1], 2, -3, True, 0.0, (0, 2)):
            with pytest.raises(ValueError, match="axis"):
                getattr(x, name)(axis)


def test_parts_of_a_split():
    x = tinynet.zeros(3, 0)
    assert [part.shape for part in x.split(2, 1)] == [(3, 0)]  # also of nothing one part
    assert [part.shape for part in x.split([0, 3], 0)] == [(0, 0), (3, 0)]
    for sizes in ([4, -1], [1, 1], 0, -1, True, [], 1.0):
        with pytest.raises(ValueError, match="split: expected a size above 0, or sizes that add"):
            x.split(sizes, 0)


@pytest.mark.parametrize("p", [0, -1, 0.0, True, "2", nan])
def test_powers_of_a_norm_are_above_0(p):
    with pytest.raises(ValueError, match="norm: expected p, a number above 0"):
        tinynet.ones(2).norm(p)


def test_relu_in_place_of_a_leaf():
    """Refused only where the tape would need the values that are gone."""
    x = leaf([1.0, -1.0])
    with pytest.raises(RuntimeError, match="relu: a leaf"):
        F.relu(x, inplace=True)
    assert x.tolist() == [1, -1]
    with tinynet.no_grad():
        assert F.relu(x, inplace=True).data is x.data and x.tolist() == [1, 0]
    plain = tinynet.tensor([1.0, -1.0])
    assert F.relu(plain, inplace=True).data is plain.data


x4, w4 = tinynet.ones(1, 2, 6, 6), tinynet.ones(2, 2, 3, 3)
WHOLE = {
    "conv2d stride": lambda v: F.conv2d(x4, w4, stride=v),
    "conv2d padding": lambda v: F.conv2d(x4, w4, padding=(0, v)),
    "conv2d dilation": lambda v: F.conv2d(x4, w4, dilation=v),
    "conv2d groups": lambda v: F.conv2d(x4, w4, groups=v),
    "conv2d_each stride": lambda v: F.conv2d_each(x4, [w4], stride=v),
    "conv_transpose2d stride": lambda v: F.conv_transpose2d(x4, w4, stride=v),
    "conv_transpose2d output_padding": lambda v: F.conv_transpose2d(
        x4, w4, stride=3, output_padding=v
    ),
    "max_pool2d kernel_size": lambda v: F.max_pool2d(x4, v),
    "max_pool2d stride": lambda v: F.max_pool2d(x4, 2, v),
    "avg_pool2d padding": lambda v: F.avg_pool2d(x4, 2, padding=v),
    "adaptive_avg_pool2d output_size": lambda v: F.adaptive_avg_pool2d(x4, v),
    "interpolate scale_factor": lambda v: F.interpolate(x4, v),
    "local_response_norm size": lambda v: F.local_response_norm(x4, v),
    "spatial_response_norm size": lambda v: F.spatial_response_norm(x4, v),
    "layer_norm normalized_shape": lambda v: F.layer_norm(tinynet.ones(2, 1), v),
    "attention heads": lambda v: F.attention(x4[0], x4[0], x4[0], v),
    "pad pad": lambda v: F.pad(x4, (v, 0)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_counts_something_is_a_whole_number(name):
    operation, option = name.split()
    WHOLE[name](1)
    WHOLE[name](np.int32(1))
    least = 0 if "padding" in option or option == "pad" else 1
    for value in (True, 1.0, "1", None, least - 1):
        if value is None and option in ("stride",) and "pool" in operation:
            continue  # the kernel's
        with pytest.raises((ValueError, TypeError), match=f"{operation}: expected {option}"):
            WHOLE[name](value)
    if least == 0:
        WHOLE[name](0)


def test_pictures_of_one_pixel_and_of_none():
    x, w = tinynet.full((1, 1, 1, 1), 3.0), tinynet.ones(1, 1, 3, 3)
    for y, shape in (
        (F.conv2d(x, w, padding=1), (1, 1)),
        (F.conv_transpose2d(x, w), (3, 3)),
        (F.max_pool2d(x, 1), (1, 1)),
        (F.avg_pool2d(x, 2, padding=1, count_include_pad=False), (1, 1)),
        (F.adaptive_avg_pool2d(x, (2, 3)), (2, 3)),
        (F.interpolate(x, (2, 3)), (2, 3)),
        (F.local_response_norm(x, 1, alpha=0.0), (1, 1)),
        (F.spatial_response_norm(x, 1, alpha=0.0), (1, 1)),
    ):
        assert y.shape == (1, 1, *shape) and (y.numpy() == 3).all()
    for shape in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="a picture of at least 1x1"):
            F.adaptive_avg_pool2d(tinynet.zeros(1, 1, *shape), 2)


@pytest.mark.parametrize(
    "place, count",
    [
        *((place, 300) for place in (0, 127, 128, 254, 255, 256, 299)),
        (65535, 65600),
        (65536, 65600),
    ],
)
def test_a_gradient_finds_its_place_among_many(place, count):
    """Of a window, elements, words, classes: also where a place does not fit in a byte, or two."""
    values = np.linspace(-2, -1, count)
    values[place] = 1
    expected = np.arange(count) == place
    row, words, logits = leaf(values), leaf(values[:, None]), leaf(values[None])
    window = leaf(values[:300].reshape(1, 1, 15, 20))
    for x, y in (
        *([(window, F.max_pool2d(window, (15, 20)))] if count == 300 else []),
        (row, row.max()),
        (row, row[[place]]),
        (words, F.embedding([place], words)),
        (logits, -F.nll_loss(logits, [place])),
    ):
        x.grad = None
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy().ravel(), expected)
    logits.grad = None
    F.cross_entropy(logits, [place]).backward()
    shares = np.exp(values) / np.exp(values).sum()
    np.testing.assert_allclose(logits.grad.numpy()[0], shares - expected, rtol=1e-12, atol=1e-15)


def test_what_just_fits_and_what_just_does_not():
    with pytest.raises(ValueError, match="expected output_padding below stride"):
        F.conv_transpose2d(x4, w4, stride=2, output_padding=(1, 2))
    F.conv_transpose2d(x4, w4, stride=2, output_padding=1)
    assert F.conv2d(x4, w4, dilation=(2, 1), padding=(0, 1)).shape == (1, 2, 2, 6)
    with pytest.raises(ValueError, match="fits the padded picture"):
        F.conv2d(x4, w4, dilation=(3, 1))
    for pool in (F.max_pool2d, F.avg_pool2d):
        assert pool(x4, 6).shape == (1, 2, 1, 1) and pool(x4, 7, padding=1).shape == (1, 2, 1, 1)
        assert pool(x4, 7, ceil_mode=True).shape == (1, 2, 1, 1)  # hangs over the edge
        with pytest.raises(ValueError, match="fits the padded picture"):
            pool(x4, 7)
        with pytest.raises(ValueError, match="at most half the kernel"):
            pool(x4, 3, padding=2)
        with pytest.raises(ValueError, match="expected stride to be an integer of at least 1"):
            pool(x4, 2, 0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(tinynet.ones(1, 3), None, None, training=True)
    y = F.batch_norm(tinynet.tensor([[[1.0, 3.0]]]), None, None, training=True, eps=0.0)
    assert y.tolist() == [[[-1, 1]]]  # one picture of two pixels
    logits = leaf([[0.0, 0.0]])
    for e in (0.0, 1.0):
        loss = F.cross_entropy(logits, [1], label_smoothing=e)
        assert loss.item() == pytest.approx(np.log(2))
    for e in (-1e-9, 1 + 1e-9, nan):
        with pytest.raises(ValueError, match="label_smoothing in 0 ... 1"):
            F.cross_entropy(logits, [1], label_smoothing=e)
    for target, worst in (([2], 2), ([-1], -1), ([5], 5)):
        with pytest.raises(ValueError, match=f"targets in 0 ... 1, .*, got {worst}$"):
            F.cross_entropy(logits, target)
    for target in ([True], [1.0], [[1]], [1, 1]):
        with pytest.raises(ValueError, match="expected target of shape"):
            F.cross_entropy(logits, target)


VECTORS = {  # what has this shape and no other, though others would broadcast
    "linear bias": ((2,), lambda v: F.linear(tinynet.ones(3, 4), tinynet.ones(2, 4), v)),
    "conv2d bias": ((2,), lambda v: F.conv2d(x4, w4, v)),
    "conv2d_each bias": ((2,), lambda v: F.conv2d_each(x4, [w4], [v])),
    "conv_transpose2d bias": ((2,), lambda v: F.conv_transpose2d(x4, w4, v)),
    "batch_norm weight": ((2,), lambda v: F.batch_norm(x4, None, None, v, training=True)),
    "batch_norm bias": ((2,), lambda v: F.batch_norm(x4, None, None, None, v, training=True)),
    "batch_norm running_mean": ((2,), lambda v: F.batch_norm(x4, v, tinynet.ones(2))),
    "batch_norm running_var": ((2,), lambda v: F.batch_norm(x4, tinynet.ones(2), v)),
    "layer_norm weight": ((6, 6), lambda v: F.layer_norm(x4, (6, 6), v)),
    "layer_norm bias": ((6, 6), lambda v: F.layer_norm(x4, (6, 6), None, v)),
}


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_is_broadcast_in_silence(name):
    shape, call = VECTORS[name]
    call(tinynet.ones(*shape))
    for wrong in ((1, *shape), (*shape, 1), shape[1:], (1,) * len(shape), (3 * shape[0], *shape)):
        with pytest.raises(ValueError, match=f"{name.replace(' ', ': .*')} of shape"):
            call(tinynet.ones(*wrong) if wrong else tinynet.tensor(1.0))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_each_weight_of_several_convolutions_is_checked(place):
    wrong = [
        (tinynet.ones(2, 3, 3, 3), None, "channels"), (tinynet.ones(2, 2, 3, 2), None, "one size"),
        (w4.astype("float64"), None, "dtype"), (w4, tinynet.ones(3), "bias of shape"),
        (w4[0], None, "shape"), (w4.numpy(), None, "tensor"),
    ]  # fmt: skip
    for weight, bias, said in wrong:
        weights, biases = [w4] * 3, [None] * 3
        weights[place], biases[place] = weight, bias
        with pytest.raises((ValueError, TypeError), match=f"conv2d_each: .*{said}"):
            F.conv2d_each(x4, weights, biases)


@pytest.mark.parametrize("turn", [1, -1])
def test_each_side_is_held_to_its_own_limit(turn):
    """Not to the larger of two."""
    side = tinynet.ones(1, 2, *(6, 9)[::turn])
    for call, least, most in (
        (lambda p: F.conv_transpose2d(x4, w4, stride=(2, 4)[::turn], output_padding=p), 0, (1, 3)),
        (lambda p: F.max_pool2d(x4, (2, 4)[::turn], padding=p), 0, (1, 2)),
        (lambda p: F.avg_pool2d(x4, (2, 4)[::turn], padding=p), 0, (1, 2)),
        (lambda p: F.max_pool2d(side, p), 1, (6, 9)),
        (lambda p: F.avg_pool2d(side, p), 1, (6, 9)),
        (lambda p: F.conv2d(side, w4, dilation=p), 1, (2, 4)),
    ):
        call(most[::turn])
        with pytest.raises(ValueError, match="expected"):
            call((most[0] + 1, least)[::turn])
        with pytest.raises(ValueError, match="expected"):
            call((least, most[1] + 1)[::turn])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "where"])
def test_two_shapes_that_do_not_fit_are_told(name):
    call = OPERATIONS[name].call
    given = [leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0])]
    given[:0] = [given[0] > 0] if name == "where" else []
    with pytest.raises(ValueError, match=rf"^{name}: expected shapes .*\(2,\) and \(3,\)$"):
        call(*given)


@pytest.mark.parametrize("by", [1e3, -1e3, 1e5, -1e5])
def test_what_all_have_in_common_does_not_count(by, rng):
    """softmax and what is made of it: of x + c as of x, whatever its size and sign."""
    a = rng.normal(size=(3, 4))
    for function in (
        F.softmax, F.log_softmax, lambda x: F.cross_entropy(x, [0, 3, 1], "none"),
        lambda x: F.cross_entropy(x, [0, 3, 1], "none", 0.3),
    ):  # fmt: skip
        found = []
        for x in (leaf(a), leaf(a + by)):
            y = function(x)
            (y * y).sum().backward()
            found.append((y.numpy(), x.grad.numpy()))
        for ours, theirs in zip(*found, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("sure", [0, 1])
def test_the_small_loss_of_a_sure_answer_has_all_its_digits(sure):
    x, answer = np.array([-1.0, -20.0, -40.0]), np.full(3, sure)
    for dtype, exact in (("float64", 1e-14), ("float32", 3e-7)):
        logits = tinynet.tensor(-x if sure else x, dtype)
        found = F.bce_with_logits(logits, tinynet.tensor(answer, dtype), "none")
        np.testing.assert_allclose(found.numpy(), np.log1p(np.exp(x)), rtol=exact)


EXTREME = {
    "sigmoid": (F.sigmoid, [0, 0.5, 1]), "tanh": (F.tanh, [-1, 0, 1]),
    "relu": (F.relu, [0, 0, 1e4]), "leaky_relu": (F.leaky_relu, [-100, 0, 1e4]),
    "elu": (F.elu, [-1, 0, 1e4]), "gelu": (F.gelu, [0, 0, 1e4]),
    "gelu tanh": (lambda x: F.gelu(x, "tanh"), [0, 0, 1e4]), "erf": (tinynet.erf, [-1, 0, 1]),
    "softmax": (F.softmax, [0, 0, 1]), "log_softmax": (F.log_softmax, [-2e4, -1e4, 0]),
    "cross_entropy": (lambda x: F.cross_entropy(x, 0), 2e4),
    "bce_with_logits": (lambda x: F.bce_with_logits(x, x.detach() * 0 + 1, "none"),
                        [1e4, np.log(2), 0]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", EXTREME)
def test_large_numbers_neither_warn_nor_become_nan(name, dtype):
    operation, expected = EXTREME[name]
    x = leaf([-1e4, 0.0, 1e4], dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = operation(x)
        y.backward(np.ones(y.shape))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    assert np.isfinite(x.grad.numpy()).all() and y.dtype == dtype
