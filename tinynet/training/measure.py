"""How a figure of a run is shown: on the terminal, in the curves, on the report."""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """How a figure is shown: its title, and what stands behind the number."""

    title: str
    unit: str = ""
    digits: int = 2

    def value(self, value: float) -> str:
        """For example "11.75 %"."""
        return f"{value:.{self.digits}f}" + f" {self.unit}" * bool(self.unit)

    def words(self, value: float) -> str:
        """For example "top-1 error 11.75 %"."""
        return f"{self.title} {self.value(value)}"
