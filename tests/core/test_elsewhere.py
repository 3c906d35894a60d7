"""Linux is supported. Elsewhere what is missing is told in one line, when it is asked for."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet.data import ArrayDataset, Loader

ROOT = Path(__file__).parents[2]
# What Windows lacks of Python's library; macOS lacks a part of it.
ELSEWHERE = """
import ctypes, os, random, signal, sys  # random wants register_at_fork, where it is
sys.modules["fcntl"], sys.platform = None, "elsewhere"
gone = "memfd_create sched_getaffinity pread pwrite register_at_fork".split()
for name in gone:
    delattr(os, name)
del signal.SIGHUP
def load(name, *mode, load=ctypes.CDLL, **options):
    assert name or options, "Windows knows no library without a name"
    return load(name, *mode, **options)
ctypes.CDLL = load
"""


def elsewhere(code: str) -> str:
    """What the code prints where all that is missing."""
    run = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + code], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_all_of_tinynet_is_imported():
    files = [file.relative_to(ROOT).with_suffix("") for file in (ROOT / "tinynet").rglob("*.py")]
    files = [file for file in files if not {"cuda", "nccl"} & {*file.parts}]  # these need CuPy
    names = [".".join(file.parts) for file in files]
    names = [name.removesuffix(".__init__") for name in names if "__main__" not in name]
    said = elsewhere(
        "import importlib, tinynet\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "print(tinynet.get_num_threads() >= 1)\n"
    )
    assert len(names) > 80 and said == "True\n"


def test_a_folder_that_cannot_be_locked_is_told(tmp_path):
    said = elsewhere(
        "from tinynet.lock import locked\n"
        "from tinynet.data.pictures import keep_freed_memory\n"
        "from tinynet.training.signals import StopSignals\n"
        "keep_freed_memory()\n"
        f"with locked({str(tmp_path)!r}), StopSignals():\n"
        "    print('works')\n"
    )
    assert said.splitlines() == [
        "works",
        f"{tmp_path}: cannot be locked (this system has no flock): see to it that no second "
        "process writes there",
    ]
    assert not list(tmp_path.iterdir())


def test_free_memory_that_cannot_be_known(monkeypatch):
    def no_proc(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("builtins.open", no_proc)
    with pytest.raises(OSError, match="cpu: expected Linux, .*; give the batch size as a number"):
        tinynet.device("cpu").free_memory()


def test_free_memory_is_what_linux_would_give(monkeypatch):
    """MemAvailable: what is free, and what the system would take back from its caches."""
    names = "MemTotal MemFree MemAvailable Buffers Cached SwapFree".split()
    text = "".join(f"{name}:{10**7 + i:>16} kB\n" for i, name in enumerate(names))
    monkeypatch.setattr("builtins.open", lambda path: io.StringIO(text))
    assert tinynet.device("cpu").free_memory() == 1024 * (10**7 + 2)


def test_no_worker_processes_on_windows(monkeypatch):
    pictures = ArrayDataset(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int64), ["a"])
    monkeypatch.setattr("os.name", "nt")
    with pytest.raises(ValueError, match="expected workers=0 on Windows, .*, got 2"):
        Loader(pictures, 2, crop=2, train=False, workers=2)


def test_data_is_there_after_import_tinynet():
    code = (
        "import sys, tinynet\n"
        "print('PIL' in sys.modules)\n"
        "print(len(tinynet.data.fashion_mnist()[1]))\n"
        "tinynet.dat\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "2000"]
    assert run.stderr.splitlines()[-1].startswith("AttributeError: tinynet has no 'dat'")
