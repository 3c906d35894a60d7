"""The files of examples/history beside the same nets in PyTorch: how long a training step takes,
and whether both learn the same.

    python benchmarks/history.py [NAME ...] [--rounds N] [--out FILE.json]
    python benchmarks/history.py gpt bert --losses 1000

The first trains each net three steps on both sides, with the same first weights, batches and luck,
and ends unless the losses agree to 1e-3: roundings grow, in ResNet to 5e-4 after five steps. Then
the sides take turns, each in a process of its own: a step of the recipe's own net on a batch of its
own data, which both have in memory already. The table gives the median of all rounds, and the
median of the ratios of the two turns of a round; by the clock, and of the time that the cores
worked, which other programs change less.

--losses N trains both for N steps instead, the recipe's schedule drawn together to that length, and
compares the means of their losses over the last tenth of them. Dropout is left out there.

Both need PyTorch. GPT and BERT are those of gpt-mini and bert-mini.
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
from measure import describe, installed, machine, result_path, spread, write_json
from sides.history import NAMES, Begun, begin

FIRST, AGREE = 3, 1e-3  # steps that are compared before anything is timed; how closely


def endless(begun: Begun) -> Iterator[Any]:
    for epoch in itertools.count():
        yield from begun.batches.epoch(epoch)


def scheduled(begun: Begun, steps: int) -> Iterator[Any]:
    """So many batches; before each, the rate of the recipe's schedule if this were the run."""
    schedule = begun.make_schedule(begun.optimizer, 1)
    for number, batch in zip(range(steps), endless(begun), strict=False):
        schedule.step(number / steps, {})
        yield batch


def losses(name: str, steps: int) -> list[tuple[float, float]]:
    """Ours and PyTorch's, of each step."""
    from sides.pytorch_history import train_both

    begun = begin(name)
    batches = scheduled(begun, steps)
    found = []
    for pair in train_both(name, begun.net, begun.optimizer, begun.task, batches):
        found.append(pair)
        if steps >= 10 and len(found) % (steps // 10) == 0:
            print(f"  {name}, step {len(found):,}: {pair[0]:.4f}, {pair[1]:.4f}", flush=True)
    return found


def compare_losses(names: list[str], steps: int) -> list[dict[str, Any]]:
    results = []
    for name in names:
        pairs = losses(name, steps)
        ours, theirs = (
            statistics.fmean(each) for each in zip(*pairs[-max(1, steps // 10) :], strict=True)
        )
        off = ours / theirs - 1
        results.append(dict(name=name, steps=steps, ours=ours, theirs=theirs, off=off, all=pairs))
        print(f"{name}: {ours:.4f} here, {theirs:.4f} in PyTorch ({off:+.3%})", flush=True)
    return results


def time_steps(names: list[str], rounds: int) -> list[dict[str, Any]]:
    results = []
    for name in names:
        worst = max(
            abs(ours - theirs) / abs(theirs) if theirs else abs(ours)
            for ours, theirs in losses(name, FIRST)
        )
        if not worst <= AGREE:
            raise SystemExit(
                f"{name}: expected the losses of PyTorch's first {FIRST} steps within {AGREE:g}, "
                f"but they differ by {worst:.1e}; so this is another net, and nothing was timed"
            )
        with ExitStack() as stack:
            sides = [
                stack.enter_context(Worker(Side(program, "train", 0, name)))
                for program in ("tinynet", "PyTorch")
            ]
            turns = [[worker.turn() for worker in sides] for _ in range(rounds)]
        found: dict[str, Any] = dict(name=name, first=worst)
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
    return f"{text}{found['first']:7.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each side (5)")
    parser.add_argument("--losses", type=int, metavar="N", help="compare losses of N steps instead")
    parser.add_argument("--out", type=Path, help="the JSON file (benchmarks/results/...)")
    args = parser.parse_args()
    names = args.names or list(NAMES)
    for name in names:
        if name not in NAMES:
            parser.error(f"expected names of {', '.join(NAMES)}, got {name!r}")
    for option in ("rounds", "losses"):
        if (count := getattr(args, option)) is not None and count < 1:
            parser.error(f"--{option}: expected at least 1, got {count}")
    if not installed("torch"):
        parser.error("PyTorch is not installed: pip install .[bench]")
    about = machine()
    print(describe(about), flush=True)
    if args.losses:
        kind, results = "losses", compare_losses(names, args.losses)
    else:
        half = f"{'tinynet':>9}{'PyTorch':>9}{'ratio':>7}{'':17}"
        print(f"{'':12}{'ms by the clock':33}{'':9}{'ms of all cores':33}{'':7}first")
        print(f"{'':12}{half}{half} losses", flush=True)
        kind, results = "history", time_steps(names, args.rounds)
    out = args.out or result_path(kind, "json")
    write_json(out, dict(machine=about, results=results))
    print(f"written: {out}")


if __name__ == "__main__":
    sys.exit(main())
