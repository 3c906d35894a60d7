"""RawKernel: the very text of a kernel, compiled as C++."""

from __future__ import annotations

import math

import numpy as np
import on_cpu

from fake_cupy.arrays import ndarray, on_current, plain
from fake_cupy.machine import machine
from fake_cupy.memory import Block, block_at
from fake_cupy.streams import current_gpu, current_stream, operate

C_TYPES = {
    "bool": np.bool_, "unsigned char": np.uint8, "unsigned short": np.uint16,
    "unsigned int": np.uint32, "int": np.int32, "long long": np.int64,
    "unsigned long long": np.uint64, "float": np.float32, "double": np.float64,
}  # fmt: skip


class RawKernel:
    """The kernel's own text, compiled as C++."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()):
        self.code, self.name, self.options = code, name, options
        macros = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        resolve = lambda kind: macros.get(kind, kind)  # noqa: E731
        self.types = [
            (resolve(kind.rstrip("*")), kind.endswith("*")) for kind in on_cpu.declared(code)[name]
        ]

    def compile(self) -> None:
        if machine.broken_library:
            raise RuntimeError(machine.broken_library)

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        assert len(args) == len(self.types), (
            f"{self.name}: {len(args)} arguments for {len(self.types)} parameters"
        )
        assert all(isinstance(n, int) and n > 0 for n in (*grid, *block)), (
            f"{self.name}: grid {grid}, block {block}"
        )
        assert grid[0] < 2**31 and all(n <= 65535 for n in grid[1:]) and math.prod(block) <= 1024
        blocks, by_value = [], []
        for argument, (kind, pointer) in zip(args, self.types, strict=True):
            if kind.startswith("All<"):  # parts by value: CuPy takes NumPy arrays of one element
                assert isinstance(argument, np.ndarray) and argument.size == 1
                by_value += self._pointed_to(argument["parts"])
            elif pointer:
                assert isinstance(argument, ndarray), f"{self.name}: {argument!r} for {kind}*"
                assert argument.dtype == C_TYPES[kind], f"{self.name}: {argument.dtype} for {kind}*"
                blocks.append(on_current(argument))
            else:
                assert type(argument) is C_TYPES[kind], f"{self.name}: {type(argument)} for {kind}"
        constant = ["const" in p for p in on_cpu.DECLARATION.search(self._head())[2].split(",")]
        written = [
            a._block
            for a, c, (_, pointer) in zip(args, constant, self.types, strict=True)
            if pointer and not c
        ]
        blocks += [block for block, _ in by_value]
        written += [block for block, constant in by_value if not constant]
        operate(self.name, current_stream(), blocks, written)
        machine.launches[self.name] += 1
        on_cpu.run(self.code, self.name, self.options, grid, block, [plain(a) for a in args])

    def _pointed_to(self, parts: np.ndarray) -> list[tuple[Block, bool]]:
        """(block, whether it is only read) of every pointer in the parts that count."""
        found = []
        for part in parts.reshape(-1):
            for name in part.dtype.names if part["count"] else ():
                if part.dtype[name] == np.uintp:
                    found.append((block_at(int(part[name])), name == "grad"))
                    assert found[-1][0].device_id == current_gpu()
        return found

    def _head(self) -> str:
        start = self.code.index(f'extern "C" __global__ void {self.name}(')
        return self.code[start : self.code.index(")", start) + 1]
