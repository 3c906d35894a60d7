"""What the options of a command line may be: each function is for argparse's `type=`."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import re
from collections.abc import Callable
from typing import Any


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line instead of the whole usage, and takes
    options by their whole names alone: a part of one may be another's in the next version.
    """

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str):
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = unknown and difflib.get_close_matches(unknown[1], self._option_string_actions, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        self.exit(2, f"{self.prog}: error: {message} ({meant}--help tells more)\n")

    def group(self, title: str) -> Callable:
        """A function that adds an option under a title: (flag, its help, other options)."""
        add = self.add_argument_group(title).add_argument

        def told(flag: str, text: str, **options: Any) -> Any:
            """argparse would take "10% are" for a format."""
            return add(flag, help=text.replace("%", "%%"), **options)

        return told


def at_least(least: int) -> Callable[[str], int]:
    """Whole numbers from `least` on."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"a whole number of at least {least} was expected, got {text!r}"
            )
        return int(text)

    return number


def batch_size(text: str) -> int | str:
    """A whole number from 1 on, or `auto`."""
    return text if text == "auto" else at_least(1)(text)


def rising_numbers(text: str) -> list[int]:
    """`25,51,79` as [25, 51, 79]."""
    numbers = [at_least(1)(number) for number in text.split(",")]
    if numbers != sorted(set(numbers)):
        raise argparse.ArgumentTypeError(f"rising numbers were expected, got {text!r}")
    return numbers


def rate(text: str) -> float:
    """A number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"a number above 0 was expected, got {text!r}")


def not_negative(text: str) -> float:
    """A number of at least 0."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"a number of at least 0 was expected, got {text!r}")


def share(text: str) -> float:
    """A number between 0 and 1, neither of them."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < 1:
            return number
    raise argparse.ArgumentTypeError(f"a number between 0 and 1 was expected, got {text!r}")


def one_or_two(text: str) -> list[int]:
    """`4000` or `4000,5000` as a list of whole numbers from 1 on."""
    numbers = [at_least(1)(number) for number in text.split(",")]
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"one number or two were expected, got {text!r}")
    return numbers


def edits(text: str) -> list[tuple[str, str]]:
    """`lr=0.001,freeze=conv1` as [("lr", "0.001"), ("freeze", "conv1")]."""
    parts = [tuple(part.strip() for part in each.split("=", 1)) for each in text.split(",")]
    for part in parts:
        if len(part) != 2 or not all(part):
            raise argparse.ArgumentTypeError(f"NAME=VALUE[,NAME=VALUE] was expected, got {text!r}")
    return [(name, value) for name, value in parts]


def interval(text: str) -> dict[str, float | None]:
    """`500` (batches) or `10m`, as Trainer's arguments for checkpoints inside epochs."""
    if text.isdecimal() and int(text) > 0:
        return {"checkpoint_batches": int(text), "checkpoint_minutes": None}
    try:
        return {"checkpoint_minutes": duration(text)}
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"a number of batches, or {error}") from None


def duration(text: str) -> float:
    """`90s`, `10m`, or `1.5h`, in minutes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(
            f"a time such as 90s, 10m or 2h was expected, got {text!r}"
        )
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[match[2]]
