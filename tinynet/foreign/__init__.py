"""Weights in the files of others, as arrays by name: torch's and Caffe's. They are read as data:
nothing in them is run, and nothing of theirs is needed.
"""

from tinynet.foreign.caffe import read_caffe
from tinynet.foreign.torch import read_torch

__all__ = ["read_caffe", "read_torch"]
