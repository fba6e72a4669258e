"""Going on with a comparison that was stopped, if it is still the same one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loadtest.commands.peers import UsageError
from loadtest.peers.compare import Comparison

OF_THE_DAY = ("started", "load_before")
"""What differs between two runs on one machine."""
LATER = ("generator_selftest", "loadgen")
NEW = ("about",)
"""Facts that a later version may word otherwise."""


def resumed(path: Path, comparison: Comparison, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Give the comparison the turns that `path` holds; what of that result stays besides.

    Raises:
        UsageError: there is none, it is finished, or it was made on another machine, of other models or with other
            options.
    """
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed = _changed(earlier, json.loads(json.dumps(facts)))
        finished = bool(earlier.get("finished"))
        if not changed and not finished:
            comparison.resume(earlier)
        again = [*earlier.get("resumed", []), facts["machine"]["started"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--resume: {path} can't be gone on with: {type(error).__name__}: {error}") from error
    if finished:
        raise UsageError(f"--resume: {path} is finished")
    if changed:
        raise UsageError(f"--resume: {path} has another {changed}")
    kept = {key: earlier[key] for key in LATER if _stands(earlier.get(key) or {})}
    return {"machine": earlier["machine"], "resumed": again, **kept}


def _stands(made: Mapping[str, Any]) -> bool:
    """Whether it need not be made again: it is there, and is neither a failure nor inconclusive."""
    return bool(made) and made.get("verdict") != "fail" and not made.get("faults")


def _changed(earlier: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The first fact that isn't as it was, in words; empty if all are."""
    pairs = ((name, _lasting(earlier[name]), _lasting(facts[name])) for name in facts if name not in NEW)
    return next((f"{name}: {_difference(there, here)}" for name, there, here in pairs if there != here), "")


def _lasting(fact: Any) -> Any:
    return {key: value for key, value in fact.items() if key not in OF_THE_DAY} if isinstance(fact, dict) else fact


def _difference(there: Any, here: Any) -> str:
    if isinstance(there, dict) and isinstance(here, dict):
        key = next(key for key in {**there, **here} if there.get(key) != here.get(key))
        return f"{key}, {_difference(there.get(key), here.get(key))}"
    return f"{there} there, {here} here"
