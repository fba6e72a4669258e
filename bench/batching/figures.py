"""What the runs amount to. Pure arithmetic.

Each request ends one of three ways, by its *scheduled* instant plus its budget: answered in time by the model; fallen
back in time, because somebody said early enough that the model would not answer (a full house, a queue's timer, a
predicted finish past the deadline), so that the product's prior could; or late. Runs are compared only within a round,
in which all variants met the same offered rate within a few seconds of each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loadtest.driving.open_loop import Reply
from serving.errors import BackendError
from serving.inference.scorer import Scores


@dataclass(frozen=True)
class Cost:
    """What a run took.

    Attributes:
        client_cpu_s: CPU seconds of the process that sends, and forms batches where the variant does that.
        triton_cpu_s: of Triton and its model processes.
        other_cpu_s: of everything else on the machine; figures are disturbed by it.
        wall_s: from the first request to the last reply.
        scored: requests that the model scored, for nothing or not.
        calls: runs of the model.
    """

    client_cpu_s: float
    triton_cpu_s: float
    other_cpu_s: float
    wall_s: float
    scored: int
    calls: int


@dataclass(frozen=True)
class Sample:
    """One run of one variant.

    Attributes:
        variant, multiple, round: which.
        offered_rps: requests per second of the schedule.
        goodput_rps: answered by the model in time, per second of the schedule.
        goodput_per_cpu_s: the same per processor that client and Triton had, which others on the machine disturb less.
        late_share: of the offered: neither answered nor fallen back in time.
        fell_back_share: of the offered: fallen back in time.
        failed_share: of the offered: ended with an error that has nothing to do with load.
        p50_ms, p99_ms: from the scheduled instant, over the model's answers that were waited for; None without any.
        batch: requests per run of the model; None if it never ran.
        wasted_share: of the requests that the model scored, those that were not answered in time.
        client_cpu_share, triton_cpu_share, other_cpu_share: in processors, averaged over the run.
    """

    variant: str
    multiple: float
    round: int
    offered_rps: float
    goodput_rps: float
    goodput_per_cpu_s: float | None
    late_share: float
    fell_back_share: float
    failed_share: float
    p50_ms: float | None
    p99_ms: float | None
    batch: float | None
    wasted_share: float | None
    client_cpu_share: float
    triton_cpu_share: float
    other_cpu_share: float


FIGURES = tuple(name for name in Sample.__annotations__ if name not in ("variant", "multiple", "round"))


def sample(
    label: tuple[str, float, int],
    replies: Sequence[Reply[Scores]],
    budgets_s: Sequence[float],
    seconds: float,
    cost: Cost,
) -> Sample:
    """Sum up one run of at least one request."""
    latency_s = np.array([reply.latency_s for reply in replies])
    in_time = latency_s <= np.array(budgets_s)
    answered = np.array([isinstance(reply.answer, Scores) for reply in replies])
    refused = np.array([isinstance(reply.answer, BackendError) for reply in replies])
    failed = np.array([isinstance(reply.answer, Exception) for reply in replies]) & ~refused & in_time
    good = int((answered & in_time).sum())
    cpu_s = cost.client_cpu_s + cost.triton_cpu_s
    quantiles = np.percentile(latency_s[answered], (50, 99)) * 1e3 if answered.any() else (None, None)
    return Sample(
        *label,
        offered_rps=len(replies) / seconds,
        goodput_rps=good / seconds,
        goodput_per_cpu_s=good / seconds * cost.wall_s / cpu_s if cpu_s else None,
        late_share=float(np.mean(~in_time)),
        fell_back_share=float(np.mean(refused & in_time)),
        failed_share=float(np.mean(failed)),
        p50_ms=_plain(quantiles[0]),
        p99_ms=_plain(quantiles[1]),
        batch=cost.scored / cost.calls if cost.calls else None,
        wasted_share=max(0.0, 1 - good / cost.scored) if cost.scored else None,
        client_cpu_share=cost.client_cpu_s / cost.wall_s,
        triton_cpu_share=cost.triton_cpu_s / cost.wall_s,
        other_cpu_share=cost.other_cpu_s / cost.wall_s,
    )


def summaries(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Per multiple and variant, in the order of first appearance: median, least and most of every figure."""
    made = []
    for multiple, variant in dict.fromkeys((one.multiple, one.variant) for one in samples):
        runs = [one for one in samples if (one.multiple, one.variant) == (multiple, variant)]
        figures = {name: spread([getattr(run, name) for run in runs]) for name in FIGURES}
        made.append({"multiple": multiple, "variant": variant, "runs": len(runs), **figures})
    return made


def ratios(samples: Sequence[Sample], reference: str) -> list[dict[str, Any]]:
    """Goodput of each variant, and goodput per CPU second, over the reference's in the same round and multiple."""
    base = {(one.multiple, one.round): one for one in samples if one.variant == reference}
    made = []
    for multiple, variant in dict.fromkeys((one.multiple, one.variant) for one in samples):
        pairs = [
            (one, base[multiple, one.round])
            for one in samples
            if (one.multiple, one.variant) == (multiple, variant) and (multiple, one.round) in base
        ]
        rate = spread([_over(one.goodput_rps, under.goodput_rps) for one, under in pairs])
        cpu = spread([_over(one.goodput_per_cpu_s, under.goodput_per_cpu_s) for one, under in pairs])
        labels = {"multiple": multiple, "variant": variant, "over": reference}
        made.append({**labels, "goodput_ratio": rate, "goodput_per_cpu_ratio": cpu})
    return made


def best(samples: Sequence[Sample], family: Sequence[str], overloaded: float = 1.0) -> str:
    """The variant of the family with the most goodput above the multiple `overloaded`; over all runs if none is."""
    above = [one for one in samples if one.multiple > overloaded] or list(samples)
    total: Mapping[str, float] = {name: sum(o.goodput_rps for o in above if o.variant == name) for name in family}
    return max(family, key=total.__getitem__)


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Median, least and most of what was measured; None if nothing was."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"median": float(np.median(known)), "min": float(min(known)), "max": float(max(known))}


def _over(value: float | None, under: float | None) -> float | None:
    return value / under if value is not None and under else None


def _plain(value: float | None) -> float | None:
    return None if value is None else float(value)
