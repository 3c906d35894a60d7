"""From pictures as bytes to what the first layer sees: tinynet/kernels/pictures.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, batch_first

_cu = Source("pictures.cu")
RUN = 16  # pixels that one thread takes. A guess; `python benchmarks/gpu.py` measures it


def pictures_forward(
    pictures: Any,
    mean: Any,
    top: Any,
    left: Any,
    flip: Any,
    colour: Any,
    size: tuple[int, int],
    scale: float,
    border: int = 0,
) -> Any:
    """uint8 (N, H, W, C), mean (H', W', C), top, left, flip (N,), colour (N, C), size (h, w)
    -> float32 (N, C, h + border, w + border).
    """
    (N, H, W, C), (h, w) = pictures.shape, size
    out = cupy.empty((C, h + border, w + border, N), "float32")
    pictures, mean, top, left, flip, noise = (
        cupy.ascontiguousarray(a)
        for a in (pictures, mean, top, left, flip, mean if colour is None else colour)
    )
    _cu.pictures_forward(
        (-(-(w + border) // RUN) * N, h + border), pictures, mean, top, left, flip, noise, out,
        N, H, W, *mean.shape[:2], C, h, w, border, scale, colour is not None, RUN=RUN,
    )  # fmt: skip
    return batch_first(out)
