"""What a tape does not need and a reader of it does: names, values, source lines, modules, options.

with tinynet.tracing(net) as trace:
    loss = F.cross_entropy(net(x), labels)
loss.node[0].note                         # the Note of the newest operation; also in trace.notes

While nothing is traced, an operation pays for one look into an empty dict.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import numpy as np

from tinynet.devices import Device, find_device
from tinynet.tensors import Tensor

SHOWN = 16  # values of an array that are copied
PIECE = 1 << 13  # elements that go to double precision at once: in the cache, thrice as fast
HERE = str(Path(__file__).parent) + os.sep

What = TypeVar("What")

active: dict[int, Trace] = {}  # by thread; empty while nothing is traced


@dataclass
class Value:
    """A copied summary of an array: the array itself may be overwritten later (ReLU in place).

    values: the first 16 elements in C order; norm: the square root of the sum of squares; least
    and largest: None where there is no order (complex numbers) or no element. name: what the
    program calls it, None if it has no name.
    """

    name: str | None
    shape: tuple[int, ...]
    dtype: np.dtype
    device: Device
    values: np.ndarray
    norm: float
    least: float | None
    largest: float | None

    @classmethod
    def of(cls, array: Any, device: Device) -> Value:
        host = array if isinstance(array, np.ndarray) else device.download(array)
        ordered = host.size > 0 and host.dtype.kind != "c"
        flat, squares = host.ravel("K"), 0.0
        with np.errstate(all="ignore"):  # a NaN or an infinity is worth a look, not a warning
            for start in range(0, flat.size, PIECE):
                piece = np.abs(flat[start : start + PIECE]).astype(np.float64)
                squares += float(piece @ piece)
            norm = math.sqrt(squares)
            least, largest = (host.min().item(), host.max().item()) if ordered else (None, None)
        shown = np.array(host.flat[:SHOWN])
        return cls(None, host.shape, host.dtype, device, shown, norm, least, largest)


@dataclass
class Note:
    """What was recorded of one operation.

    inputs: for each argument its Value if it is a tensor, else None; so a tensor without gradient
    is seen, which the node itself does not know. options: the other arguments, by name. file, line:
    where the program called it, outside tinynet. modules: (path, class) of the modules it ran in,
    the outermost first.
    """

    operation: str
    inputs: tuple[Value | None, ...]
    options: dict[str, Any]
    outputs: tuple[Value, ...]
    file: str
    line: int
    modules: tuple[tuple[str, str], ...]


class _Remembered(Generic[What]):
    """Objects and what is known of each, found by identity: == of two tensors is a tensor.

    It keeps no object alive.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref, What]] = {}

    def __contains__(self, thing: Any) -> bool:
        return id(thing) in self._found

    def __getitem__(self, thing: Any) -> What:
        return self._found[id(thing)][1]

    def __setitem__(self, thing: Any, what: What) -> None:
        key = id(thing)
        # an object's id is another's as soon as it is gone: then what is known of it goes as well
        found = self._found  # not self: a trace would live as long as what it saw

        def forget(_: object) -> None:
            found.pop(key, None)

        found[key] = weakref.ref(thing, forget), what

    def get(self, thing: Any) -> What | None:
        return self[thing] if thing in self else None

    def setdefault(self, thing: Any, what: What) -> None:
        if thing not in self:
            self[thing] = what


class Trace:
    """While entered, every operation of this thread that goes on the tape gets a Note, at
    `node.note`; the notes are also in `notes`, oldest first.

    net: its parameters and modules are named by their paths. Other tensors are named by the local
    variables that hold them: those of the function that traces, else of the one that calls the
    operation. Without a net, a module's path begins at the outermost module that is called.
    A tensor is summed up when an operation first sees it; on a GPU that waits for the device.
    Raises RuntimeError if this thread is traced already.
    """

    whole = False  # a subclass also wants what goes on no tape

    def __init__(self, net: Any = None):
        self.notes: list[Note] = []
        self._net = net
        self._modules: list[tuple[str, str]] = []  # that are being called
        self._names = _Remembered[str]()  # of a net's tensors
        self._paths = _Remembered[str]()  # of modules
        self._values = _Remembered[Value]()  # of tensors

    def __enter__(self) -> Trace:
        thread = threading.get_ident()
        if thread in active:
            raise RuntimeError("tracing: this thread is being traced already")
        if self._net is not None:
            self._learn_names(self._net)
        self._frame: FrameType | None = _frame_of_program()
        active[thread] = self
        return self

    def __exit__(self, *exception: object) -> None:
        del active[threading.get_ident()]
        self._name_locals(self._frame)  # results that no operation has used yet
        self._frame = None  # a frame keeps all its variables alive

    def look(self, cls: Any, args: Sequence, kwargs: dict) -> dict[str, Any]:
        """Before forward, which may overwrite its inputs: the first half of a Note."""
        frame = _frame_of_program()
        tensors = [a for a in args if isinstance(a, Tensor)]
        for tensor in tensors:
            if tensor not in self._values:
                self._values[tensor] = Value.of(tensor.data, tensor.device)
                self._values[tensor].name = self._names.get(tensor)
        self._name_locals(frame)
        self._name_locals(self._frame)
        device = tensors[0].device
        named = [*zip(argument_names(cls, len(args)), args, strict=True), *kwargs.items()]
        return dict(
            operation=cls.__name__,
            inputs=tuple(self._values[a] if isinstance(a, Tensor) else None for a in args),
            options={
                name: _copied(option, device)
                for name, option in named
                if not isinstance(option, Tensor)
            },
            file=frame.f_code.co_filename,
            line=frame.f_lineno,
            modules=tuple(self._modules),
        )

    def note(self, seen: dict[str, Any], outputs: tuple[Tensor, ...]) -> Note:
        """After forward: the whole Note."""
        for tensor in outputs:
            self._values[tensor] = Value.of(tensor.data, tensor.device)
        note = Note(outputs=tuple(self._values[tensor] for tensor in outputs), **seen)
        self.notes.append(note)
        return note

    @contextmanager
    def inside(self, module: Any) -> Iterator[None]:
        """While a module is being called."""
        if module not in self._paths:
            self._learn_names(module)
        self._modules.append((self._paths[module], type(module).__name__))
        try:
            yield
        finally:
            self._modules.pop()

    def _learn_names(self, net: Any) -> None:
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            self._names.setdefault(tensor, name)
        for path, module in net.named_modules():
            self._paths.setdefault(module, path)

    def _name_locals(self, frame: FrameType | None) -> None:
        """Name the tensors seen so far that are local variables there. What has a name gets another
        one from the function that traces only.
        """
        for name, value in frame.f_locals.items() if frame else ():
            if isinstance(value, Tensor) and value in self._values and value not in self._names:
                seen = self._values[value]
                if seen.name is None or frame is self._frame:
                    seen.name = name


def current() -> Trace | None:
    """The trace of this thread, if there is one."""
    return active.get(threading.get_ident())


def _frame_of_program() -> FrameType:
    """The innermost frame outside tinynet; the outermost one if all are inside."""
    frame = sys._getframe()
    while frame.f_code.co_filename.startswith(HERE) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def argument_names(cls: Any, count: int) -> list[str]:
    """The names of the first `count` arguments of forward, after ctx; "argument 2" in *args."""
    parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return [names[i] if i < len(names) else f"argument {i}" for i in range(count)]


def _copied(option: Any, device: Device) -> Any:
    """An option that later changes cannot reach: arrays as Values, lists as tuples."""
    if isinstance(option, np.ndarray):
        return Value.of(option, find_device("cpu"))
    if isinstance(option, device.xp.ndarray):
        return Value.of(option, device)
    if isinstance(option, (list, tuple)):
        return tuple(_copied(part, device) for part in option)
    return option
