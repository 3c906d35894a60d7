"""Pictures: data sets, what happens to a picture before the network sees it, and loading."""

from tinynet.data.batch import Batch
from tinynet.data.dataset import ArrayDataset, Dataset, PaddedDataset, colour_axes, mean_picture
from tinynet.data.formats import open_data
from tinynet.data.idx import fashion_mnist
from tinynet.data.loader import Loader, ten_views

__all__ = [
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Loader",
    "PaddedDataset",
    "colour_axes",
    "fashion_mnist",
    "mean_picture",
    "open_data",
    "ten_views",
]
