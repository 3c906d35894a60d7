"""Programs of a beginner, written for torch, run with tinynet after a change of the imports alone.

A line that does not run must be answered by a message that says what to write. ANSWERS holds these
lines; what is written in their place here is what the message says.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
ZEROED = "write x.data[...] = 0; for a gradient: w.grad = None"
IN_PLACE = "write x = tinynet.where(mask, value, x), or off the tape x.data[key] = value"

# the line -> (a part of its answer, what is written instead)
ANSWERS = {
    "w -= lr * w.grad": ("write w.data -= ...", "w.data -= lr * w.grad"),
    "b -= lr * b.grad": ("write w.data -= ...", "b.data -= lr * b.grad"),
    "w.grad.zero_()": (ZEROED, "w.grad = None"),
    "b.grad.zero_()": (ZEROED, "b.grad = None"),
    "h.grad.zero_()": (ZEROED, "h.grad = None"),
    "error = (x.mm(w) + b - y).abs().max()": (
        "'mm'; write x @ y",
        "error = (x @ w + b - y).abs().max()",
    ),
    "wrong = (pred != y_test).nonzero()": (
        "write numpy.argwhere(x.numpy())",
        "import numpy; wrong = numpy.argwhere((pred != y_test).numpy())",
    ),
    "by_class[0] = 1.0": (IN_PLACE, "by_class.data[0] = 1.0"),
    "confusion[t, p] += 1": (IN_PLACE, "confusion.data[t, p] += 1"),
    "x[0, 0] = 1.0": (IN_PLACE, "x.data[0, 0] = 1.0"),
    "assert torch.allclose(again(x_test), model(x_test))": (
        "write numpy.allclose(x, y)",
        "assert numpy.allclose(again(x_test).detach(), model(x_test).detach())",
    ),
    "assert torch.allclose(total, x.sum())": (
        "write numpy.allclose(x, y)",
        "assert np.allclose(total, x.sum(), atol=1e-5)",
    ),
    "correct += pred.eq(yb.view_as(pred)).sum().item()": (
        "write x == y",
        "correct += (pred == yb.view(*pred.shape)).sum().item()",
    ),
    'nn.Conv2d(1, 4, 3, padding="same"),': (
        "'same' for this kernel and stride 1 is padding=1",
        "nn.Conv2d(1, 4, 3, padding=1),",
    ),
    "print(x.sqrt().isnan().any(), x.abs().sqrt(), x.sin() ** 2 + x.cos() ** 2)": (
        "write x != x",
        "print((x.abs() != x.abs()).any(), x.abs().sqrt(), x.sin() ** 2 + x.cos() ** 2)",
    ),
    "print(torch.cumsum(x, dim=1)[0], x.prod(), x.t().shape, x.numel(), x.dim())": (
        "write x.T",
        "print(torch.cumsum(x, dim=1)[0], x.prod(), x.T.shape, x.numel(), x.dim())",
    ),
    "e = x.double().long().float()": (
        "write x.astype('float64')",
        "e = x.astype('float64').long().float()",
    ),
    "x.add_(1)": ("write x = x + y", "x = x + 1"),
}
IMPORTS = {
    "import torch": "import tinynet as torch",
    "import torch.nn as nn": "import tinynet.nn as nn",
    "import torch.nn.functional as F": "import tinynet.functional as F",
    "import torch.optim as optim": "import tinynet.optim as optim",
    "from torch import nn, optim": "from tinynet import nn, optim",
}


def with_answers(text: str) -> str:
    """The program with tinynet; a line of ANSWERS is tried first, then replaced."""
    lines = []
    for line in text.splitlines():
        code = line.strip()
        before = line[: len(line) - len(line.lstrip())]
        if code in IMPORTS:
            lines.append(IMPORTS[code])
        elif code.endswith(",") and code in ANSWERS:  # an argument of a call
            lines.append(f"{before}answered({code!r}, lambda: {code[:-1]}) or {ANSWERS[code][1]}")
        elif code in ANSWERS:
            lines += [
                f"{before}try:",
                f"{before}    {code}",
                f"{before}except Exception as mistake:",
                f"{before}    is_answer({code!r}, mistake)",
                f"{before}    {ANSWERS[code][1]}",
                f"{before}else:",
                f"{before}    raise AssertionError({code!r} + ' runs: it needs no answer')",
            ]
        else:
            lines.append(line)
    return "\n".join(lines)


# gradients.py takes the square root of negative numbers.
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt:RuntimeWarning")
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_runs_after_changing_the_import(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = []

    def is_answer(code, mistake):
        assert ANSWERS[code][0] in str(mistake), f"{code}: {mistake!r}"
        answers.append(code)

    def answered(code, call):
        with pytest.raises(ValueError) as caught:
            call()
        is_answer(code, caught.value)

    text = path.read_text()
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        names = {"__name__": "__main__", "is_answer": is_answer, "answered": answered}
        exec(compile(with_answers(text), str(path), "exec"), names)
    assert shown.getvalue()
    assert set(answers) == {line.strip() for line in text.splitlines()} & set(ANSWERS)


def test_the_programs_are_two_hundred_lines_and_few_need_an_answer():
    lines = [
        line.strip() for path in PROGRAMS for line in path.read_text().splitlines() if line.strip()
    ]
    assert len(lines) >= 200
    assert set(ANSWERS) <= set(lines)
    assert len([line for line in lines if line in ANSWERS]) < 0.1 * len(lines)


@pytest.mark.slow
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_is_right_with_torch(path, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(path.read_text(), str(path), "exec"), {"__name__": "__main__"})
