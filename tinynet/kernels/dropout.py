"""Dropout in training, in two forms.

    inverted:          y = x * m / (1 - p)    dx = dy * m / (1 - p)    in use y = x
    the form of 2012:  y = x * m              dx = dy * m              in use y = x * (1 - p)

m = 1 with probability 1 - p, else 0, and the same in forward and backward. Both forms have the same
mean of y in training as in use. They do not train alike: for the same net in use, the weights that
follow an inverted dropout are (1 - p) times those of the other form, and their gradients are
1 / (1 - p) times as large. So with the same rate they learn 1 / (1 - p)^2 times as fast.

The mask is a function of (seed, call) alone: 16-bit lanes of the Philox4x64-10 stream with that
key, one lane an element (lowest lane of a 64-bit word first), kept where the lane is at least p *
65536. Elements are numbered as they lie in memory by our convention, batch innermost, whatever the
layout of x: so every device draws the same mask.

Source: Hinton et al., arXiv 1207.0580; Krizhevsky et al. 2012, section 4.2 (p = 0.5: in use the
outputs are halved).
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


def dropout_scale(p: float, inverted: bool) -> float:
    """What a kept element is multiplied by in training; with p = 1 none is kept."""
    return 1 / (1 - p) if inverted and p < 1 else 1.0


def dropout_forward(
    x: np.ndarray, p: float, seed: int, call: int, inverted: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Any shape -> y and the mask."""
    mask = dropout_mask(x.shape, p, seed, call)
    return dropout_backward(x, mask, p, inverted), mask


def dropout_backward(
    dy: np.ndarray, mask: np.ndarray, p: float, inverted: bool = True
) -> np.ndarray:
    """dy * mask * scale: forward and backward are the same linear map."""
    scale = dy.dtype.type(dropout_scale(p, inverted))

    def piece(dy: np.ndarray, mask: np.ndarray, dx: np.ndarray) -> None:
        np.multiply(dy, mask, out=dx)
        dx *= scale

    return along_memory(piece, dy, mask)
