"""The squared error.

loss_i = (x_i - t_i)^2        dx_i = 2 dloss_i (x_i - t_i)        dt_i = -dx_i
"""

from __future__ import annotations

import numpy as np


def mse_loss_forward(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """x, target of one shape -> losses."""
    difference = x - target
    return difference * difference


def mse_loss_backward(
    dlosses: np.ndarray, x: np.ndarray, target: np.ndarray, needs: tuple[bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dlosses -> (dx, dtarget), None for each one that `needs` does not ask for."""
    dx = 2 * (x - target) * dlosses
    return dx if needs[0] else None, -dx if needs[1] else None
