"""A folder belongs to one process at a time, and to nobody once that is dead."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys

import pytest

from tinynet.errors import FolderInUseError
from tinynet.lock import NAME, locked

HOLD = """
import subprocess, sys, time
from tinynet.lock import locked
with locked(sys.argv[1]):
    # a worker that outlives its parent does not keep the lock
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_line_names_the_process_that_holds_a_folder(tmp_path, holder):
    with (
        pytest.raises(FolderInUseError, match=rf"in use by process {holder.pid} on \S+ since 20"),
        locked(tmp_path),
    ):
        pytest.fail("two at once")
    assert (tmp_path / NAME).exists()


def test_a_killed_process_leaves_no_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / NAME).exists()
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / NAME).read_text()
    assert not any(tmp_path.iterdir())


def test_nobody_takes_it_twice_and_an_error_gives_it_back(tmp_path):
    for _ in range(2):
        with (
            pytest.raises(FolderInUseError, match=f"process {os.getpid()} "),
            locked(tmp_path),
            locked(tmp_path),
        ):
            pytest.fail("twice")
        assert not any(tmp_path.iterdir())


def test_a_lock_on_a_file_that_is_gone_is_no_lock(tmp_path, monkeypatch):
    """Its last holder removes the file after we have opened it and before we lock it."""
    flock, calls = fcntl.flock, []

    def late(file, how):
        if not calls:
            (tmp_path / NAME).unlink()
        calls.append(os.fstat(file).st_ino)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert len(calls) == 2 and calls[-1] == (tmp_path / NAME).stat().st_ino


def test_the_file_says_who_holds_it_now_and_nothing_else(tmp_path):
    (tmp_path / NAME).write_text("process 123456789 on a-machine-of-a-long-name since " + 99 * "9")
    with locked(tmp_path):
        text = (tmp_path / NAME).read_text()
        assert re.fullmatch(
            rf"process {os.getpid()} on \S+ since 20\d\d-\d\d-\d\d [\d:]{{8}}", text
        )


def test_every_user_of_a_shared_folder_may_ask_for_it(tmp_path):
    """As far as the umask lets them: who may not open the file learns nothing of its holder."""
    umask = os.umask(0)
    try:
        with locked(tmp_path):
            assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


def test_who_takes_it_when_it_is_given_back_keeps_its_file(tmp_path, monkeypatch):
    """At that very moment: a file removed a line later would be the next holder's."""
    first, following, close = locked(tmp_path), locked(tmp_path), os.close

    def closed(file):
        monkeypatch.undo()
        close(file)
        following.__enter__()

    first.__enter__()
    monkeypatch.setattr(os, "close", closed)
    first.__exit__(None, None, None)
    with pytest.raises(FolderInUseError), locked(tmp_path):
        pytest.fail("two at once")
    following.__exit__(None, None, None)
    assert not any(tmp_path.iterdir())


def test_no_file_stays_open(tmp_path, monkeypatch):
    """Whether the folder was free, in use, or its file gone before it was locked."""
    flock, gone = fcntl.flock, []

    def late(file, how):
        if len(gone) < 3:
            gone.append((tmp_path / NAME).unlink())
        flock(file, how)

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        with locked(tmp_path):
            for _ in range(3):
                with pytest.raises(FolderInUseError), locked(tmp_path):
                    pytest.fail("two at once")
            assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    assert len(gone) == 3 and os.listdir("/proc/self/fd") == before


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch, caplog):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in caplog.text
