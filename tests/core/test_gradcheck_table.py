"""python -m tinynet.gradcheck: every operation, its cases, and what the command says."""

from __future__ import annotations

import inspect
import itertools
import runpy
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
from backwards import square

import tinynet
import tinynet.functional as F
from tinynet.function import Function
from tinynet.gradcheck import check
from tinynet.gradcheck.__main__ import main
from tinynet.gradcheck.cases import CASES, has_gradient
from tinynet.gradcheck.cases.table import Cases
from tinynet.gradcheck.check import worst_error
from tinynet.gradcheck.layouts import LAYOUTS
from tinynet.gradcheck.numerical import Numerical
from tinynet.operations import OPERATIONS, call


@pytest.mark.parametrize("name", list(filter(has_gradient, CASES)))
def test_every_operation(name, rng, monkeypatch, warnings_are_errors):
    """To the precision of the complex step, which every kernel of the CPU takes. A case may be left
    to central differences: near the network's kinks, and for a product with a factor of 0.
    """
    seen = []
    takes_complex = Numerical._takes_complex
    monkeypatch.setattr(
        Numerical, "_takes_complex", lambda *a: seen.append(takes_complex(*a)) or seen[-1]
    )
    for fn, inputs in CASES[name].make(rng):
        assert worst_error(fn, inputs) < (1e-12 if seen[-1] else 1e-7)
    assert any(seen) or "network" in name


def test_the_small_network_has_active_units():
    """In one of six there was none, or dropout left none, and the table showed an error of 0.0e+00:
    0 compared with 0.
    """
    for seed in range(100):
        ((network, inputs),) = CASES["(a small network)"].make(np.random.default_rng(seed))
        leaves = [tinynet.tensor(x, requires_grad=True) for x in inputs]
        tinynet.manual_seed(seed)
        network(*leaves).backward()
        assert all(leaf.grad.numpy().any() for leaf in leaves), seed


def test_the_table_holds_every_function_there_is():
    here = {f for row in OPERATIONS.values() for f in row.functions}

    def last(function):
        """The classes that are made from it, and have none made from them."""
        below = [f for one in function.__subclasses__() for f in last(one)]
        return below or [function]

    rooms = ("tinynet.arithmetic.", "tinynet.functional.")
    there = {f for f in last(Function) if f.__module__.startswith(rooms)}
    assert here == there


def test_every_operation_has_cases_and_a_formula():
    assert {name for name in CASES if not name.startswith("(")} == set(OPERATIONS)
    for name, row in OPERATIONS.items():
        assert row.formula.startswith(("y", "Y", "The")), name


def shown(value):
    """An argument in words: an option as it is, of a tensor or an array the shape."""
    if isinstance(value, (list, tuple)):
        return [shown(part) for part in value]
    if isinstance(value, (tinynet.Tensor, np.ndarray)):
        return f"{type(value).__name__} {value.shape}"
    return repr(value)


@pytest.fixture
def ran(monkeypatch):
    """Runs a case; gives what it called, names and arguments, what it was given, and results."""
    calls, rows = [], {row.call: row for row in OPERATIONS.values()}

    def watched(row):
        def watch(*arguments, **options):
            given = inspect.signature(row.call).bind(*arguments, **options)
            given.apply_defaults()
            calls.append((row.name, {name: shown(x) for name, x in given.arguments.items()}))
            return row.call(*arguments, **options)

        return watch

    for place in [call, *(m for name, m in sys.modules.items() if name.startswith("tinynet."))]:
        for name, found in list(vars(place).items()):
            if inspect.isfunction(found) and found in rows:
                monkeypatch.setattr(place, name, watched(rows[found]))

    def run(fn, inputs):
        calls.clear()
        tinynet.manual_seed(0)
        given = [tinynet.tensor(x) if x.dtype == float else x for x in inputs]
        ys = fn(*given)
        ys = ys if isinstance(ys, tuple) else (ys,)
        return [*calls], [*map(shown, given)], [y.numpy() for y in ys]

    return run


@pytest.mark.parametrize("name", CASES)
def test_each_case_is_one_of_its_own(name, ran):
    """Other options or other shapes than every other case has; and the same whether it is run at
    once, or after all were made, as the command does. (A function made in a loop may look up what
    the loop has last.)
    """
    at_once = [ran(*case) for case in CASES[name].make(np.random.default_rng(0))]
    later = [ran(*case) for case in list(CASES[name].make(np.random.default_rng(0)))]
    for (*called, ys), (*called_later, ys_later) in zip(at_once, later, strict=True):
        assert called == called_later
        for y, y_later in zip(ys, ys_later, strict=True):
            np.testing.assert_array_equal(y, y_later)
    every = [str(called) for *called, _ in at_once]
    assert sorted(set(every)) == sorted(every)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_cases_take_every_option(name, ran):
    """Each argument of the operation has two values at least; what can be left out is given, and
    each two such arguments together in one call.
    """
    parameters = inspect.signature(OPERATIONS[name].call).parameters
    options = {n: shown(p.default) for n, p in parameters.items() if p.default is not p.empty}
    taken, together = defaultdict(set), set()
    for case in CASES[name].make(np.random.default_rng(0)):
        of_this = [given for called, given in ran(*case)[0] if called == name]
        assert of_this, "a case that does not call its operation"
        for given in of_this:
            for argument, value in given.items():
                taken[argument].add(str(value))
            others = [n for n, usual in options.items() if given[n] != usual]
            together |= {*itertools.combinations(others, 2)}
    for argument in parameters:
        assert taken[argument] - {options.get(argument)}, argument
    for argument in options:
        assert len(taken[argument]) > 1, argument
    assert together == {*itertools.combinations(options, 2)}


@pytest.mark.parametrize("name", list(filter(has_gradient, CASES)))
def test_every_tensor_of_a_case_reaches_its_result(name):
    """One that does not has gradient 0, which is right, and nothing was checked."""
    for fn, inputs in CASES[name].make(np.random.default_rng(0)):
        leaves = [tinynet.tensor(x, requires_grad=True) for x in inputs]
        ys = fn(*leaves)
        sum(y.sum() for y in (ys if isinstance(ys, tuple) else (ys,))).backward()
        assert all(leaf.grad is not None for leaf in leaves)


@pytest.mark.parametrize("name", [name for name in CASES if not has_gradient(name)])
def test_the_cases_of_a_comparison_come_out_both_ways(name, ran):
    found = set()
    for case in CASES[name].make(np.random.default_rng(0)):
        (y,) = ran(*case)[-1]
        found |= {*y.ravel().tolist()}
        assert y.size < 12 or len({*y.ravel().tolist()}) > 1
    assert len(found) > 1


def test_functional_has_the_operations_of_its_files():
    own = {name for name, row in OPERATIONS.items() if "functional" in row.call.__module__}
    assert set(F.__all__) == own | {"concat", "exp", "log", "maximum"}
    assert all(getattr(F, name) is OPERATIONS[name].call for name in F.__all__)


def test_the_command(capsys):
    assert main(["relu", "softmax"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["operation", "cases", "worst", "relative", "error", "time"]
    assert (
        lines[1].startswith("relu ")
        and lines[2].startswith("softmax ")
        and lines[3].split()[:2] == ["all", "6"]
    )
    with pytest.raises(SystemExit) as caught:
        main(["conv7d"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "expected operations among relu," in err and "got conv7d; did you mean conv2d?" in err
    for name in ("xyz", "eq"):  # eq has cases, but no gradient
        with pytest.raises(SystemExit):
            main([name])
        own = "for one of your own, call tinynet.gradcheck(MyFunction.apply, [x]) in a program"
        assert capsys.readouterr().err.endswith(f"got {name}; {own}\n")
    with pytest.raises(SystemExit):
        main(["relu", "--seed", "-1"])
    assert "expected a whole number from 0 on, got -1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split()).partition("Operations: ")[2]
    names, _, own = told.partition(". For one of your own, ")
    assert names.split(", ") == [name for name in CASES if has_gradient(name)]
    assert own == "call tinynet.gradcheck(MyFunction.apply, [x]) in a program."


def test_the_command_tells_what_was_passed_over(capsys, monkeypatch):
    monkeypatch.setitem(CASES, "relu", Cases(lambda rng: [(F.relu, [np.array([0.0, 1])])], ()))
    assert main(["relu"]) == 0
    assert "relu: gradcheck: 1 of 2 elements of x lie at a kink" in capsys.readouterr().err


def test_the_module_runs_without_warnings():
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tinynet.gradcheck", "neg"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and run.stderr == "", run.stderr
    assert "neg" in run.stdout


def test_the_command_is_stopped(monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "worst_error", stopped)
    monkeypatch.setattr(sys, "argv", ["gradcheck", "neg"])
    monkeypatch.delitem(sys.modules, "tinynet.gradcheck.__main__")
    with pytest.raises(SystemExit, match="130"):
        runpy.run_module("tinynet.gradcheck", run_name="__main__")


def test_the_command_hands_its_options_on(capsys, monkeypatch):
    def seen_by(*arguments, names=("relu", "exp")):
        seen = {}
        for name in ("relu", "exp"):

            def cases(rng, name=name):
                seen[name] = [rng.integers(1 << 40)]
                yield lambda x: seen[name].append(str(x.device)) or x * 2, [np.ones(2)]

            monkeypatch.setitem(CASES, name, Cases(cases, ()))
        assert main([*names, *arguments]) == 0
        return seen

    first = seen_by()
    assert first == seen_by("--seed", "0") and first["relu"][0] != first["exp"][0]
    assert seen_by(names=["exp"]) == {"exp": first["exp"]}  # a failure comes again alone
    other = seen_by("--seed", "1", "--device", "cpu:1")
    assert other["relu"][0] not in (first["relu"][0], first["exp"][0])
    assert set(other["exp"][1:]) == {"cpu:1"} and set(first["exp"][1:]) == {"cpu"}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_the_command_hands_cases_on_as_they_are(name, device, monkeypatch):
    """Floats in their memory order, all else as it is."""
    x, labels = LAYOUTS[name](np.arange(1.0, 13).reshape(3, 4)), np.array([1, 2])
    given, seen = [x, labels, 0.5, "mean", None, (2, 3)], []

    def fn(x, *others):
        seen.append((x.data.strides, str(x.device), x.tolist()))
        assert all(a is b for a, b in zip(others, given[1:], strict=True))
        return x * 2

    monkeypatch.setitem(CASES, "relu", Cases(lambda rng: [(fn, given)], ()))
    assert main(["relu", "--device", device]) == 0
    assert seen[0] == (x.copy(order="K").strides, device, x.tolist())


def test_the_command_shows_what_is_wrong(capsys, monkeypatch):
    def cases(rng):
        yield square(lambda ctx, x, dy: 2 * x * dy), [np.ones(2)]
        yield square(lambda ctx, x, dy: -2 * x * dy), [np.ones(2)]

    monkeypatch.setitem(CASES, "relu", Cases(cases, ()))
    assert main(["relu"]) == 1
    out, err = capsys.readouterr()
    assert (
        "WRONG" in out and "1 wrong" in out and "relu: gradcheck: the gradient of input 0[" in err
    )


def test_a_line_of_the_table_is_of_its_operation_alone(capsys, monkeypatch):
    """Whatever came before it: a wrong one, a coarse one, one with more cases."""
    wrong = square(lambda ctx, x, dy: -2 * x * dy)
    coarse, exact = (lambda x: x.abs() ** 2.5), (lambda x: x * 2)
    given = {"relu": [wrong, exact], "exp": [coarse] * 3, "neg": [exact]}
    for name, functions in given.items():
        made = [(fn, [np.array([1.0, 2, 3])]) for fn in functions]
        monkeypatch.setitem(CASES, name, Cases(lambda rng, made=made: made, ()))

    def lines(*names):
        main([*names])
        return {
            line.split()[0]: line.split()[1:3] for line in capsys.readouterr().out.splitlines()[1:]
        }

    alone = {name: lines(name)[name] for name in given}
    assert [alone[name][0] for name in given] == ["2", "3", "1"]
    assert alone["relu"][1] == "WRONG" and len({worst for _, worst in alone.values()}) == 3
    for order in itertools.permutations(given):
        assert lines(*order) == {**alone, "all": ["6", "1"]}


def test_a_backward_that_fails_ends_no_table(capsys, monkeypatch):
    def fails(ctx, x, dy):
        raise ZeroDivisionError("no")

    monkeypatch.setitem(CASES, "relu", Cases(lambda rng: [(square(fails), [np.ones(2)])], ()))
    assert main(["relu", "neg"]) == 1
    out, err = capsys.readouterr()
    assert "\nneg " in out and "relu: ZeroDivisionError: no" in err


def test_who_reads_may_have_seen_enough():
    run = subprocess.Popen(
        [sys.executable, "-m", "tinynet.gradcheck", "neg", "exp"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    run.stdout.close()
    assert run.stderr.read() == "" and run.wait() == 1
