"""How much of the machine's CPU time its host gave to others, as the kernel counts it (`steal` in `/proc/stat`)."""

from collections.abc import Mapping, Sequence
from statistics import median

import psutil

TOLERABLE = 0.02
"""The share from which on figures are worth little: nobody can say whom the neighbours have slowed down, and when."""


class Stolen:
    """A clock of what was taken, from its making on."""

    def __init__(self) -> None:
        self._begin = psutil.cpu_times()

    def share(self) -> float | None:
        """Taken so far, a share of all CPU time, idle time included; None if the kernel doesn't tell or none passed."""
        end = psutil.cpu_times()
        if not hasattr(end, "steal"):
            return None
        passed_s = _total_s(end) - _total_s(self._begin)
        return max(end.steal - self._begin.steal, 0.0) / passed_s if passed_s > 0 else None


def _total_s(times: "psutil._ntuples.scputimes") -> float:
    # The guests' time is in the user's already.
    return float(sum(times) - times.guest - times.guest_nice)


def told(shares: Mapping[str, Sequence[float | None]]) -> str:
    """One sentence on what was taken in each system's turns, as `Comparison` enters it; empty if nothing is known."""
    known = [(share, name) for name, turns in shares.items() for share in turns if share is not None]
    if not known:
        return ""
    most, whose = max(known)
    text = f"The machine's host took {median(share for share, _ in known):.1%} of the CPU time (median of the turns), "
    text += f"at most {most:.1%} (a turn of {whose})"
    return f"{text}: MORE THAN {TOLERABLE:.0%}, so the figures are worth little" if most > TOLERABLE else text
