"""BERT: a Transformer that learns to say what is hidden (2018).

    python examples/history/bert.py                                   on embedded Shakespeare
    python examples/history/bert.py --data FILE                       on your own text
    python examples/history/bert.py --predict RUN "my l_rd the k_ng"  what stood where _ stands
    python examples/history/bert.py --help

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of deep bidirectional transformers for language
understanding", 2018 (NAACL 2019), section 3 and appendix A.

The idea: to understand a word one needs what stands on both sides of it, but a net that sees the
next word cannot learn by guessing it. So hide some words and let the net say them from all the
others. A net that has learnt so reads well; a layer on top of it then learns a task from few
examples.
New was the hiding: 15 % of the words, of which 80 % are hidden, 10 % replaced by any word and 10 %
left as they are, so that no place can be trusted. Left out here: pairs of sentences (the second
task, and the segments), dropout; characters stand for words.
Look at Block.forward beside that of gpt.py: `causal=True` is gone, and that is all. Look at the
curve too: the loss stands near 3.1, that of characters by themselves, until attention has found the
neighbours of a hidden place. It takes some 400 batches; with a rate of 1e-3 it takes 800.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.data import Masked, Vocabulary
from tinynet.devices import Device
from tinynet.optim import AdamW, Optimizer
from tinynet.optim.lr_scheduler import Cosine, WarmUp
from tinynet.program import Program, Recipe, Text

START = nn.init.normal(0.06)  # 0.02 in the paper, but for 768 wide: less width, larger weights
HIDDEN = "_"


class Block(nn.Module):
    """x (N, T, D): each place looks at all, then two layers change it by itself. Each time the
    result is added to x, and the sum normalised.
    """

    def __init__(self, width: int, heads: int, device: Device):
        self.attention = nn.MultiHeadAttention(width, heads, weight_init=START, device=device)
        self.norm1 = nn.LayerNorm(width, device=device)
        self.widen = nn.Linear(width, 4 * width, weight_init=START, device=device)
        self.narrow = nn.Linear(4 * width, width, weight_init=START, device=device)
        self.norm2 = nn.LayerNorm(width, device=device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x))
        y: Tensor = self.norm2(x + self.narrow(F.gelu(self.widen(x))))
        return y


class BERT(nn.Module):
    """Tokens (N, T), T up to length -> logits (N, T, size + 1) of what stands there. The token
    `size` is the hidden one.

    The vector of a token is also what the last layer compares with: logits = head(x) E^T + b.
    """

    def __init__(self, size: int, length: int, width: int, heads: int, blocks: int, device: Device):
        self.tokens = nn.Embedding(size + 1, width, START, device)
        self.places = nn.Embedding(length, width, START, device)
        self.norm1 = nn.LayerNorm(width, device=device)
        self.blocks = [Block(width, heads, device) for _ in range(blocks)]
        self.head = nn.Linear(width, width, weight_init=START, device=device)
        self.norm2 = nn.LayerNorm(width, device=device)
        self.bias = nn.Parameter(np.zeros(size + 1, np.float32), device)

    def forward(self, tokens: np.ndarray) -> Tensor:
        x = self.norm1(self.tokens(tokens) + self.places(np.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        x = self.norm2(F.gelu(self.head(x)))
        return F.linear(x, self.tokens.weight, self.bias)


def speak(net: BERT, vocabulary: Vocabulary, text: str) -> str:
    """The text, with the likeliest character in the place of each hidden one."""
    length = len(net.places.weight)
    if HIDDEN not in text or len(text) > length:
        raise ValueError(
            f"expected at most {length} characters, {HIDDEN} for a hidden one, got {text!r}"
        )
    known = Vocabulary([*vocabulary.symbols, HIDDEN])
    tokens = known.encode(text, "the text")
    hidden = tokens == len(vocabulary)
    with tinynet.no_grad():
        likeliest = net(tokens[None])[0].numpy()[:, : len(vocabulary)].argmax(axis=1)
    return "".join(known.decode(np.where(hidden, likeliest, tokens)))


def adam(net: BERT, lr: float) -> Optimizer:
    """Appendix A.2: weight decay 0.01; on all weights but gains and biases, as in their program."""
    parameters = list(net.parameters())
    groups: list[dict[str, Any]] = [
        dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.01),
        dict(params=[p for p in parameters if p.ndim == 1], weight_decay=0.0),
    ]
    return AdamW(groups, lr)


# The paper's base: 12 blocks, 768 wide, 512 places, 110 million parameters, 4 days on 16 TPU chips.
SIZES = {"bert": (128, 4, 4), "bert-mini": (64, 4, 2)}  # width, heads, blocks
PROMPTS = (
    "What say you, my l_rd? Sh_ll we g_ to the k_ng, and te_l him so?",
    "Good m_rrow, gentle m_dam; the sun is up, __d all men wake",
)
RECIPE: dict[str, Any] = dict(
    data=Text(64, Masked, speak, PROMPTS),
    epochs=5, batch_size=32, lr=3e-3, optimizer=adam,
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 20),
)  # fmt: skip
PROGRAM = Program(
    "Trains a small BERT, tests it, lets it fill gaps.",
    {name: Recipe(f"small {name.upper()}", **RECIPE) for name in SIZES},
    lambda about, devices: BERT(
        len(about["vocabulary"]), about["length"], *SIZES[about["preset"]], devices[0]
    ),
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
