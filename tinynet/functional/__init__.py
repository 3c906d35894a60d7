"""Every operation on tensors that a network is made of, each a thin Function over a kernel.

Arguments, defaults and meaning are those of torch.nn.functional. The formulas stand in
tinynet/kernels, one file an operation. What a user gets wrong raises ValueError (or TypeError) that
names the argument, what was expected, what came. The files here go by kind; an operation of one of
them, decorated with @operation, is a name of this package.
"""

from typing import TYPE_CHECKING

from tinynet.arithmetic import concat, exp, log, maximum
from tinynet.functional.activation import *
from tinynet.functional.affine import *
from tinynet.functional.attention import *
from tinynet.functional.convolution import *
from tinynet.functional.losses import *
from tinynet.functional.normalization import *
from tinynet.functional.pooling import *
from tinynet.functional.regularization import *
from tinynet.functional.shape import *
from tinynet.instead import FUNCTIONAL, missing
from tinynet.operations import OPERATIONS

__all__ = sorted(name for name, row in OPERATIONS.items() if globals().get(name) is row.call)

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name):
        """Python comes here for what is not there."""
        raise missing("tinynet.functional", name, FUNCTIONAL)
