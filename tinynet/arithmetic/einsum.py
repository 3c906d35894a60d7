"""einsum: sums of products by the letters of axes, made of permutations, reshapes and matmul."""

from __future__ import annotations

import math
from typing import NamedTuple

from tinynet.arithmetic.binary import MatMul, matmul
from tinynet.arithmetic.operands import check_tensor
from tinynet.arithmetic.reductions import Sum, sum
from tinynet.arithmetic.shapes import Reshape, Transpose, reshape, transpose
from tinynet.operations import operation
from tinynet.tensors import Tensor


class _Term(NamedTuple):
    """A tensor and the letter of each of its axes."""

    letters: str
    x: Tensor

    def keep(self, wanted: str) -> _Term:
        """Summed over the axes whose letters are not wanted."""
        gone = tuple(i for i, c in enumerate(self.letters) if c not in wanted)
        rest = "".join(c for c in self.letters if c in wanted)
        return _Term(rest, sum(self.x, gone)) if gone else self

    def order(self, letters: str) -> Tensor:
        """The axes in the order of the letters."""
        return transpose(self.x, tuple(self.letters.index(c) for c in letters))


@operation(Transpose, Reshape, MatMul, Sum)
def einsum(equation: str, *tensors: Tensor) -> Tensor:
    """y = the sum of products that the letters name: "bij,bjk->bik" is a product of matrices.

    Each letter is an axis. Letters that are not behind the arrow are summed over; without an arrow,
    the letters that come once stay, in the order of the alphabet. Two tensors at a time are
    multiplied, from left to right. ValueError for what does not fit; the diagonal "ii" and "..."
    are not understood.
    """
    for x in tensors:
        check_tensor("einsum", x)
    terms, wanted, sizes = _read(equation, tensors)
    term = terms[0]
    for i, other in enumerate(terms[1:], 1):
        later = wanted + "".join(t.letters for t in terms[i + 1 :])
        term = _product(
            term.keep(later + other.letters), other.keep(later + term.letters), later, sizes
        )
    return term.keep(wanted).order(wanted)


def _read(equation: str, tensors: tuple[Tensor, ...]) -> tuple[list[_Term], str, dict[str, int]]:
    """The terms, the letters of the result, the length of each letter's axis."""
    left, arrow, wanted = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if not arrow:
        wanted = "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))
    fits = len(parts) == len(tensors) and all(
        len(set(part)) == len(part) == x.ndim for part, x in zip(parts, tensors, strict=True)
    )
    letters = "".join(parts)
    if not fits or not letters.isalpha() or len(set(wanted)) < len(wanted):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise ValueError(
            f"einsum: expected a letter for each axis, each once in a tensor, such as "
            f"'ij,jk->ik', got {equation!r} for shapes {shapes}"
        )
    if set(wanted) - set(letters):
        raise ValueError(f"einsum: expected letters of the left side in the result, got {wanted!r}")
    sizes: dict[str, int] = {}
    for part, x in zip(parts, tensors, strict=True):
        for c, n in zip(part, x.shape, strict=True):
            if sizes.setdefault(c, n) != n:
                raise ValueError(
                    f"einsum: expected one length for axis {c!r}, got {sizes[c]} and {n}"
                )
    return [_Term(part, x) for part, x in zip(parts, tensors, strict=True)], wanted, sizes


def _product(a: _Term, b: _Term, later: str, sizes: dict[str, int]) -> _Term:
    """Their product, summed over the letters that both have and nobody needs later."""
    both = [c for c in a.letters if c in b.letters]
    batch = "".join(c for c in both if c in later)
    inner = "".join(c for c in both if c not in later)
    rows = "".join(c for c in a.letters if c not in both)
    columns = "".join(c for c in b.letters if c not in both)

    def shape(*groups: str) -> tuple[int, ...]:
        return tuple(math.prod(sizes[c] for c in group) for group in groups)

    y = matmul(
        reshape(a.order(batch + rows + inner), shape(batch, rows, inner)),
        reshape(b.order(batch + inner + columns), shape(batch, inner, columns)),
    )
    letters = batch + rows + columns
    return _Term(letters, reshape(y, tuple(sizes[c] for c in letters)))
