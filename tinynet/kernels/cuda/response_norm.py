"""Response normalisation: tinynet/kernels/local_response_norm.py and spatial_response_norm.py on a
GPU.
"""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last

_local, _spatial = Source("local_response_norm.cu"), Source("spatial_response_norm.cu")
SEGMENT = 32  # channels that one thread walks down. A guess; `python benchmarks/gpu.py` measures it


def local_response_norm_forward(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    """(N, C, ...) -> the same shape. `size` is compiled in."""
    x = batch_last(x)
    y = cupy.empty(x.shape, x.dtype)
    C, P = len(x), x[0].size
    constants: dict[str, Any] = dict(SIZE=size, SEGMENT=SEGMENT)
    _local.local_response_norm_forward(
        (P, -(-C // SEGMENT)), x, y, C, P, alpha / size, beta, k, **constants
    )
    return batch_first(y)


def local_response_norm_backward(
    dy: Any, x: Any, size: int, alpha: float, beta: float, k: float
) -> Any:
    """dy, x (N, C, ...) -> dx."""
    x, dy = batch_last(x), batch_last(dy)
    dx = cupy.empty(x.shape, x.dtype)
    C, P = len(x), x[0].size
    constants: dict[str, Any] = dict(SIZE=size, SEGMENT=SEGMENT)
    _local.local_response_norm_backward(
        (P, -(-C // SEGMENT)), dy, x, dx, C, P, alpha / size, beta, k, **constants
    )
    return batch_first(dx)


def spatial_response_norm_forward(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    """(N, C, H, W) -> the same shape."""
    N, C, H, W = x.shape
    x = batch_last(x)
    y = cupy.empty(x.shape, x.dtype)
    _spatial.spatial_response_norm_forward(
        (H * W * N, C), x, y, C, N, H, W, size, alpha / size**2, beta, k
    )
    return batch_first(y)


def spatial_response_norm_backward(
    dy: Any, x: Any, size: int, alpha: float, beta: float, k: float
) -> Any:
    """dy, x (N, C, H, W) -> dx."""
    N, C, H, W = x.shape
    x, dy = batch_last(x), batch_last(dy)
    dx, q = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, x.dtype)
    a = alpha / size**2
    _spatial.spatial_response_norm_terms((H * W * N, C), dy, x, dx, q, C, N, H, W, size, a, beta, k)
    _spatial.spatial_response_norm_gather((H * W * N, C), q, x, dx, C, N, H, W, size, a, beta)
    return batch_first(dx)
