"""Data sets: labelled uint8 pictures, all of one shape, and exact statistics over them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinynet.errors import DataError

PIECE = 4 << 20  # bytes of pictures that are held at a time, to count their moments


class Dataset:
    """What every data set offers.

    `labels` (N,) int64, `classes` the names by label, `shape` the (H, W, C) of every picture,
    `len(dataset)` N, `dataset.picture(i)` the i-th picture as uint8 (H, W, C), `source` the file
    or folder they came from ("" if they came from none).

    The pictures of a data set do not change: their moments are counted once and kept.
    """

    labels: np.ndarray
    classes: list[str]
    shape: tuple[int, int, int]
    in_memory = False  # whether pictures are there already, so that loading them takes no time
    source: str = ""
    _moments: Moments | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        source = f", from {self.source}" if self.source else ""
        return (
            f"{type(self).__name__}({len(self.classes):,} classes, {len(self):,} pictures "
            f"{size}{source})"
        )

    def picture(self, i: int) -> np.ndarray:
        raise NotImplementedError

    def moments(self) -> Moments:
        """Sums over all pictures, from which the mean and the covariance follow."""
        if self._moments is None:
            self._moments = self._count_moments()
        return self._moments

    def _count_moments(self) -> Moments:
        moments = Moments(self.shape)
        step = max(1, PIECE // int(np.prod(self.shape)))
        for start in range(0, len(self), step):
            block = range(start, min(start + step, len(self)))
            moments.add(np.stack([self.picture(i) for i in block]))
        return moments


class ArrayDataset(Dataset):
    """A data set held in memory: pictures uint8 (N, H, W, C), labels (N,), names of the classes."""

    in_memory = True

    def __init__(
        self, pictures: np.ndarray, labels: np.ndarray, classes: list[str], source: str = ""
    ):
        labels = np.asarray(labels).astype(np.int64)
        if pictures.dtype != np.uint8 or pictures.ndim != 4:
            raise DataError(
                f"ArrayDataset: expected pictures uint8 (N, H, W, C), got {pictures.dtype} "
                f"{pictures.shape}"
            )
        if labels.shape != (len(pictures),):
            raise DataError(
                f"ArrayDataset: expected labels of shape ({len(pictures)},), got {labels.shape}"
            )
        if len(pictures) == 0:
            raise DataError("ArrayDataset: expected at least one picture, got none")
        if labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"ArrayDataset: expected labels 0 to {len(classes) - 1}, one a class, got "
                f"{labels.min()} to {labels.max()}"
            )
        self.pictures = pictures
        self.labels = labels
        self.classes = list(classes)
        self.shape = pictures.shape[1:]
        self.source = source

    def picture(self, i: int) -> np.ndarray:
        return self.pictures[i]


class PaddedDataset(Dataset):
    """Another data set with a border of zeros, `width` pixels wide, around each picture.

    So a crop of the old size may be taken from anywhere (He et al. 2015, section 4.2). The mean
    picture is padded alike: where the mean is subtracted, the border is zero.
    """

    def __init__(self, dataset: Dataset, width: int):
        self.dataset = dataset
        self.labels, self.classes = dataset.labels, dataset.classes
        self.in_memory, self.source = dataset.in_memory, dataset.source
        height, columns, channels = dataset.shape
        self.shape = (height + 2 * width, columns + 2 * width, channels)
        self._inner = slice(width, width + height), slice(width, width + columns)

    def picture(self, i: int) -> np.ndarray:
        padded = np.zeros(self.shape, np.uint8)
        padded[self._inner] = self.dataset.picture(i)
        return padded

    def _count_moments(self) -> Moments:
        """Those of the inner pictures: zeros add nothing to a sum."""
        moments, found = Moments(self.shape), self.dataset.moments()
        moments.count, moments.products = found.count, found.products
        moments.sum[self._inner] = found.sum
        return moments


class PartDataset(Dataset):
    """`count` pictures of another data set, spread evenly over it; a set that is sorted by class
    gives so many of each class, to within one.
    """

    def __init__(self, dataset: Dataset, count: int):
        if not 1 <= count <= len(dataset):
            raise DataError(
                f"expected a count of 1 to {len(dataset):,}, the pictures there are, got {count:,}"
            )
        self.dataset, self.places = dataset, np.arange(count) * len(dataset) // count
        self.labels, self.classes = dataset.labels[self.places], dataset.classes
        self.in_memory, self.source, self.shape = dataset.in_memory, dataset.source, dataset.shape

    def picture(self, i: int) -> np.ndarray:
        return self.dataset.picture(int(self.places[i]))


class Moments:
    """First and second moments of uint8 pictures, summed in integers.

    Integer sums are exact, so the result depends neither on the order of the pictures nor on how
    they were split over processes. For 1.3 million pictures of 256 x 256 the largest sum of
    squares is 5.5e15, far below the 9.2e18 of int64.
    """

    def __init__(self, shape: tuple[int, int, int]):
        channels = shape[2]
        self.count = 0
        self.sum = np.zeros(shape, np.int64)
        self.products = np.zeros((channels, channels), np.int64)

    def add(self, pictures: np.ndarray) -> None:
        """Count in uint8 pictures (N, H, W, C)."""
        self.count += len(pictures)
        self.sum += pictures.sum(axis=0, dtype=np.int64)
        for picture in pictures:
            pixels = picture.reshape(-1, picture.shape[-1]).astype(np.float64)  # (H*W, C)
            # float64 holds whole numbers exactly up to 2^53; a picture's sums stay far below.
            self.products += (pixels.T @ pixels).astype(np.int64)

    def merge(self, other: Moments) -> None:
        """Count in what another Moments has counted."""
        self.count += other.count
        self.sum += other.sum
        self.products += other.products

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` needs to build it again."""
        return {"count": np.array(self.count), "sum": self.sum, "products": self.products}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Moments:
        moments = cls(arrays["sum"].shape)
        moments.count = int(arrays["count"])
        moments.sum, moments.products = arrays["sum"], arrays["products"]
        return moments

    def mean(self) -> np.ndarray:
        """The mean picture, float32 (H, W, C)."""
        return (self.sum / self.count).astype(np.float32)

    def covariance(self) -> np.ndarray:
        """The channels' covariance over all pixels of all pictures, float64 (C, C)."""
        height, width, _ = self.sum.shape
        pixels = self.count * height * width
        mean = self.sum.sum(axis=(0, 1)) / pixels  # (C,)
        return self.products / pixels - np.outer(mean, mean)


def mean_picture(dataset: Dataset) -> np.ndarray:
    """The mean of all pictures, pixel by pixel, float32 (H, W, C): exact, in any order."""
    return dataset.moments().mean()


def colour_axes(covariance: np.ndarray) -> np.ndarray:
    """The directions of colour noise, float32 (C, C): column k is eigenvector k of the channels'
    covariance times its *standard deviation*.

    The paper (section 4.1) adds P (a * s), a ~ N(0, 0.1), and calls s the eigenvalues; its
    program takes their square roots, as here. On the 0..255 scale eigenvalues would give noise
    of sigma 1483. Signs are fixed (each vector's entries sum to >= 0) so that results repeat.
    """
    values, vectors = np.linalg.eigh(covariance)
    vectors = vectors * np.where(vectors.sum(axis=0) < 0, -1, 1)
    return (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32)
