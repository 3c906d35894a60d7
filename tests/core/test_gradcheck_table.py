"""python -m tinynet.gradcheck: every operation, its cases, and what the command says."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

import tinynet.functional as F
from tinynet.function import Function
from tinynet.gradcheck.__main__ import main
from tinynet.gradcheck.cases import CASES, has_gradient
from tinynet.gradcheck.cases.table import Cases
from tinynet.gradcheck.check import worst_error
from tinynet.gradcheck.numerical import Numerical
from tinynet.operations import OPERATIONS


@pytest.mark.parametrize("name", list(filter(has_gradient, CASES)))
def test_every_operation(name, rng, monkeypatch):
    """To the precision of the complex step, which every kernel of the CPU takes. A case may be left
    to central differences: near the network's kinks, and for a product with a factor of 0.
    """
    seen = []
    takes_complex = Numerical._takes_complex
    monkeypatch.setattr(
        Numerical, "_takes_complex", lambda *a: seen.append(takes_complex(*a)) or seen[-1]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fn, inputs in CASES[name].make(rng):
            assert worst_error(fn, inputs) < (1e-12 if seen[-1] else 1e-7)
    assert any(seen) or "network" in name


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
    assert "expected operations among relu," in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["relu", "--seed", "-1"])
    assert "expected a whole number from 0 on, got -1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split()).partition("Operations: ")[2]
    assert told.removesuffix(".").split(", ") == [name for name in CASES if has_gradient(name)]


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
