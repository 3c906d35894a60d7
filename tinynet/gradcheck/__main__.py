"""python -m tinynet.gradcheck: every operation's gradient, checked and shown in a table."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import time
import warnings
from typing import Any

import numpy as np
from tqdm import tqdm

from tinynet.devices import Device, find_device
from tinynet.errors import DeviceUnavailableError, GradcheckError
from tinynet.gradcheck.cases import CASES, has_gradient
from tinynet.gradcheck.check import worst_error
from tinynet.tensors import Tensor

OWN = "call tinynet.gradcheck(MyFunction.apply, [x]) in a program"


def main(argv: list[str] | None = None) -> int:
    """Print the table; 0 if all gradients are right, 1 if not, 2 for an operation there is not."""
    differentiable = [name for name in CASES if has_gradient(name)]
    parser = argparse.ArgumentParser(
        prog="python -m tinynet.gradcheck",
        description=__doc__,
        epilog=f"Operations: {', '.join(differentiable)}. For one of your own, {OWN}.",
    )
    parser.add_argument(
        "operations", nargs="*", metavar="OPERATION", help="which ones (default: all)"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the random inputs (default: 0)")
    parser.add_argument("--device", default="cpu", help="whose kernels to check (default: cpu)")
    arguments = parser.parse_args(argv)
    for name in arguments.operations:
        if name not in differentiable:
            near = difflib.get_close_matches(name, differentiable, 1)
            advice = f"did you mean {near[0]}?" if near else f"for one of your own, {OWN}"
            parser.error(
                f"expected operations among {', '.join(differentiable)}, got {name}; {advice}"
            )
    try:
        where = find_device(arguments.device)
    except (ValueError, DeviceUnavailableError) as error:
        parser.error(str(error))

    print(f"{'operation':<24} {'cases':>5} {'worst relative error':>21} {'time':>8}")
    failures: list[tuple[str, Any]] = []
    total, begun = 0, time.perf_counter()
    told: list[tuple[str, Any]] = []
    names = arguments.operations or differentiable
    with tqdm(names, unit="operation", leave=False, disable=None) as progress:
        for name in progress:
            number = differentiable.index(name)  # the same inputs, whichever others are checked
            cases = list(CASES[name].make(np.random.default_rng([arguments.seed, number])))
            start, errors = time.perf_counter(), []
            for case, (fn, inputs) in enumerate(cases, 1):
                progress.set_postfix_str(f"{name}, case {case} of {len(cases)}")
                try:
                    with warnings.catch_warnings(record=True) as passed_over:
                        warnings.simplefilter("always")
                        errors.append(worst_error(fn, [_on(where, x) for x in inputs]))
                except Exception as wrong:  # whatever a wrong backward leads to
                    words = "" if isinstance(wrong, GradcheckError) else f"{type(wrong).__name__}: "
                    failures.append((name, f"{words}{wrong}"))
                    errors.append(float("nan"))
                told += [(name, warning.message) for warning in passed_over]
            total += len(cases)
            worst = "WRONG" if np.isnan(errors).any() else f"{max(errors):.1e}"
            progress.write(
                f"{name:<24} {len(cases):>5} {worst:>21} {time.perf_counter() - start:>6.2f} s"
            )
    print(
        f"{'all':<24} {total:>5} {f'{len(failures)} wrong':>21} "
        f"{time.perf_counter() - begun:>6.2f} s"
    )
    for name, message in told + failures:
        print(f"\n{name}: {message}", file=sys.stderr)
    return 1 if failures else 0


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, got {text}")
    return int(text)


def _on(where: Device, x: Any) -> Any:
    """An argument of a case on a device, in its memory order; labels and options as they are."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return Tensor(where.upload(x), where, requires_grad=True)
    return x


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `... | head`: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
