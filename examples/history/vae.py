"""The variational autoencoder: codes from which new pictures can be drawn (2013).

    python examples/history/vae.py                       on embedded pictures, in minutes
    python examples/history/vae.py --data PATH           on your own
    python examples/history/vae.py --predict RUN FILE    how likely a picture is, at least
    python examples/history/vae.py --help

Kingma and Welling, "Auto-encoding variational Bayes", 2013 (ICLR 2014), sections 2.3, 2.4 and
appendices B and C.

The idea: say that a picture x was made from a code z drawn from N(0, 1). The encoder answers not
with one code but with a cloud, N(m, s^2); a code drawn from it must give the picture back, and the
cloud must stay near N(0, 1). Both together are a lower bound of log p(x), the ELBO.
New was how the gradient passes the draw: z = m + s e with e from N(0, 1) is a smooth function of m
and s, and the luck e is an input like any other.
Look at `VAE.draw`, one line, and at walk.png: between two pictures lie others, clothes too.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn, tensor
from tinynet.devices import Device
from tinynet.optim import Adam
from tinynet.optim.lr_scheduler import Cosine
from tinynet.program import Program, Recipe, Unlabelled
from tinynet.training.drawings import picture_rows
from tinynet.training.measure import Measure

CODE = 20  # numbers of a code


class VAE(nn.Module):
    """Pictures (N, C, S, S) with values 0 to 1 -> logits of the pixels, of a code that is drawn."""

    def __init__(self, shape: tuple[int, int, int], hidden: int, code: int, device: Device):
        self.shape, self.code, pixels = shape, code, int(np.prod(shape))
        self.see = nn.Linear(pixels, hidden, relu=True, device=device)
        self.mean = nn.Linear(hidden, code, weight_init=nn.init.xavier(), device=device)
        self.log_variance = nn.Linear(hidden, code, weight_init=nn.init.xavier(), device=device)
        self.widen = nn.Linear(code, hidden, relu=True, device=device)
        self.paint = nn.Linear(hidden, pixels, weight_init=nn.init.xavier(), device=device)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """m and log s^2, each (N, code)."""
        seen = self.see(x.flatten(1))
        return self.mean(seen), self.log_variance(seen)

    def draw(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """z = m + s e: the gradient reaches m and s, and no one asks for that of luck."""
        return mean + (log_variance / 2).exp() * tinynet.randn(*mean.shape, device=mean.device)

    def decode(self, z: Tensor) -> Tensor:
        logits: Tensor = self.paint(self.widen(z)).reshape(-1, *self.shape)
        return logits

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        return self.decode(self.draw(mean, log_variance)), mean, log_variance


def bound(net: VAE, x: Tensor) -> dict[str, Tensor]:
    """-ELBO of a picture, in nats: -log p(x | z), each pixel the chance of white, plus the distance
    KL(N(m, s^2) || N(0, 1)) = 1/2 the sum of m^2 + s^2 - log s^2 - 1 (appendix B).
    """
    logits, mean, log_variance = net(x)
    painted = F.bce_with_logits(logits, x, "sum") / len(x)
    far = (mean * mean + log_variance.exp() - log_variance - 1).sum() / (2 * len(x))
    return {"loss": painted + far, "painted": painted, "far": far}


def show(net: VAE, x: Tensor, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Samples; pictures and what comes back; a walk from one picture's code to another's."""
    z = tinynet.randn(64, net.code, device=x.device)
    samples = F.sigmoid(net.decode(z)).numpy()
    mean, _ = net.encode(x[:16])
    back = F.sigmoid(net.decode(mean)).numpy()
    steps = np.linspace(0, 1, 12, dtype=np.float32)[:, None]
    walks = []
    for start, end in mean.numpy()[: len(x) // 2 * 2].reshape(-1, 2, net.code)[:4]:
        path = (1 - steps) * start + steps * end
        walks.append(F.sigmoid(net.decode(tensor(path, device=x.device))).numpy())
    return {
        "pictures": {
            "samples of codes drawn from N(0, 1)": picture_rows(np.split(samples, 4)),
            "pictures, and what comes back": picture_rows([x[:16].numpy(), back]),
            "walk from the code of one picture to that of another": picture_rows(walks),
        }
    }


def say(net: VAE, x: Tensor) -> str:
    return f"log p at least {-bound(net, x)['loss'].item():.1f} nats"


RECIPE = Recipe(
    "VAE", Unlabelled(
        loss=bound, show=show, say=say, make=lambda net, z: F.sigmoid(net.decode(z)), codes=CODE,
        measures={"painted": Measure("-log p(x|z)", "nats"), "far": Measure("KL", "nats")},
    ),
    epochs=20, batch_size=64, lr=1e-3,
    optimizer=lambda net, lr: Adam(net.parameters(), lr),
    schedule=lambda optimizer, epochs: Cosine(optimizer, epochs),
)  # fmt: skip
PROGRAM = Program(
    "Trains a variational autoencoder, tests it, uses it.",
    {"vae": RECIPE},
    lambda about, devices: VAE(
        (about["in_channels"], about["image_size"], about["image_size"]), 400, CODE, devices[0]
    ),
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
