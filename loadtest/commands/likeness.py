"""Whether two results were measured alike, so that what differs between them is the server's."""

from collections.abc import Mapping
from typing import Any

_LOAD = ("workload_sha256", "schedule_sha256", "seed", "streams", "shape", "rate_rps", "speed", "any_tier")
_ASKED = ("call", "connections", "budget_ms", "timeout_ms", "window_s", "probe_s", "confirm_s", "precision")
_MACHINE = ("processor", "cores", "memory_gib", "kernel", "governor")
SAME = (*_LOAD, *_ASKED, *_MACHINE)
"""What must be equal in the conditions of both."""
ONCE = {"call": "rank"}
"""How results were made that don't say it: those written before there was another way."""
ALIKE = {"memory_gib": 0.02, "capacity_rps": 0.01}
"""By so much, relative, these may differ: kernels keep some memory to themselves, and overloads offer multiples."""


def unlike(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Why two result documents don't compare; empty if they do."""
    reasons = [f"the {which} is invalid" for which, each in (("first", first), ("second", second)) if each["invalid"]]
    if first["kind"] != second["kind"]:
        reasons.append(f"kind: {first['kind']} and {second['kind']}")
    one, two = _plain(first), _plain(second)
    return reasons + [f"{name}: {_short(one, name)} and {_short(two, name)}" for name in one if _differ(name, one, two)]


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a document, None where it doesn't say."""
    conditions = {**ONCE, **document["conditions"]}
    made = {name: conditions.get(name) for name in SAME}
    # How long a search goes on is for its probes to say, and so is the load at which it ends.
    made["seconds"] = None if document["kind"] == "capacity" else document.get("seconds")
    over = document["kind"] == "overload"
    made["capacity_rps"] = document["capacity_rps"] if over else None
    made["multiples"] = [each.get("multiple") for each in document.get("sweep", [])] if over else None
    return made


def _differ(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    values = one[name], two[name]
    if name in ALIKE and None not in values:
        return bool(max(values) > (1 + ALIKE[name]) * min(values))
    return bool(values[0] != values[1])


def _short(plain: Mapping[str, Any], name: str) -> str:
    value = plain[name]
    return "none" if value is None else str(value)[:24]
