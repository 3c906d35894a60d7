"""The machinery of a command line: recipe -> options -> train, resume, evaluate, predict, report.

An example gives a network and its recipes; everything else is here, for every example alike.
"""

from tinynet.program.made import Arrays, Made
from tinynet.program.pictures import Pictures
from tinynet.program.program import Program
from tinynet.program.recipe import Recipe
from tinynet.program.text import Language, Text, Translations
from tinynet.program.unlabelled import Unlabelled

__all__ = [
    "Arrays",
    "Language",
    "Made",
    "Pictures",
    "Program",
    "Recipe",
    "Text",
    "Translations",
    "Unlabelled",
]
