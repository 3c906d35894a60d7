"""Pictures: data sets, what happens to a picture before the network sees it, and loading."""

from .dataset import ArrayDataset, Dataset, colour_axes, mean_picture
from .formats import open_data
from .idx import fashion_mnist

__all__ = [
    "ArrayDataset",
    "Dataset",
    "colour_axes",
    "fashion_mnist",
    "mean_picture",
    "open_data",
]
