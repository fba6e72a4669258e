"""What a run is held against: a TOML file, or the usual objectives for a budget.

[objectives]
late_share = 0.001        # at most this share of the requests late
p99_ms = 25.0             # 99 % of the requests end within this, from the scheduled instant
full_tier_share = 0.99    # at least this share is answered by the full tier
error_share = 0.0         # at most this share unanswered, failed or answered wrongly
wrong_share = 0.0         # at most this share answered wrongly; holds unless said otherwise
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHARES = ("late_share", "error_share", "wrong_share", "full_tier_share", "goodput_share")
TIMES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")
AT_LEAST = ("full_tier_share", "goodput_share", "goodput_kept")
RATIOS = ("goodput_kept", "p99_drift", "rss_mb_per_h")
"""Read by some commands only: `goodput_kept` by overload, the others by soak."""
KNOWN = (*SHARES, *TIMES, *RATIOS)


class ObjectivesError(ValueError):
    """The file is no set of objectives; the message names the entry."""


@dataclass(frozen=True)
class Objective:
    """One promise: a figure and the bound that it must keep."""

    name: str
    bound: float

    @property
    def at_least(self) -> bool:
        """Whether the figure must reach the bound rather than stay within it."""
        return self.name in AT_LEAST


def usual(budget_s: float) -> tuple[Objective, ...]:
    """For a server at a load that it is meant for: p99 within the budget, 1 % late, 99 % full, no errors."""
    bounds = {"late_share": 0.01, "p99_ms": budget_s * 1e3, "full_tier_share": 0.99, "error_share": 0.0}
    return tuple(Objective(name, bound) for name, bound in bounds.items())


def shown(name: str, value: float | None) -> str:
    """A figure's value with its unit, for people; `?` where a sample can't say."""
    if value is None or not math.isfinite(value):
        return "?"
    if name in SHARES:
        return f"{value * 100:.4g} %"
    return f"{value:.2f} ms" if name.endswith("_ms") else f"{value:.4g}"


def load(path: Path) -> tuple[Objective, ...]:
    """Read a file; `ObjectivesError` names it and the entry."""
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ObjectivesError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ObjectivesError(f"{path}: {error}") from error
    except OSError as error:
        raise ObjectivesError(f"{path}: {error.strerror}") from error


def parse(raw: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Objectives as a TOML file holds them; `ObjectivesError` names what is wrong."""
    if unknown := set(raw) - {"objectives"}:
        raise ObjectivesError(f"unknown entry {sorted(unknown)[0]!r}; expected a table [objectives]")
    table = raw.get("objectives")
    if not isinstance(table, Mapping) or not table:
        raise ObjectivesError("expected a table [objectives] with at least one entry")
    return tuple(Objective(name, _bound(name, value)) for name, value in table.items())


def _bound(name: str, value: Any) -> float:
    if name not in KNOWN:
        raise ObjectivesError(f"unknown objective {name!r}; there are: {', '.join(KNOWN)}")
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ObjectivesError(f"{name}: expected a finite number >= 0, got {value!r}")
    if name in SHARES and value > 1:
        raise ObjectivesError(f"{name}: a share is at most 1, got {value!r}")
    return float(value)
