"""What all rules share: groups of parameters, the arrays beside each parameter, saving them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet.tensors import Tensor, as_array

# What a group of any rule has, besides the rule's options; "lr" becomes its "lr_scale".
UNSET = {"fixed_lr": None, "frozen": False}
COMMON = ("name", "params", "lr_scale", *UNSET)


class Group(dict[str, Any]):
    """The options of some parameters by name. One that is not there is told."""

    def __missing__(self, name: str) -> Any:
        raise ValueError(_no_option("group", name, self))


class Optimizer:
    """Base of all rules. A rule writes `__init__`, `arrays`, `update` and, if it can, `change`.

    params: parameters, or groups of them: dicts {"params": [...]} that may set the rule's options
    apart ("weight_decay" ...), and "lr" or "lr_scale": a group's rate is
    `self.lr * group["lr_scale"]`, so that a schedule sets `self.lr` alone; or it is "fixed_lr", if
    that is not None, which no schedule changes. A group that is "frozen" stays as it is. "name" is
    for those who read groups. All groups are in `param_groups`; their values may be changed there,
    between steps, but for those that decide which arrays the rule keeps. There the rate is
    "lr_scale" alone, no "lr"; `step` checks what was set.

    state: parameter -> the arrays that the rule keeps beside it, as tensors by name, at first 0.
    steps: parameter -> how often it was changed. Saved by rules with `counts_steps`.

    Raises ValueError for options that make no sense, and for parameters that cannot be learned.
    """

    counts_steps = False  # whether the rule needs the number of steps that a parameter has taken

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        **options: Any,
    ):
        self.rule = type(self).__name__
        self.lr = lr
        options = {"weight_decay": weight_decay, **options}
        self._known = (*COMMON, *options)
        if not isinstance(params, (Iterable, Tensor)):
            raise TypeError(
                f"{self.rule}: expected parameters, got {type(params).__name__}; write "
                f"net.parameters()"
            )
        given: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups = [self._group(group, options) for group in groups]
        # Whether a new weight decay for all is for a group too: not if it was given 0 of its own.
        self.decays = [group.get("weight_decay") != 0 for group in groups]
        every = [p for group in self.param_groups for p in group["params"]]
        if not every:
            raise ValueError(
                f"{self.rule}: expected at least one parameter, got none; a generator is empty "
                f"after its first use: write net.parameters() again"
            )
        for place, p in self._places():
            if not isinstance(p, Tensor) or not p.requires_grad:
                raise ValueError(
                    f"{self.rule}: expected tensors that require a gradient, got as number {place} "
                    f"{_instead_of_a_parameter(p)}"
                )
        if any(p.node is not None for p in every):
            raise ValueError(
                f"{self.rule}: expected leaves, got the result of an operation, which no step "
                f"would change for good; write w = (...).detach().requires_grad_()"
            )
        if len({id(p) for p in every}) < len(every):
            raise ValueError(f"{self.rule}: expected each parameter in one group, got one twice")
        self._group_of = {p: group for group in self.param_groups for p in group["params"]}
        self.state = {
            p: {name: self._zeros(p) for name in self.arrays(group)}
            for p, group in self._group_of.items()
        }
        self.steps = dict.fromkeys(self.state, 0)
        # the rate at which the last step changed a parameter, if it did; None: not known, since the
        # state was loaded
        self._last: dict[Tensor, float] | None = {}

    # ------------------------------------------------------------------ what a rule writes

    def check(self, group: dict[str, Any]) -> None:
        """ValueError if a group's options make no sense. A rule adds its own to these."""
        for name in group:
            if name not in self._known:
                raise ValueError(_no_option(self.rule, name, self._known))
        self.not_negative("lr_scale", group["lr_scale"])
        if group["fixed_lr"] is not None:
            self.not_negative("fixed_lr", group["fixed_lr"])
        self.flag("frozen", group["frozen"])
        self.not_negative("weight_decay", group["weight_decay"])

    def arrays(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The names of the arrays that the rule keeps beside each parameter of a group."""
        raise NotImplementedError(f"{self.rule} needs an arrays(self, group)")

    def update(
        self,
        kernels: ModuleType,
        w: Any,
        g: Any,
        state: dict[str, Any],
        group: dict[str, Any],
        rate: float,
        steps: int,
    ) -> tuple | None:
        """Change the array w of one parameter, and its state, in place; g is the gradient.

        Or return (a function of `kernels` whose name ends in _step, its arguments) that does it:
        a GPU makes one launch of those of all parameters.

        rate: the group's. steps: how many this parameter has taken, with this one.
        """
        raise NotImplementedError(f"{self.rule} needs an update(self, kernels, w, g, ...)")

    def change(
        self,
        xp: ModuleType,
        w: Any,
        state: dict[str, Any],
        group: dict[str, Any],
        rate: float,
        steps: int,
    ) -> Any:
        """The array that the last `update` added to w, from what is there after it.

        A rule whose state does not tell it keeps it as the array "step".
        """
        return state["step"]

    # ------------------------------------------------------------------ what a user calls

    def rate(self, group: dict[str, Any]) -> float:
        """The rate at which a step changes the parameters of a group now; 0 if it is frozen."""
        if group["frozen"]:
            return 0.0
        fixed: float | None = group["fixed_lr"]
        return self.lr * group["lr_scale"] if fixed is None else fixed

    def step(self) -> None:
        """Change every parameter that has a gradient, unless its group is frozen.

        ValueError, and nothing changed, if an option was set since that makes no sense or needs
        other arrays.
        """
        for g, group in enumerate(self.param_groups):
            self.check(group)
            needed = [*self.arrays(group)]
            for i, p in enumerate(group["params"]):
                kept = [*self.state.get(p, ())]
                if kept != needed:
                    raise ValueError(
                        f"{self.rule}.step: expected the options of parameter {g}.{i} to need the "
                        f"arrays {kept}, as when the rule was made, got {needed}; make a new "
                        f"{self.rule}"
                    )
        self._last, where = {}, f"{self.rule}.step"
        calls: dict[tuple, list[tuple]] = {}  # (device, step) -> the arguments of each parameter
        for group in self.param_groups:
            rate = self.rate(group)
            for p in group["params"]:
                if p.grad is None or rate == 0:
                    continue
                self.steps[p] += 1
                with p.device.activate(where):
                    if not p.data.flags.c_contiguous:  # kernels write to the elements in C order
                        p.data = p.device.xp.ascontiguousarray(p.data)
                    state = self._arrays_of(p)
                    kernels, steps = p.device.kernels, self.steps[p]
                    call = self.update(kernels, p.data, p.grad.data, state, group, rate, steps)
                if call is not None:
                    calls.setdefault((p.device, call[0]), []).append(call[1])
                self._last[p] = rate
        for (device, step), arguments in calls.items():
            with device.activate(where):
                device.kernels.run_steps(step, arguments)

    def last_step(self, parameter: Tensor) -> Tensor:
        """What the last `step()` added to a parameter: on its device, of its shape. It may be
        an array of the rule's own: do not write to it, and copy what should outlive the next step.

        0 for a parameter that was left as it was: frozen, or without a gradient. After
        `load_state_dict`, and before the next step, as if the last step had changed every parameter
        at its present rate. Raises ValueError for a parameter of others.
        """
        if not isinstance(parameter, Tensor) or parameter not in self.state:
            raise ValueError(
                f"{self.rule}.last_step: expected one of its own parameters, got a "
                f"{type(parameter).__name__} that it does not hold"
            )
        group = self._group_of[parameter]
        rate = self.rate(group) if self._last is None else self._last.get(parameter, 0)
        steps = self.steps[parameter]
        if rate == 0 or (self.counts_steps and steps == 0):
            return self._zeros(parameter)
        device = parameter.device
        with device.activate(f"{self.rule}.last_step"):
            state = self._arrays_of(parameter)
            change = self.change(device.xp, parameter.data, state, group, rate, steps)
            return Tensor(device.xp.asarray(change, parameter.dtype), device)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.state:
            p.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all arrays on the host, by name, group and place in it: "velocity.0.0" ...

        Where the rule counts steps, also "steps.0.0" ..., arrays () of int64.
        """
        arrays = {name: self.state[p][array].numpy() for name, array, p in self._named()}
        if self.counts_steps:
            for place, p in self._places():
                arrays[f"steps.{place}"] = np.array(self.steps[p], np.int64)
        return arrays

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Set all arrays. ValueError, and nothing changed, if names, shapes or numbers do not
        match.
        """
        shapes = {name: p.shape for name, _, p in self._named()}
        if self.counts_steps:
            shapes |= {f"steps.{place}": () for place, _ in self._places()}
        if shapes.keys() != state.keys():
            raise ValueError(
                f"{self.rule}.load_state_dict: expected {sorted(shapes)}, got {sorted(state)}"
            )
        for name, shape in shapes.items():
            if np.shape(state[name]) != shape:
                raise ValueError(
                    f"{self.rule}.load_state_dict: expected {name} of shape {shape}, got "
                    f"{np.shape(state[name])}"
                )
        where = f"{self.rule}.load_state_dict: {{}}".format
        arrays = {name: as_array(where(name), state[name], p.dtype) for name, _, p in self._named()}
        steps = {p: 0 for p in self.state}
        for place, p in self._places() if self.counts_steps else ():
            count = as_array(where(f"steps.{place}"), state[f"steps.{place}"]).item()
            if not isinstance(count, int) or count < 0:
                raise ValueError(
                    f"{self.rule}.load_state_dict: expected steps.{place} to be an integer of at "
                    f"least 0, got {count!r}"
                )
            steps[p] = count
        for name, array, p in self._named():
            with p.device.activate(f"{self.rule}.load_state_dict"):
                value = p.device.upload(np.asarray(arrays[name], order="C"))
            self.state[p][array] = Tensor(value, p.device)
        self.steps = steps
        self._last = None

    def __repr__(self) -> str:
        groups = self.param_groups
        lines = [f"{self.rule}(lr={self.lr:g}): {_sizes(self.state)} in {_count(groups, 'group')}"]
        for place, group in enumerate(groups):
            told = {k: v for k, v in group.items() if k not in UNSET or v != UNSET[k]}
            options = (f"{k}={v!r}" for k, v in told.items() if k not in ("name", "params"))
            name = group["name"] or place
            lines.append(f"  {name}: {_sizes(group['params'])}, {', '.join(options)}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ checks of options

    def not_negative(self, name: str, value: Any, below: float = float("inf")) -> float:
        """`value` itself if it is a number from 0 to below `below`, else ValueError."""
        real = isinstance(value, (int, float, np.integer, np.floating))
        if not real or isinstance(value, bool) or not 0 <= value < below:
            limit = "" if below == float("inf") else f" and below {below:g}"
            raise ValueError(
                f"{self.rule}: expected {name} to be a number of at least 0{limit}, got {value!r}"
            )
        return value

    def flag(self, name: str, value: Any) -> None:
        """ValueError unless `value` is True or False."""
        if not isinstance(value, bool):
            raise ValueError(f"{self.rule}: expected {name} to be True or False, got {value!r}")

    # ------------------------------------------------------------------ small things

    if not TYPE_CHECKING:  # or a type checker would believe that every name can be set

        def __setattr__(self, name, value):
            """`lr` is checked; a rule of tinynet has no other names than it was made with."""
            if name == "lr":
                value = float(self.not_negative("lr", value))
            own = type(self).__module__.startswith("tinynet.") and "_last" in self.__dict__
            if own and not hasattr(self, name):
                option = name if name in self._known else "weight_decay"
                raise AttributeError(
                    f"{self.rule}: expected the name of something that it has, got {name!r}; for "
                    f"the rate write optimizer.lr = ..., for an option of each group "
                    f"group[{option!r}] = ... in optimizer.param_groups"
                )
            super().__setattr__(name, value)

    def _group(self, given: Any, options: dict[str, Any]) -> dict[str, Any]:
        """A group with all its options, checked."""
        if not isinstance(given, dict) or "params" not in given:
            raise ValueError(
                f"{self.rule}: expected groups to be dicts with 'params', got "
                f"{sorted(given) if isinstance(given, dict) else type(given).__name__}"
            )
        group = Group({"name": "", "lr_scale": 1.0, **UNSET, **options, **given})
        if "lr" in group:
            if self.lr == 0:
                raise ValueError(
                    f"{self.rule}: expected lr above 0 where a group has its own, got {self.lr!r}; "
                    f"set lr_scale instead"
                )
            group["lr_scale"] = self.not_negative("lr of a group", group.pop("lr")) / self.lr
        self.check(group)
        one = isinstance(group["params"], Tensor)
        group["params"] = [group["params"]] if one else list(group["params"])
        return group

    def _places(self) -> list[tuple[str, Tensor]]:
        """("group.place", parameter) of all parameters."""
        groups = enumerate(self.param_groups)
        return [(f"{g}.{i}", p) for g, group in groups for i, p in enumerate(group["params"])]

    def _named(self) -> list[tuple[str, str, Tensor]]:
        """("array.group.place", array, parameter) of all arrays."""
        return [
            (f"{array}.{place}", array, p) for place, p in self._places() for array in self.state[p]
        ]

    def _arrays_of(self, p: Tensor) -> dict[str, Any]:
        """The arrays beside a parameter, brought to its device if it was moved."""
        arrays = {}
        for name, tensor in self.state[p].items():
            if tensor.device is not p.device:
                tensor.move(p.device)
            arrays[name] = tensor.data
        return arrays

    def _zeros(self, p: Tensor) -> Tensor:
        with p.device.activate(self.rule):
            return Tensor(p.device.xp.zeros(p.shape, p.dtype), p.device)


def _count(things: Any, name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _sizes(parameters: Any) -> str:
    return f"{_count(parameters, 'parameter')}, {sum(p.size for p in parameters):,} values"


def _no_option(where: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), ["lr", *known], 1)
    said = f"{where}: expected the options of a group among {', '.join(known)}, got {name!r}"
    if near == ["lr"]:
        return (
            f"{said}; write optimizer.lr = ..., or group['lr_scale'] = ...: a group's rate is "
            f"optimizer.lr * lr_scale"
        )
    return f"{said}; write {near[0]!r}" if near else said


def _instead_of_a_parameter(p: Any) -> str:
    """What it is, and what to write."""
    if isinstance(p, Tensor):
        return (
            f"a {type(p).__name__} {p.shape} that requires none; to leave out what is frozen write "
            f"[p for p in net.parameters() if p.requires_grad]"
        )
    if isinstance(p, np.ndarray):
        return f"an array {p.shape}; write nn.Parameter(array)"
    kind = "a name" if isinstance(p, (str, tuple)) else f"a {type(p).__name__}"
    return f"{kind}; write net.parameters()"
