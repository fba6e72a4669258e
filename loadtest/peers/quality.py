"""Whether the two models that are compared are equally good: normalized entropy, as their manifests have it."""

from collections.abc import Mapping
from typing import Any

from loadtest.peers.model import Model

NE_GAP = 0.001
"""The student counts as of equal quality if its NE is at most so much larger than the naive one's, a share of that."""


def quality_of(student: Model, naive: Model) -> dict[str, Any]:
    """`ne_student` and `ne_naive` of the first task, on the last day before it was learned, and `ne_gap`.

    The gap is how much larger the student's is, a share of the naive one's, negative if the student is the better; in
    it is what the student loses by the engine that it was published with, which `ne_student` is without. Empty if a
    manifest claims nothing, as that of random weights does.
    """
    ours, theirs = (model.manifest.get("quality", {}).get("ne") for model in (student, naive))
    if not ours or not theirs:
        return {}
    loss = float(student.manifest.get("parity", {}).get("ne_loss", 0.0))
    return {
        "task": student.schema.tasks[0],
        "ne_student": ours,
        "ne_naive": theirs,
        "engine": student.manifest.get("engine", ""),
        "engine_ne_loss": loss,
        "ne_gap": ours * (1 + loss) / theirs - 1,
    }


def fault_of(quality: Mapping[str, Any]) -> str:
    """Why the two don't count as equally good; empty if they do."""
    if not quality:
        return "the quality of the two models was not compared"
    gap = quality["ne_gap"]
    return "" if gap <= NE_GAP else f"exfm's student is not of equal quality: NE {gap:+.2%}, the bound is {NE_GAP:+.1%}"


def told(quality: Mapping[str, Any]) -> str:
    """One line for people."""
    if not quality:
        return "Quality: not compared; the naive model was not trained"
    return (
        f"Quality: NE of {quality['task']} {quality['ne_student']:.4f} (student, which exfm serves by "
        f"{quality['engine']}) against {quality['ne_naive']:.4f} (naive, which the others serve): "
        f"{quality['ne_gap']:+.2%}, {'beyond' if fault_of(quality) else 'within'} the bound of {NE_GAP:+.1%}"
    )
