"""What a finished run has to say: the figures of its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.training import checkpoint
from tinynet.training.metrics import read_metrics

TARGET = 25.0  # % training error (figure 1)
PERMUTATIONS = 2000


def of_training(folder: Path) -> dict[str, Any]:
    """Of a trained net: its test at the end, its training error by epoch; colours of its towers."""
    lines = read_metrics(folder)
    test = [line for line in lines if line["kind"] == "test"][-1]
    epochs = int(test["epoch"])
    by_epoch: list[list[dict[str, Any]]] = [[] for _ in range(epochs)]
    for line in lines:
        if line["kind"] == "train":
            by_epoch[min(int(np.ceil(line["epoch"])), epochs) - 1].append(line)
    found: dict[str, Any] = {
        "seconds": sum(test["seconds"].values()),
        "top1_error": test["top1_error"],
        "test_loss": test["loss"],
        **({"top5_error": test["top5_error"]} if "top5_error" in test else {}),
        "training_error": [_mean(each, "top1_error") for each in by_epoch],
        "training_loss": [_mean(each, "loss") for each in by_epoch],
    }
    found["epochs_to_25"] = _epochs_to(found["training_error"])
    return {name: _rounded(value) for name, value in (found | colours(folder)).items()}


def of_evaluation(folder: Path) -> dict[str, float]:
    """Of an evaluation through one view; and through ten, if pictures are larger than what the net
    sees.
    """
    views = json.loads((folder / "evaluation.json").read_text())["views"]
    names = {"1": "top1_error", "10": "ten_views"}
    return {names[count]: round(found["top1_error"], 4) for count, found in views.items()}


def colours(folder: Path) -> dict[str, float]:
    """How far two towers are apart in colour, by their conv1 (paper, section 6.1).

    A kernel's share of colour: 1 - (energy of its mean over R, G and B, times 3) / its energy, here
    in %; 0 is grey. A tower's share is the mean over its kernels, each with the weight of its
    energy. colour: |share of a - share of b|, less the mean of the same over random ways to deal
    the same kernels to two towers; colour_p: how many of these ways part them at least as far.
    """
    model = checkpoint.newest_whole(folder)[1].model
    towers = [model[name] for tower in "ab" if (name := f"{tower}.conv1.weight") in model]
    if len(towers) < 2 or towers[0].shape[1] != 3:
        return {}
    kernels = np.concatenate(towers).astype(np.float64)  # (O, 3, h, w)
    energy = (kernels**2).sum(axis=(1, 2, 3))
    grey = 3 * (kernels.mean(axis=1) ** 2).sum(axis=(1, 2))
    colour, of_a = energy - grey, len(towers[0])  # (O,)

    def shares(order: np.ndarray) -> list[float]:
        parts = order[:of_a], order[of_a:]
        return [100 * float(colour[part].sum() / energy[part].sum()) for part in parts]

    def apart(order: np.ndarray) -> float:
        a, b = shares(order)
        return abs(a - b)

    rng, here = np.random.default_rng(0), np.arange(len(kernels))
    dealt = np.array([apart(rng.permutation(here)) for _ in range(PERMUTATIONS)])
    a, b = shares(here)
    return {
        "colour_a": a,
        "colour_b": b,
        "colour": abs(a - b) - float(dealt.mean()),
        "colour_p": float((dealt >= abs(a - b)).mean()),
    }


def _mean(lines: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([line[name] for line in lines])) if lines else float("nan")


def _epochs_to(errors: list[float]) -> int | None:
    """The first epoch whose mean training error is at most TARGET; None if there is none."""
    return next((n for n, error in enumerate(errors, 1) if error <= TARGET), None)


def _rounded(found: Any) -> Any:
    if isinstance(found, list):
        return [_rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found
