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


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x64-10 in Python's integers: four words of 64 bits from a counter and a key.

    Each of ten rounds multiplies two words to 128 bits each, and mixes the halves with the other
    two words and the key. Source: Salmon et al., SC 2011, table 2 and section 3.3.
    """
    (x0, x1, x2, x3), (k0, k1), word = counter, key, 2**64 - 1
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * x0, 0xCA5A826395121157 * x2
        x0, x1, x2, x3 = (p1 >> 64) ^ x1 ^ k0, p1 & word, (p0 >> 64) ^ x3 ^ k1, p0 & word
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & word, (k1 + 0xBB67AE8584CAA73B) & word
    return x0, x1, x2, x3


def dropout_mask_definition(shape: tuple[int, ...], p: float, seed: int, call: int) -> np.ndarray:
    """The rule at the top, one element at a time: element e, counted with the batch innermost,
    takes lane e % 4 of word e // 4 of the stream.
    """
    mask = np.zeros(shape[1:] + shape[:1], bool)
    for e, index in enumerate(np.ndindex(mask.shape)):
        block, lane = divmod(e, 16)  # of four words, of four lanes each
        if lane == 0:
            words = philox((block + 1, 0, 0, 0), (seed, call))
        mask[index] = words[lane // 4] >> 16 * (lane % 4) & 0xFFFF >= round(p * 65536)
    return np.moveaxis(mask, -1, 0) if shape else mask


def dropout_mask(shape: tuple[int, ...], p: float, seed: int, call: int) -> np.ndarray:
    """Which elements are kept: bool of that shape, batch innermost in memory."""
    count = int(np.prod(shape))
    words = np.random.Philox(key=np.array([seed, call], np.uint64)).random_raw(-(-count // 4))
    lanes = np.asarray(words, "<u8").view("<u2")[:count]
    mask = lanes >= round(p * 65536)
    return batch_first(mask.reshape(shape[1:] + shape[:1]))


def dropout_scale(p: float, inverted: bool) -> float:
    """What a kept element is multiplied by in training; with p = 1 none is kept."""
    return 1 / (1 - p) if inverted and p < 1 else 1.0


def dropout_forward(
    x: np.ndarray,
    p: float,
    seed: int,
    call: int,
    inverted: bool = True,
    rows: slice | None = None,
    total: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Any shape -> y and the mask. rows: x is these rows of a batch of `total`, so is the mask."""
    if rows is None:
        mask = dropout_mask(x.shape, p, seed, call)
    else:
        mask = dropout_mask((total, *x.shape[1:]), p, seed, call)[rows]
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
