"""A mean of a row of numbers in which newer ones weigh more: what several rules keep.

    m <- m + a (x - m)        = x - (1 - a) (x - m)

The first form adds a small correction to m, and errs by the rounding of m. With `a` near 1 almost
nothing of m stays, and that error may be all that is left of a small x. So the second form is taken
for `a` above a half: it is exact for a = 1.
"""

from __future__ import annotations

import numpy as np


def move(mean: np.ndarray, x: np.ndarray, a: float, work: np.ndarray) -> None:
    """m and x of one shape; m in place. `work` is one more such array."""
    np.subtract(x, mean, out=work)
    if a <= 0.5:
        work *= a
        mean += work
    else:
        work *= 1 - a
        np.subtract(x, work, out=mean)
