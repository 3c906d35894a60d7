"""The questions of a quiz of the course without the answers, to be given to a reader; or the key.

python tests/learn/questions.py docs/learn/quiz.md
python tests/learn/questions.py docs/learn/quiz.md --key
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from chapters import CHECK

SESSION = re.compile(r"^```pycon\n.*?^```\n", re.M | re.S)
ANSWER = re.compile(r"\n<details><summary>Answer</summary>\n(.*?)\n</details>\n", re.S)
NAME = re.compile(r"^\*\*(\d+\.\w)\*\* ", re.M)


def without_answers(text: str) -> str:
    """What stands on the page before an answer is opened."""
    return CHECK.sub("", ANSWER.sub("", text))


def key(text: str) -> str:
    """Each question's number and the words of its answer."""
    words = [SESSION.sub("", CHECK.sub("", answer)).strip() for answer in ANSWER.findall(text)]
    pairs = zip(NAME.findall(text), words, strict=True)
    return "# Key\n" + "".join(f"\n**{name}** {answer}\n" for name, answer in pairs)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [page]:
            print(without_answers(Path(page).read_text()), end="")
        case [page, "--key"]:
            print(key(Path(page).read_text()), end="")
        case _:
            sys.exit(__doc__)
