"""The exercises: stubs and known mistakes fail, each with its own hint; solutions pass; and what
goes wrong in a learner's file is told in words.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet import kernels, tape
from tinynet.exercises import EXERCISES, checker, learner, max_pool2d_backward
from tinynet.exercises.__main__ import main
from tinynet.gradcheck.cases import CASES

MISTAKES = [(name, mistake) for name, e in EXERCISES.items() for mistake in e.mistakes]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A clean folder, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Runs the command; gives its exit status and what it prints, and looks for tracebacks."""

    def run(*arguments: str) -> tuple[int, str]:
        try:
            status = main([*arguments])
        except SystemExit as exit:  # argparse
            status = int(str(exit.code))
        told = "".join(capsys.readouterr())
        assert "Traceback" not in told and "tinynet/exercises" not in told
        return status, " ".join(told.split())

    return run


def write(name: str, text: str) -> None:
    with open(f"{name}.py", "w") as file:
        file.write(text)


# ------------------------------------------------------------------ every exercise


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_fails_and_the_solution_passes(name, run):
    """In a clean folder: so no exercise needs the file of another one."""
    status, told = run(name)
    assert status == 0 and f"Wrote {name}.py" in told
    stub = open(f"{name}.py").read()
    status, told = run(name)
    assert status == 1 and "Not written yet" in told and "raise NotImplementedError" in told
    assert open(f"{name}.py").read() == stub

    write(name, EXERCISES[name].text(solved=True))
    places = [vars(owner)[place] for owner, place in EXERCISES[name].places]
    status, told = run(name)
    assert status == 0 and told.count("right: ") == 2 and told.endswith("Done."), told
    assert ("15 cases; 1 left out, too large" in told) == ("conv2d" in EXERCISES[name].ours)
    assert all(
        vars(owner)[place] is own
        for own, (owner, place) in zip(places, EXERCISES[name].places, strict=True)
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a mistake may divide by 0
@pytest.mark.parametrize(
    "name, mistake", MISTAKES, ids=[f"{name}-{m.__name__}" for name, m in MISTAKES]
)
def test_a_known_mistake_is_told_by_its_own_hint(name, mistake, run):
    write(name, f"from tinynet.exercises.{name} import {mistake.__name__} as {name}\n")
    status, told = run(name)
    hint = EXERCISES[name].mistakes[mistake]
    assert status == 1 and f"A known mistake: {' '.join(hint.split())}" in told, told


@pytest.mark.parametrize(
    "name, mistake", [("dropout_backward", "python_divides_by_zero"), ("walk", "recursive")]
)
def test_a_known_mistake_that_fails_in_the_learners_own_file_is_told(name, mistake, run):
    """The line of the file stands in front of what Python says."""
    (function,) = (m for m in EXERCISES[name].mistakes if m.__name__ == mistake)
    write(name, inspect.getsource(function).replace(f"def {mistake}", f"def {name}"))
    hint = " ".join(EXERCISES[name].mistakes[function].split())
    status, told = run(name)
    assert status == 1 and f"{name}.py, line" in told and f"A known mistake: {hint}" in told, told


def numbers(value) -> list[float]:
    """All that is in a result, with its shapes."""
    if isinstance(value, str):
        return [float(ord(sign)) for sign in value]
    if isinstance(value, dict):
        return [n for key in sorted(value, key=str) for n in numbers(value[key])]
    if isinstance(value, (list, tuple)):
        return [n for part in value for n in numbers(part)]
    return [*map(float, np.shape(value)), *np.ravel(value).astype(float).tolist()]


def made(name, function) -> tuple[int, int, float]:
    """What a version makes of the example and the probes: how often it fails, how many numbers it
    gives, and their sum, each times a factor of its own.
    """
    exercise = EXERCISES[name]
    probes = [exercise.example(), *exercise.probes(np.random.default_rng(7))]
    outcomes = [checker.outcome(exercise, function, probe) for probe in probes]
    found = np.array(numbers([(each.results, each.arguments) for each in outcomes]))
    found = np.where(np.isfinite(found), found, 99.0)
    factors = np.cos(np.arange(len(found)))
    return sum(bool(each.error) for each in outcomes), len(found), float(found @ factors)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_known_mistake_is_the_one_that_was_meant(name):
    """Hints were read beside these: what a version gives now is what it gave then, on the same
    probes. Whoever changes one reads its hint again, and changes its line.
    """
    lines = (Path(__file__).parent / "mistakes.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.startswith(f"{name} ")]
    versions = [EXERCISES[name].solution, *EXERCISES[name].mistakes]
    assert [row[1] for row in rows] == [version.__name__ for version in versions]
    for version, (_, _, *wanted) in zip(versions, rows, strict=True):
        found = made(name, version)
        assert found == pytest.approx([*map(float, wanted)], rel=1e-6, abs=1e-5), version.__name__


@pytest.mark.parametrize("name", EXERCISES)
def test_a_solution_lies_in_memory_of_its_own(name):
    """Who changes what it returns changes no argument."""
    exercise = EXERCISES[name]
    for probe in (exercise.example(), *exercise.probes(np.random.default_rng(7))):
        given = [*checker._arrays(exercise.call(exercise.solution, *probe))]
        for array, argument in itertools.product(given, checker._arrays(probe)):
            assert not np.shares_memory(array, argument)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_version_gives_the_dtype_it_was_given(name):
    """What a learner's results are held to: a mistake of another dtype would never be named."""
    exercise = EXERCISES[name]
    for probe in (exercise.example(), *exercise.probes(np.random.default_rng(7))):
        if not [*checker._arrays(probe)]:
            continue
        for given, dtype in ((probe, np.float64), (checker._as_float32(probe), np.float32)):
            for version in (exercise.solution, *exercise.mistakes):
                results = checker.outcome(exercise, version, given).results
                dtypes = {r.dtype for r in results if isinstance(r, checker.ARRAY)}
                assert dtypes <= {np.dtype(dtype)}, version.__name__


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_mistakes_that_fit_the_one_that_fits_oftener_is_named(turn):
    """Without padding some probes end in an IndexError; in the others it is like a wrong cut."""
    exercise = EXERCISES["max_pool2d_backward"]
    exercise = dataclasses.replace(exercise, mistakes=dict([*exercise.mistakes.items()][::turn]))
    probes = [*exercise.probes(np.random.default_rng(0))]
    for mistake in (max_pool2d_backward.without_padding, max_pool2d_backward.cut_at_the_corner):
        outcomes = [checker.outcome(exercise, mistake, probe) for probe in probes]
        assert checker.named(exercise, probes, outcomes) == exercise.mistakes[mistake]


def test_an_exercise_stays_as_it_is():
    """All that checks it sees the same one."""
    for exercise in EXERCISES.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            exercise.hint = ""


def test_every_hint_is_said_by_one_mistake():
    hints = [hint for e in EXERCISES.values() for hint in e.mistakes.values()]
    by_name = {(name, hint) for name, e in EXERCISES.items() for hint in e.mistakes.values()}
    assert len(by_name) == len(hints)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_cases_alone_notice_a_mistake(name):
    """They run with the function in tinynet's place; without the probes before them."""
    exercise = EXERCISES[name]

    def is_noticed(mistake):
        trials = exercise.trials(mistake)
        with exercise.in_place(mistake), np.errstate(all="ignore"):
            for trial in trials[:3]:
                try:
                    trial.run()
                except Exception:
                    return True
        return False

    assert any(map(is_noticed, exercise.mistakes))


def test_every_exercise_stands_in_its_chapter():
    docs = Path(__file__).parents[2] / "docs" / "learn"
    for name, exercise in EXERCISES.items():
        (chapter,) = docs.glob(f"{exercise.chapter:02}-*.md")
        assert f"python -m tinynet.exercises {name}\n" in chapter.read_text(encoding="utf-8")


def test_no_exercise_needs_a_later_chapter():
    chapters = [e.chapter for e in EXERCISES.values()]
    assert chapters == sorted(chapters)
    for name, exercise in EXERCISES.items():
        nodes = [*ast.walk(ast.parse(exercise.text(solved=True)))]
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        assert not names & (EXERCISES.keys() - {name}), name
        imported = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
        assert imported <= {"numpy", "tinynet"}
        assert not any(isinstance(node, ast.ImportFrom) for node in nodes)


@pytest.mark.parametrize("name", EXERCISES)
def test_probes_are_not_blind(name):
    """Sides that differ, strides that skip, padding that is not half the kernel, overlap."""
    probes = [*EXERCISES[name].probes(np.random.default_rng(0))]
    names = [*EXERCISES[name].signature.parameters]
    if "padding" not in names:
        return
    of = {n: [probe[names.index(n)] for probe in probes] for n in names}
    kernel = of.get("kernel") or [w.shape[2:] for w in of["weight"]]
    picture = of.get("x_shape") or [x.shape for x in of["x"]]
    assert any(H != W for *_, H, W in picture)
    assert any(kh != kw for kh, kw in kernel)
    assert any(2 in stride for stride in of["stride"])
    assert any(ph != pw for ph, pw in of["padding"])
    halves = [((kh - 1) / 2, (kw - 1) / 2) for kh, kw in kernel]
    assert any(a != b for a, b in zip(of["padding"], halves, strict=True))
    both = zip(kernel, of["stride"], strict=True)
    assert any(k > s for pair in both for k, s in zip(*pair, strict=True))


def test_probes_of_unbroadcast_have_every_kind_of_shape():
    probes = EXERCISES["unbroadcast"].probes(np.random.default_rng(0))
    kinds = set()
    for grad, shape in probes:
        extra = grad.ndim - len(shape)
        repeated = [n == 1 < m for n, m in zip(shape, grad.shape[extra:], strict=True)]
        parts = repeated[:1], repeated[1:-1], repeated[-1:]
        kinds.add((min(extra, 2), shape == (), *map(any, parts)))
    first, inner, last = (True, False, False), (False, True, False), (False, False, True)
    assert {kind[2:] for kind in kinds} >= {first, inner, last, (False, False, False)}
    assert {kind[:2] for kind in kinds} >= {(0, False), (1, False), (2, True)}


# ------------------------------------------------------------------ a learner's file

RIGHT = "def accumulate(parts):\n    return sum(parts)\n"


@pytest.mark.parametrize("text", ["parts[0][:]", "parts[0].reshape(2, 3)", "parts[0].T.T"])
def test_a_sum_lies_in_memory_of_its_own(text, run):
    """A view of a single part is noticed, too."""
    write("accumulate", f"{RIGHT.strip()} if len(parts) > 1 else {text}\n")
    status, told = run("accumulate")
    assert status == 1 and "memory: expected its own, got that of parts[0]" in told, told


@pytest.mark.parametrize("given", ["weight, velocity", "weight", "weight + velocity"])
def test_a_step_gives_nothing_back(given, run):
    """In place or not: who reads `weight = sgd_step(...)` would look for a new array."""
    write("sgd_step", EXERCISES["sgd_step"].text(solved=True) + f"    return {given}\n")
    status, told = run("sgd_step")
    kind = "tuple" if "," in given else "ndarray"
    assert status == 1 and f"Expected to get nothing back, got {kind}." in told, told


def test_the_file_that_is_checked_is_the_learners(run):
    for text, status in [
        (RIGHT, 0),
        (RIGHT.replace("sum(parts)", "sum(parts[1:])"), 1),
        (RIGHT, 0),
    ]:
        write("accumulate", text)
        assert run("accumulate")[0] == run("--all")[0] == status


@pytest.mark.parametrize("arguments", ["arrays", "arrays, /", "*parts", "parts, begin=0"])
def test_arguments_may_have_other_names(arguments, run):
    given = {"arrays": "arrays", "*parts": "parts[0]"}.get(arguments.partition(",")[0], "parts")
    write("accumulate", f"def accumulate({arguments}):\n    return sum({given})\n")
    assert run("accumulate")[0] == 0


def test_what_the_probes_let_pass_gradcheck_finds(run):
    name = "local_response_norm_backward"
    text, own = EXERCISES[name].text(solved=True), kernels.local_response_norm_backward
    count = len(list(CASES["local_response_norm"].make(np.random.default_rng(0))))
    for wrong, told in [
        ("dx * (1 + (size == 1))", "GradcheckError: gradcheck: the gradient of x[0, "),
        ("dx if size > 1 else dx[1:]", "RuntimeError: LocalResponseNorm.backward: expected an arr"),
    ]:
        write(name, text.replace("return dx", f"return {wrong}"))
        status, said = run(name)
        assert status == 1 and said.count("right: ") == 1
        assert f"case 4 of {count}: {told}" in said
        assert kernels.local_response_norm_backward is own


def test_an_interrupt_puts_tinynets_own_back(run):
    own = tape.add_up
    stop = "    calls.append(1)\n    if len(calls) > 4: raise KeyboardInterrupt\n    return"
    write("accumulate", "calls = []\n" + RIGHT.replace("    return", stop))
    status, told = run("accumulate")
    assert status == 130 and "right: the example" in told and told.endswith("stopped")
    assert tape.add_up is own


def test_a_small_error_is_found_in_the_example(run):
    write(
        "accumulate",
        RIGHT + "\nright = accumulate\naccumulate = lambda parts: right(parts) * 1.0001",
    )
    status, told = run("accumulate")
    assert status == 1 and "WRONG in the example" in told


def test_got_and_expected_stand_side_by_side(capsys):
    write("accumulate", "def accumulate(parts):\n    return parts[0] + parts[-1]\n")
    assert main(["accumulate"]) == 1
    told = capsys.readouterr().out
    assert "     got       expected\n     6* 2*     9  0\n    2 of 2 values are wrong" in told
    assert "--hint accumulate" in told and "known mistake" not in told


def test_the_call_that_is_wrong_is_shown_first(capsys):
    """Each argument by its name, then its values; one that is too large by its shape alone."""
    write("unbroadcast", "def unbroadcast(grad, shape):\n    return grad\n")
    write("accumulate", "def accumulate(parts):\n    return parts[0]\n")
    for name, lines in (
        ("unbroadcast", ["  grad, shape (2, 3)", "    1  2  3", "    4  5  6", "  shape = (2, 1)"]),
        ("accumulate", ["  parts[0]", "    1  2", "  parts[1]", "     3  -2", "  parts[2]"]),
    ):  # fmt: skip
        assert main([name]) == 1
        assert capsys.readouterr().out.splitlines()[2 : 2 + len(lines)] == lines
    exercise = SimpleNamespace(signature=SimpleNamespace(parameters=["a", "b", "c"]))
    lines = [*checker._arguments(exercise, ([np.zeros((2, 2))], np.zeros((2, 2, 3)), 7))]
    assert lines[0] == "  a[0]" and lines[-2:] == ["  b, shape (2, 2, 3)", "  c = 7"]


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "expected a function accumulate(parts), got none"),
        ("accumulate = 3", "expected a function accumulate(parts), got none"),
        ("def accumulate(parts) return 3", "line 1: def accumulate(parts) return 3 Python says:"),
        ("def accumulate(a, b): return a", "expected accumulate(parts), got accumulate(a, b)"),
        ("import nonsense_", "line 1: import nonsense_ ModuleNotFoundError: No module"),
        ("exit(3)", "line 1: exit(3) This ends the program."),
        ("def accumulate(parts):\n    exit()", "line 2: exit() This ends the program."),
        ("def accumulate(parts):\n    pass", "got None (is there a return at the end?)"),
        ("def accumulate(parts):\n    return 1, 2", "expected an array of shape (2,), got a tuple"),
        ("def accumulate(parts):\n    return parts[9]", "line 2: return parts[9] IndexError: list"),
        ("def accumulate(parts):\n    return parts[0][:1]", "expected shape (2,), got (1,)"),
        (
            "def accumulate(parts):\n    return sum(parts).astype(float)",
            "expected dtype float32, as the arguments have, got float64",
        ),
        ("def accumulate(parts):\n    return accumulate(parts)", "RecursionError: maximum"),
        ("def accumulate(parts):\n    assert 0, 'no'", "line 2: assert 0, 'no' AssertionError: no"),
        ("def accumulate(parts):\n    return sum(parts) * float('nan')", "2 of 2 values are wrong"),
        ("\0", "accumulate.py"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_in_words(text, told, run):
    write("accumulate", text)
    status, said = run("accumulate")
    assert status == 1 and told in said, said


@pytest.mark.parametrize("before", ["", "def accumulate(parts):\n    "])
def test_a_loop_that_never_ends_is_told(before, run, monkeypatch):
    monkeypatch.setattr(learner, "SECONDS", 0.2)
    write("accumulate", f"{before}while True: pass\n")
    status, told = run("accumulate")
    line = before.count("\n") + 1
    assert status == 1 and f"line {line}: while True: pass Still running after 0.2 sec" in told
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("body", ["while True: pass", "raise NotImplementedError"])
@pytest.mark.parametrize("call", [1, 3, 60])  # the example, a probe, a case of gradcheck
def test_what_never_ends_or_is_not_written_is_not_called_again(body, call, run, monkeypatch):
    """The learner would wait for each of the others, too."""
    monkeypatch.setattr(learner, "SECONDS", 0.2)
    right = "    return sum(parts[1:], parts[0].copy())\n"
    write(
        "accumulate",
        f"calls = []\ndef accumulate(parts):\n    calls.append(0)\n"
        f"    open('calls', 'a').write('.')\n    if len(calls) >= {call}:\n        {body}\n{right}",
    )
    assert run("accumulate")[0] == 1
    assert len(Path("calls").read_text()) == call


def test_the_time_is_up_again_and_again(run, monkeypatch):
    """A bare `except:` catches it the first time."""
    monkeypatch.setattr(learner, "SECONDS", 0.2)
    write(
        "accumulate",
        "import time\ncaught, end = 0, time.time() + 5\n"
        "while caught < 2 and time.time() < end:\n"
        "    try:\n        while time.time() < end: pass\n"
        "    except: caught += 1\n"
        "open('caught', 'w').write(str(caught))\n",
    )
    run("accumulate")
    assert Path("caught").read_text() == "2"


def test_a_loop_that_catches_everything_is_ended():
    write("accumulate", "while True:\n    try:\n        sum(range(9**5))\n    except: pass\n")
    code = (
        "import sys; from tinynet.exercises import learner; learner.SECONDS = 0.2\n"
        "from tinynet.exercises.__main__ import main; sys.exit(main(['accumulate']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(tinynet.__file__).parents[1])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "`except:` that catches everything" in done.stdout
    assert not done.stderr


def test_the_fourth_alarm_ends_the_program(monkeypatch):
    """A learner's `except:` may catch the first three, and return in time."""

    class Ended(BaseException):
        pass

    def end(status):
        raise Ended(status)

    told = io.BytesIO()  # what is only buffered is lost
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(sys, "__stdout__", io.TextIOWrapper(told))
    with learner._limit():
        for _ in range(3):
            with pytest.raises(learner._TimeUp):
                signal.raise_signal(signal.SIGALRM)
            assert not told.getvalue()
        with pytest.raises(Ended, match="^1$"):
            signal.raise_signal(signal.SIGALRM)
    assert b"`except:` that catches everything" in told.getvalue()


def test_what_a_function_prints_is_shown_but_not_all(run):
    write("accumulate", RIGHT.replace("    ret", "    for i in range(5): print('i', i)\n    ret"))
    status, told = run("accumulate")
    assert status == 0 and told.count("i 0") == 2 and "and 12 lines more" in told


@pytest.mark.parametrize(
    "name, wrong, told",
    [
        ("walk", "return [root]", "Expected a dict {step: gradient}, got list."),
        ("walk", "return {root: None}", "TypeError"),
        ("cross", "return xa", "Expected two tensors"),
        ("conv2d_backward", "return dy", "Expected to get dx, dw, db, got an array of shape (1, 1"),
        ("conv2d_backward", "return dy, x", "Expected to get dx, dw, db, got a tuple of 2."),
        ("conv2d_backward", "return dy, x, x, x", "Expected to get dx, dw, db, got a tuple of 4."),
        ("copy_backward", "return None", "dx: expected an array of shape (3,), got None"),
        ("sgd_step", "return weight + velocity", "Expected to get nothing back, got ndarray."),
        (
            "accumulate",
            "return [parts[0], 1]",
            "total: expected an array of shape (2,), got a list",
        ),
    ],
)
def test_a_wrong_kind_of_result_is_told(name, wrong, told, run):
    write(name, f"def {name}{EXERCISES[name].signature}:\n    {wrong}\n")
    status, said = run(name)
    assert status == 1 and told in said, said


# ------------------------------------------------------------------ the command


def test_the_list_shows_what_is_begun(run):
    assert "*" not in run()[1]
    write("walk", "")
    status, told = run()
    assert (status, told) == run("--list") and status == 0
    assert "* its file is in this folder" in told
    assert "*walk" in told and "*cross" not in told and all(name in told for name in EXERCISES)


def test_all_counts(run):
    assert run("--all")[0] == 1  # there is nothing to check
    write("accumulate", RIGHT)
    status, told = run("--all")
    assert status == 0 and "1 right, 0 wrong, 14 not begun" in told
    write("cross", "")
    status, told = run("--all")
    assert status == 1 and "1 right, 1 wrong, 13 not begun" in told
    assert "WRONG: see python -m tinynet.exercises cross" in told


def test_hint_and_solution(run, capsys):
    for name, exercise in EXERCISES.items():
        assert " ".join(exercise.hint.split()) in run("--hint", name)[1]
    assert main(["--solution", "accumulate.py"]) == 0
    write("accumulate", capsys.readouterr().out)
    assert run("accumulate")[0] == 0


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["accumulat"], "got accumulat; did you mean accumulate?"),
        (["zzz"], "got zzz; python -m tinynet.exercises --list shows all"),
        (["--hint"], "expected the NAME of an exercise with --hint or --solution, got none"),
        (["--solution"], "expected the NAME of an exercise with --hint or --solution, got none"),
        (["--solution", ".py"], "expected the NAME of an exercise"),
        (["--solution", "wal"], "got wal; did you mean walk?"),
        (["--hint", "--solution", "walk"], "not allowed with"),
        (["--list", "walk"], "expected no NAME with --list or --all, got walk"),
        (["--all", "walk"], "expected no NAME with --list or --all, got walk"),
        (["--all", "--list"], "not allowed with"),
    ],
)
def test_a_wrong_command_is_refused(arguments, told, run, folder):
    status, said = run(*arguments)
    assert status == 2 and told in said and not [*folder.iterdir()]


def test_a_file_that_cannot_be_read_is_told(run, folder):
    (folder / "walk.py").mkdir()
    status, told = run("walk")
    assert status == 1 and "walk.py: Is a directory" in told


def test_a_reader_that_has_seen_enough_is_no_mistake():
    """As in `... --list | head -1`."""
    command = f"{sys.executable} -m tinynet.exercises --all | true"
    environment = os.environ | {"PYTHONPATH": str(Path(tinynet.__file__).parents[1])}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, timeout=60)
    assert done.stderr == b""


def test_the_callers_alarm_and_what_was_printed_before_a_failure(run):
    """Who runs the command from Python may have an alarm of its own."""

    def own(number, frame):
        raise AssertionError

    text = "def accumulate(parts):\n    print('so far')\n    return parts[9]"
    before = signal.signal(signal.SIGALRM, own)
    try:
        for broken in (RIGHT, text):
            write("accumulate", broken)
            status, told = run("accumulate")
            assert signal.getsignal(signal.SIGALRM) is own
            assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert status == 1 and "Your function printed: so far" in told


@pytest.mark.parametrize("factor, right", [(1 + 1e-8, True), (1 + 1e-4, False), (1e9, False)])
def test_how_close_is_right(factor, right, run):
    """To a millionth of the largest value that is expected, not of what was given."""
    scaled = f"(sum(parts[1:], parts[0]) * {factor}).astype(parts[0].dtype)"
    write("accumulate", f"def accumulate(parts):\n    return {scaled}\n")
    assert ("right: the example" in run("accumulate")[1]) is right
    write("accumulate", RIGHT.replace("return ", "return 1e9 * (parts[0] > 0) + "))
    assert run("accumulate")[0] == 1  # beside 1e9 all else is small


def test_a_hint_of_the_stack_is_for_what_fills_it():
    """Two mistakes of one kind, told apart by what Python says of them."""
    exercise = EXERCISES["walk"]
    for mistake, hint in exercise.mistakes.items():
        if mistake.__name__.startswith("recursive"):
            outcomes, right = (
                checker.outcome(exercise, function, exercise.example())
                for function in (mistake, exercise.solution)
            )
            assert ("stack" in hint) == (outcomes.results == right.results)


@pytest.mark.parametrize("count, more", [(8, ""), (9, "and 1 lines more")])
def test_eight_printed_lines_are_shown(count, more, run):
    write("accumulate", f"for i in range({count}): print('i', i)\n{RIGHT}")
    status, told = run("accumulate")
    assert status == 0 and told.count("i 7") == 1 and "i 8" not in told
    assert ("lines more" in told) == bool(more) and more in told


def test_the_line_that_failed_is_the_innermost(run):
    inner = "def inner(x):\n    return x[9]\n\n"
    write("accumulate", inner + "def accumulate(parts):\n    return inner(parts)\n")
    assert "line 2: return x[9] IndexError" in run("accumulate")[1]


@pytest.mark.parametrize("name", EXERCISES)
def test_a_stub_says_all_but_how(name):
    exercise = EXERCISES[name]
    for text in (exercise.text(solved=False), exercise.text(solved=True)):
        assert text.splitlines()[:2] == [
            f"# Chapter {exercise.chapter}. {exercise.question}",
            f"# To check it: python -m tinynet.exercises {name}",
        ]
    stub, solved = (ast.parse(exercise.text(solved=s)) for s in (False, True))
    own, full = (next(n for n in t.body if isinstance(n, ast.FunctionDef)) for t in (stub, solved))
    assert ast.get_docstring(own) == ast.get_docstring(full)
    assert ast.get_docstring(own) and ast.unparse(own.args) == ast.unparse(full.args)
    assert len(own.body) == 2 and isinstance(own.body[1], ast.Raise)
