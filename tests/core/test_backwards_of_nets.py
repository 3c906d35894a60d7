"""Operations as nets have them, made up outside of tinynet: with a backward that is wrong in a way
that a person would not see, each with the words of the check that finds it; and with a right one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from backwards import BIAS, BIG, W, X, innermost, operation, real, square

import tinynet.functional as F
from tinynet import GradcheckError, gradcheck, nn
from tinynet.gradcheck import KinkWarning
from tinynet.gradcheck.__main__ import main
from tinynet.gradcheck.cases import CASES
from tinynet.gradcheck.cases.table import Cases
from tinynet.gradcheck.check import worst_error

WRONG = "is wrong: analytical"
RNG = np.random.default_rng(3)
TOKENS, LABELS, ORDER = np.array([0, 2, 2, 1, 2]), np.array([0, 2, 1, 1]), np.array([2, 0, 3, 1])
TABLE = RNG.normal(size=(4, 2))
GATES, CELL = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 1))
WINDOWS = RNG.permutation(np.repeat([0.0, 1.0], 120)).reshape(60, 4)  # equal maxima in most
HIGH = np.array([[100.0, 101.0, 3.0], [2.0, 1.0, 0.5]])


class Case(NamedTuple):
    fn: Callable
    inputs: list
    words: str = WRONG


def rows(x: np.ndarray) -> np.ndarray:
    return x.sum(1, keepdims=True)


# ------------------------------------------------------------------------- layers, right and wrong


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.real.max(1, keepdims=True))
    return e / rows(e)


def causal(x: np.ndarray) -> np.ndarray:
    return softmax(np.where(np.tril(np.ones(x.shape, bool)), x, -np.inf))


def softmax_backward(of: Callable, factor: float = 1) -> Callable:
    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        p = of(x)
        return factor * p * (dy - rows(p * dy))

    return backward


def layer_norm(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    centred = x - rows(x) / x.shape[1]
    return centred / np.sqrt(rows(centred**2) / x.shape[1] + eps)


def layer_norm_backward(eps: float = 1e-5, less: int = 0, of_scale: bool = True) -> Callable:
    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        n = x.shape[1]
        centred = x - rows(x) / n
        s = np.sqrt(rows(centred**2) / n + eps)
        y = centred / s
        return (dy - rows(dy) / (n - less) - of_scale * y * rows(dy * y) / n) / s

    return backward


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, f, o, g = (gates[:, k : k + 1] for k in range(4))
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(new), new


def lstm_backward(of_cell: float = 1) -> Callable:
    """of_cell: 0 forgets the gradient that comes to the new cell itself."""

    def backward(ctx: Any, gates: Any, c: Any, dh: Any, dnew: Any) -> Any:
        i, f, o, g = (gates[:, k : k + 1] for k in range(4))
        I, forget, O, G = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        t = np.tanh(forget * c + I * G)
        d = of_cell * dnew + dh * O * (1 - t * t)
        parts = [d * G * I * (1 - I), d * c * forget * (1 - forget)]
        parts += [dh * t * O * (1 - O), d * I * (1 - G * G)]
        return np.concatenate(parts, 1), d * forget

    return backward


def entropy(x: np.ndarray) -> np.ndarray:
    return -np.log(softmax(x)[np.arange(len(x)), LABELS[: len(x)]])


def entropy_backward(change: Callable = lambda dx: None) -> Callable:
    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        dx = softmax(x)
        dx[np.arange(len(x)), LABELS[: len(x)]] -= 1
        change(dx)
        return dx * dy[:, None]

    return backward


def last_row_lost(dx: np.ndarray) -> None:
    dx[-1] = 0


def log_sum(x: np.ndarray) -> np.ndarray:
    most = x.real.max(1, keepdims=True)
    return np.log(rows(np.exp(x - most))) + most


def log_sum_backward(ctx: Any, x: Any, dy: Any) -> Any:
    e = np.exp(x)  # no maximum taken off
    return dy * e / rows(e)


def lookup(add: bool) -> Callable:
    def backward(ctx: Any, table: Any, dy: Any) -> Any:
        d = np.zeros_like(table)
        if add:
            np.add.at(d, TOKENS, dy)
        else:
            d[TOKENS] += dy  # once for a token that stands at several places
        return d

    return operation(lambda table: table[TOKENS], backward)


def leaky(mask: Callable) -> Callable:
    return operation(
        real(lambda x: np.where(x > 0, x, 0.1 * x)),
        lambda ctx, x, dy: dy * np.where(mask(ctx, x), 1, 0.1),
    )


def pool(winners: Callable) -> Callable:
    return operation(real(lambda x: x.max(1)), lambda ctx, x, dy: dy[:, None] * winners(ctx, x))


def all_winners(ctx: Any, x: np.ndarray) -> np.ndarray:
    return x == x.max(1, keepdims=True)


def first_winner(ctx: Any, x: np.ndarray) -> np.ndarray:
    return np.arange(x.shape[1]) == x.argmax(1)[:, None]


def huber(slope: Callable) -> Callable:
    return operation(
        real(lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5)),
        lambda ctx, x, dy: dy * slope(x),
    )


def in_pieces(ctx: Any, x: Any, dy: Any) -> Any:
    dx = np.zeros_like(x)
    for at in range(0, len(x) - len(x) % 64, 64):
        dx[at : at + 64] = (2 * x * dy)[at : at + 64]
    return dx


def by_its_norm(ctx: Any, x: Any, dy: Any) -> Any:
    norm = np.sqrt((dy * dy).sum())
    return 2 * x * (dy / norm) * norm


def matmul(wrong: Callable) -> Callable:
    return operation(
        lambda x, w: x @ w, lambda ctx, x, w, dy: (dy @ w.T, (1 + wrong(x, w, dy)) * (x.T @ dy))
    )


def wrong_for(*needs: bool) -> Callable:
    def backward(ctx: Any, *others: Any) -> Any:
        return [others[-1] * (1 + (ctx.needs_input_grad == needs))] * len(needs)

    return operation(lambda *x: sum(x), backward)


def changes_labels(dx: np.ndarray) -> None:
    LABELS[0] = (LABELS[0] + 1) % 3


class Centred(nn.Module):
    """x less its mean; each call moves a running mean, which backward must not see."""

    def __init__(self, sees: float):
        self.mean, self.sees = nn.Buffer(np.zeros(3, np.float32)), sees

    def forward(self, x: Any) -> Any:
        def backward(ctx: Any, x: Any, dy: Any) -> Any:
            return dy - dy.mean(0) * (1 + self.sees * (self.mean.data != 0))

        y = operation(lambda x: x - x.mean(0), backward)(x)
        self.mean.data = 0.9 * self.mean.data + 0.1 * x.data.mean(0)
        return y


class Dense(nn.Module):
    def __init__(self) -> None:
        self.w = nn.Parameter(RNG.normal(size=(20, 30)).astype(np.float32))
        self.b = nn.Parameter(np.zeros(30, np.float32))

    def forward(self, x: Any) -> Any:
        return F.tanh(x @ self.w + self.b)


FOUR = [RNG.normal(size=3) for _ in range(4)]
BAD = {
    # kept from another call
    "the mask of the first batch": Case(
        leaky(lambda ctx, x: ctx.kept.setdefault(("mask", x.shape), x > 0)), [X],
        "with values in other places",
    ),
    "the winners of the first batch": Case(
        pool(lambda ctx, x: ctx.kept.setdefault(("winners", x.dtype), first_winner(ctx, x))), [X],
        "with values in other places",
    ),
    "the running mean in backward": Case(Centred(1e-3), [X]),
    "a mask drawn again": Case(
        operation(lambda x: 2 * x, lambda ctx, x, dy: 4 * dy * (np.random.random(x.shape) > 0.5)),
        [X],
    ),
    "labels changed": Case(
        operation(entropy, entropy_backward(changes_labels)), [RNG.normal(size=(4, 3))],
        "expected the same values after backward, got others",
    ),
    # upstream gradients of 0, and memory orders of pictures and weights
    "divided by the norm of dy": Case(square(by_its_norm), [X], "when the upstream gradient is 0"),
    "no gradient is a one": Case(
        square(lambda ctx, x, dy: 2 * x * dy if dy.any() else x), [X],
        "when the upstream gradient is 0",
    ),
    "pictures innermost, weights in C order": Case(
        matmul(lambda x, w, dy: innermost(x) and w.flags.c_contiguous and innermost(dy)), [X, W],
        "'batch innermost' and 'C order' and upstream gradients in 'batch innermost'",
    ),
    "the same, and dy in C order": Case(
        matmul(lambda x, w, dy: innermost(x) and w.flags.c_contiguous and not innermost(dy)),
        [X, W], "'batch innermost' and 'C order' and upstream gradients in 'C order'",
    ),
    "weights turned": Case(
        matmul(lambda x, w, dy: innermost(w) and x.flags.c_contiguous and innermost(dy)), [X, W],
        "'C order' and 'batch innermost' and upstream gradients in 'batch innermost'",
    ),
    "weights turned, and dy in C order": Case(
        matmul(lambda x, w, dy: innermost(w) and x.flags.c_contiguous and not innermost(dy)),
        [X, W], "'C order' and 'batch innermost' and upstream gradients in 'C order'",
    ),
    "infinite in one memory order": Case(
        square(lambda ctx, x, dy: 2 * x * dy * (np.inf if dy.strides[0] < 0 else 1)), [X],
        "upstream gradients in 'backwards'",
    ),
    "wrong where the last axis runs backwards": Case(
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (dy.strides[-1] < 0))), [X],
        "upstream gradients in 'backwards'",
    ),
    "the mask of a first batch that is sorted": Case(
        leaky(lambda ctx, x: ctx.kept.setdefault(("mask", x.shape), x > 0)),
        [np.sort(X.ravel()).reshape(X.shape)], "with values in other places",
    ),
    # which inputs need one
    "all but the first of six": Case(
        operation(
            lambda *x: sum(x),
            lambda ctx, *x: [x[-1] * (1 + (ctx.needs_input_grad == (False,) + (True,) * 5))] * 6,
        ),
        [RNG.normal(size=2) for _ in range(6)], "when input 0 requires none",
    ),
    "two of four": Case(wrong_for(True, False, True, False), FOUR, "input 0 and input 2 alone"),
    "three of four": Case(wrong_for(True, True, False, True), FOUR, "when input 2 requires none"),
    "one of four": Case(wrong_for(False, False, False, True), FOUR, "input 3 alone requires one"),
    "one of six": Case(
        wrong_for(*[False] * 5, True), [*FOUR, *FOUR[:2]], "input 5 alone requires one"
    ),
    # formulas
    "a second input of a trillionth": Case(
        operation(lambda x, b: x * x + 1e-12 * b, lambda ctx, x, b, dy: (2 * x * dy, 0 * dy)),
        [X, X],
    ),
    "rounded in the second input": Case(
        operation(real(lambda a, b: a + ((b + 1e7) - 1e7)), lambda ctx, a, b, dy: (dy, dy)),
        [X, X], "input 1[",
    ),
    "all of several equal maxima": Case(pool(all_winners), [WINDOWS], "all inputs together"),
    "layer norm without eps": Case(operation(layer_norm, layer_norm_backward(0)), [X]),
    "layer norm by n - 1": Case(operation(layer_norm, layer_norm_backward(less=1)), [X]),
    "layer norm with its scale fixed": Case(
        operation(layer_norm, layer_norm_backward(of_scale=False)), [X]
    ),
    "the cell's own gradient": Case(operation(lstm, lstm_backward(0)), [GATES, CELL]),
    "a token at several places": Case(lookup(False), [TABLE]),
    "the last row of a batch": Case(
        operation(entropy, entropy_backward(last_row_lost)), [RNG.normal(size=(4, 3))]
    ),
    "the rest of the last piece": Case(square(in_pieces), [RNG.normal(size=(70, 2))]),
    "the rest of many pieces": Case(square(in_pieces), [RNG.normal(size=(200, 3))]),
    "too large for exp in float32": Case(
        operation(log_sum, log_sum_backward), [HIGH], "is another one in float32"
    ),
    "too large for exp": Case(operation(log_sum, log_sum_backward), [8 * HIGH]),
    "a temperature": Case(
        operation(lambda x: softmax(x / 2), softmax_backward(lambda x: softmax(x / 2))), [X]
    ),
    "a loss that is steep too far out": Case(
        huber(lambda x: np.where(np.abs(x) < 2, x, np.sign(x))), [np.array([0.3, -1.7, 2.5])]
    ),
    "straight through a step": Case(operation(real(np.round), lambda ctx, x, dy: dy), [X]),
    "a product divided by its factors": Case(
        operation(
            lambda x: np.prod(x, 1), lambda ctx, x, dy: (dy * np.prod(x, 1))[:, None] / x
        ),
        [np.array([[1.0, 0, 2], [3, 1, 2]])],
    ),
    "sorted where it was not": Case(
        operation(real(lambda x: np.sort(x, 1)), lambda ctx, x, dy: dy), [X]
    ),
    "a border that is reflected": Case(
        operation(
            lambda x: np.pad(x, 1, mode="reflect"), lambda ctx, x, dy: dy[1:-1, 1:-1].copy()
        ),
        [X],
    ),
    "one of two factors": Case(operation(lambda x: x.T @ x, lambda ctx, x, dy: x @ dy), [X]),
    "kept in float16": Case(
        square(lambda ctx, x, dy: 2 * x.astype(np.float16).astype(x.dtype) * dy), [X]
    ),
    "order of another permutation": Case(
        operation(lambda x: x[ORDER], lambda ctx, x, dy: dy[ORDER]), [X]
    ),
    "a detached factor": Case(lambda x: x * x.detach(), [X]),
}  # fmt: skip

GOOD: dict[str, tuple[Callable, Any]] = {
    "attention that sees no future": (operation(causal, softmax_backward(causal)), [W]),
    "a temperature": (
        operation(lambda x: softmax(x / 2), softmax_backward(lambda x: softmax(x / 2), 0.5)), [X]
    ),
    "layer norm": (operation(layer_norm, layer_norm_backward()), [X]),
    "an LSTM's cell": (operation(lstm, lstm_backward()), (GATES, CELL)),
    "a table": (lookup(True), [TABLE]),
    "cross-entropy": (operation(entropy, entropy_backward()), [RNG.normal(size=(4, 3))]),
    "one of several equal maxima": (pool(first_winner), [WINDOWS]),
    "a leaky ReLU": (leaky(lambda ctx, x: x > 0), [X]),
    "huber": (huber(lambda x: np.clip(x, -1, 1)), [np.array([0.3, -1.7, 2.5, -0.2])]),
    "a gradient that may not be written to": (
        operation(lambda x: x.sum(0), lambda ctx, x, dy: np.broadcast_to(dy, x.shape)), [X]
    ),
    "one array as two gradients": (
        operation(lambda a, b: a + b, lambda ctx, a, b, dy: (dy, dy)), [X, X[::-1].copy()]
    ),
    "None for what has no influence": (
        operation(lambda a, b: a * a, lambda ctx, a, b, dy: (2 * a * dy, None)), [X, X]
    ),
    "a staircase": (operation(real(np.floor), lambda ctx, x, dy: 0 * dy), [X]),
    "a running mean that backward does not see": (Centred(0), [X]),
    "a layer of 630 numbers": (Dense(), [RNG.normal(size=(4, 20))]),
    "units that are never active": (lambda x, w: F.relu(x @ w - 100).sum() + x.sum(), [X, W]),
    "a permutation": (
        operation(lambda x: x[ORDER], lambda ctx, x, dy: dy[np.argsort(ORDER)]), [X]
    ),
    "a ratio of near numbers": (lambda a, b: a / (a - b), [X, X + 0.01]),
    "logits of 800": (lambda x: F.log_softmax(x), [8 * HIGH]),
    "a bias beside a large mean": (lambda x, b: (x + b).mean(), [BIG[:30, :3], BIAS]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_backward_of_a_net_does_not_pass(name: str) -> None:
    case, labels = BAD[name], LABELS.copy()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(GradcheckError) as caught:
            gradcheck(case.fn, case.inputs)
    LABELS[:] = labels
    assert case.words in str(caught.value)


@pytest.mark.filterwarnings("ignore::tinynet.gradcheck.KinkWarning")
@pytest.mark.parametrize("name", GOOD)
def test_a_right_backward_of_a_net_passes(name: str) -> None:
    assert gradcheck(*GOOD[name])


def test_tolerances_of_0_are_tolerances() -> None:
    """Not the usual ones: these allow what rounding does, and 1e-9."""
    nearly = square(lambda ctx, x, dy: 2 * x * dy * (1 + 1e-10))
    rounding = operation(lambda x: (x + 1) - x, lambda ctx, x, dy: 1e-17 * dy)
    assert gradcheck(nearly, [X]) and gradcheck(rounding, [X])
    for fn in (nearly, rounding):
        with pytest.raises(GradcheckError, match=WRONG):
            gradcheck(fn, [X], atol=0, rtol=0)


def test_a_layer_beside_another_call_of_it() -> None:
    """A module's parameters are leaves of both graphs; whole numbers in its buffers stay whole."""

    class Counted(nn.Module):
        def __init__(self) -> None:
            self.w, self.n = nn.Parameter(np.ones(3, np.float32)), nn.Buffer(np.array([0, 2, 1]))
            self.scale, self.frozen = nn.Buffer(np.float32([2, 3, 4])), nn.Parameter(BIAS)
            self.frozen.requires_grad = False

        def forward(self, picture: Any) -> Any:
            assert self.n.data.dtype.kind == "i"
            assert self.scale.dtype == picture.data.real.dtype
            return picture[:, self.n.data] * self.w * self.scale + self.frozen

    layer = Counted()
    buffers = [b.data for b in (layer.n, layer.scale)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(layer, [X])
    assert [b.data for b in (layer.n, layer.scale)] == buffers
    assert layer.w.requires_grad and not layer.frozen.requires_grad and layer.w.grad is None
    layer.forward = lambda picture: square(lambda ctx, x, dy: 3 * x * dy)(picture)  # type: ignore
    with pytest.raises(GradcheckError, match=r"of picture\[\d, \d\] is wrong"):
        gradcheck(layer, [X])


def test_the_first_step_is_eps() -> None:
    """Times max(1, |x|), from here or from a point that is a little smaller."""
    for eps in (1e-2, 1e-3):
        moved = [0.0]

        def look(x: Any, moved: list = moved) -> Any:
            if x.data.dtype.kind == "c":
                raise TypeError
            if x.data.dtype == np.float64:
                moved[0] = max(moved[0], float(np.abs(x.data[0] - 50)))
            return x.sum()

        assert worst_error(look, [np.array([50.0])], eps=eps) < 1e-7
        assert eps * 50 <= moved[0] * (1 + 1e-9) and moved[0] <= eps * 50 + 0.2


def test_float32_is_compared_at_the_same_values() -> None:
    """Rounding the input alone may change the output by more than float32 computes."""
    steep = operation(
        real(lambda x: 4096 * x - np.rint(4096 * x)), lambda ctx, x, dy: 4096 * dy
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gradcheck(steep, [np.array([0.70003, 0.1234567, -1.300021])])


def test_the_worst_error_is_that_of_any_input_and_not_of_kinks() -> None:
    pair = operation(lambda a, b: a + b, lambda ctx, a, b, dy: (dy, dy * (1 + 1e-10)))
    assert 5e-11 < worst_error(pair, [X, X]) < 1e-9
    with pytest.warns(KinkWarning):
        assert worst_error(F.relu, [np.array([0.0, 1, -1])]) < 1e-9


def test_the_page_counts_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gradcheck.md").read_text()
    assert f"`tests/core/test_backwards_of_nets.py` {len(BAD)} of operations" in page
    assert f"none of which passes, beside {len(GOOD)} right ones" in page


def test_the_command_tells_of_every_case(capsys: Any, monkeypatch: Any) -> None:
    inputs = [[np.array([0.0, 1])], [np.array([2.0, 1])], [np.array([1.0, 0, 3])]]
    monkeypatch.setitem(CASES, "relu", Cases(lambda rng: [(F.relu, x) for x in inputs], ()))
    assert main(["relu"]) == 0
    said = capsys.readouterr().err
    assert "1 of 2 elements of x lie at a kink" in said and "1 of 3 elements of x" in said
