"""How fast tinynet is on this machine's CPU, beside PyTorch, JAX, ONNX Runtime, and the matrix
products alone.

    python benchmarks/cpu.py [--quick] [--rounds N] [--rows train-128 memory ...] [--out FILE.json]

One row a figure: the median of all rounds (least .. greatest). Each side of a comparison has a
process of its own, makes one step to warm up, and then the sides take turns, A B A B ...; a ratio
is taken of the two turns of a round, and the median of these ratios is what counts. Before anything
is timed the nets are compared: with the same weights, they must give the same logits and gradients.

PyTorch, JAX and ONNX Runtime are optional; without them their rows say so. benchmarks/README.md
tells how to read the table.
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

MEMORY_ROUNDS = 3  # at most: peaks hardly differ
PACKAGES = {"PyTorch": "torch", "JAX": "jax", "ONNX Runtime": "onnxruntime"}
Result = dict[str, Any]


class Row(NamedTuple):
    title: str
    sides: tuple[Side, ...]  # the first is compared with each of the others
    # program -> least ratio of the first one's rate to its; of memory, the greatest ratio
    goals: dict[str, float]
    most: float | None = None  # ms that the first one may take


# Rows of the quick form: what learners run, and of AlexNet what takes no minutes.
QUICK = (
    "train-32", "mini-64", "lenet-16", "lenet-64", "mlp-64", "add", "chain", "conv-64",
    "resnet20-128", "forward-1", "forward-8", "forward-32",
)  # fmt: skip


def make_rows(smoke: bool) -> dict[str, Row]:
    """smoke: the same rows with the small net and a few pictures, to try this program."""

    def side(
        program: str, batch: int, task: str = "train", preset: str = "paper", lrn: bool = True
    ) -> Side:
        few = max(1, batch // 32) if smoke else batch
        return Side(program, task, few, "mini" if smoke and preset == "paper" else preset, lrn)

    def train(batch: int, goals: dict[str, float], *programs: str, **options: Any) -> Row:
        preset = options.get("preset")
        what = "".join([f" of {preset}" * bool(preset), " without LRN" * ("lrn" in options)])
        sides = [side(program, batch, **options) for program in ("tinynet", "PyTorch", *programs)]
        return Row(f"training step{what}, batch {batch}", tuple(sides), goals)

    def forward(batch: int, goal: float) -> Row:
        programs = "tinynet", "ONNX Runtime", "PyTorch"
        sides = tuple(side(program, batch, "forward") for program in programs)
        return Row(f"forward only, batch {batch}", sides, {"ONNX Runtime": goal})

    def operation(title: str, preset: str, batch: int, goal: float | None, most=None) -> Row:
        programs = "tinynet", "PyTorch"
        sides = tuple(side(program, batch, "operation", preset) for program in programs)
        return Row(title, sides, {"PyTorch": goal} if goal else {}, most)

    return {
        "train-32": train(32, {"PyTorch": 2.2}, "GEMM alone", "JAX"),
        "train-128": train(128, {"PyTorch": 3.2, "GEMM alone": 0.8}, "GEMM alone"),
        "train-256": train(256, {}),
        "growth": Row(
            "batch 256 against 128", (side("tinynet", 256), side("tinynet", 128)), {"tinynet": 1.0}
        ),
        "no-lrn-128": train(128, {"PyTorch": 1.7}, lrn=False),
        "mini-64": train(64, {"PyTorch": 2.0}, preset="mini"),
        "mini-128": train(128, {"PyTorch": 2.0}, preset="mini"),
        "lenet-16": train(16, {"PyTorch": 1.0}, preset="lenet"),
        "lenet-64": train(64, {"PyTorch": 1.5}, preset="lenet"),
        "lenet-256": train(256, {"PyTorch": 1.5}, preset="lenet"),
        "mlp-64": train(64, {"PyTorch": 1.5}, preset="mlp"),
        "add": operation("1,000 times a + a of 4 elements, recorded", "add", 1, None, most=4.0),
        "chain": operation("400 operations in a chain, forward and backward", "chain", 1, 1.0),
        "conv-64": operation("conv 3x3, 64 channels of 32x32, batch 32", "conv-64", 32, 1.2),
        "conv-128": operation("conv 3x3, 128 channels of 16x16, batch 32", "conv-128", 32, 1.2),
        "resnet20-128": train(128, {"PyTorch": 1.2}, preset="resnet20"),
        "forward-1": forward(1, 0.95),
        "forward-8": forward(8, 1.2),
        "forward-32": forward(32, 1.6),
        "memory": Row(
            "peak memory in training",
            (
                side("tinynet", 128),
                side("PyTorch", 128),
                *(side("tinynet", batch) for batch in (32, 64, 256)),
            ),
            {"PyTorch": 0.5},
        ),
    }


def check_same_nets(rows: Sequence[Row]) -> list[Result]:
    """End the program unless the nets of all sides give what ours give."""
    nets = {
        Side(s.program, "train", 2, s.preset, s.lrn): s
        for row in rows
        for s in row.sides
        if s.task != "operation"
    }
    checked = []
    for side in nets:
        package = PACKAGES.get(side.program)
        if package is None or not installed(package):
            continue
        name = f"{side.program}, {side.preset} net{' without LRN' * (not side.lrn)}"
        with Worker(side, "compare") as worker:
            worst, error, tolerance = (worker.first[k] for k in ("worst", "error", "tolerance"))
        if not error <= tolerance:
            raise SystemExit(
                f"{name}: expected the same as tinynet within {tolerance:.0e}, but {worst} differs "
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
        timed = side.task != "train"
        values = [1000 * t if timed else side.batch / t for t in taken]
        results.append(
            dict(
                row=key,
                side=str(side),
                unit="ms" if timed else "images/s",
                about=about,
                **spread(values),
            )
        )
    (first, ours), *others = turns.items()
    if row.most is not None:
        own = next(r for r in results if r["side"] == str(first.side))
        own |= dict(goal=f"at most {row.most:g} ms", reached=own["median"] <= row.most)
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
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="turns of each side (5; with --quick 3)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=names,
        metavar="ROW",
        help=f"of {', '.join(names)}",
    )
    parser.add_argument(
        "--out", type=Path, help="the JSON file (benchmarks/results/cpu-CPU-DATE.json)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="three turns of the rows that take no minutes: under five minutes on two cores",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="small net, few pictures: tries the program, measures nothing",
    )
    args = parser.parse_args()
    rounds = (3 if args.quick else 5) if args.rounds is None else args.rounds
    if rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {rounds}")
    chosen = args.rows or (QUICK if args.quick else names)
    rows = {key: row for key, row in make_rows(args.smoke).items() if key in chosen}
    about = machine()
    print(describe(about), flush=True)
    checked = check_same_nets(list(rows.values()))
    results = []
    for key, row in rows.items():
        results += (memory_row if key == "memory" else time_row)(key, row, rounds)
    out = args.out or result_path("smoke" if args.smoke else "cpu", "json")
    write_json(
        out,
        dict(machine=about, rounds=rounds, smoke=args.smoke, checked=checked, results=results),
    )
    sides = sorted({r["about"] for r in results if "about" in r})
    print(
        "\n" + "\n".join([describe(about), *sides, "", table(results, rows), "", f"written: {out}"])
    )


if __name__ == "__main__":
    sys.exit(main())
