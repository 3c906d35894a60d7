"""Pictures and text: data sets, what happens to them before the network sees it, and loading."""

from tinynet.data.batch import Batch
from tinynet.data.dataset import (
    ArrayDataset,
    Dataset,
    PaddedDataset,
    PartDataset,
    colour_axes,
    mean_picture,
)
from tinynet.data.formats import open_data
from tinynet.data.idx import fashion_mnist
from tinynet.data.loader import Loader, ten_views
from tinynet.data.sequences import SequenceLoader, Sequences
from tinynet.data.text import Masked, Pairs, Vocabulary, Windows, read_text, shakespeare

__all__ = [
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Loader",
    "Masked",
    "PaddedDataset",
    "Pairs",
    "PartDataset",
    "SequenceLoader",
    "Sequences",
    "Vocabulary",
    "Windows",
    "colour_axes",
    "fashion_mnist",
    "mean_picture",
    "open_data",
    "read_text",
    "shakespeare",
    "ten_views",
]
