"""Cases of every operation: for `python -m tinynet.gradcheck` and for the test suite.

The tests check gradients on them, compare CUDA with the CPU, and make wrong calls from them. The
files go by kind, as those of tinynet.functional. Inputs are chosen so that nothing cancels and no
term is too small to be seen: alpha = 1 in the response norms, windows that overlap, hang over the
edge and exceed the channels, sizes that do not tile, values kept apart where a maximum is taken (at
equal values there is no derivative), memory in other orders than C.
"""

from tinynet.gradcheck.cases import (
    activation,
    affine,
    arithmetic,
    attention,
    comparisons,
    convolution,
    elementwise,
    losses,
    network,
    normalization,
    pooling,
    regularization,
    shape,
)
from tinynet.gradcheck.cases.table import CASES, has_gradient

__all__ = ["CASES", "has_gradient"]
