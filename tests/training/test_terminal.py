"""What a run prints: one bar that fits a terminal, and no end of the run when nobody listens."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import make_trainer

from tinynet.training import checkpoint as files
from tinynet.training import console
from tinynet.training.task import Classification


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Gone(Terminal):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")


class Task:
    unit, measures = "pictures", Classification.measures


@pytest.mark.parametrize("epochs, total, done", [(6, 60_000, 12_000), (90, 115_000_000, 9_000_000)])
def test_the_bar_fits_80_columns(epochs, total, done, monkeypatch):
    """Loss, error, pictures a second and the time that is left, none of them cut."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    told = console.Console(Task(), epochs, total, done)
    assert told._bar.dynamic_ncols  # it asks how wide the terminal is
    told._bar.dynamic_ncols = lambda file: (79, 24)
    told._bar.start_t -= 10  # ten seconds have gone
    told._bar.last_print_t -= 10
    told.phase(epochs - 1)
    told.advance(3210)
    told.show({"loss": 6.9078, "top1_error": 99.87}, 0.5)
    told.phase(epochs - 1, testing=True)
    shown = [line.rstrip() for line in screen.getvalue().split("\r")]
    told.close()
    assert max(map(len, shown[2:])) <= 79  # those after the width is known
    for what in ("loss 6.908", "top-1 error 99.87 %", "/s, ", " left, ", f"/{epochs}", "%|"):
        assert what in shown[-1], shown
    assert shown[-1].startswith("testing") and shown[-2].startswith("epoch")


def test_rates_are_short(monkeypatch):
    """25,000 in ten seconds are 2.5k a second."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    told = console.Console(Task(), 1, 100_000, 0)
    told._bar.start_t -= 10
    told._bar.last_print_t -= 10
    told.advance(25_000)
    told.phase(0)
    told.close()
    assert "2.50k/s" in screen.getvalue()


@pytest.mark.parametrize("shown", [False, True])
def test_a_log_gets_a_line_a_minute(shown, monkeypatch, capsys):
    """Where no bar is shown. It tells where the run stands, as the bar would."""
    monkeypatch.setattr(sys, "stderr", Terminal() if shown else sys.stderr)
    clock = iter([0.0, 59.0, 61.0, 62.0, 122.0])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    told = console.Console(Task(), epochs=4, total=800, done=200)
    told.phase(1)
    for share in (0.25, 0.38, 0.44, 0.5):
        told.show({"loss": 2.5, "top1_error": 40.0}, share)
    told.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    words = "loss 2.500, top-1 error 40.00 %"
    expected = [f"epoch 2/4, 38 % of the run: {words}", f"epoch 2/4, 50 % of the run: {words}"]
    assert lines == ([] if shown else expected)


def test_a_terminal_that_has_gone_ends_no_run(tmp_path, monkeypatch):
    quiet = make_trainer(tmp_path / "quiet")
    quiet.fit()
    alone = make_trainer(tmp_path / "alone")
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(sys, "stdout", Gone())
    try:
        assert alone.fit() == "done"
    finally:
        monkeypatch.undo()
    assert alone.best == quiet.best
    one, two = (files.load(files.path_of(tmp_path / name, 18)) for name in ("quiet", "alone"))
    assert all(array.tobytes() == two.model[name].tobytes() for name, array in one.model.items())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_closed_terminal_saves_the_run(tmp_path):
    """SIGHUP comes with a terminal that can no longer be written to."""
    import pty

    program = (
        "import sys; from pathlib import Path; from helpers import make_trainer\n"
        "trainer = make_trainer(Path(sys.argv[1]), epochs=3000, checkpoint_minutes=None)\n"
        "end = trainer.fit()\n"
        "Path(sys.argv[1], 'end').write_text(f'{end} {trainer.step}')\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    pid, master = pty.fork()
    if pid == 0:  # in the terminal
        environ = os.environ | {"PYTHONPATH": paths}
        os.execve(sys.executable, [sys.executable, "-c", program, str(tmp_path)], environ)
    seen = b""
    while b"epoch 2/" not in seen:  # it trains, and its bar is shown; OSError where it has ended
        seen += os.read(master, 4096)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    end, step = (tmp_path / "end").read_text().split()
    assert end == "SIGHUP" and int(step) >= 6
    assert files.load(files.all_in(tmp_path)[0]).state["step"] == int(step)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_stays_nohup(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path; from helpers import make_trainer\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "trainer = make_trainer(Path(sys.argv[1]))\n"
        "step = trainer._train_step\n"
        "trainer._train_step = lambda batch: (os.kill(os.getpid(), signal.SIGHUP), step(batch))\n"
        "print(trainer.fit())\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "done", done.stderr
