"""Dropout, the inverted form: what is kept is scaled up in training, so nothing is scaled in use.

    y = x * m / (1 - p)        m = 1 with probability 1 - p, else 0
    dx = dy * m / (1 - p)      with the same m

The mask is a function of (seed, call) alone: 16-bit lanes of the Philox4x64-10 stream with that
key, one lane an element (lowest lane of a 64-bit word first), kept where the lane is at least p *
65536. Elements are numbered as they lie in memory by our convention, batch innermost, whatever the
layout of x: so every device draws the same mask.

Source: Hinton et al., arXiv 1207.0580; Krizhevsky et al. 2012, section 4.2 (there the outputs are
halved at test instead).
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.layout import along_memory, batch_first


def dropout_mask(shape: tuple[int, ...], p: float, seed: int, call: int) -> np.ndarray:
    """Which elements are kept: bool of that shape, batch innermost in memory."""
    count = int(np.prod(shape))
    words = np.random.Philox(key=np.array([seed, call], np.uint64)).random_raw(-(-count // 4))
    lanes = words.astype("<u8", copy=False).view("<u2")[:count]
    mask = lanes >= round(p * 65536)
    return batch_first(mask.reshape(shape[1:] + shape[:1]))


def dropout_forward(x: np.ndarray, p: float, seed: int, call: int) -> tuple[np.ndarray, np.ndarray]:
    """Any shape -> y and the mask."""
    mask = dropout_mask(x.shape, p, seed, call)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy: np.ndarray, mask: np.ndarray, p: float) -> np.ndarray:
    """dy * mask / (1 - p): forward and backward are the same linear map."""
    scale = dy.dtype.type(1 / (1 - p) if p < 1 else 0)

    def piece(dy: np.ndarray, mask: np.ndarray, dx: np.ndarray) -> None:
        np.multiply(dy, mask, out=dx)
        dx *= scale

    return along_memory(piece, dy, mask)
