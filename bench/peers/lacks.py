"""Why a result isn't whole."""

import argparse
from collections.abc import Mapping
from typing import Any

from loadtest.peers.telling import lacking
from loadtest.referee.referee import WITHIN


def lacks(asked: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """What a whole result holds and this one doesn't."""
    missing = [f"{name} was skipped" for name in result["skipped"]]
    for name in result["systems"]:
        capacities, good = result["capacity_rps"].get(name, []), result["goodput_rps"].get(name, {})
        out = result.get("left_out", {}).get(name, {})
        keys = [f"{each}x" for each in asked.multiples]
        runs = [len(capacities), *(len(good.get(key, [])) + out.get(key, 0) for key in keys)]
        if name not in result["skipped"] and min(runs) < asked.repeats:
            missing.append(f"{name} was measured {min(runs)} times of {asked.repeats}")
    missing += lacking(result)
    if why := unconfirmed(result.get("loadgen") or {}):
        missing.append(why)
    if result.get("generator_selftest", {}).get("verdict") == "fail":
        missing.append("the generator's own test failed")
    return missing + [f"no {key}" for key in ("loadgen", "generator_selftest") if not result.get(key)]


def unconfirmed(ruling: Mapping[str, Any]) -> str:
    """Why LoadGen's last ruling doesn't confirm the capacity; empty if it does, or if there is none."""
    if not ruling:
        return ""
    at = f"{ruling['qps']:.1f}/s"
    if ruling["valid"]:
        least_rps = WITHIN * ruling["capacity_rps"]
        return "" if ruling["qps"] >= least_rps else f"loadgen says VALID at {at} only, below {least_rps:.1f}/s"
    if faults := ruling.get("faults"):
        return f"loadgen is inconclusive at {at}: {'; '.join(faults)}"
    return f"loadgen says INVALID at {at}, the least rate that was tried"
