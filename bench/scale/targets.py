"""What each part must reach; what is not held is said in one line each."""

from collections.abc import Iterator, Mapping
from typing import Any

EFFICIENCY = 0.9
"""Of annotation workers beside bare processes, at least."""
PLANNED = 0.3
"""By how much the planner's figure may be off, as a share of the measured one."""
APART = 1e-6
"""Probabilities on ranks from those of the same weights unsharded, at most."""


def missed(result: Mapping[str, Any]) -> list[str]:
    """Of the parts in a result those targets that they don't hold; a part that has none holds all."""
    return [f"{part}: {why}" for part, check in _CHECKS.items() if part in result for why in check(result[part])]


def _none(*names: str) -> Any:
    """Counts that must be zero."""

    def check(said: Mapping[str, Any]) -> Iterator[str]:
        yield from (f"{name} is {said[name]}, must be 0" for name in names if said[name])

    return check


def _valkey(said: Mapping[str, Any]) -> Iterator[str]:
    """Unchanged: the share of late requests is not higher by more than chance makes it, by both intervals of 95 %."""
    well, killed = (said[name]["late_share_interval"] for name in ("rank_well", "rank_killed"))
    if killed[0] > well[1]:
        yield f"late_delta is {said['late_delta']:.4f}: {killed} while it is killed, {well} while it is well"


def _frontends(said: Mapping[str, Any]) -> Iterator[str]:
    for way, each in said["via"].items():
        if each["failed"] > each["killed_in_flight"]:
            yield f"{way}: failed is {each['failed']}, with {each['killed_in_flight']} in flight"


def _ray(said: Mapping[str, Any]) -> Iterator[str]:
    if not said["annotated_once"]:
        yield "an example was not annotated, or not once"
    for kind, counts in said["efficiency"].items():
        for count, made in counts.items():
            if not made >= EFFICIENCY:
                yield f"efficiency of {kind}:{count} is {made:.3f}, must be {EFFICIENCY}"


def _torchrec(said: Mapping[str, Any]) -> Iterator[str]:
    for what, made in (("", said), ("annotation: ", said["annotation"])):
        if not made["max_diff"] <= APART:
            yield f"{what}max_diff is {made['max_diff']:.2g}, may be {APART:.0e}"


def _planner(said: Mapping[str, Any]) -> Iterator[str]:
    if not abs(said["ratio"] - 1) <= PLANNED:
        yield f"ratio of predicted to measured is {said['ratio']:.3f}, may be {PLANNED:.0%} off"


_CHECKS: dict[str, Any] = {
    "valkey": _valkey,
    "frontends": _frontends,
    "jetstream": _none("acked_lost", "duplicates"),
    "plane": _none("lost_outcomes", "duplicates", "unaccounted", "store_wrong"),
    "ray": _ray,
    "torchrec": _torchrec,
    "planner": _planner,
}
