"""Pictures: data sets, what happens to a picture before the network sees it, and loading."""

from .batch import Batch
from .dataset import ArrayDataset, Dataset, colour_axes, mean_picture
from .formats import open_data
from .idx import fashion_mnist
from .loader import Loader, ten_views

__all__ = [
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Loader",
    "colour_axes",
    "fashion_mnist",
    "mean_picture",
    "open_data",
    "ten_views",
]
