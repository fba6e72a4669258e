"""Whether a new version is worse than the one that is served."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.errors import ExportRefusedError, VersionError
from exporter.home import served_version
from exporter.integrity import check_served
from exporter.progress import Watch, unwatched
from exporter.signing import TrustedKeys

MAX_NE_LOSS = 0.005


@dataclass(frozen=True)
class QualityGate:
    """How much worse a version may be than the served one.

    Attributes:
        max_ne_loss: the largest relative increase of normalized entropy of any task, a share.
        allow_worse: publish beyond it, too, or where the served version cannot be trusted as a measure.
    """

    max_ne_loss: float = MAX_NE_LOSS
    allow_worse: bool = False


@dataclass(frozen=True)
class Comparison:
    """A new version beside the served one.

    Attributes:
        version: the served one's number; None if nothing is served, or nothing that could be compared.
        ne_loss: relative increase of normalized entropy by task; negative is better.
        excuse: why it may be published although it is worse or could not be compared; "" if it needs none.
    """

    version: int | None
    ne_loss: Mapping[str, float]
    excuse: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the lineage."""
        return {"version": self.version, "ne_loss": dict(self.ne_loss), "excuse": self.excuse}


def compare(
    quality: Mapping[str, Any],
    tasks: Sequence[str],
    home: Path,
    trusted: TrustedKeys,
    gate: QualityGate,
    *,
    watch: Watch = unwatched,
) -> Comparison:
    """Hold the new version's quality against that of the version which `home` serves.

    Args:
        quality: figures of the new version: `ne` of the first task, further ones under `tasks`.
        tasks: the new version's tasks, in order.
        home: the vertical's folder in the repository; may be missing.
        trusted: whose versions count.
        gate: the bound.
        watch: shows how much of the served version is checked.

    Raises:
        ExportRefusedError: it is worse than the gate allows, or lacks a task or a figure that the served version has.
        VersionError: the served version is damaged, unsigned or edited.
    """
    number: int | None = None
    losses: dict[str, float] = {}
    try:
        number = served_version(home)
        if number is None:
            return Comparison(None, {})
        served = check_served(home, trusted, watch)
        if served is None:
            return Comparison(None, {})
        number = served.number
        losses |= _losses(quality, tasks, served.manifest)
        worst = max(losses, key=losses.__getitem__, default="")
        if worst and losses[worst] > gate.max_ne_loss:
            text = f"NE of {worst} is {losses[worst]:.2%} worse than served version {number}'s"
            raise ExportRefusedError(f"quality: {text}; the bound is {gate.max_ne_loss:.2%}")
    except ExportRefusedError as error:
        if gate.allow_worse:
            return Comparison(number, losses, str(error))
        advice = "roll back, or publish with --allow-worse" if isinstance(error, VersionError) else "--allow-worse"
        raise type(error)(f"{error} ({advice})") from error
    return Comparison(number, losses)


def ne_of(quality: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, float]:
    """Normalized entropy by task, of the tasks that have a finite one."""
    return figure_of(quality, tasks, "ne")


def figure_of(quality: Mapping[str, Any], tasks: Sequence[str], name: str) -> dict[str, float]:
    """One figure of the quality by task; tasks without a finite value are left out."""
    further = quality.get("tasks", {})
    found: dict[str, Any] = {task: further.get(task, {}).get(name) for task in tasks[1:]}
    if tasks:
        found = {tasks[0]: quality.get(name), **found}
    return {task: float(value) for task, value in found.items() if _is_finite(value)}


def _losses(quality: Mapping[str, Any], tasks: Sequence[str], served: Mapping[str, Any]) -> dict[str, float]:
    old = ne_of(served.get("quality", {}), served.get("tasks", ()))
    new = ne_of(quality, tasks)
    if dropped := [task for task in served.get("tasks", ()) if task not in tasks]:
        raise ExportRefusedError(f"tasks: no {dropped[0]}, which the served version answers")
    if missing := [task for task in old if task not in new]:
        raise ExportRefusedError(f"quality: no finite NE of {missing[0]}, which the served version has")
    return {task: new[task] / old[task] - 1 for task in old if old[task] > 0}


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
