"""The files of examples/history beside the same nets in PyTorch: how long a training step takes,
and whether both learn the same.

    python benchmarks/history.py [NAME ...] [--rounds N] [--out FILE.json]
    python benchmarks/history.py gpt bert/bert --losses 1000
    python benchmarks/history.py vae --test

The first trains each net three steps on both sides, with the same first weights, batches and luck,
and ends unless the losses agree to 1e-3: roundings grow, in ResNet to 5e-4 after five steps. Then
the sides take turns, each in a process of its own: a step of the recipe's own net on a batch of its
own data, which both have in memory already. The table gives the median of all rounds, and the
median of the ratios of the two turns of a round; by the clock, and of the time that the cores
worked, which other programs change less. Last: the steps of a whole run, times the latter.

--losses N trains both for N steps instead, the recipe's schedule drawn together to that length, and
compares the means of their losses over the last tenth of them. --test does so for the whole recipe,
and compares the losses of the test data, too: of a VAE, the ELBO. Dropout is left out there.

All need PyTorch. NAME is a file, or FILE/PRESET. Without a preset, GPT and BERT are those of
gpt-mini and bert-mini, and the others those of the first preset.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from turns import Side, Worker  # isort: skip  # tinynet is on the path now
import numpy as np
from measure import describe, installed, machine, result_path, spread, write_json
from sides.history import NAMES, Begun, begin, find

from tinynet import nn

FIRST, AGREE = 3, 1e-3  # steps that are compared before anything is timed; how closely


def endless(begun: Begun) -> Iterator[Any]:
    for epoch in itertools.count():
        yield from begun.batches.epoch(epoch)


def scheduled(begun: Begun, steps: int) -> Iterator[Any]:
    """So many batches; before each, the rate of the recipe's schedule if this were the run."""
    for number, batch in zip(range(steps), endless(begun), strict=False):
        begun.schedule.step(begun.epochs * number / steps, {})
        yield batch


def trained(name: str, begun: Begun, steps: int) -> tuple[Any, list[tuple[float, float]]]:
    """Both nets after so many steps; the losses of each step, ours and PyTorch's."""
    from sides.pytorch_history import Both

    both, found = Both(name, begun.net, begun.optimizer, begun.task), []
    for batch in scheduled(begun, steps):
        found.append(both.step(batch))
        if steps >= 10 and len(found) % (steps // 10) == 0:
            ours, theirs = found[-1]
            print(f"  {name}, step {len(found):,}: {ours:.4f}, {theirs:.4f}", flush=True)
    return both, found


def whole(begun: Begun) -> int:
    """Steps of a run."""
    return begun.epochs * len(begun.batches)


def compare_losses(names: list[str], steps: int | None) -> list[dict[str, Any]]:
    """steps: None for those of the recipe, and a test."""
    results = []
    for name in names:
        begun = begin(name)
        if steps is None and any(isinstance(m, nn.BatchNorm2d) for m in begun.net.modules()):
            raise SystemExit(
                f"{name} --test: expected a net that is the same in tests, got one with batch "
                "normalisation, which PyTorch's side does only as in training; use --losses"
            )
        count = steps or whole(begun)
        both, pairs = trained(name, begun, count)
        last = zip(*pairs[-max(1, count // 10) :], strict=True)
        found: dict[str, Any] = dict(name=name, steps=count, all=pairs)
        found["training"] = compared(*map(statistics.fmean, last))
        if steps is None:
            found["test"] = compared(*both.test(list(begun.tests.epoch(0))))
        for what in ("training", "test"):
            if what in found:
                ours, theirs, off = (found[what][part] for part in ("ours", "theirs", "off"))
                print(f"{name}, {what} loss after {count:,} steps: {ours:.4f} here, "
                      f"{theirs:.4f} in PyTorch ({off:+.3%})", flush=True)  # fmt: skip
        results.append(found)
    return results


def compared(ours: float, theirs: float) -> dict[str, float]:
    off = (ours - theirs) / abs(theirs) if theirs else ours  # a perceptron's loss comes to 0
    return dict(ours=ours, theirs=theirs, off=off)


def time_steps(names: list[str], rounds: int) -> list[dict[str, Any]]:
    results = []
    for name in names:
        begun = begin(name)
        steps = FIRST  # more where all losses are 0: a perceptron may begin with nothing wrong
        while not any(map(any, pairs := trained(name, begun, steps)[1])) and steps < whole(begun):
            begun, steps = begin(name), 4 * steps
        apart = [abs(compared(*pair)["off"]) for pair in pairs]
        worst = float(np.max(apart))  # max() passes over NaN
        if not worst <= AGREE:
            raise SystemExit(
                f"{name}: expected the losses of PyTorch's first {steps} steps within {AGREE:g}, "
                f"but they differ by {worst:.1e}; so this is another net, and nothing was timed"
            )
        with ExitStack() as stack:
            sides = [
                stack.enter_context(Worker(Side(program, "train", 0, name)))
                for program in ("tinynet", "PyTorch")
            ]
            turns = [[worker.turn() for worker in sides] for _ in range(rounds)]
        found: dict[str, Any] = dict(name=name, first=worst, steps=whole(begun))
        for clock in ("seconds", "processor"):
            a, b = ([1000 * each[clock] for each in side] for side in zip(*turns, strict=True))
            ratio = spread([theirs / ours for ours, theirs in zip(a, b, strict=True)])
            found[clock] = dict(ours=spread(a), theirs=spread(b), ratio=ratio)
        results.append(found)
        print(line(found), flush=True)
    return results


def line(found: dict[str, Any]) -> str:
    text = f"{found['name']:12}"
    for clock in ("seconds", "processor"):
        ours, theirs, ratio = (found[clock][part] for part in ("ours", "theirs", "ratio"))
        span = f"{ratio['median']:7.2f} ({ratio['min']:.2f} .. {ratio['max']:.2f})"
        text += f"{ours['median']:9,.2f}{theirs['median']:9,.2f}{span:24}"
    run = found["steps"] * found["processor"]["ours"]["median"] / 1000
    return f"{text}{found['first']:7.0e}{found['steps']:8,}{run:8,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; gpt/gpt")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each side (5)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--losses", type=int, metavar="N", help="compare losses of N steps instead"
    )
    instead.add_argument("--test", action="store_true", help="the whole recipe and a test instead")
    parser.add_argument("--out", type=Path, help="the JSON file (benchmarks/results/...)")
    args = parser.parse_args()
    names = args.names or list(NAMES)
    for name in names:
        try:
            find(name)
        except ValueError as error:
            parser.error(str(error))
    for option in ("rounds", "losses"):
        if (count := getattr(args, option)) is not None and count < 1:
            parser.error(f"--{option}: expected at least 1, got {count}")
    if not installed("torch"):
        parser.error("PyTorch is not installed: pip install .[bench]")
    about = machine()
    print(describe(about), flush=True)
    if args.losses or args.test:
        kind, results = "losses", compare_losses(names, args.losses)
    else:
        half = f"{'tinynet':>9}{'PyTorch':>9}{'ratio':>7}{'':17}"
        print(f"{'':12}{'ms by the clock':33}{'':9}{'ms of all cores':33}{'':7}first     our run:")
        print(f"{'':12}{half}{half} losses   steps seconds", flush=True)
        kind, results = "history", time_steps(names, args.rounds)
    out = args.out or result_path(kind, "json")
    write_json(out, dict(machine=about, results=results))
    print(f"written: {out}")


if __name__ == "__main__":
    sys.exit(main())
