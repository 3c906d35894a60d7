"""Cut the embedded part out of the whole Fashion-MNIST: the first 1,000 + 200 of each class.

    python -m tinynet.data.fashion.cut [FOLDER]

FOLDER holds the four standard IDX files; its default is where the Debian package
`dataset-fashion-mnist` puts them. The same input gives the same bytes.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np

from tinynet.data.idx import read_idx

SOURCE = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as a gzipped IDX file (without a time stamp, so that bytes repeat)."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), compresslevel=9, mtime=0))


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    for split, per_class in (("train", 1000), ("t10k", 200)):
        pictures = read_idx(source / f"{split}-images-idx3-ubyte.gz")
        labels = read_idx(source / f"{split}-labels-idx1-ubyte.gz")
        chosen = [np.flatnonzero(labels == k)[:per_class] for k in range(10)]
        kept = np.sort(np.concatenate(chosen))  # the original order, classes mixed
        for kind, array in (("images-idx3", pictures[kept]), ("labels-idx1", labels[kept])):
            write_idx(Path(__file__).parent / f"{split}-{kind}-ubyte.gz", array)


if __name__ == "__main__":
    main()
