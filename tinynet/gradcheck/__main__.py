"""python -m tinynet.gradcheck: every operation's gradient, checked and shown in a table."""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import numpy as np
from tqdm import tqdm

from tinynet.errors import GradcheckError
from tinynet.gradcheck.cases import CASES, has_gradient
from tinynet.gradcheck.check import KinkWarning, worst_error

EPS, ATOL, RTOL = 1e-6, 1e-6, 1e-4


def main(argv: list[str] | None = None) -> int:
    """Print the table; 0 if all gradients are right, 1 if not, 2 for an operation there is not."""
    parser = argparse.ArgumentParser(prog="python -m tinynet.gradcheck", description=__doc__)
    parser.add_argument(
        "operations", nargs="*", metavar="OPERATION", help="which ones (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    arguments = parser.parse_args(argv)
    differentiable = [name for name in CASES if has_gradient(name)]
    for name in arguments.operations:
        if name not in differentiable:
            parser.error(f"expected operations among {', '.join(differentiable)}, got {name}")

    print(f"{'operation':<24} {'cases':>5} {'worst relative error':>21} {'time':>8}")
    failures: list[tuple[str, GradcheckError]] = []
    total, begun = 0, time.perf_counter()
    names = arguments.operations or differentiable
    with tqdm(names, unit="operation", leave=False, disable=None) as progress:
        for number, name in enumerate(progress):
            progress.set_postfix_str(name)
            cases = list(CASES[name].make(np.random.default_rng([arguments.seed, number])))
            start, errors = time.perf_counter(), []
            for fn, inputs in cases:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", KinkWarning)
                        errors.append(worst_error(fn, inputs, EPS, ATOL, RTOL))
                except GradcheckError as wrong:
                    failures.append((name, wrong))
                    errors.append(float("nan"))
            total += len(cases)
            worst = "WRONG" if np.isnan(errors).any() else f"{max(errors):.1e}"
            progress.write(
                f"{name:<24} {len(cases):>5} {worst:>21} {time.perf_counter() - start:>6.2f} s"
            )
    print(
        f"{'all':<24} {total:>5} {f'{len(failures)} wrong':>21} "
        f"{time.perf_counter() - begun:>6.2f} s"
    )
    for name, error in failures:
        print(f"\n{name}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
