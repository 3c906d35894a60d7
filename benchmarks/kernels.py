"""Time of every kernel of the paper's net on this machine's CPU, against what the machine can do: a
roofline.

    python benchmarks/kernels.py [--batch N] [--rounds N] [--out FILE.json]

Forward (>) and backward (<) of each kernel as one tower calls it (a step calls it twice; fc8 and
the pictures once):

    GFLOP/s   operations of the formula (kernel_cases.py). A convolution counts 2 O K P, also where
              Winograd's way makes fewer (conv3 to conv5): so these may lie above the GEMM rate.
              A root or a division counts as one, random numbers as none.
    GB/s      bytes that must move at least once: each array that goes in or comes out
    roof      of the two limits the lower one: measured GEMM rate, or measured copy bandwidth
              times operations a byte

Both limits are measured in the same run. Writes JSON, and beside it the roofline as a picture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tinynet, installed or not

import numpy as np
from kernel_cases import BACKWARD, FORWARD, Case, all_cases, random
from measure import describe, machine, result_path, seconds, spread, write_json

import tinynet
from tinynet.devices.threads import parallel_for, ranges

HEADER = (
    f"{'kernel':<13}{'ms':>10} {'(least .. greatest)':<20}{'GFLOP/s':>9}{'of GEMM':>8}{'GB/s':>9}"
    f"{'of copy':>8}{'of roof':>8}"
)


def gemm_rate(side: int, rounds: int) -> float:
    """The best of some products of square matrices, by BLAS with its own threads: operations a
    second.
    """
    a = np.ascontiguousarray(random(side, side))
    out = np.empty_like(a)
    return 2 * side**3 / min(seconds(lambda: np.matmul(a, a, out=out)) for _ in range(rounds + 1))


def copy_rate(megabytes: int, rounds: int) -> float:
    """The best of some copies of a large array by all threads: bytes read and written, a second."""
    source = np.ones(megabytes << 18, np.float32)
    target = np.empty_like(source)
    pieces = ranges(source.size, 1 << 20)

    def copy() -> None:
        parallel_for(lambda piece: np.copyto(target[piece], source[piece]), pieces)

    return 2 * source.nbytes / min(seconds(copy) for _ in range(rounds + 1))


def measure(case: Case, rounds: int, gemm: float, copy: float) -> dict[str, Any]:
    case.run()  # warms up
    times = spread([seconds(case.run) for _ in range(rounds)])
    flops, moved = case.flops / times["median"], case.bytes / times["median"]
    intensity = case.flops / case.bytes
    return dict(
        kernel=case.kernel, phase=case.phase, seconds=times, flops=case.flops, bytes=case.bytes,
        intensity=intensity,
        gflops=flops / 1e9, gbytes=moved / 1e9, of_gemm=flops / gemm, of_copy=moved / copy,
        of_roof=flops / min(gemm, copy * intensity),
    )  # fmt: skip


def line(r: dict[str, Any]) -> str:
    ms = [1000 * r["seconds"][key] for key in ("median", "min", "max")]
    return (
        f"{r['kernel']:<12}{'>' if r['phase'] == FORWARD else '<'}{ms[0]:>10.2f} "
        f"{f'({ms[1]:.2f} .. {ms[2]:.2f})':<20}"
        f"{r['gflops']:>9.1f}{r['of_gemm']:>8.0%}{r['gbytes']:>9.1f}{r['of_copy']:>8.0%}{r['of_roof']:>8.0%}"
    )


def draw(results: list[dict[str, Any]], gemm: float, copy: float, title: str, path: Path) -> None:
    """GFLOP/s over operations a byte, both logarithmic, under the roof."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(13, 8))
    least, most = (f(r["intensity"] for r in results) for f in (min, max))
    x = np.geomspace(least / 2, most * 2, 200)
    axes.loglog(
        x,
        np.minimum(gemm, copy * x) / 1e9,
        color="black",
        label=f"{gemm / 1e9:.0f} GFLOP/s, {copy / 1e9:.1f} GB/s",
    )
    points_of = {}
    for phase, colour in ((FORWARD, "tab:blue"), (BACKWARD, "tab:red")):
        points = [
            (r["intensity"], r["gflops"], r["kernel"]) for r in results if r["phase"] == phase
        ]
        axes.scatter(
            *zip(*(point[:2] for point in points), strict=True), s=18, color=colour, label=phase
        )
        points_of[colour] = points
    axes.set(xlabel="operations a byte", ylabel="GFLOP/s", title=title)
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3, which="both")
    name_points(axes, points_of)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def name_points(axes: Any, points_of: dict[str, list[tuple[float, float, str]]]) -> list[Any]:
    """Write the name of every point (x, y, name), by colour, at the nearest place around it where
    it covers no other name and no point. Returns the room that each name takes, in pixels.
    """
    from matplotlib.transforms import Bbox

    axes.figure.canvas.draw()  # fixes the axes' limits; from now on text can be measured
    at = axes.transData.transform
    spots = [point[:2] for points in points_of.values() for point in points]
    dots = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in at(spots)]
    around = [  # (right, up) in pixels, the nearest first
        (far * np.cos(turn), far * np.sin(turn))
        for far in range(6, 300, 4)
        for turn in np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ]
    names: list[Bbox] = []
    for colour, points in points_of.items():
        for x, y, name in points:
            text = axes.annotate(
                name, (x, y), (0, 0), textcoords="offset pixels", fontsize=7, color=colour,
                va="center", arrowprops=dict(arrowstyle="-", color=colour, lw=0.5, alpha=0.5),
            )  # fmt: skip
            size = text.get_window_extent()
            left, middle = at((x, y))
            for right, up in around:
                start = left + right - (size.width if right < -1 else 0)
                room = Bbox.from_bounds(
                    start, middle + up - size.height / 2, size.width, size.height
                )
                if not any(room.overlaps(other) for other in (*dots, *names)):
                    break
            text.set(position=(right, up), ha="right" if right < -1 else "left")
            names.append(room)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=128, metavar="N", help="pictures (128)")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="runs of each kernel (5)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the JSON file; the picture lies beside it (benchmarks/results/kernels-...)",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="kernels of the small net: tries the program, measures nothing",
    )
    args = parser.parse_args()
    if min(args.batch, args.rounds) < 1:
        parser.error("--batch, --rounds: expected at least 1")
    about = machine() | dict(threads=tinynet.get_num_threads())
    print(describe(about), flush=True)
    gemm = gemm_rate(256 if args.smoke else 2048, args.rounds)
    copy = copy_rate(4 if args.smoke else 256, args.rounds)
    print(
        f"measured here: GEMM {gemm / 1e9:.1f} GFLOP/s, copying {copy / 1e9:.1f} GB/s (read and "
        f"written)\n"
    )
    print(HEADER)
    results = []
    for case in all_cases("mini" if args.smoke else "paper", args.batch):
        results.append(measure(case, args.rounds, gemm, copy))
        print(line(results[-1]), flush=True)
    out = args.out or result_path("smoke-kernels" if args.smoke else "kernels", "json")
    write_json(
        out,
        dict(
            machine=about, batch=args.batch, gemm=gemm, copy=copy, smoke=args.smoke, results=results
        ),
    )
    title = (
        f"Kernels of one tower at batch {args.batch}: {about['cpu']}, {about['threads']} threads"
    )
    draw(results, gemm, copy, title, out.with_suffix(".png"))
    print(
        f"\nconv2 to conv5 by Winograd's way, counted as direct convolutions\nwritten: {out}, "
        f"{out.with_suffix('.png').name}"
    )


if __name__ == "__main__":
    main()
