"""The Gaussian error linear unit.

    y = x Phi(x)        Phi(x) = P(a normal number < x) = 1/2 (1 + erf(x / sqrt 2))

Phi' is the normal density phi(x) = exp(-x^2 / 2) / sqrt(2 pi), so by the product rule

    dx = dy (Phi(x) + x phi(x))

NumPy has no erf. With z = |x| / sqrt 2, Phi(-|x|) = 1/2 erfc(z), and

    erfc(z) = exp(-z^2) / (1 + 2 z) * f(t),        t = (z - 3.75) / (z + 3.75)

where f is smooth for all t from -1 to 1, that is z from 0 to infinity: a polynomial of degree 23
gives it to the last bits of float64, one of degree 11 to those of float32. For x > 0, Phi(x) = 1 -
Phi(-x), which loses nothing since Phi(x) >= 1/2.

The other form replaces Phi by a tanh that comes within 0.0005 of it; some networks were trained so:

    y = x/2 (1 + T)        T = tanh(u), u = c (x + a x^3), c = sqrt(2 / pi), a = 0.044715
    dx = dy (1/2 (1 + T) + x/2 (1 - T^2) u')        u' = c (1 + 3 a x^2)

Sources: Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2; Shepherd and Laframboise,
"Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x < infinity", Mathematics of
Computation 36 (1981) 249.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial.chebyshev import cheb2poly

from tinynet.kernels.layout import along_memory

# f(t) = sum over n of SERIES[n] T_n(t), T_n the Chebyshev polynomials.
SERIES = [
    1.1775789345674018, -4.5900545806464773e-3, -8.4249133366517916e-2,
    5.9209939998191890e-2, -2.6658668435305752e-2, 9.0749976707052651e-3,
    -2.4131635404176082e-3, 4.9077583652580863e-4, -6.9169733025012064e-5,
    4.1390279860730102e-6, 7.7403830661984907e-7, -2.1886401049234396e-7,
    1.0764999465670910e-8, 4.5219598112182869e-9, -7.7544002088313511e-10,
    -6.3180883408866845e-11, 2.8687950109306699e-11, 1.9455868545777347e-13,
    -9.6546967484334389e-13, 3.2525481481487398e-14, 3.3478119482868054e-14,
    -1.8645628804193131e-15, -1.2507950530688647e-15, 7.4182352566240435e-17,
]  # fmt: skip
POWERS = {"f": cheb2poly(SERIES[:12]).tolist(), "d": cheb2poly(SERIES).tolist()}
C, A = (2 / np.pi) ** 0.5, 0.044715


def gelu_definition(x: np.ndarray) -> np.ndarray:
    """The first formula at the top, one output at a time, with the erf of Python's library."""
    y = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        y[i] = x[i] * (1 + math.erf(x[i] / math.sqrt(2))) / 2
    return y


def gelu_forward(x: np.ndarray) -> np.ndarray:
    """Any shape."""
    return along_memory(lambda x, y: np.multiply(x, normal_distribution(x)[0], out=y), x)


def gelu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dy, x of one shape -> dx."""

    def piece(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        distribution, density = normal_distribution(x)
        density *= x
        density += distribution
        np.multiply(dy, density, out=dx)

    return along_memory(piece, x, dy)


def normal_distribution(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Phi(x) and phi(x). Complex x too, where both are analytic: gradcheck steps along i."""
    sign = np.copysign(x.real.dtype.type(1), x.real)  # not numpy.where, which is 30 times slower
    z = x * sign
    z *= 0.5**0.5
    t = -7.5 / (z + 3.75)
    t += 1  # (z - 3.75) / (z + 3.75), at infinity too
    powers = POWERS[x.real.dtype.char]
    tail = powers[-1] * t
    for power in powers[-2:0:-1]:  # Horner's rule
        tail += power
        tail *= t
    tail += powers[0]
    density = x * x
    density *= -0.5
    np.exp(density, out=density)
    tail *= density
    z *= 4
    z += 2
    tail /= z
    density *= (2 * np.pi) ** -0.5
    tail *= sign
    sign += 1  # Phi = tail below 0, 1 - tail above
    sign /= 2
    return sign - tail, density


def gelu_tanh_forward(x: np.ndarray) -> np.ndarray:
    """Any shape."""

    def piece(x: np.ndarray, y: np.ndarray) -> None:
        np.multiply(x, _tanh(x)[0], out=y)
        y += x
        y /= 2

    return along_memory(piece, x)


def gelu_tanh_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dy, x of one shape -> dx."""

    def piece(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        T, slope = _tanh(x)
        slope *= 3 * A * C
        slope += C  # u'
        slope *= x
        slope *= 1 - T * T
        slope += T
        slope += 1
        slope *= dy
        np.divide(slope, 2, out=dx)

    return along_memory(piece, x, dy)


def _tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T and x^2."""
    square = x * x
    u = A * square
    u += 1
    u *= x
    u *= C
    return np.tanh(u, out=u), square
