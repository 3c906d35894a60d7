"""tinynet: a deep-learning framework written from scratch on NumPy and CuPy. Its proof is AlexNet.

The names are those of torch:

    import tinynet
    import tinynet.functional as F

    x = tinynet.tensor([[1.0, 2.0]], requires_grad=True)
    F.relu(x * 3).sum().backward()
    x.grad                                    # tensor([[3., 3.]])
"""

from tinynet.kernels import backends  # noqa: F401, I001  first: devices get their kernels there
from tinynet import functional, nn, optim
from tinynet.arithmetic import concat
from tinynet.devices import device, memory_stats, set_tf32
from tinynet.devices.threads import get_num_threads, set_num_threads
from tinynet.errors import (
    CheckpointError,
    DataError,
    DeviceMismatchError,
    DeviceUnavailableError,
    GradcheckError,
    OutOfMemoryError,
    TinynetError,
)
from tinynet.function import Function
from tinynet.gradcheck import gradcheck
from tinynet.profiler import Profile as profile
from tinynet.random import manual_seed
from tinynet.recording import no_grad
from tinynet.tensor import Tensor, tensor
from tinynet.tracer import Trace as tracing

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceMismatchError",
    "DeviceUnavailableError",
    "Function",
    "GradcheckError",
    "OutOfMemoryError",
    "Tensor",
    "TinynetError",
    "concat",
    "device",
    "functional",
    "get_num_threads",
    "gradcheck",
    "manual_seed",
    "memory_stats",
    "nn",
    "no_grad",
    "optim",
    "profile",
    "set_num_threads",
    "set_tf32",
    "tensor",
    "tracing",
]
