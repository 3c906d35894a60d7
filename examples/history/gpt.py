"""GPT: a Transformer that learns to say what comes next (2018).

    python examples/history/gpt.py                         on embedded Shakespeare, in minutes
    python examples/history/gpt.py --data FILE             on your own text
    python examples/history/gpt.py --predict RUN "ROMEO:"  what it says after these words
    python examples/history/gpt.py --help

Radford, Narasimhan, Salimans, Sutskever, "Improving language understanding by generative
pre-training", OpenAI 2018, sections 3.1 and 4.1.

The idea: any text is its own teacher, since each next word is a target that nobody had to write
down. So take the decoder of the Transformer alone (Vaswani et al. 2017) and let every place guess
its next word from the words up to it. What the net had to know for that serves other tasks later.
New was the order: learn from much plain text first, then from few labelled examples of a task. Only
the first part is here, in small, and with characters in the place of words.
Look at `causal=True` in Block.forward: place t sees the places 0 to t, so all places of a text
learn at once. Then read the samples in the report, and compare them with those after one epoch.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.data import Vocabulary, Windows
from tinynet.devices import Device
from tinynet.optim import AdamW, Optimizer
from tinynet.optim.lr_scheduler import Cosine, WarmUp
from tinynet.program import Program, Recipe, Text

START = nn.init.normal(0.06)  # 0.02 in section 4.1, but for 768 wide: less width, larger weights


class Block(nn.Module):
    """x (N, T, D): each place looks at those before it, then two layers change it by itself. Each
    time the result is added to x, and the sum normalised.
    """

    def __init__(self, width: int, heads: int, device: Device):
        self.attention = nn.MultiHeadAttention(width, heads, weight_init=START, device=device)
        self.norm1 = nn.LayerNorm(width, device=device)
        self.widen = nn.Linear(width, 4 * width, weight_init=START, device=device)
        self.narrow = nn.Linear(4 * width, width, weight_init=START, device=device)
        self.norm2 = nn.LayerNorm(width, device=device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, causal=True))
        y: Tensor = self.norm2(x + self.narrow(F.gelu(self.widen(x))))
        return y


class GPT(nn.Module):
    """Tokens (N, T), T up to length -> logits (N, T, size) of the token after each.

    The vector of a token is also what the last layer compares with: logits = x E^T.
    """

    def __init__(self, size: int, length: int, width: int, heads: int, blocks: int, device: Device):
        self.tokens = nn.Embedding(size, width, START, device)
        self.places = nn.Embedding(length, width, START, device)
        self.blocks = [Block(width, heads, device) for _ in range(blocks)]

    def forward(self, tokens: np.ndarray) -> Tensor:
        x = self.tokens(tokens) + self.places(np.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(x, self.tokens.weight)


def speak(net: GPT, vocabulary: Vocabulary, text: str, count: int = 300) -> str:
    """The text and `count` characters more, each drawn from what the net says of it, always with
    the same luck.
    """
    rng = np.random.default_rng(0)
    tokens = list(vocabulary.encode(text, "the text"))
    if not tokens:
        raise ValueError("expected at least one character to go on from, got none")
    with tinynet.no_grad():
        for _ in range(count):
            seen = np.array([tokens[-len(net.places.weight) :]])
            likely = F.softmax(net(seen)[0, -1], dim=0).numpy().astype(np.float64)
            tokens.append(rng.choice(len(likely), p=likely / likely.sum()))
    return "".join(vocabulary.decode(tokens))


def adam(net: GPT, lr: float) -> Optimizer:
    """Section 4.1: weight decay 0.01 on all weights but gains and biases."""
    parameters = list(net.parameters())
    groups: list[dict[str, Any]] = [
        dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.01),
        dict(params=[p for p in parameters if p.ndim == 1], weight_decay=0.0),
    ]
    return AdamW(groups, lr)


# The paper: 12 blocks, 768 wide, 512 places, 117 million parameters, a month on 8 GPUs.
SIZES = {"gpt": (128, 4, 4), "gpt-mini": (64, 4, 2)}  # width, heads, blocks
RECIPE: dict[str, Any] = dict(
    data=Text(64, Windows, speak, ("ROMEO:\n", "The king")),
    epochs=5, batch_size=32, lr=3e-3, optimizer=adam,
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 20),
)  # fmt: skip
PROGRAM = Program(
    "Trains a small GPT, tests it, lets it speak.",
    {name: Recipe(f"small {name.upper()}", **RECIPE) for name in SIZES},
    lambda about, devices: GPT(
        len(about["vocabulary"]), about["length"], *SIZES[about["preset"]], devices[0]
    ),
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
