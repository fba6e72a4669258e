"""Who is measured when: systems in turns, so that whatever drifts on the machine drifts for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Turn:
    """One system's turn in one repeat."""

    repeat: int
    system: str


def turns(systems: Sequence[str], repeats: int) -> list[Turn]:
    """Each system once per repeat, every other repeat in reverse.

    Over two repeats all systems stand at the same mean place, so a drift that is linear in time favours none.
    """
    return [
        Turn(repeat, system)
        for repeat in range(repeats)
        for system in (systems if repeat % 2 == 0 else tuple(reversed(systems)))
    ]


def best_of(capacity_rps: Mapping[str, Sequence[float]], ours: Sequence[str]) -> tuple[str, float] | None:
    """The peer with the greatest median capacity and that capacity; None if no peer has one."""
    medians = {name: median(each) for name, each in capacity_rps.items() if each and name not in ours}
    found = {name: value for name, value in medians.items() if value > 0}
    if not found:
        return None
    name = max(found, key=lambda peer: found[peer])
    return name, found[name]


def middle(values: Sequence[float]) -> float | None:
    """The median; None of no values."""
    return median(values) if values else None


def spread(values: Sequence[float]) -> float:
    """Greatest less smallest, over the median; 0 for a single value."""
    return (max(values) - min(values)) / median(values) if values and median(values) else 0.0
