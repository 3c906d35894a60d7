"""Every operation of tinynet/arithmetic does what NumPy's does, for every choice of axes, keys and
shapes, and sends back the derivative of NumPy's. gradcheck compares a backward with its own forward
alone: a forward that does something else passes there.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import oracles
import pytest

import tinynet
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.operations import OPERATIONS


def check(name, ours, theirs, *arrays, gradient=True):
    leaves = [tinynet.tensor(a, requires_grad=gradient and a.dtype.kind == "f") for a in arrays]
    found, expected = ours(*leaves), theirs(*arrays)
    found, expected = (list(y) if isinstance(y, (tuple, list)) else [y] for y in (found, expected))
    assert len(found) == len(expected)
    total, weights = 0, []
    for y, value in zip(found, expected, strict=True):
        value = np.asarray(value)
        assert y.shape == value.shape and y.dtype == value.dtype, (name, y.dtype, value.dtype)
        exact = 1e-13 if value.dtype == np.float64 else 2e-6
        np.testing.assert_allclose(y.numpy(), value, rtol=exact, atol=exact, err_msg=name)
        weights += [np.cos(np.arange(value.size)).reshape(value.shape)]
        if y.requires_grad:
            total = total + (y * weights[-1]).sum()
    if not gradient or arrays[0].dtype != np.float64:
        return
    total.backward()
    for i, (leaf, a) in enumerate(zip(leaves, arrays, strict=True)):
        if not leaf.requires_grad:
            continue

        def weighted(x, i=i):
            ys = theirs(*arrays[:i], x, *arrays[i + 1 :])
            ys = ys if isinstance(ys, (tuple, list)) else [ys]
            return sum((y * w).sum() for y, w in zip(ys, weights, strict=True))

        exact = oracles.derivative(weighted, a, np.ones(()))
        np.testing.assert_allclose(leaf.grad.numpy(), exact, rtol=2e-6, atol=2e-7, err_msg=name)


# --- Over axes ------------------------------------------------------------------------------------

AXES = [None, 0, 1, 2, -1, -3, (0,), (0, 1), (2, 0), (-1, 0), (1, 2), (0, 1, 2), (2, 1, 0), ()]


def norm(p):
    if p == math.inf:
        return lambda a, axis, keepdims: np.abs(a).max(axis=axis, keepdims=keepdims)
    return lambda a, axis, keepdims: (np.abs(a) ** p).sum(axis=axis, keepdims=keepdims) ** (1 / p)


OVER_AXES = {
    name: (getattr(tinynet.Tensor, name), getattr(np, name), {})
    for name in ("sum", "mean", "prod", "max", "min", "all", "any")
}
for correction in (0, 1, 2):
    for name in ("var", "std"):
        OVER_AXES[f"{name} {correction}"] = (
            getattr(tinynet.Tensor, name), getattr(np, name), dict(correction=correction),
        )  # fmt: skip
for p in (1, 2, 3, 1.5, math.inf):
    OVER_AXES[f"norm {p}"] = (tinynet.Tensor.norm, norm(p), dict(p=p))


@pytest.mark.parametrize("row", OVER_AXES)
def test_over_every_choice_of_axes(row, rng):
    for axis in AXES:
        over_axes(row, axis, rng, 3, 4, 3)


@pytest.mark.parametrize("row", OVER_AXES)
def test_over_lists_of_axes_and_beside_axes_of_length_1(row, rng):
    for axis in (None, 0, 1, [0], [2, 1], [-1, 0], [0, 1, 2], []):
        over_axes(row, axis, rng, 1, 3, 1)
        over_axes(row, axis, rng, 3, 1, 4)


def over_axes(row, axis, rng, *shape):
    ours, theirs, options = OVER_AXES[row]
    name = row.split()[0]
    ddof = {"ddof": options["correction"]} if options.get("correction") is not None else {}
    axes = tuple(axis) if isinstance(axis, list) else axis  # NumPy takes no list
    for keepdims in (False, True):
        a = layouts(rng, apart(rng, *shape))
        if name in ("all", "any"):
            a = np.round(a)
        if ddof and a.size // np.sum(a, axis=axes).size <= ddof["ddof"]:
            with pytest.raises(ValueError, match="expected more than correction"):
                ours(tinynet.tensor(a), axis=axis, **options)
            continue
        check(
            name,
            lambda x, keepdims=keepdims: ours(x, axis=axis, keepdims=keepdims, **options),
            lambda a, keepdims=keepdims: theirs(a, axis=axes, keepdims=keepdims, **ddof),
            a,
            gradient=name not in ("all", "any"),
        )


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 1)])
@pytest.mark.parametrize("name", ["argmax", "argmin", "cumsum"])
def test_along_every_axis(name, shape, rng):
    ours, theirs = getattr(tinynet.Tensor, name), getattr(np, name)
    for axis in (0, 1, 2, -1, -2, *([] if name == "cumsum" else [None])):
        a = layouts(rng, rng.integers(0, 3, shape).astype(float))  # with equals: the first
        for options in [{}] if name == "cumsum" else [dict(keepdims=False), dict(keepdims=True)]:
            check(
                name,
                lambda x, axis=axis, options=options: ours(x, axis, **options),
                lambda a, axis=axis, options=options: theirs(a, axis, **options),
                a,
                gradient=name == "cumsum",
            )


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_types_of_what_goes_over_axes(kind, rng):
    a = rng.integers(0, 2, (3, 4)).astype(kind)
    for name in ("sum", "prod", "max", "min", "all", "any", "argmax", "argmin"):
        ours, theirs = getattr(tinynet.Tensor, name), getattr(np, name)
        for axis in (None, 1):
            check(
                name,
                lambda x, ours=ours, axis=axis: ours(x, axis),
                lambda a, theirs=theirs, axis=axis: theirs(a, axis),
                a,
                gradient=False,
            )


# --- Shapes and keys ------------------------------------------------------------------------------


def splits(sizes, axis):
    def parts(a):
        if isinstance(sizes, int):
            return np.split(a, range(sizes, a.shape[axis], sizes), axis)
        return np.split(a, np.cumsum(sizes)[:-1], axis)

    return parts


SHAPES = {
    "reshape": [(lambda x, s=s: x.reshape(s), lambda a, s=s: a.reshape(s))
                for s in ((24,), (4, -1), (-1, 2, 3), (2, 1, 12), [6, 4])],
    "flatten": [(lambda x, s=s: x.flatten(s), lambda a, s=s: a.reshape(*a.shape[:s], -1))
                for s in (0, 1, 2, -1, -2)],
    "transpose": [(lambda x, p=p: x.transpose(p), lambda a, p=p: a.transpose(p))
                  for p in [*itertools.permutations(range(3)), (-1, 0, 1), (1, -1, -3)]]
    + [(lambda x: x.T, lambda a: a.T)],
    "squeeze": [(lambda x, k=k, s=s: x.reshape(s).squeeze(k), lambda a, k=k, s=s: np.squeeze(
        a.reshape(s), tuple(i for i in range(4) if s[i] == 1 and (k is None or i in np.r_[k] % 4))))
        for s in ((2, 1, 12, 1), (1, 1, 24, 1)) for k in (None, 1, -1, 0, (1, 3), (0, 2), [3, 1])],
    "unsqueeze": [(lambda x, k=k: x.unsqueeze(k), lambda a, k=k: np.expand_dims(a, k))
                  for k in (0, 1, 3, -1, -4)],
    "split": [(lambda x, n=n, k=k: x.split(n, k), splits(n, k)) for n, k in (
        (1, 0), (2, 1), (2, -1), (3, 2), (7, 1), ([1, 2], 1), ([0, 4, 0], 2), ((2,), 0))],
    "concat": [(lambda x, k=k: tinynet.concat([x, x * 2, x.split([1, x.shape[k] - 1], k)[0]], k),
                lambda a, k=k: np.concatenate([a, a * 2, np.split(a, [1], k)[0]], k))
               for k in (0, 1, 2, -1, -2, -3)],
    "stack": [(lambda x, k=k: tinynet.stack([x, x * 2], k), lambda a, k=k: np.stack([a, a * 2], k))
              for k in (0, 1, 3, -1, -4)],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name, rng):
    for ours, theirs in SHAPES[name]:
        check(name, ours, theirs, layouts(rng, rng.normal(size=(2, 3, 4))))


def test_an_empty_axis_is_none_of_length_1():
    for axis in (None, 2, (0, 2)):
        assert tinynet.zeros(1, 0, 1).squeeze(axis).shape == np.zeros((1, 0, 1)).squeeze(axis).shape


KEYS = [
    0, -1, slice(None), slice(1, None), slice(None, None, -1), slice(2, 0, -2), slice(5, 9),
    None, ..., (0, 1), (slice(None), 2), (..., -1), (None, 1), (..., None, 0), (1, ..., slice(2)),
    [0, 1, 1], [], [-1], ([0, 1], [2, 0]), ([[0], [1]], [0, 2]), (slice(None), [2, 2, 0]),
    (slice(None), slice(None), [3, 0]), ([1, 0], slice(None), [3, 3]), (0, [1, 1]),
    (None, [0, 0], slice(1, 3)), np.array([1, 0, 0]), np.array([True, False]), [True, True],
    (slice(None), np.array([True, False, True])), np.arange(24).reshape(2, 3, 4) % 3 == 0,
    np.int64(1), np.array(1), (np.array([0, 1]), slice(None, None, 2)),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_keys(number, rng):
    key = KEYS[number]
    theirs = np.asarray(key, int if key == [] else None) if isinstance(key, list) else key
    for like in (lambda key: key, as_tensor):
        check(
            "index",
            lambda x, like=like: x[like(key)],
            lambda a: a[theirs],
            layouts(rng, rng.normal(size=(2, 3, 4))),
        )


def as_tensor(key):
    """Arrays and lists in a key as tensors."""
    if isinstance(key, tuple):
        return tuple(map(as_tensor, key))
    if isinstance(key, list) and not key:
        return key
    return tinynet.tensor(key) if isinstance(key, (list, np.ndarray)) else key


# --- Several operands -----------------------------------------------------------------------------

BROADCAST = [
    ((), ()), ((3,), ()), ((), (2, 3)), ((3,), (2, 3)), ((2, 1), (3,)), ((2, 3), (2, 3)),
    ((1, 3), (2, 1)), ((2, 1, 3), (4, 1)), ((1, 1), (2, 3, 4)), ((2, 3, 4), (3, 1)),
]  # fmt: skip
TWO = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "maximum": np.maximum, "minimum": np.minimum,
}  # fmt: skip
ORDERED = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip
WHOLE = {
    "remainder": np.remainder, "floor_divide": np.floor_divide, "logical_and": np.bitwise_and,
    "logical_or": np.bitwise_or,
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_two_operands_of_any_shapes(name, rng):
    for first, second in BROADCAST:
        for shapes in ((first, second), (second, first)):
            a, b = (np.asarray(layouts(rng, rng.uniform(0.5, 2, s).round(2))) for s in shapes)
            b = np.asarray(b + 0.005)  # nowhere as large as a: no kink
            check(name, OPERATIONS[name].call, TWO[name], a, b)
            check(name, OPERATIONS[name].call, TWO[name], *(x.astype(np.float32) for x in (a, b)))


@pytest.mark.parametrize("name", ORDERED | WHOLE)
def test_comparisons_and_whole_numbers_of_any_shapes(name, rng):
    for first, second in BROADCAST:
        for shapes in ((first, second), (second, first)):
            a, b = (rng.integers(-3, 4, shape) for shape in shapes)
            b = np.where(b == 0, 2, b)
            theirs = (ORDERED | WHOLE)[name]
            check(name, OPERATIONS[name].call, theirs, np.asarray(a), np.asarray(b))
    check("logical_not", lambda x: ~x, np.invert, rng.integers(-3, 4, (2, 3)))
    check("logical_not", lambda x: ~x, np.invert, np.array([True, False]))


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (4,), (2, 4), (3, 1, 4)])
def test_a_choice_of_any_shapes(shape, rng):
    """where(condition, a, b): each of the three may be the one that is repeated."""
    condition = rng.normal(size=shape) > 0
    for first, second in BROADCAST[:7]:
        first, second = (tuple(n if n == 1 else 4 for n in s[-1:]) for s in (first, second))
        a, b = rng.normal(size=first), rng.normal(size=second)
        ours = lambda a, b: tinynet.where(tinynet.tensor(condition), a, b)  # noqa: E731
        check("where", ours, lambda a, b: np.where(condition, a, b), a, b)


EQUATIONS = [
    "ij,jk->ik", "ij,jk->ki", "ij,kj->ik", "bij,bjk->bik", "bij,bjk->bki", "ij,ij->", "ij,ij->ij",
    "i,j->ij", "i,j->ji", "ij->ji", "ij->", "ij->j", "ijk->kji", "ijk->ki", "ij,jk,kl->il",
    "ij,jk,kl->li", "ij,kl,jk->il", "ij,kl,jl->ik", "i,ij,j->", "i,j,k->kij", "ij,jk,ik->ij",
    "bi,bj,bk->bijk", "ba,a", "ca,bc", "ji", "zy,yx", "ik,jk", "i,i", "ij,j,k->ki", "ij,k->j",
    # letters that the tensors have in different orders: summed over, kept, both
    "ij,ji->", "ij,ji->ij", "ij,ji->ji", "jki,ikj->", "ijk,kji->j", "ib,ai->ba", "baij,abjk->abik",
    "baij,jakb->kbai", "cab,bca,abc->bca", "kij,jik,jl->il", "bai,iab->ba",
    "kji,il->jkl", "il,lkj->kij", "bkja,aclb->jckbl",
    # letters that are needed again two and three tensors later
    "ij,k,l,ij->kl", "ia,b,c,ji->cjb", "i,j,k,l,ij->lk", "ij,jk,k,i->",
]  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation, rng):
    sizes = dict(zip("abcijklxyz", (2, 3, 4, 2, 3, 4, 2, 3, 2, 4), strict=True))
    shapes = [[sizes[c] for c in term] for term in equation.partition("->")[0].split(",")]
    check(
        "einsum",
        lambda *xs: tinynet.einsum(equation, *xs),
        lambda *xs: np.einsum(equation, *xs),
        *(layouts(rng, rng.normal(size=shape)) for shape in shapes),
    )


@pytest.mark.parametrize("equation", ["ij->ii", "ij,jk->ikk", "ij->ijk", "ij,ik", "i->", "ij,jk->"])
def test_equations_that_fit_nothing(equation):
    x = tinynet.zeros(2, 3)
    count = equation.partition("->")[0].count(",") + 1
    if equation == "ij,ik":
        assert tinynet.einsum(equation, x, x).shape == (3, 3)
        return
    with pytest.raises(ValueError, match="einsum: expected"):
        tinynet.einsum(equation, *[x] * count)


RANKS = [(3,), (2, 3), (1, 3), (4, 2, 3), (1, 2, 3), (5, 1, 2, 3)]


@pytest.mark.parametrize("rank", RANKS)
def test_products_of_any_ranks(rank, rng):
    for right in [(3,), (3, 2), (3, 1), (4, 3, 2), (1, 3, 2), (5, 4, 3, 2)]:
        a, b = layouts(rng, rng.normal(size=rank)), layouts(rng, rng.normal(size=right))
        check("matmul", lambda x, y: x @ y, np.matmul, a, b)


# --- One by one -----------------------------------------------------------------------------------

EVERYWHERE = np.concatenate(
    [np.linspace(-6, 6, 481), np.geomspace(1e-12, 1e-2, 12), -np.geomspace(1e-12, 1e-2, 12), [0.5]]
)
ONE = {
    "exp": np.exp, "sin": np.sin, "cos": np.cos, "abs": np.abs, "neg": np.negative,
    "erf": np.vectorize(math.erf), "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "relu": lambda a: np.maximum(a, 0),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "elu": lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    "gelu": lambda a: a * np.vectorize(math.erfc)(-a / math.sqrt(2)) / 2,
}  # fmt: skip


@pytest.mark.parametrize("name", [*ONE, "log", "sqrt"])
def test_one_by_one_to_the_last_digits(name):
    """Relative to the value itself: erf of 1e-12 has as many digits as erf of 1."""
    a = EVERYWHERE if name in ONE else np.geomspace(1e-6, 1e6, 300)
    theirs = ONE.get(name) or getattr(np, name)
    for dtype in (np.float64, np.float32):
        kind, x = np.finfo(dtype), tinynet.tensor(a, dtype)
        y, exact = OPERATIONS[name].call(x).numpy(), theirs(x.numpy().astype(float))
        assert y.dtype == dtype
        # elu and erf lose a digit where they change their way, gelu in its far tail
        np.testing.assert_allclose(y, exact, rtol=30 * kind.eps, atol=kind.eps if name in (
            "sigmoid", "gelu", "sin", "cos") else 0)  # fmt: skip


@pytest.mark.parametrize("name", ["exp", "sin", "cos", "erf", "log", "sqrt", "abs"])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.int64])
def test_whole_numbers_one_by_one(name, kind):
    """In single precision; the absolute value stays whole."""
    a = np.array([1, 2, 5]).astype(kind)
    found = OPERATIONS[name].call(tinynet.tensor(a))
    theirs = ONE.get(name) or getattr(np, name)
    whole = {bool: np.int64}.get(kind, kind)
    assert found.dtype == (whole if name == "abs" else np.float32)
    np.testing.assert_allclose(found.numpy(), theirs(a.astype(float)), rtol=1e-6)


def test_limits(rng):
    a = layouts(rng, rng.normal(size=(4, 5)).round(2) + 0.005)  # at no limit
    for least, most in ((-0.3, 0.5), (None, 0.2), (0.1, None), (0.5, 0.5)):
        check(
            "clip",
            lambda x, least=least, most=most: x.clip(least, most),
            lambda a, least=least, most=most: np.clip(a, least, most),
            a,
        )
    x = tinynet.tensor([-1.0, 0.0, 1.0, 2.0, 3.0], requires_grad=True)
    x.clip(0, 2).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]  # at a limit the gradient passes, as in torch


def test_at_0_the_slope_is_the_left_one():
    for name, options, slope in (
        ("relu", (), 0), ("leaky_relu", (), 0.01), ("leaky_relu", (3.0,), 3), ("elu", (), 1),
        ("elu", (2.0,), 2), ("abs", (), 0), ("clip", (0.0, 9.0), 1), ("clip", (-9.0, 0.0), 1),
    ):  # fmt: skip
        x = tinynet.tensor([0.0, -0.0], requires_grad=True)
        OPERATIONS[name].call(x, *options).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), [slope] * 2, rtol=1e-6)


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "uint8", "bool"])
def test_types_are_cast_as_numpys(kind):
    a = np.array([0.0, 1.0, 2.75])
    for other in ("float64", "float32", "int64", "uint8", "bool"):
        x = tinynet.tensor(a.astype(kind))
        for y in (x.astype(other), x.to(other)):
            assert y.dtype == other
            np.testing.assert_array_equal(y.numpy(), a.astype(kind).astype(other))
        assert (x.to(other) is x) == (kind == other) and x.astype(other) is not x


def test_new_tensors():
    """NumPy's values, in float32 unless something else is said."""
    single = np.float32
    for ours, theirs in (
        (tinynet.zeros(2, 3), np.zeros((2, 3), single)),
        (tinynet.zeros((2, 0)), np.zeros((2, 0), single)),
        (tinynet.zeros(()), np.zeros((), single)),
        (tinynet.ones([2]), np.ones(2, single)),
        (tinynet.full((2,), 3), np.full(2, 3)),
        (tinynet.full(2, 0.5), np.full(2, 0.5, single)),
        (tinynet.full((), True), np.full((), True)),
        (tinynet.full((2,), 3, "float64"), np.full(2, 3.0)),
        (tinynet.eye(2), np.eye(2, dtype=single)),
        (tinynet.eye(2, 3), np.eye(2, 3, dtype=single)),
        (tinynet.eye(2, 0), np.eye(2, 0, dtype=single)),
        (tinynet.eye(0, 2), np.eye(0, 2, dtype=single)),
        (tinynet.arange(4), np.arange(4)),
        (tinynet.arange(5, 0, -2), np.arange(5, 0, -2)),
        (tinynet.arange(-2, 0), np.arange(-2, 0)),
        (tinynet.arange(0, 3), np.arange(3)),
        (tinynet.arange(0), np.arange(0)),
        (tinynet.arange(0.5, 2), np.arange(0.5, 2, dtype=single)),
        (tinynet.arange(0, 2.5), np.arange(0, 2.5, dtype=single)),
        (tinynet.arange(0, 2, 0.5), np.arange(0, 2, 0.5, dtype=single)),
        (tinynet.arange(3, dtype="float64"), np.arange(3.0)),
        (tinynet.arange(3.0), np.arange(3, dtype=single)),
        (tinynet.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=single)),
        (tinynet.linspace(1, -1, 3, dtype="float64"), np.linspace(1, -1, 3)),
    ):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_array_equal(ours.numpy(), theirs)
        assert ours.device == "cpu" and not ours.requires_grad
    x = tinynet.ones(2, 3, dtype="float64", device="cpu:1")
    for like, value in ((tinynet.zeros_like, 0), (tinynet.ones_like, 1)):
        y = like(x, requires_grad=True)
        assert y.dtype == np.float64 and y.device == "cpu:1" and y.requires_grad
        assert (y.numpy() == value).all() and y.shape == (2, 3)
        assert like(x, "int32").dtype == np.int32


def test_new_random_tensors():
    """Of the range, shape, type and device that were asked for."""
    for low, high, size in ((0, 3, (200,)), (-2, 2, (10, 20)), (5, 6, 3)):
        x = tinynet.randint(low, high, size, device="cpu:1")
        assert x.dtype == np.int64 and x.device == "cpu:1"
        assert x.shape == (size if isinstance(size, tuple) else (size,))
        assert set(x.numpy().ravel().tolist()) == set(range(low, high))
    assert tinynet.randint(0, 4, ()).shape == () and tinynet.randint(3, 7, (0,)).shape == (0,)
    assert set(tinynet.randint(2, (50,), dtype="uint8").numpy()) == {0, 1}
    assert sorted(tinynet.randperm(20).tolist()) == list(range(20))
    for made, least in ((tinynet.rand, 0), (tinynet.randn, -9)):
        x = made(40, 50, dtype="float64", device="cpu:1", requires_grad=True)
        assert x.dtype == np.float64 and x.device == "cpu:1" and x.requires_grad
        assert x.shape == (40, 50) and made(2).dtype == np.float32 and not made(2).requires_grad
        assert (x.numpy() >= least).all() and len(np.unique(x.numpy())) > 1990
    assert abs(tinynet.rand(4000).numpy().mean() - 0.5) < 0.03


def test_everything_of_arithmetic_is_compared():
    own = {name for name, row in OPERATIONS.items() if "arithmetic" in row.call.__module__}
    here = {row.split()[0] for row in OVER_AXES} | {*SHAPES, *TWO, *ORDERED, *WHOLE, *ONE}
    here |= {"argmax", "argmin", "cumsum", "index", "where", "einsum", "matmul", "clip", "log"}
    here |= {"sqrt", "astype", "to", "logical_not"}
    assert own - here == {"max_along", "min_along"}  # tests/core/test_handed_on.py
