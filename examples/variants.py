"""Variants of AlexNet: what the paper left out, put in, or compared it with. A row each.

    python examples/alexnet.py --variant no-norm
    python examples/alexnet.py --preset paper --variant tanh --data IMAGENET

Each row fits every preset, and says nothing of what it leaves alone. examples/paper/claims.py
compares the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tinynet.nn import init
from tinynet.program import Variant

Changes = dict[str, Any]  # fields of alexnet.Preset


def varied(preset: Any, variant: str | None) -> Any:
    """The preset, changed as a row says."""
    return replace(preset, **VARIANTS[variant].net(preset)) if variant else preset


def said(old: str, new: str) -> Callable[[Any], Changes]:
    """One word in the place of another, or of nothing, wherever it follows a layer."""

    def change(p: Any) -> Changes:
        words = {layer: kinds.split() for layer, kinds in p.after.items()}
        kept = {
            layer: [new if kind == old else kind for kind in kinds]
            for layer, kinds in words.items()
        }
        return {"after": {layer: " ".join(filter(None, kinds)) for layer, kinds in kept.items()}}

    return change


def without(layer: str) -> Callable[[Any], Changes]:
    """A layer is left out of the list. What follows it follows the layer before; if it saw both
    towers, the layer behind it does now.
    """

    def change(p: Any) -> Changes:
        place, after = p.layers.index(layer), dict(p.after)
        before, behind = p.layers[place - 1], p.layers[place + 1]
        after[before] = f"{after.get(before, '')} {after.pop(layer, '')}".strip()
        return {
            "layers": (*p.layers[:place], *p.layers[place + 1 :]),
            "crossings": tuple(behind if name == layer else name for name in p.crossings),
            "after": after,
        }

    return change


def sixth(p: Any) -> Changes:
    """conv6, after the pool of conv5: as conv5 in all else."""
    return {
        "layers": tuple(n for name in p.layers for n in (["conv6"] * (name == "fc6") + [name])),
        "kernels": [*p.kernels, p.kernels[-1]],
        "weights": {**p.weights, "conv6": p.weights["conv5"]},
        "ones": (*p.ones, *["conv6"] * ("conv5" in p.ones)),
    }


def tuned(p: Any) -> Changes:
    """A net that begins with layers of another: the rates of layer-params-146-2012-2011.cfg."""
    slow = {layer: 0.1 * p.rates.get(layer, 1.0) for layer in (*p.layers, "conv6")}
    return sixth(p) | {"rates": {**slow, "conv1": 0.01 * p.rates.get("conv1", 1.0)}}


def many(p: Any) -> Changes:
    """Kernels enough to tell whether towers part: 2012's 48, or 32 where there are fewer."""
    return {"kernels": [max(32, p.kernels[0]), *p.kernels[1:]]}


def tanh(p: Any) -> Changes:
    """tanh at once, in the place of every ReLU."""
    late = said("relu", "")(p)["after"]
    return {"after": {layer: f"tanh {late.get(layer, '')}".strip() for layer in p.layers}}


def four(activation: str, weights: Changes) -> Callable[[Any], Changes]:
    """A net of four layers in one tower, as the program of 2012 had for CIFAR-10."""
    convolution = dict(kernel_size=5, padding=2)
    after = dict(conv1="pool", conv2="pool_mean", conv3="pool_mean")
    return lambda p: {
        "layers": tuple(after),
        "crossings": (),
        "towers": 1,
        "kernels": [32, 32, 64],
        "after": {layer: f"{activation} {kind}" for layer, kind in after.items()},
        "weights": {**p.weights, **weights},
        "rates": {},
        "decay": 0.0,
        **dict.fromkeys(("conv1", "conv2", "others"), convolution),
    }


SMALL = {"conv1": init.normal(1e-4), **dict.fromkeys(("conv2", "conv3", "fc8"), init.normal(0.01))}
BYTES = dict(crop=24, centred=True, flip=False, scale=1.0)  # no regularisation; values 0 to 255
SCALED = {**BYTES, "scale": 1 / 64}

VARIANTS = {
    "tanh": Variant("tanh in the place of ReLU", tanh),
    "four-relu": Variant(
        "three convolutions and a linear layer, small first weights", four("relu", SMALL), BYTES
    ),
    "four-tanh": Variant("the same with tanh", four("tanh", SMALL), BYTES),
    "four-relu-he": Variant(
        "four layers, first weights by He's rule",
        four("relu", dict.fromkeys(SMALL, init.he())), SCALED,
    ),
    "four-tanh-xavier": Variant(
        "four layers, tanh, first weights by Xavier's rule",
        four("tanh", dict.fromkeys(SMALL, init.xavier())), SCALED,
    ),
    "no-norm": Variant("without local response normalisation", said("norm", "")),
    "pools-apart": Variant("pools of 2x2 that do not overlap", said("pool", "pool_apart")),
    "no-dropout": Variant("without dropout", said("dropout", "")),
    "centre": Variant("trained on the centre of each picture", data=dict(centred=True)),
    "no-mirror": Variant("trained without mirroring", data=dict(flip=False)),
    "noise": Variant("trained with colour noise", data=dict(colour=0.1)),
    "no-noise": Variant("trained without colour noise", data=dict(colour=0.0)),
    "no-talk": Variant("towers that meet in fc8 alone", lambda p: {"crossings": ()}),
    "many-kernels": Variant("at least 32 kernels in each tower's conv1", many),
    "many-kernels-early-talk": Variant(
        "the same, and conv2 sees both towers",
        lambda p: many(p) | {"crossings": ("conv2", *p.crossings)},
    ),
    "one-tower": Variant(
        "one tower, with half of all kernels but conv5's",
        lambda p: dict(
            towers=1, crossings=(), kernels=[*p.kernels[:4], 2 * p.kernels[4]], hidden=2 * p.hidden
        ),
    ),
    "no-conv2": Variant("without conv2", without("conv2")),
    "no-conv3": Variant("without conv3", without("conv3")),
    "no-conv4": Variant("without conv4", without("conv4")),
    "no-conv5": Variant("without conv5", without("conv5")),
    "conv6": Variant("a sixth convolution after the last pool", sixth),
    "tuned": Variant(
        "the same, with rates for a net that begins with layers of another (--start-from)", tuned
    ),
}  # fmt: skip
