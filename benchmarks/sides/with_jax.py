"""JAX's side: one function, compiled by jit, that takes weights and velocities and gives them back
(donated).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sides import (
    CONFIGS,
    DROPOUT,
    GROUPS,
    LEARNING_RATE,
    LRN,
    MOMENTUM,
    NORMALISED,
    POOLED,
    WEIGHT_DECAY,
    random_batch,
    random_weights,
)

Weights = dict[str, jax.Array]


def local_response_norm(x: jax.Array) -> jax.Array:
    """Over each tower's own channels: (N, C, H, W) as (2 N, C/2, H, W)."""
    size, alpha, beta, k = LRN.values()
    N, C, H, W = x.shape
    towers = x.reshape(2 * N, C // 2, H, W)
    edges = ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0))
    sums = lax.reduce_window(towers**2, 0.0, lax.add, (1, size, 1, 1), (1, 1, 1, 1), edges)
    return (towers * (k + alpha / size * sums) ** -beta).reshape(N, C, H, W)


def max_pool(x: jax.Array) -> jax.Array:
    """3x3 with stride 2; a last window may hang over the edge."""
    edges = ((0, 0), (0, 0), *((0, (n - 3) % 2) for n in x.shape[2:]))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), edges)


def logits(
    weights: Weights, x: jax.Array, preset: str, lrn: bool, key: jax.Array | None
) -> jax.Array:
    """key: of the dropout masks; None: no dropout."""
    config = CONFIGS[preset]
    x = jnp.pad(x, ((0, 0), (0, 0), (0, config.extra), (0, config.extra)))
    for i, groups in enumerate(GROUPS, start=1):
        stride, padding = config.conv1 if i == 1 else (1, config.sides[i - 1] // 2)
        x = lax.conv_general_dilated(
            x,
            weights[f"conv{i}.weight"],
            (stride, stride),
            [(padding, padding)] * 2,
            feature_group_count=groups,
        )
        x = jax.nn.relu(x + weights[f"conv{i}.bias"][:, None, None])
        if i in NORMALISED and lrn:
            x = local_response_norm(x)
        if i in POOLED:
            x = max_pool(x)
    x = x.reshape(len(x), -1)
    for i, name in enumerate(("fc6", "fc7")):
        x = jax.nn.relu(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
        if key is not None:
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - DROPOUT, x.shape)
            x = jnp.where(kept, x / (1 - DROPOUT), 0)
    return x @ weights["fc8.weight"].T + weights["fc8.bias"]


def loss(
    weights: Weights, x: jax.Array, labels: jax.Array, preset: str, lrn: bool, key: jax.Array | None
) -> jax.Array:
    y = jax.nn.log_softmax(logits(weights, x, preset, lrn, key))
    return -jnp.take_along_axis(y, labels[:, None], axis=1).mean()


@partial(jax.jit, static_argnums=(5, 6), donate_argnums=(0, 1))
def update(
    weights: Weights,
    velocity: Weights,
    x: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    preset: str,
    lrn: bool,
) -> tuple[Weights, Weights]:
    grads = jax.grad(loss)(weights, x, labels, preset, lrn, key)
    velocity = jax.tree.map(
        lambda v, g, w: MOMENTUM * v - LEARNING_RATE * (g + WEIGHT_DECAY * w),
        velocity,
        grads,
        weights,
    )
    return jax.tree.map(jnp.add, weights, velocity), velocity


class Net:
    def __init__(self, preset: str, lrn: bool):
        self.options = preset, lrn
        self.weights = jax.tree.map(jnp.asarray, random_weights(preset))
        self.velocity = jax.tree.map(jnp.zeros_like, self.weights)
        self.steps = 0

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Without dropout, in the precision of x: "logits", and the gradient of each parameter."""
        jax.config.update("jax_enable_x64", x.dtype == np.float64)
        weights = {name: value.astype(x.dtype) for name, value in self.weights.items()}
        grads = jax.grad(loss)(weights, x, labels, *self.options, None)
        found = {"logits": logits(weights, x, *self.options, None)} | grads
        return {name: np.asarray(value) for name, value in found.items()}

    def train_step(self, x: jax.Array, labels: jax.Array) -> None:
        self.steps += 1
        key = jax.random.key(self.steps)
        self.weights, self.velocity = update(
            self.weights, self.velocity, x, labels, key, *self.options
        )
        jax.block_until_ready(self.weights)


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    if task != "train":
        raise ValueError(f"JAX's side: expected the task 'train', got {task!r}")
    net = Net(preset, lrn)
    x, labels = map(jnp.asarray, random_batch(preset, batch))
    return lambda: net.train_step(x, labels)


def about() -> str:
    return f"JAX {jax.__version__} (jit), XLA's own threads"
