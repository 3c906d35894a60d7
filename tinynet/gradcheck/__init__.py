"""Gradients computed backward, against gradients computed by going a small step. For tinynet's
operations and yours.

tinynet.gradcheck(fn, inputs)       True, or GradcheckError: which input, which element, both values
python -m tinynet.gradcheck         the table of all operations
"""

from tinynet.gradcheck.check import gradcheck
from tinynet.gradcheck.consistency import PrecisionWarning
from tinynet.gradcheck.report import KinkWarning, UncheckedWarning

__all__ = ["KinkWarning", "PrecisionWarning", "UncheckedWarning", "gradcheck"]
