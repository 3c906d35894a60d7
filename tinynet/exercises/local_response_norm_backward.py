"""Chapter 8: a denominator that neighbours share."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks


def local_response_norm_backward(dy, x, size, alpha, beta, k):
    """y_c = x_c s_c^-beta        s_c = k + alpha/size * sum of x_j^2 over the window of c

    The window of channel c is c - size//2 ... c + (size-1)//2, as far as there are channels. x_m
    acts on y_m, and through s_c on each y_c whose window holds m. With dy_c for dL/dy_c:
        dx_m = dy_m s_m^-beta
               - 2 alpha/size beta x_m * sum over these c of  dy_c x_c s_c^(-beta-1)
    dy, x (N, C, ...): each pixel by itself. size: a whole number; alpha, beta, k: numbers.
    Returns dx (N, C, ...).
    """
    C = x.shape[1]
    windows = [range(max(0, c - size // 2), min(C, c + (size - 1) // 2 + 1)) for c in range(C)]
    s = np.full_like(x, k)
    for c in range(C):
        for m in windows[c]:
            s[:, c] += alpha / size * x[:, m] ** 2
    dx = dy * s**-beta
    for c in range(C):
        q = dy[:, c] * x[:, c] * s[:, c] ** (-beta - 1)
        for m in windows[c]:
            dx[:, m] -= 2 * alpha / size * beta * x[:, m] * q
    return dx


def parts(dy, x, size, alpha, beta, k):
    """The two terms of dx: dx = direct - shared."""
    C, a = x.shape[1], alpha / size
    inside = np.zeros((C, C), x.dtype)  # inside[c, m]: whether the window of c holds m
    for c in range(C):
        inside[c, max(0, c - size // 2) : c + (size - 1) // 2 + 1] = 1
    s = k + a * np.einsum("cm,nm...->nc...", inside, x**2)
    return dy * s**-beta, s, inside, 2 * a * beta * x


def direct_alone(dy, x, size, alpha, beta, k):
    return parts(dy, x, size, alpha, beta, k)[0]


def wrong_sign(dy, x, size, alpha, beta, k):
    direct = parts(dy, x, size, alpha, beta, k)[0]
    return 2 * direct - local_response_norm_backward(dy, x, size, alpha, beta, k)


def without_the_2(dy, x, size, alpha, beta, k):
    direct = parts(dy, x, size, alpha, beta, k)[0]
    return (direct + local_response_norm_backward(dy, x, size, alpha, beta, k)) / 2


def own_channel_alone(dy, x, size, alpha, beta, k):
    direct, s, _, factor = parts(dy, x, size, alpha, beta, k)
    return direct - factor * dy * x * s ** (-beta - 1)


def not_mirrored(dy, x, size, alpha, beta, k):
    direct, s, inside, factor = parts(dy, x, size, alpha, beta, k)
    q = dy * x * s ** (-beta - 1)
    return direct - factor * np.einsum("mc,nc...->nm...", inside, q)


def one_power_less(dy, x, size, alpha, beta, k):
    direct, s, inside, factor = parts(dy, x, size, alpha, beta, k)
    return direct - factor * np.einsum("cm,nc...->nm...", inside, dy * x * s**-beta)


def x_of_the_wrong_channel(dy, x, size, alpha, beta, k):
    direct, s, inside, factor = parts(dy, x, size, alpha, beta, k)
    return direct - np.einsum("cm,nc...->nm...", inside, factor * dy * x * s ** (-beta - 1))


def alpha_not_divided(dy, x, size, alpha, beta, k):
    return local_response_norm_backward(dy, x, size, alpha * size, beta, k)


def example():
    # beta = 1 and dy = s^2, so that everything is whole
    x, dy = np.array([[2.0, 1, 0, 3]]), np.array([[36.0, 36, 121, 100]])
    return dy, x, 3, 3, 1, 1


def probes(rng):
    for shape, size, beta in [((2, 6, 2), 4, 0.75), ((1, 7, 2, 2), 5, 0.75), ((2, 3), 8, 1.3)]:
        yield rng.normal(size=shape), rng.normal(size=shape), size, 2.0, beta, 1.5


EXERCISE = Exercise(
    solution=local_response_norm_backward,
    chapter=8,
    question="What if neighbours share a denominator?",
    hint="First s for each channel. dx begins as dy * s^-beta. Then two loops: over the channels "
    "c, and over all m in the window of c: what does dy_c send to x_m through s_c?",
    ours="tinynet.kernels.local_response_norm_backward",
    results=("dx",),
    mistakes={
        direct_alone: "the second term is missing: x_m also acts through the s of its neighbours.",
        wrong_sign: "the second term has the wrong sign: a larger x_m makes the denominators "
        "larger, and so each y_c smaller.",
        without_the_2: "a factor 2 is missing in the second term: the derivative of x^2 is 2 x.",
        own_channel_alone: "you send the second term to the channel itself alone. All channels of "
        "the window share s_c.",
        not_mirrored: "for an even size the window is not symmetric. The sum for x_m runs over the "
        "c whose window holds m: m - (size-1)//2 ... m + size//2, the mirrored window.",
        one_power_less: "the power in the second term is -beta-1: the derivative of s^-beta is "
        "-beta s^(-beta-1).",
        x_of_the_wrong_channel: "the factor 2 alpha/size beta x belongs to x_m, which gets the "
        "gradient, not to x_c.",
        alpha_not_divided: "alpha is divided by size: s = k + alpha/size * sum.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("local_response_norm"),
    places=((kernels, "local_response_norm_backward"),),
)
