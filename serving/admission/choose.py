"""The laws by name, with what a budget implies for them."""

from serving.admission.aimd import AimdLaw
from serving.admission.fixed import FixedLaw
from serving.admission.gradient import GradientLaw
from serving.admission.law import Bounds, Law

LAWS = ("fixed", "aimd", "gradient")
DEFAULT_LAW = "gradient"


def law_for(name: str, budget_s: float, parallelism: float = 1.0) -> Law:
    """The law of that name for requests that have `budget_s` on a backend that serves `parallelism` at once.

    It starts at what drains in 0.6 of the budget if the predictions are right, may fall to a tenth of what drains in a
    whole one, and rise to twice that, since predictions may be on the safe side. The gradient's target is 1.5 times the
    service time, within 0.4 and 0.9 of the budget: the ceiling must leave room for a service that takes most of it.

    Raises:
        ValueError: an unknown name, or a number that isn't positive.
    """
    full_s = budget_s * parallelism
    bounds = Bounds(full_s / 10, 2 * full_s)
    if name == "fixed":
        return FixedLaw(0.6 * full_s)
    if name == "aimd":
        return AimdLaw(0.6 * full_s, bounds, step_s=full_s / 25)
    if name == "gradient":
        return GradientLaw(
            0.6 * full_s, bounds, floor_s=0.4 * budget_s, ceiling_s=0.9 * budget_s, headroom_s=full_s / 25
        )
    raise ValueError(f"no law {name!r}; there are {', '.join(LAWS)}")


def parallelism_for(models: int, calls: int, cores: int) -> int:
    """How many calls a backend on this machine is taken to run at once, where nobody says.

    One per model, or one fewer than the calls that a model may have outstanding, for the frontend needs a core as well;
    never more than the cores.
    """
    return min(max(models, calls - 1), cores)
