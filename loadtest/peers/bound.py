"""What a capacity is bounded by: the try that ended its search."""

from collections.abc import Sequence

from loadtest.peers.trial import IN_TIME_SHARE, Trial


def bound_of(made: Sequence[Trial], capacity_rps: float) -> Trial | None:
    """The try at the lowest rate that failed after the capacity was confirmed; None if none did.

    What failed at a higher rate before that may have been a hiccup, and the search went on past it. Of several tries at
    that rate one that the generator was on time for decides. Without a capacity nothing was confirmed, and all count.

    Args:
        made: the search's tries in the order they were made.
        capacity_rps: what it found, 0 for nothing.
    """
    held = [at for at, trial in enumerate(made) if trial.rate_rps == capacity_rps and _holds(trial)]
    after = made[held[-1] + 1 :] if held else made
    failed = [trial for trial in after if trial.rate_rps > capacity_rps and not _holds(trial)]
    return min(failed, key=lambda trial: (trial.rate_rps, not trial.sound), default=None)


def only_spoiled_below(made: Sequence[Trial], capacity_rps: float, bound_rps: float) -> bool:
    """Whether between the two there is a rate that no try failed at but those that the generator spoiled."""
    between = [trial for trial in made if capacity_rps < trial.rate_rps < bound_rps and not _holds(trial)]
    spoiled = {trial.rate_rps for trial in between if not trial.sound}
    return bool(spoiled - {trial.rate_rps for trial in between if trial.sound})


def _holds(trial: Trial) -> bool:
    return trial.in_time_share >= IN_TIME_SHARE
