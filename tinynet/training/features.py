"""What a layer makes of pictures: which of them are alike by it, and what excites its maps most."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinynet import nn
from tinynet.data import Batch
from tinynet.parallel.ranks import ALONE, Ranks
from tinynet.recording import no_grad
from tinynet.training.inputs import Inputs


def features(
    model,
    batches: Iterable[Batch],
    inputs: Inputs,
    layer: str = "",
    ranks: Ranks = ALONE,
) -> np.ndarray:
    """`model.features` of every picture, float32 (N, F): for AlexNet the outputs of fc7, F = 4096;
    of a convolution that is named, (N, maps, H, W).

    The model must be in eval() mode. ranks: each has every R-th batch (Loader.every).
    """
    told = ranks.gather([found for _, found in _features(model, batches, inputs, layer)])
    in_turns = itertools.zip_longest(*told)
    return np.concatenate([each for turn in in_turns for each in turn if each is not None])


def _features(
    model, batches: Iterable[Batch], inputs: Inputs, layer: str
) -> Iterator[tuple[Batch, np.ndarray]]:
    for batch in batches:
        x, _ = inputs(batch)
        with no_grad():
            found = model.features(x, layer) if layer else model.features(x)
        yield batch, np.ascontiguousarray(found.numpy())


def nearest(query: np.ndarray, among: np.ndarray, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `among` (N, F) nearest to `query` (F,): their places and Euclidean distances.

    The paper's test of the features (section 6.1): pictures whose vectors are close look alike,
    though pixel by pixel they may be far apart.
    """
    distance = np.sqrt(((among - query) ** 2).sum(axis=1))
    places = np.argsort(distance, kind="stable")[:count]
    return places, distance[places]


class Field(NamedTuple):
    """What a unit sees of the net's input: unit y sees the rows y * step + start and on, `size` of
    them. Some lie outside, in the padding.
    """

    size: int
    step: int
    start: int


def receptive_field(layers: Sequence[nn.Module]) -> Field | None:
    """The field of a unit behind these layers; None if it sees the whole picture.

    A layer with kernel k, stride s and padding p on units of field (size, step, start):
    size + (k - 1) step, step s, start - p step.
    """
    size, step, start = 1, 1, 0
    for layer in layers:
        if isinstance(layer, (nn.Linear, nn.Flatten)):
            return None
        kernel, stride, padding = _window(layer)
        size, step, start = size + (kernel - 1) * step, step * stride, start - padding * step
    return Field(size, step, start)


def _window(layer: nn.Module) -> tuple[int, int, int]:
    """Kernel, stride and padding of a layer; 1, 1, 0 of one that looks at single pixels."""
    of: dict[str, Any] = vars(layer)
    if isinstance(layer, nn.Conv2d):
        return of["weight"].shape[2], of["stride"], of["padding"]
    if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
        kernel = layer.options["kernel_size"]
        return kernel, layer.options["stride"] or kernel, layer.options["padding"]
    if isinstance(layer, nn.SpatialResponseNorm):
        return layer.options["size"], 1, layer.options["size"] // 2
    return 1, 1, 0


def most_exciting(
    model,
    batches: Iterable[Batch],
    inputs: Inputs,
    layer: str,
    field: Field | None,
    side: int,
    count: int = 9,
) -> np.ndarray:
    """For each map of a layer the `count` pictures with its largest values, cut to what the unit
    with that value sees: uint8 (maps, count, side, side, C), the largest first; grey where there is
    no picture. The batches must hold whole pictures, and the model must be in eval() mode.
    """
    best: np.ndarray | None = None
    for batch, found in _features(model, batches, inputs, layer):
        maps = found.reshape(*found.shape[:2], -1)  # (N, maps, H W)
        width = found.shape[3] if found.ndim == 4 else 1
        places, values = maps.argmax(axis=2), maps.max(axis=2)  # (N, maps)
        if best is None:
            shape = (found.shape[1], count)
            best = np.full(shape, -np.inf)
            patches = np.full((*shape, side, side, batch.pictures.shape[3]), 128, np.uint8)
        for n, channel in np.argwhere(values > best[:, -1]):
            rank = int(np.searchsorted(-best[channel], -values[n, channel], side="right"))
            if rank == count:
                continue  # others of this batch were larger
            y, x = divmod(int(places[n, channel]), width)
            for array in (best, patches):
                array[channel, rank + 1 :] = array[channel, rank:-1]
            best[channel, rank] = values[n, channel]
            patches[channel, rank] = _cut(batch, n, inputs.size, field, y, x, side)
    assert best is not None  # a data set has pictures
    return patches


def _cut(
    batch: Batch, n: int, seen: int, field: Field | None, y: int, x: int, side: int
) -> np.ndarray:
    """What unit (y, x) sees of a picture, uint8 (side, side, C); grey outside of it."""
    top, left = int(batch.top[n]), int(batch.left[n])
    crop = batch.pictures[n, top : top + seen, left : left + seen]
    size, step, start = field or Field(seen, 0, 0)
    steps = (np.arange(side) * size) // side
    rows, columns = y * step + start + steps, x * step + start + steps
    down, across = [(0 <= line) & (line < seen) for line in (rows, columns)]  # what lies inside
    patch = np.full((side, side, crop.shape[2]), 128, np.uint8)
    patch[np.ix_(down, across)] = crop[np.ix_(rows[down], columns[across])]
    return patch
