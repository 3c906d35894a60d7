"""Text: what a file holds, its characters as numbers, and pieces of it to learn from."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tinynet.data.sequences import NOWHERE, Sequences
from tinynet.errors import DataError


class Vocabulary:
    """Symbols (characters, or words), and the number of each: its place in `symbols`."""

    def __init__(self, symbols: Sequence[str]):
        self.symbols = list(symbols)
        self._numbers = {symbol: number for number, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: Iterable[str], where: str = "text") -> np.ndarray:
        """The numbers of symbols, int64. Raises DataError for a symbol that has none."""
        try:
            return np.array([self._numbers[symbol] for symbol in text], np.int64)
        except KeyError as error:
            raise DataError(
                f"{where}: expected nothing but the {len(self)} symbols that the net knows, got "
                f"{error.args[0]!r}"
            ) from None

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """The symbols of numbers."""
        return [self.symbols[number] for number in numbers]


def read_text(path: Path) -> str:
    """The text in a file of UTF-8, plain or gzipped. Raises DataError that names the file."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing: the path does not exist"
        raise DataError(f"{path}: expected a file of text, got {found}")
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a text in UTF-8, got byte {data[error.start]:#04x} at place "
            f"{error.start}"
            if path.suffix != ".gz"
            else f"{path}: expected a gzipped text in UTF-8, got another encoding"
        ) from error
    return text.replace("\r\n", "\n")


def shakespeare() -> str:
    """The embedded plays of Shakespeare: 1,000,000 characters, 65 different ones.

    Source and SHA-256: tinynet/data/shakespeare/NOTE.
    """
    return read_text(Path(__file__).parent / "shakespeare" / "input.txt.gz")


class Windows(Sequences):
    """A text in pieces of `length` tokens, each with the tokens that come next as its targets.

    An epoch sees each piece once. In training, example i begins at a random place of piece i, so
    that pieces differ from epoch to epoch; in tests it is piece i.
    """

    lanes = 1

    def __init__(self, text: str, vocabulary: Vocabulary, length: int, source: str = ""):
        self.text, self.vocabulary, self.length, self.source = text, vocabulary, length, source
        self.tokens = vocabulary.encode(text, source)
        if len(self) < 1:
            raise DataError(
                f"{source}: expected at least {length + 1:,} characters to train on and to test "
                f"on, got {len(text):,}"
            )

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def batch(self, indices: np.ndarray, lanes: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """(N, length) tokens, and the token after each."""
        pieces = self.cut(indices, lanes, self.length + 1)
        return pieces[:, :-1], pieces[:, 1:]

    def cut(self, indices: np.ndarray, lanes: np.ndarray | None, length: int) -> np.ndarray:
        """Pieces of the text, (N, length)."""
        begin = indices * self.length
        if lanes is not None:
            begin = begin + (lanes[:, 0].astype(np.int64) * self.length >> 32)
            begin = np.minimum(begin, len(self.tokens) - length)
        return self.tokens[begin[:, None] + np.arange(length)]


class Masked(Windows):
    """A text in pieces in which some tokens are hidden; the targets are these.

    Of every piece 15 % of the places are asked for. 80 % of them show the number after the
    vocabulary's last, 10 % any token, 10 % the right one. Source: Devlin et al. 2018, section 3.1.
    """

    share = 0.15

    def __init__(self, text: str, vocabulary: Vocabulary, length: int, source: str = ""):
        super().__init__(text, vocabulary, length, source)
        self.lanes = 1 + 3 * length  # a place; for each token its rank, what it shows, another one

    def batch(self, indices: np.ndarray, lanes: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """(N, length) tokens, some hidden; (N, length) targets, NOWHERE where none is asked for."""
        tokens = self.cut(indices, lanes, self.length)
        if lanes is None:  # the same in every test
            drawn = [np.random.Philox(key=int(index)).random_raw(self.lanes) for index in indices]
            lanes = (np.array(drawn) >> np.uint64(32)).astype(np.uint32)
        rank, shows, other = lanes[:, 1:].reshape(len(indices), 3, self.length).swapaxes(0, 1)
        count = max(1, round(self.share * self.length))
        asked = rank.argsort(axis=1, kind="stable").argsort(axis=1) < count
        size = len(self.vocabulary)
        random = other.astype(np.int64) * size >> 32
        shown = np.select([shows < 0.8 * 2**32, shows < 0.9 * 2**32], [size, random], tokens)
        return np.where(asked, shown, tokens), np.where(asked, tokens, NOWHERE)


PAD, BEGIN, END = range(3)  # numbers of the symbols that are no words
SPECIAL = ("<pad>", "<begin>", "<end>")
Words = list[str]


class Pairs(Sequences):
    """Sentences, each with its translation, as numbers.

    pairs: of words. languages: their two vocabularies, which begin with SPECIAL.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Words, Words]],
        languages: tuple[Vocabulary, Vocabulary],
        source: str = "",
    ):
        if not pairs:
            raise DataError(f"{source}: expected pairs to train on and to test on, got none")
        self.pairs, self.languages, self.source = pairs, languages, source
        one, other = languages
        self.numbers = [(one.encode(a, source), other.encode(b, source)) for a, b in pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: np.ndarray, lanes: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """(N, S) words; (N, T) BEGIN and translations; (N, T) translations and END. Shorter ones
        are filled with PAD, and the last array with NOWHERE.
        """
        numbers = [self.numbers[index] for index in indices]
        return (
            padded([a for a, _ in numbers], PAD),
            padded([np.r_[BEGIN, b] for _, b in numbers], PAD),
            padded([np.r_[b, END] for _, b in numbers], NOWHERE),
        )


def padded(rows: Sequence[np.ndarray], filling: int) -> np.ndarray:
    """Rows of integers, made as long as the longest."""
    table = np.full((len(rows), max(map(len, rows))), filling, np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def read_pairs(path: Path) -> list[tuple[Words, Words]]:
    """The pairs in a file: a line each, two sentences with a TAB between them, words with spaces.
    Raises DataError.
    """
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        sides = [side.split() for side in line.split("\t")]
        if len(sides) != 2 or not all(sides):
            raise DataError(
                f"{path}, line {number}: expected a sentence, a TAB and its translation, got "
                f"{line[:40]!r}"
            )
        pairs.append((sides[0], sides[1]))
    return pairs
