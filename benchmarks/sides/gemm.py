"""The floor: the matrix products of a training step alone, by NumPy's matmul with as many threads
as BLAS likes.

Nothing else of the step is here: no columns are built, nothing is added up or activated. A
convolution that needs fewer multiplications than its matrix product (Winograd) can go below this
floor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_info

from sides import CONFIGS, GROUPS, weight_shapes


def products(preset: str, batch: int) -> list[tuple[int, int, int, int]]:
    """(O, K, P, how many times) of each layer: W (O, K) @ col (K, P), tower by tower."""
    shapes, outputs = weight_shapes(preset), CONFIGS[preset].outputs
    layers = [
        (O // 2, C * kh * kw, outputs[i] ** 2 * batch, 2)
        for i, (O, C, kh, kw) in enumerate(shapes[f"conv{i + 1}"] for i in range(len(GROUPS)))
    ]
    layers += [(O // 2, I, batch, 2) for O, I in (shapes["fc6"], shapes["fc7"])]
    return layers + [(*shapes["fc8"], batch, 1)]


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    if task != "train":
        raise ValueError(f"GEMM alone: expected the task 'train', got {task!r}")
    noise = np.random.default_rng(0).standard_normal(1 << 20, np.float32)
    arrays = []
    for O, K, P, times in products(preset, batch):
        w, col, dy = (np.resize(noise, shape) for shape in ((O, K), (K, P), (O, P)))
        arrays.append((w, col, dy, np.empty_like(w), np.empty_like(col), np.empty_like(dy), times))

    def step() -> None:
        for layer, (w, col, dy, dw, dcol, y, times) in enumerate(arrays):
            for _ in range(times):
                np.matmul(w, col, out=y)  # (O, K) @ (K, P) -> (O, P)
                np.matmul(dy, col.T, out=dw)  # (O, P) @ (P, K) -> (O, K)
                if layer > 0:  # conv1's input, the picture, needs no gradient
                    np.matmul(w.T, dy, out=dcol)  # (K, O) @ (O, P) -> (K, P)

    return step


def about() -> str:
    blas = next(library for library in threadpool_info() if library["user_api"] == "blas")
    library, threads = f"{blas['internal_api']} {blas['version']}", blas["num_threads"]
    return f"NumPy {np.__version__}, {library}, {threads} threads"
