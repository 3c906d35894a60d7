"""The Transformer: translation by attention alone (2017).

    python examples/history/transformer.py                       German number words into English
    python examples/history/transformer.py --data FILE           on sentences of your own
    python examples/history/transformer.py --predict RUN 345678  translate one number

Vaswani et al., "Attention is all you need", NIPS 2017, sections 3 and 5.

The idea: every word looks at all others at once and takes a mean of what they hold, weighted by how
well its query fits their keys. An encoder reads the sentence so. A decoder looks at the encoder's
result and at what it has said itself, and says the next word. New was to leave out recurrence and
convolution; attention between recurrent nets was known. Look at `Layer.forward`, and at
attention.png: German says units before tens, so dark squares cross. No dropout, label smoothing.
"""

from __future__ import annotations

import math
import sys

import numpy as np

import tinynet.functional as F
from tinynet import Tensor, nn, no_grad, tensor
from tinynet.data.text import BEGIN, END, PAD, Words
from tinynet.devices import Device
from tinynet.optim import Adam
from tinynet.optim.lr_scheduler import Cosine, WarmUp
from tinynet.program import Program, Recipe, Translations

START = nn.init.xavier()
GERMAN = """null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn
fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig
neunzig hundert tausend""".split()
ENGLISH = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
hundred thousand""".split()


def spell(n: int, names: Words) -> Words:
    """The parts of a number's word, 0 to 999,999."""
    for unit, name in ((1000, names[-1]), (100, names[-2])):
        if n >= unit:
            return [*spell(n // unit, names), name, *(spell(n % unit, names) if n % unit else [])]
    if n < 20 or n % 10 == 0:
        return [names[n if n < 20 else 18 + n // 10]]
    one, ten = names[n % 10], names[18 + n // 10]
    return [one, "und", ten] if names is GERMAN else [ten, one]


def german(text: str) -> Words:
    if not text.isdecimal():  # words already
        return text.split()
    if int(text) >= 1_000_000:
        raise ValueError(f"expected a number below 1,000,000, got {text}")
    *before, last = spell(int(text), GERMAN)
    return [*before, "eins" if last == "ein" else last]


def pairs() -> tuple[list[tuple[Words, Words]], list[tuple[Words, Words]]]:
    """20,000 of the numbers below a million to train on, 5,000 others to test on."""
    numbers = np.random.default_rng(2017).permutation(1_000_000)[:25_000].tolist()
    both = [(german(str(n)), spell(n, ENGLISH)) for n in numbers]
    return both[5000:], both[:5000]


class Layer(nn.Module):
    """x (N, T, D) looks at itself; a decoder's layer then looks at the encoder's result; then two
    linear maps change each place by itself. Each result is added to x, and the sum normalised.
    """

    def __init__(self, width: int, decoder: bool, device: Device):
        heads = width // 16
        self.look = nn.MultiHeadAttention(width, heads, weight_init=START, device=device)
        if decoder:
            self.cross = nn.MultiHeadAttention(width, heads, weight_init=START, device=device)
        self.widen = nn.Linear(width, 4 * width, relu=True, weight_init=START, device=device)
        self.narrow = nn.Linear(4 * width, width, weight_init=START, device=device)
        self.norms = [nn.LayerNorm(width, device=device) for _ in range(2 + decoder)]

    def forward(self, x: Tensor, words: np.ndarray, encoded: Tensor | None = None) -> Tensor:
        """words (N, S): True where the sentence to be translated has a word, not PAD."""
        mask = words[:, None] | np.zeros((x.shape[1], 1), bool)  # (N, T, S)
        if encoded is None:
            x = self.norms[0](x + self.look(x, mask=mask))
        else:
            x = self.norms[0](x + self.look(x, causal=True))
            x = self.norms[2](x + self.cross(x, encoded, mask=mask))
        x = self.norms[1](x + self.narrow(self.widen(x)))
        return x


class Transformer(nn.Module):
    """Words (N, S), and the translation so far (N, T) -> logits (N, T, size) of its next words."""

    def __init__(self, sizes: list[int], device: Device, width: int = 64, layers: int = 2):
        start = nn.init.normal(1 / math.sqrt(width))
        self.words = [nn.Embedding(size, width, start, device) for size in sizes]
        self.encoder = [Layer(width, False, device) for _ in range(layers)]
        self.decoder = [Layer(width, True, device) for _ in range(layers)]
        self.width, self.device = width, device

    def forward(self, source: np.ndarray, said: np.ndarray) -> Tensor:
        return self.decode(self.encode(source), source, said)

    def vectors(self, words: nn.Embedding, numbers: np.ndarray) -> Tensor:
        """Vectors of words, plus sines and cosines of many wave lengths that tell the place."""
        waves = 1e4 ** -np.linspace(0, 1, self.width // 2, endpoint=False)
        angles = np.arange(numbers.shape[1])[:, None] * waves
        places = np.c_[np.sin(angles), np.cos(angles)]
        x: Tensor = words(numbers) * math.sqrt(self.width)
        return x + tensor(places.astype(x.dtype), device=self.device)

    def encode(self, source: np.ndarray) -> Tensor:
        x = self.vectors(self.words[0], source)
        for layer in self.encoder:
            x = layer(x, source != PAD)
        return x

    def decode(self, encoded: Tensor, source: np.ndarray, said: np.ndarray) -> Tensor:
        y = self.vectors(self.words[1], said)
        for layer in self.decoder:
            y = layer(y, source != PAD, encoded)
        return F.linear(y, self.words[1].weight)


def translate(net: Transformer, source: np.ndarray) -> list[list[int]]:
    """Greedy: the likeliest word each time, until the sentence ends or is far too long."""
    said = np.full((len(source), 1), BEGIN)
    with no_grad():
        encoded = net.encode(source)
        while (said != END).all(axis=1).any() and said.shape[1] < 2 * source.shape[1] + 10:
            said = np.c_[said, net.decode(encoded, source, said)[:, -1].numpy().argmax(axis=1)]
    return [[*row[1:], END][: [*row[1:], END].index(END)] for row in said.tolist()]


RECIPE = Recipe(
    "small Transformer", epochs=3, batch_size=64, lr=2e-3,
    data=Translations(pairs, translate, lambda n: n.decoder[-1].cross, ("345678", "21001"), german),
    optimizer=lambda net, lr: Adam(net.parameters(), lr, betas=(0.9, 0.98), eps=1e-9),
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 10),
)  # fmt: skip
main = Program(
    "Trains a small Transformer to translate, tests it, uses it.", {"transformer": RECIPE},
    lambda about, on: Transformer([len(about["source"]), len(about["vocabulary"])], on[0]),
).main  # fmt: skip

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
