"""Module: a piece of a network that owns parameters, buffers and other modules, under names."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet.devices import Device, find_device
from tinynet.instead import MODULE, missing
from tinynet.tensors import Tensor, as_array
from tinynet.tracer import active, current

if TYPE_CHECKING:
    from typing_extensions import Self  # a type checker's own


class Parameter(Tensor):
    """A leaf tensor that is learned: float32 or float64, copied to the device, C-contiguous.

    device: left out, that of a tensor, and "cpu" for anything else. Raises ValueError for what is
    no array of floats.
    """

    __slots__ = ()

    def __init__(self, data: Any, device: str | Device | None = None):
        super().__init__(*_copied("Parameter", data, device), requires_grad=True)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"Parameter: expected dtype float32 or float64, got {self.dtype}")


class Buffer(Tensor):
    """A tensor that is not learned but belongs to the net: the running mean of BatchNorm, say.

    It has no gradient, moves and is saved with the parameters. To change it, set `.data` or write
    into it. The data is copied to the device, C-contiguous; `device` as in Parameter.
    """

    __slots__ = ()

    def __init__(self, data: Any, device: str | Device | None = None):
        super().__init__(*_copied("Buffer", data, device))


def _copied(what: str, data: Any, device: str | Device | None) -> tuple[Any, Device]:
    """A C-contiguous copy of the data on a device, and that device."""
    if isinstance(data, Tensor):
        device = data.device if device is None else device
        data = data.numpy()
    where = find_device("cpu" if device is None else device)
    with where.activate(what):
        return where.upload(np.asarray(as_array(what, data), order="C")), where


class Module:
    """Base of all layers and networks. Write `forward`; call the module.

    Parameters, buffers and modules are found among the attributes, also inside lists, tuples and
    dicts, however nested. A name is the path to it: `net.a.conv1.weight` is "a.conv1.weight",
    `net.blocks[0][1].bias` is "blocks.0.1.bias", `net.heads["left"].bias` is "heads.left.bias".
    What can be reached by several paths counts once, under the first one.
    """

    training = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a forward(self, ...)")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if active and (trace := current()):
            with trace.inside(self):
                return self.forward(*inputs, **options)
        return self.forward(*inputs, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        """A plain tensor in the place of a parameter or buffer would be neither saved nor moved;
        one that requires a gradient would not be learned. A layer under the name of a method would
        hide it; a function may take a method's place.
        """
        if callable(getattr(Module, name, None)) and (
            isinstance(value, Module) or not callable(value)
        ):
            raise TypeError(
                f"{type(self).__name__}.{name}: expected a name of its own, got that of a method "
                f"of Module; choose another name"
            )
        kept = (Parameter, Buffer)
        if isinstance(value, Tensor) and not isinstance(value, kept):
            before = vars(self).get(name)
            if isinstance(before, kept):
                raise TypeError(
                    f"{type(self).__name__}.{name}: expected a {type(before).__name__}, got a "
                    f"Tensor; set {name}.data to its array"
                )
        for path, part in _parts(name, value, ()):
            plain = isinstance(part, Tensor) and not isinstance(part, kept)
            if plain and part.requires_grad and part.node is None:
                warnings.warn(
                    f"{type(self).__name__}.{path}: a tensor that requires a gradient is not among "
                    f"the parameters(), which optimisers are given; write nn.Parameter(x)",
                    stacklevel=2,
                )
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # or a type checker would believe that every name is there

        def __getattr__(self, name: str) -> Any:
            """Python comes here for what there is not."""
            raise missing(f"{type(self).__name__}", name, MODULE, obj=self)

    def _owned(self) -> Iterator[tuple[str, Tensor | Module]]:
        """(name, part) of all tensors and modules directly owned, in the attributes' order."""
        for name, value in vars(self).items():
            yield from _parts(name, value, ())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) directly owned, each once."""
        return _once((name, part) for name, part in self._owned() if isinstance(part, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(name, module): this one, named by the prefix, and all below it, each once."""
        return self._walk(prefix, set())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(_join(prefix, name), seen)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self, *kind: type[Tensor]) -> Iterator[tuple[str, Any]]:
        return _once(
            (_join(prefix, name), part)
            for prefix, module in self.named_modules()
            for name, part in module._owned()
            if isinstance(part, kind)
        )

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and all below it, each parameter once."""
        return self._named_tensors(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """(name, buffer) of this module and all below it, each buffer once."""
        return self._named_tensors(Buffer)

    def buffers(self) -> Iterator[Buffer]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call fn(module) for all modules below this one, then for this one: children first."""
        seen: set[int] = set()

        def visit(module: Module) -> None:
            if id(module) not in seen:
                seen.add(id(module))
                for _, child in module.named_children():
                    visit(child)
                fn(module)

        visit(self)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def _state(self) -> dict[str, Tensor]:
        return dict(self._named_tensors(Parameter, Buffer))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers on the host, by name."""
        return {name: part.numpy() for name, part in self._state().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set all parameters and buffers from `state`. ValueError, and nothing changed, if names or
        shapes do not match.
        """
        own = self._state()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise ValueError(f"load_state_dict: missing {missing}, unexpected {unexpected}")
        for name, part in own.items():
            if np.shape(state[name]) != part.shape:
                raise ValueError(
                    f"load_state_dict: expected {name} of shape {part.shape}, got "
                    f"{np.shape(state[name])}"
                )
        arrays = {name: as_array(name, state[name], part.dtype) for name, part in own.items()}
        for name, part in own.items():
            with part.device.activate("load_state_dict"):
                part.data = part.device.upload(np.asarray(arrays[name], order="C"))

    def train(self, mode: bool = True) -> Self:
        """Training mode (dropout drops) for this module and all below it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Use mode (dropout does nothing)."""
        return self.train(False)

    def to(self, device: str | Device) -> Self:
        """Move all parameters with their gradients, and all buffers, to a device."""
        target = find_device(device)
        for part in self._state().values():
            part.move(target)
        return self

    def extra_repr(self) -> str:
        """What repr shows of this module's options, in a few words: "3 -> 64, kernel 11x11".

        If a layer does not say, the sizes of its own parameters and buffers.
        """
        kept = (Parameter, Buffer)
        own = ((name, part) for name, part in self._owned() if isinstance(part, kept))
        return ", ".join(f"{name} {part.shape}" for name, part in own)

    def __repr__(self) -> str:
        """The tree: a line for each module, with its options and its number of parameters."""
        return "\n".join(self._lines("", set()))

    def _lines(self, label: str, seen: set[int]) -> Iterator[str]:
        seen.add(id(self))
        parameters = sum(p.size for p in self.parameters())
        buffers = sum(b.size for b in self.buffers())
        notes = [self.extra_repr()]
        notes += [f"{parameters:,} parameter{'s' * (parameters != 1)}"] if parameters else []
        notes += [f"{buffers:,} in buffers"] if buffers else []
        yield f"{label}{type(self).__name__}({', '.join(note for note in notes if note)})"
        for name, child in self.named_children():
            if id(child) in seen:
                yield f"  {name}: {type(child).__name__}, shown above"
            else:
                yield from ("  " + line for line in child._lines(f"{name}: ", seen))


def _parts(name: str, value: Any, above: tuple) -> Iterator[tuple[str, Any]]:
    """The tensors and modules in a value, with their names; `above`: the containers it lies in, so
    that one that contains itself is left.
    """
    if isinstance(value, (Tensor, Module)):
        yield name, value
    elif isinstance(value, (list, tuple, dict)) and not any(value is one for one in above):
        several = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in several:
            yield from _parts(f"{name}.{key}", part, (*above, value))


def _once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Each part under its first name. ValueError if two parts have one name."""
    parts, names = set(), set()
    for name, part in named:
        if id(part) in parts:
            continue
        if name in names:
            raise ValueError(
                f"Module: expected a name for each part, got two named {name}; change a key"
            )
        parts.add(id(part))
        names.add(name)
        yield name, part


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def listed(**options: Any) -> str:
    """Options for repr: "stride 4, padding 2, relu"; None and False are left out."""
    return ", ".join(
        name if value is True else f"{name} {value}"
        for name, value in options.items()
        if value is not None and value is not False
    )
