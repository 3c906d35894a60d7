"""The way of SGD with momentum down a long valley, by the rule of 2012."""

from __future__ import annotations

import numpy as np
from making.picture import Frame, Picture, way
from making.widgets.widget import Slider, Widget

from tinynet.kernels.steps.sgd import sgd_step

CURVES = np.array([1.0, 20.0])  # f(w) = (1 w0^2 + 20 w1^2) / 2: its valley lies along w0
START = np.array([7.0, 1.0])
STEPS = 25
RATES = (0.01, 0.03, 0.06, 0.09, 0.11)
MOMENTA = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95)
SCALE = np.array([40.0, -80.0])  # pixels for 1
CENTRE = np.array([310.0, 130.0])


def path(lr: float, momentum: float) -> np.ndarray:
    """(STEPS + 1, 2): the weights before the first step and after each, by tinynet's kernel."""
    w, velocity = START.copy(), np.zeros(2)
    points = [w.copy()]
    for _ in range(STEPS):
        sgd_step(w, CURVES * w, velocity, lr, momentum, 0.0)
        points.append(w.copy())
    return np.array(points)


def loss(w: np.ndarray) -> float:
    return float((CURVES * w**2).sum() / 2)


def make() -> Widget:
    picture = Picture(620, 260, "the way of SGD with momentum down a valley")
    turn = np.linspace(0, 2 * np.pi, 49)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    for level in (0.5, 3.0, 8.0, 16.0, 26.0):
        picture.path(_places(circle * np.sqrt(2 * level / CURVES)))
    picture.path([], "w0", name="way")
    picture.text(*_places(START[None])[0], "start", "faint")
    picture.text(CENTRE[0], CENTRE[1] + 4, "+", "strong")
    frames = []
    for rate in RATES:
        for m in MOMENTA:
            points = path(rate, m)
            end = loss(points[-1])
            frame = Frame(
                f"lr {rate:g}, momentum {m:g}: after {STEPS} steps the loss is {end:.3g}; it began "
                f"at {loss(START):g}.{_remark(points)}",
                path={"way": way(_places(points))},
            )
            frames.append(frame)
    sliders = [
        Slider("learning rate", [f"{rate:g}" for rate in RATES]),
        Slider("momentum", [f"{m:g}" for m in MOMENTA]),
    ]
    return Widget(picture, frames, sliders)


def _remark(points: np.ndarray) -> str:
    if loss(points[-1]) > loss(START):
        return " It diverges: the steps across the valley grow."
    flips = int((np.diff(np.sign(points[:, 1])) != 0).sum())
    return f" It crossed the valley's floor {flips} times." if flips > 1 else ""


def _places(points: np.ndarray) -> list[tuple[float, float]]:
    """Pixels, kept near the picture: a way that diverges soon leaves it."""
    return [(float(x), float(y)) for x, y in CENTRE + np.clip(points * SCALE, -2000, 2000)]
