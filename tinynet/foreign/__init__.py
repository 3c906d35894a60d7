"""Others: weights in the files of torch and Caffe, and a Function inside torch. Files are read as
data: nothing in them is run, and nothing of theirs is needed.
"""

from tinynet.foreign.beside import torch_function
from tinynet.foreign.caffe import read_caffe
from tinynet.foreign.torch import read_torch

__all__ = ["read_caffe", "read_torch", "torch_function"]
