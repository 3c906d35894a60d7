"""Sequences of tokens: data sets of integers, and their batches.

As with pictures, every choice is a function of (seed, epoch, index) alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np

from tinynet.data.loader import epoch_lanes, epoch_order, part_of
from tinynet.errors import DataError

NOWHERE = -1  # the target of a place whose token is not asked for


class Sequences:
    """What every data set of sequences offers: a `len`, a `source` that names it, and `batch`.

    lanes: how many random 32-bit numbers one example needs.
    """

    source = ""
    lanes = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, indices: np.ndarray, lanes: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """The examples (N,) as arrays of int64, each (N, T): what the net sees, then the targets.

        lanes: uint32 (N, self.lanes), from which all random choices are made. None in tests, where
        a choice is a function of the index alone.
        """
        raise NotImplementedError


Data = TypeVar("Data", bound=Sequences)


class SequenceLoader(Generic[Data]):
    """Batches of a data set of sequences, each a tuple of arrays; see Sequences.batch.

    train=True: a new random order each epoch; the last incomplete batch is dropped. train=False:
    the data set's order, and all of it.

    share: (r, R), of each batch only the r-th of R parts; it may be empty in tests. Its rows are as
    long as the whole batch's. (0, 1) if not set otherwise.
    """

    def __init__(self, dataset: Data, batch_size: int, *, train: bool, seed: int = 0):
        if batch_size < 1:
            raise DataError(
                f"SequenceLoader: expected a batch size of at least 1, got {batch_size}"
            )
        if train and batch_size > len(dataset):
            raise DataError(
                f"SequenceLoader: expected a batch size of at most {len(dataset)}, the number of "
                f"sequences, got {batch_size}; take smaller batches (--batch-size auto)"
            )
        self.dataset, self.batch_size, self.train, self.seed = dataset, batch_size, train, seed
        self.share = (0, 1)

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.train:
            return len(self.dataset) // self.batch_size
        return -(-len(self.dataset) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of an epoch (0, 1, ...), from batch number `start` on."""
        if self.train and self.batch_size < self.share[1]:
            raise DataError(
                f"SequenceLoader: expected a batch size of at least {self.share[1]}, the number of "
                f"ranks that share it, got {self.batch_size}"
            )
        total = len(self.dataset)
        order, lanes = np.arange(total), None
        if self.train:
            order = epoch_order(self.seed, epoch, total)
            lanes = epoch_lanes(self.seed, epoch, total, self.dataset.lanes)
        for number in range(start, len(self)):
            places = order[number * self.batch_size : (number + 1) * self.batch_size]
            batch = self.dataset.batch(places, None if lanes is None else lanes[places])
            yield tuple(array[part_of(self.share, len(array))] for array in batch)

    def __enter__(self) -> SequenceLoader[Data]:
        return self

    def __exit__(self, *exception: object) -> None:
        """It holds nothing: sequences lie in memory."""
