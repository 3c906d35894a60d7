"""tinynet: a deep-learning framework written from scratch on NumPy and CuPy. Its proof is AlexNet.

The names are those of torch:

    import tinynet
    import tinynet.functional as F

    x = tinynet.tensor([[1.0, 2.0]], requires_grad=True)
    F.relu(x * 3).sum().backward()
    x.grad                                    # tensor([[3., 3.]])
"""

import importlib  # noqa: I001
from typing import TYPE_CHECKING

from tinynet.kernels import backends  # noqa: F401  first: devices get their kernels there
from tinynet import creation, functional, functions, nn, optim, types
from tinynet.creation import *
from tinynet.devices import find_device as device
from tinynet.devices import memory_stats, set_tf32
from tinynet.devices.threads import get_num_threads, set_num_threads
from tinynet.drawing import draw
from tinynet.errors import (
    CheckpointError,
    DataError,
    DeviceMismatchError,
    DeviceUnavailableError,
    GradcheckError,
    ModelFileError,
    OutOfMemoryError,
    TinynetError,
)
from tinynet.function import Function
from tinynet.functions import *
from tinynet.gradcheck import gradcheck
from tinynet.instead import TINYNET, missing
from tinynet.kernels.winograd import direct_convolution
from tinynet.profiler import Profile as profile
from tinynet.random import manual_seed
from tinynet.recording import no_grad
from tinynet.saving import load, save
from tinynet.tensors import Tensor, tensor
from tinynet.tracer import Trace as tracing
from tinynet.types import *

if TYPE_CHECKING:
    from tinynet import data, onnx

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceMismatchError",
    "DeviceUnavailableError",
    "Function",
    "GradcheckError",
    "ModelFileError",
    "OutOfMemoryError",
    "Tensor",
    "TinynetError",
    "data",
    "device",
    "direct_convolution",
    "draw",
    "functional",
    "get_num_threads",
    "gradcheck",
    "load",
    "manual_seed",
    "memory_stats",
    "nn",
    "no_grad",
    "onnx",
    "optim",
    "profile",
    "save",
    "set_num_threads",
    "set_tf32",
    "tensor",
    "tracing",
]
__all__ += creation.__all__
__all__ += functions.__all__
__all__ += types.__all__

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name):
        """Python comes here for what is not there: `data` and `onnx`, loaded when first used."""
        if name in ("data", "onnx"):
            return importlib.import_module(f"tinynet.{name}")
        raise missing("tinynet", name, TINYNET, "(x.numpy())")
