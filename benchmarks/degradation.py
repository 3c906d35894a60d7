"""Training loss by epoch of runs that are alike but for the net, side by side: figure 6 of He et
al. 2015 in small. Do deeper plain nets learn worse, and residual ones not?

    for net in plain20 plain56 resnet56; do
        python examples/history/resnet.py --preset $net --out $net \\
            --epochs 10 --batch-size 128 --lr 0.02
    done
    python benchmarks/degradation.py plain20 plain56 resnet56 picture.png

Runs that have come to different epochs are compared at the last one that all have finished.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tinynet, installed or not
from tinynet.training.metrics import read_config, read_metrics  # noqa: E402

COLOURS = "#6b7785", "#c8752d", "#1668c2", "#6aa84f"


def by_epoch(folder: Path) -> tuple[list[float], list[float]]:
    """Of each finished epoch: the mean training loss, and the test error in %."""
    lines = read_metrics(folder)
    errors = [line["top1_error"] for line in lines if line["kind"] == "test"]
    ends = [line["step"] for line in lines if line["kind"] == "test"]
    losses, start = [], 0
    for end in ends:
        seen = [x["loss"] for x in lines if x["kind"] == "train" and start < x["step"] <= end]
        losses.append(statistics.fmean(seen))
        start = end
    return losses, errors


def draw(found: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for panel, title in enumerate(("training loss", "test error (%)")):
        place = axes[panel]
        for colour, (name, both) in zip(COLOURS, found.items(), strict=False):
            values = both[panel]
            place.plot(range(1, len(values) + 1), values, "o-", ms=3, color=colour, label=name)
        place.set_xlabel("epoch")
        place.set_ylabel(title)
        place.xaxis.get_major_locator().set_params(integer=True)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help=f"folders, up to {len(COLOURS)}")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    args = parser.parse_args()
    if len(args.runs) > len(COLOURS):
        parser.error(f"expected up to {len(COLOURS)} runs, got {len(args.runs)}")
    found = {}
    for folder in args.runs:
        config = read_config(folder)
        if config is None or not by_epoch(folder)[0]:
            parser.error(f"{folder}: expected a run with an epoch behind it")
        found[str(config["settings"]["preset"])] = by_epoch(folder)
    last = min(len(losses) for losses, _ in found.values())
    print(f"after epoch {last}:")
    for name, (losses, errors) in found.items():
        print(
            f"  {name:14} training loss {losses[last - 1]:.4f}, test error {errors[last - 1]:.2f} %"
        )
    draw(found, args.picture)


if __name__ == "__main__":
    sys.exit(main())
