"""The arithmetic of tensors: what +, *, @, sum, reshape, indexing and their like do, forward and
backward. The files go by kind; the methods of Tensor (tinynet/operators.py) call what is here.
"""

from tinynet.arithmetic.binary import (
    add,
    div,
    matmul,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    sub,
    where,
)
from tinynet.arithmetic.comparisons import (
    all,
    any,
    argmax,
    argmin,
    eq,
    floor_divide,
    ge,
    gt,
    le,
    logical_and,
    logical_not,
    logical_or,
    lt,
    ne,
    remainder,
)
from tinynet.arithmetic.einsum import einsum
from tinynet.arithmetic.elementwise import abs, clip, cos, erf, exp, log, sin, sqrt
from tinynet.arithmetic.reductions import cumsum, max, mean, min, norm, prod, std, sum, var
from tinynet.arithmetic.shapes import (
    astype,
    concat,
    flatten,
    index,
    reshape,
    split,
    squeeze,
    stack,
    to,
    transpose,
    unsqueeze,
)

__all__ = [
    "abs", "add", "all", "any", "argmax", "argmin", "astype", "clip", "concat", "cos", "cumsum",
    "div", "einsum", "eq", "erf", "exp", "flatten", "floor_divide", "ge", "gt", "index", "le",
    "log", "logical_and", "logical_not", "logical_or", "lt", "matmul", "max", "maximum", "mean",
    "min", "minimum", "mul", "ne", "neg", "norm", "pow", "prod", "remainder", "reshape", "sin",
    "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "to", "transpose", "unsqueeze",
    "var", "where",
]  # fmt: skip
