"""From a data set to batches: which pictures, in what order, cut where, mirrored or not.

All choices are functions of (seed, epoch, index) alone, drawn from the counter-based generator
Philox. So they do not depend on how many workers load, and a run resumed in the middle of an
epoch sees what an undisturbed run would have seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from tinynet.data.background import in_background
from tinynet.data.batch import Batch, crop_pictures
from tinynet.data.dataset import Dataset
from tinynet.data.workers import WorkerPool
from tinynet.errors import DataError

_ORDER, _DRAWS = 1 << 62, 1 << 63  # keep both streams apart from each other and from dropout's


class Loader:
    """Batches of a data set, loaded ahead of their use.

    `train=True`: a new random order each epoch; each picture cut to `crop` x `crop` at a random
    place, mirrored at random (`flip`), given colour noise (`colour`: the axes that `colour_axes`
    returns, times a ~ N(0, sigma): sigma is `colour_sigma` or, from an epoch of `colour_story` on,
    what that says: ((67, 0.0),)); the last incomplete batch is dropped.
    `train=False`: the data set's order, whole pictures with the offsets of their centre, the last
    batch may be smaller.

    `centred`: in training, too, the centre is cut out, not a random place.
    `crop_chunk=32` is the habit of the program of 2012: 32 pictures in a row share crop and flip.
    `skip_damaged`: a picture that cannot be read is left out of its batch, which names it in
    `damaged`; else it is a DataError.
    `workers=0` loads in a thread of this process, `workers=N` in N processes; the batches are the
    same. At most `ahead` batches (a worker) wait to be used. Processes end with `close()`, at the
    end of a `with` block, or with the loader.
    `share`, an attribute: (r, R), of each batch only the r-th of R parts is loaded; it may be empty
    in tests. `every`: (r, R), only the batches number r, r + R, ... are loaded, whole. Both are
    (0, 1) if not set otherwise.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        crop: int,
        train: bool,
        seed: int = 0,
        workers: int = 0,
        flip: bool = True,
        colour: np.ndarray | None = None,
        colour_sigma: float = 0.1,
        colour_story: Sequence[tuple[int, float]] = (),
        crop_chunk: int = 1,
        centred: bool = False,
        ahead: int = 2,
        skip_damaged: bool = False,
    ):
        height, width, channels = dataset.shape
        if batch_size < 1:
            raise DataError(f"Loader: expected a batch size of at least 1, got {batch_size}")
        if not 1 <= crop <= min(height, width):
            raise DataError(f"Loader: expected a crop of 1 to {min(height, width)}, got {crop}")
        if train and batch_size > len(dataset):
            raise DataError(
                f"Loader: expected a batch size of at most {len(dataset)}, the number of pictures, "
                f"got {batch_size}; take smaller batches (--batch-size auto)"
            )
        if colour is not None and colour.shape != (channels, channels):
            raise DataError(
                f"Loader: expected colour axes of ({channels}, {channels}), got {colour.shape}"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.crop = crop
        self.train = train
        self.seed = seed
        self.flip = flip
        self.colour = colour
        self.colour_sigma = colour_sigma
        self.colour_story = colour_story
        self.crop_chunk = crop_chunk
        self.centred = centred
        self.ahead = ahead
        self.skip_damaged = skip_damaged
        self.workers, self.share, self.every = workers, (0, 1), (0, 1)
        self._cut_shape = (crop, crop, channels) if train else dataset.shape
        self._pool = None
        if workers:
            self._pool = WorkerPool(dataset, workers, ahead, (batch_size, *self._cut_shape))

    def __len__(self) -> int:
        """Batches an epoch."""
        if self.train:
            return len(self.dataset) // self.batch_size
        return -(-len(self.dataset) // self.batch_size)

    def __repr__(self) -> str:
        use = "train" if self.train else "test"
        return (
            f"Loader({self.dataset}, {len(self):,} batches of {self.batch_size}, crop {self.crop}, "
            f"{use}, {self.workers} workers)"
        )

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch (0, 1, ...), from batch number `start` on."""
        if self.train and self.batch_size < self.share[1]:
            raise DataError(
                f"Loader: expected a batch size of at least {self.share[1]}, the number of ranks "
                f"that share it, got {self.batch_size}"
            )
        plans = self._plan(epoch, start)
        if self._pool is not None:
            return self._whole(self._pool.run(plans))
        loaded = (self._load(plan) for plan in plans)
        return self._whole(in_background(loaded, self.ahead))

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _load(self, batch: Batch) -> Batch:
        batch.pictures = np.empty((len(batch.indices), *self._cut_shape), np.uint8)
        batch.damaged = crop_pictures(
            self.dataset, batch.indices, batch.top, batch.left, batch.pictures
        )
        return batch

    def _whole(self, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """The batches without the pictures that cannot be read. DataError for the first of these,
        unless they are to be skipped, or for a batch of nothing else.
        """

        def whole(batch: Batch) -> Batch:
            if not batch.damaged:
                return batch
            problem = next(iter(batch.damaged.values()))
            if self.skip_damaged:
                batch.leave_out_damaged()
                if len(batch.labels):
                    return batch
                problem += "; no other picture of its batch can be read"
            self.close()
            raise DataError(problem)

        with contextlib.closing(batches):
            # A loop would hold on to a batch while its user is busy with it, and so to its memory.
            yield from map(whole, batches)

    def _plan(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches with everything but their pictures."""
        total, (height, width, _) = len(self.dataset), self.dataset.shape
        none = np.empty((0, *self._cut_shape), np.uint8)
        story = [sigma for since, sigma in self.colour_story if since <= epoch]
        sigma = [self.colour_sigma, *story][-1]
        order = epoch_order(self.seed, epoch, total) if self.train else np.arange(total)
        lanes = epoch_draws(self.seed, epoch, total) if self.train else None
        for number in range(start + self.every[0], len(self), self.every[1]):
            places = np.arange(number * self.batch_size, min((number + 1) * self.batch_size, total))
            places = places[part_of(self.share, len(places))]
            indices = order[places]
            labels = self.dataset.labels[indices]
            count = len(indices)
            top = np.full(count, (height - self.crop) // 2, np.int32)
            left = np.full(count, (width - self.crop) // 2, np.int32)
            if lanes is None:
                yield Batch(none, labels, top, left, np.zeros(count, bool), None, indices)
                continue
            # With chunks, the first picture of a chunk lends its draws to the others.
            mine = lanes[order[places - places % self.crop_chunk]].astype(np.uint64)
            if not self.centred:
                top = _scaled(mine[:, 0], height - self.crop + 1)
                left = _scaled(mine[:, 1], width - self.crop + 1)
            flip = (mine[:, 2] >> np.uint64(31) == 1) & self.flip
            colour = None
            if self.colour is not None and sigma:
                a = sigma * normal(lanes[indices, 4:])[:, : len(self.colour)]
                colour = (a @ self.colour.T.astype(np.float64)).astype(np.float32)  # (N, C)
            yield Batch(none, labels, top, left, flip, colour, indices)


def part_of(share: tuple[int, int], count: int) -> slice:
    """The rows of part r of R, share = (r, R), of a batch of `count`; sizes differ by 1 at most."""
    r, R = share
    return slice(count * r // R, count * (r + 1) // R)


def _scaled(lanes: np.ndarray, many: int) -> np.ndarray:
    """Whole numbers from 0 to many - 1 of random 32-bit lanes (N,), int32."""
    return (lanes * np.uint64(many) >> np.uint64(32)).astype(np.int32)


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The random order of an epoch, int64 (count,): by rank of one Philox word a picture."""
    words = _words(seed, _ORDER | epoch, count)
    return np.argsort(words, kind="stable")


def epoch_draws(seed: int, epoch: int, count: int) -> np.ndarray:
    """Eight random 32-bit lanes for each picture, uint32 (count, 8), by its place in the set.

    Lane 0 chooses the row of the crop, 1 the column, 2 the flip, 4 to 7 the colour noise.
    """
    return epoch_lanes(seed, epoch, count, 8)


def epoch_lanes(seed: int, epoch: int, count: int, lanes: int) -> np.ndarray:
    """Random 32-bit numbers for each example, uint32 (count, lanes), by its place in the set."""
    words = _words(seed, _DRAWS | epoch, -(-count * lanes // 2))
    return words.view(np.uint32)[: count * lanes].reshape(count, lanes)


def _words(seed: int, stream: int, count: int) -> np.ndarray:
    # A plain list of a small and a huge number would pass through float64 and lose its low bits.
    key = np.array([seed, stream], np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def normal(lanes: np.ndarray) -> np.ndarray:
    """Standard normal values from uniform 32-bit lanes (N, 2k), by Box and Muller."""
    uniform = (lanes + 0.5) / 2**32  # inside (0, 1)
    radius = np.sqrt(-2 * np.log(uniform[:, 0::2]))
    angle = 2 * np.pi * uniform[:, 1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def ten_views(
    shape: tuple[int, ...], crop: int, mirrored: bool = True
) -> list[tuple[int, int, bool]]:
    """(top, left, flip) of the ten test views of a picture of (H, W, ...): the four corners and
    the centre, and the same mirrored (ALEXNET 2012, section 4.1).

    They are fewer where the picture is not cut, since the five are one then, and where training
    does not mirror (`mirrored`): a net is not tested on what it was not made for.
    """
    bottom, right = shape[0] - crop, shape[1] - crop
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    flips = (False, True) if mirrored else (False,)
    return list(dict.fromkeys((top, left, flip) for flip in flips for top, left in corners))
