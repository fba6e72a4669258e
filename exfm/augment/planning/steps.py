"""Arithmetic that shows itself, line by line."""

import math
from dataclasses import dataclass

PREFIXED = ("B", "B/s", "FLOP", "FLOP/s")
"""Units that come in millions and more."""


@dataclass(frozen=True)
class Step:
    """One line of the arithmetic."""

    name: str
    formula: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.name:<22}{self.formula} = {shown(self.value, self.unit)}"


def note(steps: list[Step], name: str, formula: str, value: float, unit: str) -> float:
    """Keep a step; its value."""
    steps.append(Step(name, formula, value, unit))
    return value


def shown(value: float, unit: str = "") -> str:
    """For people: 1.23 TB, 12,345 examples/s, 0.00012 s."""
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M")) if unit in PREFIXED else ()
    for size, letter in sizes:
        if size <= abs(value) < math.inf:
            return f"{value / size:,.4g} {letter}{unit}"
    return f"{value:,.0f} {unit}".rstrip() if abs(value) >= 1000 else f"{value:.4g} {unit}".rstrip()
