"""Every kernel that has several ways or options: each way with each option, forward and backward,
against the definition.

In the default run every pair of values of two options occurs in some case; in the slow run every
combination of ways and options does, with a dtype, memory orders and a number of threads that are
drawn. Faults hide where two options meet: a gradient of the ReLU that only one way of the
convolution forgets.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pairs import pairwise

import tinynet
from tinynet import kernels
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.kernels import batch_norm, conv2d, layout, linear, local_response_norm, max_pool2d
from tinynet.kernels import winograd as tiles
from tinynet.kernels.avg_pool2d import avg_pool2d_definition
from tinynet.kernels.dropout import dropout_mask_definition
from tinynet.kernels.im2col import output_size
from tinynet.kernels.max_pool2d import max_pool2d_definition

LEAST = 600  # cases of a kind in the slow run


def every(options: dict[str, tuple]) -> list[dict]:
    return [
        dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())
    ]


@pytest.fixture
def setting(monkeypatch):
    """setting(module, name, value): for this case; None is the usual one."""
    usual, threads = {}, tinynet.get_num_threads()

    def setting(module, name, value):
        own = usual.setdefault((module, name), getattr(module, name))
        if value is None:
            value = own
        elif isinstance(own, tuple):
            value = value, value
        monkeypatch.setattr(module, name, value)

    yield setting
    tinynet.set_num_threads(threads)


LAYOUTS = {
    "C order": np.ascontiguousarray,
    "batch innermost": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0),
    "odd": None,
}
NEEDS = ((True, True, True), (True, False, False), (False, True, False), (False, False, True))
COMMON = dict(
    dtype=(np.float64, np.float32), x_lies=tuple(LAYOUTS), dy_lies=tuple(LAYOUTS), threads=(1, 3)
)


def lying(array, how, dtype, rng):
    """Read-only: a kernel that writes to its argument fails."""
    array = array.astype(dtype)
    array = layouts(rng, array) if how == "odd" else LAYOUTS[how](array)
    array = array.copy("K") if array.base is None else array
    array.setflags(write=False)
    return array


def near(ours, exact, dtype, case, coarse=1.0):
    """To rounding, relative to the largest value."""
    assert ours.dtype == dtype and ours.shape == exact.shape, case
    tolerance = coarse * (1e-12 if dtype == np.float64 else 1e-5)
    atol = tolerance * max(1, np.abs(exact).max(initial=0))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=atol, err_msg=str(case))


def rectified(case, dy, y):
    """With a ReLU dy becomes infinite where it does not pass: no NaN may come of it. -> what comes
    of y, and what backward is told of it.
    """
    if not case["relu"]:
        return y, None
    dy.setflags(write=True)
    dy[y <= 0] = np.inf
    dy.setflags(write=False)
    return np.maximum(y, 0), np.maximum(y, 0).astype(case["dtype"])


def gradients(found, exact, needs, case, coarse=1.0):
    for ours, expected, needed in zip(found, exact, needs, strict=True):
        assert (ours is not None) == needed, case
        if needed:
            near(ours, expected, case["dtype"], case, coarse)


# --- Convolution ----------------------------------------------------------------------------------

DIRECT = COMMON | dict(
    # COLUMN_BYTES, PIXELS, RUN, FEW
    way=(
        (None, None, None, None),
        (1, 1, None, None),
        (2000, 8, 4, None),
        (10**6, 8, 64, 32),
        (None, None, 2, 0),
        (None, None, 10**6, 10**6),
    ),
    relu=(False, True),
    bias=(True, False),
    needs=NEEDS,
    groups=(1, 2),
    kernel=((3, 3), (1, 2), (5, 4)),
    stride=((1, 1), (2, 1), (4, 3)),
    padding=((0, 0), (1, 1), (2, 3)),
    N=(1, 6),
)
TILES = COMMON | dict(
    tile=((6, 3), (7, 3), (7, 5)),
    # RUN, PIECE, SMALL, HALF
    way=((None,) * 4, (1, 1, None, 1), (3, 40, None, 2), (6, 10**4, 1, 1)),
    relu=(False, True),
    bias=(True, False),
    needs=NEEDS,
    size=((5, 7), (11, 9)),
    padding=((0, 0), (1, 2), (3, 6)),
    N=(1, 6),
)


def convolution(case, rng, groups, kernel, stride):
    """A case against one product of all columns, in float64."""
    C, O = 2 * groups, 3 * groups
    H, W = case.get("size", (6, 7))
    x, weight = rng.normal(size=(case["N"], C, H, W)), rng.normal(size=(O, C // groups, *kernel))
    bias = rng.normal(size=O) if case["bias"] else None
    size = output_size((H, W), kernel, stride, case["padding"])
    dy = rng.normal(size=(case["N"], O, *size))

    dtype, o, c = case["dtype"], O // groups, C // groups
    x, dy = lying(x, case["x_lies"], dtype, rng), lying(dy, case["dy_lies"], dtype, rng)
    weight, bias = weight.astype(dtype), None if bias is None else bias.astype(dtype)
    geometry = stride, case["padding"]
    ys, dxs, dws = [], [], []
    for g in range(groups):
        w = weight[g * o : (g + 1) * o].reshape(o, -1).astype(float)
        x_g = x[:, g * c : (g + 1) * c].astype(float)
        col = kernels.im2col(x_g, kernel, *geometry)
        y = w @ col if bias is None else w @ col + bias[g * o : (g + 1) * o, None]
        flat = np.moveaxis(dy[:, g * o : (g + 1) * o], 0, -1).reshape(o, -1).astype(float)
        if case["relu"]:
            flat, y = flat * (y > 0), np.maximum(y, 0)
        ys.append(np.moveaxis(y.reshape(o, *size, -1), -1, 0))
        dxs.append(kernels.col2im(w.T @ flat, x_g.shape, kernel, *geometry))
        dws.append((flat @ col.T).reshape(o, c, *kernel))
    exact_y = np.concatenate(ys, axis=1)
    db = (dy * (exact_y > 0) if case["relu"] else dy).astype(float).sum(axis=(0, 2, 3))
    exact = np.concatenate(dxs, axis=1), np.concatenate(dws), db

    coarse = 1 if "tile" not in case else 10  # Winograd loses a digit
    y = kernels.conv2d_forward(x, weight, bias, *geometry, groups, relu=case["relu"])
    near(y, exact_y, dtype, case, coarse)
    _, cut = rectified(case, dy, exact_y)
    needs = case["needs"]
    found = kernels.conv2d_backward(dy, x, weight, *geometry, groups, needs, y=cut)
    gradients(found, exact, needs, case, coarse)


def direct(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    setting(tiles, "tile_side", lambda *_: None)
    for name, value in zip(("COLUMN_BYTES", "PIXELS", "RUN", "FEW"), case["way"], strict=True):
        setting(conv2d, name, value)
    conv2d._run.cache_clear()
    convolution(case, rng, case["groups"], case["kernel"], case["stride"])


def by_tiles(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    side, r = case["tile"]
    setting(tiles, "tile_side", lambda *_: side)
    for name, value in zip(("RUN", "PIECE", "SMALL", "HALF"), case["way"], strict=True):
        setting(tiles, name, value)
    convolution(case, rng, 1, (r, r), (1, 1))


# --- Other kernels --------------------------------------------------------------------------------

POOLS = COMMON | dict(
    kind=("max", "average", "average of the picture's pixels"),
    piece=(None, 1, 30),
    # picture, kernel, stride, padding
    geometry=(
        ((5, 6), (2, 2), (1, 1), (0, 0)),
        ((7, 8), (3, 3), (2, 2), (1, 1)),
        ((6, 8), (3, 3), (2, 2), (0, 0)),
        ((6, 7), (2, 4), (3, 1), (1, 2)),
        ((5, 5), (2, 2), (4, 3), (1, 1)),  # the last window would begin in the padding: dropped
        ((1, 9), (1, 6), (1, 2), (0, 3)),
        ((7, 5), (6, 6), (1, 1), (3, 3)),
        ((4, 5), (7, 7), (2, 2), (2, 2)),  # the first place lies in the padding for every window
        ((5, 6), (1, 4), (3, 2), (0, 1)),
    ),
    values=("apart", "ties", "negative"),
    ceil_mode=(False, True),
    N=(1, 4),
)


def pools(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    setting(max_pool2d, "PIECE", case["piece"])
    size, kernel, stride, padding = case["geometry"]
    geometry, ceil_mode, dtype = (kernel, stride, padding), case["ceil_mode"], case["dtype"]
    shape = case["N"], 2, *size
    x = {
        "apart": lambda: apart(rng, *shape),
        "ties": lambda: rng.integers(-1, 2, shape),
        "negative": lambda: -1 - rng.random(shape),
    }[case["values"]]()
    x = lying(x, case["x_lies"], dtype, rng)
    if case["kind"] == "max":
        y, winner = kernels.max_pool2d_forward(x, *geometry, ceil_mode)
        assert winner.dtype == np.uint8
        expected, places = max_pool2d_definition(x, *geometry, ceil_mode)
        np.testing.assert_array_equal(winner, places, err_msg=str(case))
    else:
        counted = case["kind"] == "average"
        y = kernels.avg_pool2d_forward(x, *geometry, ceil_mode, counted)
        expected = avg_pool2d_definition(x.astype(float), *geometry, ceil_mode, counted)
    near(y, expected.astype(float), dtype, case)
    dy = lying(rng.normal(size=y.shape), case["dy_lies"], dtype, rng)
    if case["kind"] == "max":
        dx = kernels.max_pool2d_backward(dy, winner, x.shape, *geometry)
        exact = np.zeros(x.shape)
        for n, c, oh, ow in np.ndindex(y.shape):
            i, j = divmod(int(places[n, c, oh, ow]), kernel[1])
            h, w = oh * stride[0] + i - padding[0], ow * stride[1] + j - padding[1]
            exact[n, c, h, w] += dy[n, c, oh, ow]
    else:
        dx = kernels.avg_pool2d_backward(dy, x.shape, *geometry, ceil_mode, counted)
        pixels = np.eye(size[0] * size[1]).reshape(-1, 1, *size)  # what each one gives is its row
        shares = avg_pool2d_definition(pixels, *geometry, ceil_mode, counted)[:, 0]
        exact = np.einsum("phw,nchw->ncp", shares, dy.astype(float)).reshape(x.shape)
    near(dx, exact, dtype, case)


NORMS = COMMON | dict(
    kind=("local", "spatial"), size=(1, 2, 3, 4, 5, 9), beta=(0.75, 0.74, 1.3, 2.0), k=(1.0, 2.5),
    channels=(1, 3, 6), piece=(None, 1),
)  # fmt: skip


def response_norms(case, rng, setting):
    """Sums over windows as products with a matrix of ones and zeros."""
    tinynet.set_num_threads(case["threads"])
    setting(local_response_norm, "PIECE", case["piece"])
    size, beta, k, dtype = (case[key] for key in ("size", "beta", "k", "dtype"))
    N, C, H, W = shape = 7, case["channels"], 4, 5  # of 64 pixels the least piece
    x, dy = (lying(rng.normal(size=shape), case[how], dtype, rng) for how in ("x_lies", "dy_lies"))

    def window(n):  # row c: what the window of c holds
        return np.array([[c - size // 2 <= m <= c + (size - 1) // 2 for m in range(n)]
                         for c in range(n)], float)  # fmt: skip

    if case["kind"] == "local":
        a, windows, form = 1.5 / size, window(C), (N, C, H * W)
    else:
        a, windows, form = 1.5 / size**2, np.kron(window(H), window(W)), (N * C, H * W, 1)
    X, DY = x.astype(float).reshape(form), dy.astype(float).reshape(form)
    s = k + a * windows @ X**2
    exact = DY * s**-beta - 2 * a * beta * X * (windows.T @ (DY * X * s ** (-beta - 1)))
    options = size, 1.5, beta, k
    name = f"{case['kind']}_response_norm"
    forward, backward = (getattr(kernels, f"{name}_{way}") for way in ("forward", "backward"))
    near(forward(x, *options), (X * s**-beta).reshape(shape), dtype, case)
    near(backward(dy, x, *options), exact.reshape(shape), dtype, case)


BATCH_NORMS = COMMON | dict(
    training=(True, False), relu=(False, True), weight=(True, False), bias=(True, False),
    running=(True, False), needs=NEEDS, block=(None, 1, 7),
    shape=((5, 3), (4, 2, 3), (3, 2, 2, 4), (2, 1, 2, 2, 2)),
)  # fmt: skip


def batch_norms(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    setting(batch_norm, "BLOCK", case["block"])
    dtype, training, shape = case["dtype"], case["training"], case["shape"]
    x, dy = (
        lying(rng.normal(1, 2, size=shape), case[h], dtype, rng) for h in ("x_lies", "dy_lies")
    )
    C, axes = shape[1], tuple(i for i in range(len(shape)) if i != 1)
    w, b = rng.normal(size=(2, C)).astype(dtype)
    weight, bias = w if case["weight"] else None, b if case["bias"] else None
    w, b = w if case["weight"] else np.ones(C), b if case["bias"] else np.zeros(C)
    mean, var = rng.normal(size=C).astype(dtype), rng.uniform(1, 2, C).astype(dtype)
    running = [mean.copy(), var.copy()] if case["running"] or not training else [None, None]

    def along(v):
        return np.asarray(v, float).reshape(-1, *[1] * (len(shape) - 2))

    X, P = x.astype(float), x.size // C
    m, v = (X.mean(axis=axes), X.var(axis=axes)) if training else (mean, var)
    r = 1 / np.sqrt(np.asarray(v, float) + 1e-3)
    h = (X - along(m)) * along(r)
    y = h * along(w) + along(b)
    g = dy.astype(float) * ((y > 0) if case["relu"] else 1)
    db, dw = g.sum(axis=axes), (g * h).sum(axis=axes)
    dx = along(r) * along(w) * (g - (along(db) + h * along(dw)) / P if training else g)

    out, mean_, inverse = kernels.batch_norm_forward(
        x, weight, bias, *running, training, 0.25, 1e-3, case["relu"]
    )
    y, cut = rectified(case, dy, y)
    near(out, y, dtype, case, 3)
    if training and case["running"]:
        near(running[0], 0.75 * mean + 0.25 * m, dtype, case)
        near(running[1], 0.75 * var + 0.25 * v * P / (P - 1), dtype, case)
    elif not training:
        np.testing.assert_array_equal(running, [mean, var])
    found = kernels.batch_norm_backward(dy, x, weight, mean_, inverse, training, case["needs"], cut)
    gradients(found, (dx, dw, db), case["needs"], case, 10)


LINEARS = COMMON | dict(
    relu=(False, True), bias=(True, False), needs=NEEDS, rows=(None, 1, 2),
    shape=((5, 4), (1, 4), (4,), (2, 3, 4), (2, 1, 3, 4), (0, 2, 4), (0, 4)),
)  # fmt: skip


def linears(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    setting(linear, "ROWS", case["rows"])
    dtype, shape = case["dtype"], case["shape"]
    x = lying(rng.normal(size=shape), case["x_lies"], dtype, rng)
    dy = lying(rng.normal(size=(*shape[:-1], 3)), case["dy_lies"], dtype, rng)
    weight, bias = rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=3).astype(dtype)
    y = x.astype(float) @ weight.T.astype(float) + (bias if case["bias"] else 0)
    g = dy * (y > 0) if case["relu"] else dy
    y, cut = rectified(case, dy, y)
    g, rows = g.reshape(-1, 3).astype(float), x.reshape(-1, 4).astype(float)
    exact = (g @ weight).reshape(shape), g.T @ rows, g.sum(axis=0)
    out = kernels.linear_forward(x, weight, bias if case["bias"] else None, case["relu"])
    near(out, y, dtype, case)
    needs = case["needs"]
    found = kernels.linear_backward(dy, x, weight, needs, cut)
    gradients(found, exact, needs, case)
    if len(shape) != 2:
        assert out.flags.c_contiguous, case


ELEMENTWISE = COMMON | dict(
    kind=("relu", "relu in place", "dropout"), piece=(None, 5), shape=((7,), (3, 5), (2, 3, 4, 5))
)


def elementwise(case, rng, setting):
    tinynet.set_num_threads(case["threads"])
    setting(layout, "PIECE", case["piece"])
    dtype = case["dtype"]
    x, dy = (
        lying(rng.normal(size=case["shape"]), case[h], dtype, rng) for h in ("x_lies", "dy_lies")
    )
    if case["kind"] == "dropout":
        mask = dropout_mask_definition(x.shape, 0.4, 1, 2)
        y, kept = kernels.dropout_forward(x, 0.4, 1, 2)
        near(y, x.astype(float) * mask / 0.6, dtype, case)
        near(kernels.dropout_backward(dy, kept, 0.4), dy.astype(float) * mask / 0.6, dtype, case)
        np.testing.assert_array_equal(kept, mask, err_msg=str(case))  # backward left it alone
        return
    target = x.copy("K") if case["kind"] == "relu in place" else None
    y = kernels.relu_forward(x if target is None else target, out=target)
    np.testing.assert_array_equal(y, np.where(x > 0, x, 0), err_msg=str(case))
    np.testing.assert_array_equal(
        kernels.relu_backward(dy, y), np.where(x > 0, dy, 0), err_msg=str(case)
    )


KINDS = {
    "convolution, direct": (direct, DIRECT),
    "convolution by tiles": (by_tiles, TILES),
    "pools": (pools, POOLS),
    "response norms": (response_norms, NORMS),
    "batch norms": (batch_norms, BATCH_NORMS),
    "linear": (linears, LINEARS),
    "element by element": (elementwise, ELEMENTWISE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_of_options(kind, rng, setting):
    check, options = KINDS[kind]
    for case in pairwise(options):
        check(case, rng, setting)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_of_options(kind, rng, setting):
    check, options = KINDS[kind]
    own = every({name: values for name, values in options.items() if name not in COMMON})
    for case in own * -(-LEAST // len(own)):
        drawn = {name: values[rng.integers(len(values))] for name, values in COMMON.items()}
        check(case | drawn, rng, setting)


def test_pairwise_has_every_pair():
    options = dict(a=(1, 2, 3), b=("x", "y"), c=(None, True), d=(5,))
    cases = pairwise(options)
    for a, b in itertools.combinations(options, 2):
        for x, y in itertools.product(options[a], options[b]):
            assert any(case[a] == x and case[b] == y for case in cases)
    assert len(cases) < len(every(options))
