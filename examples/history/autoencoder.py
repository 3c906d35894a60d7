"""The autoencoder: a net that must say everything through a narrow gap (2006).

    python examples/history/autoencoder.py                      each picture as two numbers
    python examples/history/autoencoder.py --preset denoising   it sees noise, and must take it away
    python examples/history/autoencoder.py --predict RUN FILE   the code of a picture, and its error
    python examples/history/autoencoder.py --help

Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 313
(2006); Vincent, Larochelle, Bengio, Manzagol, "Extracting and composing robust features with
denoising autoencoders", ICML 2008.

The idea: let a net give back what it saw, but through a layer of few units. What passes this layer
is a code, and nobody had to name the pictures. With linear layers the best code is that of PCA
(principal components); layers with a nonlinearity between them can follow a bent sheet.
New in 2006 was to train seven layers so: one by one at first, which ELU and Adam make needless. In
2008: add noise to what the net sees, not to what it shall say, so copying is no longer enough.
Look at codes.png: classes that the net was never told lie apart. Look at pictures.png: what it saw,
what came back, and what the best linear map makes of a code of the same size: without noise, PCA.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.optim import Adam
from tinynet.optim.lr_scheduler import Cosine
from tinynet.program import Program, Recipe, Unlabelled
from tinynet.training.drawings import picture_rows, points_picture


class Autoencoder(nn.Module):
    """Pictures (N, C, S, S) with values 0 to 1 -> codes (N, code) -> pictures."""

    def __init__(self, shape: tuple[int, int, int], code: int, noise: float, device: Device):
        self.shape, self.noise = shape, noise
        sizes = [int(np.prod(shape)), 256, 64, code]
        self.down = layers(sizes, device)
        self.up = layers(sizes[::-1], device)

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.down(x.flatten(1))
        return code

    def decode(self, code: Tensor) -> Tensor:
        return F.sigmoid(self.up(code)).reshape(-1, *self.shape)

    def spoil(self, x: Tensor) -> Tensor:
        """A share `noise` of the pixels set to 0, as in 2008."""
        return x * (tinynet.rand(*x.shape, device=x.device) >= self.noise).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


def layers(sizes: list[int], device: Device) -> nn.Sequential:
    """Linear maps, an ELU between each two."""
    found: list[nn.Module] = []
    for n, m in zip(sizes, sizes[1:], strict=False):
        found += [nn.Linear(n, m, device=device), nn.ELU()]
    return nn.Sequential(*found[:-1])


def loss(net: Autoencoder, x: Tensor) -> dict[str, Tensor]:
    """The squared error of a picture, summed over its pixels; in tests of a whole picture, too."""
    y = net(net.spoil(x) if net.noise else x)
    return {"loss": F.mse_loss(y, x, "sum") / len(x)}


def linear(x: np.ndarray, seen: np.ndarray, noise: float, size: int) -> np.ndarray:
    """What the best linear map through `size` numbers makes of `seen`: reduced-rank regression
    (Izenman 1975), without noise PCA. It is fitted on these very pictures x with all ways to hide
    pixels, which helps it: two pixels are both left with a chance of (1 - noise)^2.
    """
    flat, keep = x.reshape(len(x), -1).astype(np.float64), 1 - noise
    mean, second = flat.mean(axis=0), (flat**2).mean(axis=0)
    both = keep * (flat - mean).T @ flat / len(x)  # covariance of seen and whole pictures
    spread = keep * both + np.diag(keep * noise * second + 1e-6)  # of seen ones; never singular
    best = np.linalg.solve(spread, both)
    axes = np.linalg.eigh(both @ best)[1][:, -size:]
    y = (seen.reshape(flat.shape) - keep * mean) @ best @ axes @ axes.T + mean
    return np.asarray(y, np.float32).reshape(x.shape)


def show(net: Autoencoder, x: Tensor, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    seen = net.spoil(x) if net.noise else x
    codes = net.encode(seen)
    y = net.decode(codes).numpy()
    other = linear(x.numpy(), seen.numpy(), net.noise, codes.shape[1])
    few = [np.flatnonzero(labels == k)[:2] for k in range(min(8, len(classes)))]
    rows = np.concatenate(few)
    errors = [((each - x.numpy()) ** 2).sum() / len(x) for each in (y, other)]
    shown = [each[rows] for each in (seen.numpy(), y, other)]
    pictures = {
        "pictures: seen, given back, given back by the best linear map": picture_rows(shown)
    }
    if codes.shape[1] == 2:
        title = f"codes of {len(x):,} test pictures"
        pictures[title] = points_picture(codes.numpy(), labels, classes)
    told = f"autoencoder {errors[0]:.2f}, best linear map of the same size {errors[1]:.2f}"
    return {"texts": {"squared error of a picture": told}, "pictures": pictures}


def say(net: Autoencoder, x: Tensor) -> str:
    code = ", ".join(f"{number:.2f}" for number in net.encode(x).numpy()[0])
    return f"code {code}; squared error {F.mse_loss(net(x), x, 'sum').item():.2f}"


SIZES = {"codes": (2, 0.0), "denoising": (32, 0.5)}  # numbers of a code, share of pixels hidden
PROGRAM = Program(
    "Trains an autoencoder, tests it, uses it.",
    {
        name: Recipe(
            f"autoencoder, {name},", Unlabelled(loss=loss, show=show, say=say),
            epochs=15, batch_size=64, lr=1e-3,
            optimizer=lambda net, lr: Adam(net.parameters(), lr),
            schedule=lambda optimizer, epochs: Cosine(optimizer, epochs),
        )
        for name in SIZES
    },
    lambda about, devices: Autoencoder(
        (about["in_channels"], about["image_size"], about["image_size"]),
        *SIZES[about["preset"]], devices[0],
    ),
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
