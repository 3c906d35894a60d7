"""How fast AlexNet is on this machine's CPU: tinynet, PyTorch, JAX, and the matrix products alone.

    python benchmarks/cpu.py [--rounds N] [--rows train-128 memory ...] [--out FILE.json]

One row a figure: the median of all rounds (least .. greatest). Each side of a comparison has a
process of its own, makes one step to warm up, and then the sides take turns, A B A B ...; a ratio
is taken of the two turns of a round, and the median of these ratios is what counts. Before anything
is timed the nets are compared: with the same weights, they must give the same logits and gradients.

PyTorch and JAX are optional; without them their rows say so. benchmarks/README.md tells how to read
the table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from measure import describe, installed, machine, result_path, spread, write_json
from turns import Side, Worker

TOLERANCE = 1e-9  # of logits and gradients, in float64
MEMORY_ROUNDS = 3  # at most: peaks hardly differ
Result = dict[str, Any]


class Row(NamedTuple):
    title: str
    sides: tuple[Side, ...]  # the first is compared with each of the others
    # program -> least ratio of the first one's rate to its; of memory, the greatest ratio
    goals: dict[str, float]


def make_rows(smoke: bool) -> dict[str, Row]:
    """smoke: the same rows with the small net and a few pictures, to try this program."""

    def side(
        program: str, batch: int, task: str = "train", preset: str = "paper", lrn: bool = True
    ) -> Side:
        return Side(
            program, task, max(1, batch // 32) if smoke else batch, "mini" if smoke else preset, lrn
        )

    def train(batch: int, goals: dict[str, float], *programs: str, **options: Any) -> Row:
        what = "".join([" of mini" * ("preset" in options), " without LRN" * ("lrn" in options)])
        sides = [side(program, batch, **options) for program in ("tinynet", "PyTorch", *programs)]
        return Row(f"training step{what}, batch {batch}", tuple(sides), goals)

    def forward(batch: int) -> Row:
        sides = (side("tinynet", batch, "forward"), side("PyTorch", batch, "forward"))
        return Row(f"forward only, batch {batch}", sides, {"PyTorch": 1.0})

    return {
        "train-32": train(32, {"PyTorch": 2.0}, "GEMM alone", "JAX"),
        "train-128": train(128, {"PyTorch": 3.0, "GEMM alone": 0.8}, "GEMM alone"),
        "train-256": train(256, {}),
        "growth": Row(
            "batch 256 against 128", (side("tinynet", 256), side("tinynet", 128)), {"tinynet": 1.0}
        ),
        "no-lrn-128": train(128, {"PyTorch": 1.5}, lrn=False),
        "forward-1": forward(1),
        "forward-8": forward(8),
        "mini-128": train(128, {"PyTorch": 2.5}, preset="mini"),
        "memory": Row(
            "peak memory in training",
            (
                side("tinynet", 128),
                side("PyTorch", 128),
                *(side("tinynet", batch) for batch in (32, 64, 256)),
            ),
            {"PyTorch": 0.6},
        ),
    }


def check_same_nets(rows: Sequence[Row]) -> list[Result]:
    """End the program unless the nets of all sides give what ours give."""
    nets = {Side(s.program, "train", 2, s.preset, s.lrn): s for row in rows for s in row.sides}
    checked = []
    for side in nets:
        package = {"PyTorch": "torch", "JAX": "jax"}.get(side.program)
        if package is None or not installed(package):
            continue
        name = f"{side.program}, {side.preset} net {'with' if side.lrn else 'without'} LRN"
        with Worker(side, "compare") as worker:
            worst, error = worker.first["worst"], worker.first["error"]
        if not error <= TOLERANCE:
            raise SystemExit(
                f"{name}: expected the same as tinynet within {TOLERANCE:.0e}, but {worst} differs "
                f"by {error:.1e} of its norm; so this is another net, and nothing was timed"
            )
        print(
            f"same net: {name}: {worst}, furthest of logits and gradients, differs by {error:.1e}",
            flush=True,
        )
        checked.append(dict(net=name, worst=worst, error=error))
    return checked


def time_row(key: str, row: Row, rounds: int) -> list[Result]:
    """Rates of sides that take turns, and the first one's over each other's."""
    turns: dict[Worker, list[float]] = {}
    results = []
    with ExitStack() as stack:
        for side in row.sides:
            worker = stack.enter_context(Worker(side))
            if "missing" in worker.first:
                results.append(dict(row=key, side=str(side), **worker.first))
            else:
                turns[worker] = []
        for n in range(rounds):
            for worker, taken in turns.items():
                taken.append(worker.turn()["seconds"])
                print(
                    f"  {key}, round {n + 1} of {rounds}: {worker.side} {1000 * taken[-1]:,.1f} ms",
                    flush=True,
                )
    for worker, taken in turns.items():
        side, about = worker.side, worker.first["about"]
        forward = side.task == "forward"
        values = [1000 * t if forward else side.batch / t for t in taken]
        results.append(
            dict(
                row=key,
                side=str(side),
                unit="ms" if forward else "images/s",
                about=about,
                **spread(values),
            )
        )
    (first, ours), *others = turns.items()
    for worker, theirs in others:
        a, b = first.side, worker.side
        ratios = [(a.batch / t_a) / (b.batch / t_b) for t_a, t_b in zip(ours, theirs, strict=True)]
        results.append(
            compared(key, f"rate of {a} / {b}", ratios, row.goals.get(b.program), "at least")
        )
    return results


def memory_row(key: str, row: Row, rounds: int) -> list[Result]:
    """Peaks of processes that train for at least three steps, and the line through ours over the
    batch size.
    """
    peaks: dict[Side, list[float]] = {side: [] for side in row.sides}
    missing = {}
    rounds = min(rounds, MEMORY_ROUNDS)
    for n in range(rounds):
        for side in row.sides:
            with Worker(side) as worker:
                if "missing" in worker.first:
                    missing[side] = dict(row=key, side=str(side), **worker.first)
                    continue
                worker.turn()
                peaks[side].append(worker.turn()["peak_mb"])
            print(
                f"  {key}, round {n + 1} of {rounds}: {side} {peaks[side][-1]:,.0f} MB", flush=True
            )
    results = [
        dict(row=key, side=str(side), unit="MB", **spread(values))
        for side, values in peaks.items()
        if values
    ]
    ours, theirs = row.sides[:2]
    if peaks[theirs]:
        ratios = [a / b for a, b in zip(peaks[ours], peaks[theirs], strict=True)]
        results.append(
            compared(key, f"memory of {ours} / {theirs}", ratios, row.goals["PyTorch"], "at most")
        )
    points = [
        (side.batch, statistics.median(peaks[side]))
        for side in row.sides
        if side.program == "tinynet"
    ]
    slope, constant = statistics.linear_regression(*zip(*points, strict=True))
    off = max(abs(mb - constant - slope * batch) for batch, mb in points)
    line = dict(
        row=key, side="tinynet, line", constant_mb=constant, mb_a_picture=slope, furthest_mb=off
    )
    return [*missing.values(), *results, line]


def compared(key: str, what: str, ratios: list[float], goal: float | None, bound: str) -> Result:
    found = dict(row=key, ratio=what, **spread(ratios))
    if goal is None:
        return found
    reached = found["median"] >= goal if bound == "at least" else found["median"] <= goal
    return found | dict(goal=f"{bound} {goal:g}", reached=reached)


def table(results: Sequence[Result], rows: dict[str, Row]) -> str:
    lines = [f"{'':46}{'median':>10}  {'(least .. greatest)':26}goal"]
    title = None
    for r in results:
        if r["row"] != title:
            title = r["row"]
            lines.append(f"{rows[title].title}  [{title}]")
        name = "  " + r.get("ratio", r.get("side"))
        if "missing" in r:
            lines.append(f"{name:46}{'-':>10}  {r['missing']}")
        elif "constant_mb" in r:
            lines.append(
                f"{name:46}{r['constant_mb']:,.0f} MB + {r['mb_a_picture']:.2f} MB a picture; "
                f"no point is further from it than {r['furthest_mb']:,.0f} MB"
            )
        else:
            digits = 2 if "ratio" in r else 0 if r["median"] >= 1000 else 1
            span = f"({r['min']:,.{digits}f} .. {r['max']:,.{digits}f})"
            goal = (
                f"{r['goal']}: {'reached' if r['reached'] else 'NOT reached'}"
                if "goal" in r
                else ""
            )
            figure = f"{r['median']:>10,.{digits}f}  {r.get('unit', '') + ' ' + span:26}"
            lines.append(f"{name:46}{figure}{goal}".rstrip())
    return "\n".join(lines)


def main() -> None:
    names = list(make_rows(smoke=False))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="turns of each side (5)")
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=names,
        default=names,
        metavar="ROW",
        help=f"of {', '.join(names)}",
    )
    parser.add_argument(
        "--out", type=Path, help="the JSON file (benchmarks/results/cpu-CPU-DATE.json)"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="small net, few pictures: tries the program, measures nothing",
    )
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {args.rounds}")
    rows = {key: row for key, row in make_rows(args.smoke).items() if key in args.rows}
    about = machine()
    print(describe(about), flush=True)
    checked = check_same_nets(list(rows.values()))
    results = []
    for key, row in rows.items():
        results += (memory_row if key == "memory" else time_row)(key, row, args.rounds)
    out = args.out or result_path("smoke" if args.smoke else "cpu", "json")
    write_json(
        out,
        dict(machine=about, rounds=args.rounds, smoke=args.smoke, checked=checked, results=results),
    )
    sides = sorted({r["about"] for r in results if "about" in r})
    print(
        "\n" + "\n".join([describe(about), *sides, "", table(results, rows), "", f"written: {out}"])
    )


if __name__ == "__main__":
    sys.exit(main())
