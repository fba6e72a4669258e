"""How long an example waits for its annotation, and what a stop costs."""

import math

from exfm.augment.planning.steps import Step, note, shown


def lag(
    per_s: float, batch: int, linger_s: float, speeds: tuple[float, float], steps: list[Step]
) -> tuple[float, float]:
    """Mean seconds of an example, and seconds to catch up with an hour.

    The wait is that of Poisson arrivals of batches that all take equally long (Pollaczek-Khinchine, M/D/1).

    Args:
        per_s: impressions per second, fewer than are annotated.
        batch: examples of a forward pass.
        linger_s: seconds that an example may wait for its batch.
        speeds: examples per second of what works at a batch, and of all that work at batches.
        steps: the arithmetic is added to.
    """
    busy, every = speeds
    load = per_s / every
    fill_s = min(linger_s, batch / per_s)
    note(steps, "a batch fills", f"min({shown(linger_s)} s, {batch:,} / {shown(per_s)}/s)", fill_s, "s")
    size = min(float(batch), max(1.0, per_s * fill_s))
    work_s = note(steps, "its work", f"{shown(size)} examples / {shown(busy)}/s", size / busy, "s")
    wait_s = load / (2 * (1 - load)) * size / every
    formula = f"{load:.3f} / (2 x {1 - load:.3f}) x {shown(size)} / {shown(every)}/s"
    note(steps, "its wait", formula, wait_s, "s")
    lag_s = note(steps, "lag", "half a fill + wait + work", fill_s / 2 + wait_s + work_s, "s")
    catch_up_s = 3600 * load / (1 - load)
    return lag_s, note(steps, "after an hour's stop", f"3,600 s x {load:.3f} / {1 - load:.3f}", catch_up_s, "s")


def enough(per_s: float, each: float) -> int:
    """The fewest devices whose load is below one."""
    return math.floor(per_s / each) + 1
