"""A folder for one process at a time: a run's folder, a data set that is being prepared.

The lock is the system's own (flock) on the file `.lock` in the folder, which says who holds it. The
system ends the lock with the process, however that ends: a killed one leaves nothing to clear away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tinynet.errors import FolderInUseError

try:
    import fcntl
except ImportError:  # Windows: a warning says that nothing is locked there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tinynet")

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold an existing folder, for the length of a `with`.

    Raises FolderInUseError, which names the process that holds it now. OSError where the folder
    cannot be written. Where the system or the file system knows no locks, a warning says so.
    """
    path = Path(folder) / NAME
    file = _take(path) if fcntl else None
    if file is None:
        _warn_of_no_lock(path, "this system has no flock")
    try:
        yield
    finally:
        if file is not None:
            # The name goes before the lock does: afterwards it might be somebody else's.
            path.unlink(missing_ok=True)
            os.close(file)


def _warn_of_no_lock(path: Path, reason: str | None) -> None:
    log.warning(
        "%s: cannot be locked (%s): see to it that no second process writes there",
        path.parent,
        reason,
    )


def _take(path: Path) -> int:
    """The open, locked file at `path`."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode("utf-8", "replace") or "another process"
            os.close(file)
            raise FolderInUseError(
                f"{path.parent}: expected a folder that no other process writes to, got one in use "
                f"by {holder}; wait until that has ended, or choose another folder"
            ) from None
        except OSError as error:
            _warn_of_no_lock(path, error.strerror)
        with contextlib.suppress(FileNotFoundError):
            # Its last holder may have removed the name between our opening and our locking it.
            if os.path.samestat(os.stat(path), os.fstat(file)):
                break
        os.close(file)
    os.ftruncate(file, 0)
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
    return file
