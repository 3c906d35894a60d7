"""The exceptions tinynet raises on purpose. Each message says what was expected, what came, what to
do.
"""

from __future__ import annotations

LONGEST = 1000  # characters of a message about a stranger's file


class TinynetError(Exception):
    """Base of every error below: a program may catch this one, print it, and exit without a
    traceback.
    """


class DeviceMismatchError(TinynetError, RuntimeError):
    """An operation was given tensors that live on different devices."""


class DeviceUnavailableError(TinynetError, RuntimeError):
    """A device was asked for that this machine does not have, or whose driver or package is
    missing.
    """


class OutOfMemoryError(TinynetError, MemoryError):
    """A device has too little memory left for what was asked."""


class DataError(TinynetError, ValueError):
    """Pictures, labels or archives that cannot be used; the message names the file."""


class FolderInUseError(TinynetError, RuntimeError):
    """Another process writes to this folder now; the message names it."""


class CheckpointError(TinynetError, ValueError):
    """A checkpoint that is damaged, or belongs to another network or run."""


class ModelFileError(TinynetError, ValueError):
    """A net that cannot be written to a file of others, or such a file that cannot be read; the
    message names the file or the node.

    Its words may be a stranger's: what a terminal would not print is escaped, and much is cut.
    """

    def __init__(self, message: str):
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message[:LONGEST])
        super().__init__(line + " ..." * (len(message) > LONGEST))


class GradcheckError(TinynetError, AssertionError):
    """A gradient computed backward is not the derivative of forward."""
