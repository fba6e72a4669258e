"""Whatever can be put under load, and the one way to do it: open loop, timed from the scheduled instant."""

import asyncio
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadtest.checking.outcomes import Outcome
from loadtest.checking.record import Record
from loadtest.driving import open_loop
from loadtest.driving.meter import CpuMeter

LEAST_S = 0.0005
"""The shortest time that a call is given, however late it was sent."""
SENT_LATE_S = 0.002
"""Less than this is never the generator's being late; see `sent_late_s`."""
MEDIAN_LATE_S = 0.002
"""A median lateness below this is never the generator's being late; see `median_late_s`."""
LEAD_S = 0.1
"""Between the start of a drive and the schedule's zero, so that the first requests aren't late for set-up."""


def sent_late_s(budget_s: float) -> float:
    """From how late on a request counts as sent late: a fifth of the budget, at least 2 ms."""
    return max(SENT_LATE_S, budget_s / 5)


def median_late_s(budget_s: float) -> float:
    """How late half of the requests may be sent: a twentieth of the budget, at least 2 ms.

    An event loop's timers have a resolution of a millisecond, rounded up: an idle generator's median is 0.5 to 0.9 ms,
    with or without neighbours that want its two cores, locust's up to 1.2 ms. Beyond that it is the generator that is
    slow, and it makes all that it measures slow by as much.
    """
    return max(MEDIAN_LATE_S, budget_s / 20)


@dataclass(frozen=True)
class Reply:
    """What a target made of one request.

    Attributes:
        ok: a sound answer came: scores for all candidates, checked. A refusal is not ok.
        tier: which tier answered (`full` where there is only one), or `shed`, `unanswered`, `failed`, `wrong`.
        error: what was the matter, for people; empty if nothing was.
        answered_s: the monotonic instant at which the answer was in hand; None: when `send` returned. A target that
            spends time on checking its answers says it, so that checking isn't counted as the server's.
        stages_ms: where the server says that its time went.
        version: of the model that answered, 0 if unknown.
    """

    ok: bool
    tier: str
    error: str = ""
    answered_s: float | None = None
    stages_ms: Mapping[str, float] = field(default_factory=dict)
    version: int = 0


class Target(Protocol):
    """Something that answers requests; it holds the requests itself."""

    async def send(self, index: int, timeout_s: float) -> Reply:
        """Send request `index` (wrapping round as it likes) and wait for the answer, no longer than `timeout_s`.

        A `TimeoutError` is taken for an unanswered request, any other exception for a failed one.
        """


@dataclass(frozen=True)
class Result:
    """One drive in numbers; what they are made of is in `record`.

    Attributes:
        offered: requests of the schedule; each was sent.
        late: of them without a sound answer or a shed refusal within the budget of the scheduled instant.
        p50_ms, p99_ms, p999_ms: latency from the scheduled instant over all requests; see `outcomes.counted_s`.
        goodput_rps: sound answers within the budget, per second of the schedule.
        tiers: share of the offered requests by tier, refusals and failures included; they sum to 1.
        sent_late_p99_ms: the generator's own lateness in sending.
        sent_late_share: requests that it sent `sent_late_s` late or more.
        cpu_share: CPU seconds of this process over wall seconds; an event loop can't have more than one core.
        cpu_s: those CPU seconds.
        seconds: of the schedule.
        record: each request.
        cpu_peak: as `cpu_share`, in the busiest second; 0 where that was not measured.
    """

    offered: int
    late: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    goodput_rps: float
    tiers: dict[str, float]
    sent_late_p99_ms: float
    sent_late_share: float
    cpu_share: float
    cpu_s: float
    seconds: float
    record: Record
    cpu_peak: float = 0.0


async def drive(
    target: Target,
    schedule_s: Sequence[float] | NDArray[np.float64],
    budget_s: float,
    *,
    timeout_s: float | None = None,
    seconds: float | None = None,
    done: Callable[[], None] = lambda: None,
) -> Result:
    """Send request i at `schedule_s[i]` seconds from now, whatever became of those before it.

    Args:
        target: what to send to.
        schedule_s: increasing instants in seconds, at least one.
        budget_s: what a request may take, from its scheduled instant.
        timeout_s: how long to wait, likewise from the scheduled instant; by default the budget, as an ad server would.
        seconds: the schedule's length, if it goes on after the last request.
        done: called once per answer, for a progress bar.

    Raises:
        ValueError: the schedule is empty.
    """
    at_s = np.asarray(schedule_s, np.float64)
    if not len(at_s):
        raise ValueError("an empty schedule drives nothing")
    wait_s = budget_s if timeout_s is None else timeout_s

    async def send(index: int, lateness_s: float) -> tuple[Reply, float]:
        reply = await _reply(target, index, max(wait_s - lateness_s, LEAST_S))
        return reply, time.monotonic() if reply.answered_s is None else reply.answered_s

    async with CpuMeter(own_cpu_s) as meter:
        replies = await open_loop.drive(send, LEAD_S + at_s, done)
    made = summed_up(_record(at_s, replies), budget_s, seconds or float(at_s[-1]), meter.cpu_s, meter.wall_s)
    return replace(made, cpu_peak=meter.peak)


def summed_up(record: Record, budget_s: float, seconds: float, cpu_s: float, wall_s: float) -> Result:
    """The numbers of a record of at least one request; CPU and wall seconds are the generator's."""
    late = record.late(budget_s)
    p50, p99, p999 = (float(value) * 1e3 for value in np.percentile(record.counted_s(budget_s), [50, 99, 99.9]))
    return Result(
        offered=len(record),
        late=int(late.sum()),
        p50_ms=p50,
        p99_ms=p99,
        p999_ms=p999,
        goodput_rps=float(np.sum(record.ok & ~late) / max(seconds, 1e-9)),
        tiers=record.tiers(),
        sent_late_p99_ms=float(np.percentile(record.lateness_s, 99)) * 1e3,
        sent_late_share=float(np.mean(record.lateness_s >= sent_late_s(budget_s))),
        cpu_share=cpu_s / max(wall_s, 1e-9),
        cpu_s=cpu_s,
        seconds=seconds,
        record=record,
    )


async def _reply(target: Target, index: int, timeout_s: float) -> Reply:
    try:
        async with asyncio.timeout(timeout_s + 1.0):  # a target that keeps no time itself can't hold up the end
            return await target.send(index, timeout_s)
    except TimeoutError:
        return Reply(False, Outcome.UNANSWERED, "no answer in time")
    except Exception as error:  # a reply like any other: the verdict says what it is worth
        return Reply(False, Outcome.FAILED, f"{type(error).__name__}: {error}")


def _record(at_s: NDArray[np.float64], replies: Sequence[open_loop.Reply[tuple[Reply, float]]]) -> Record:
    answers = [reply.answer for reply in replies]
    made = [answer[0] for answer in answers if not isinstance(answer, Exception)]
    # `_reply` turns every exception into an answer, so none is missing here.
    assert len(made) == len(answers)
    after_s = np.array([answer[1] for answer in answers if not isinstance(answer, Exception)])
    return Record(
        at_s=at_s,
        latency_s=after_s - np.array([reply.scheduled_s for reply in replies]),
        lateness_s=np.array([reply.lateness_s for reply in replies]),
        ok=np.array([reply.ok for reply in made]),
        tier=np.array([reply.tier for reply in made]),
        version=np.array([reply.version for reply in made], np.int64),
        error=tuple(reply.error for reply in made),
        stages_ms=_stages(made),
    )


def _stages(made: Sequence[Reply]) -> dict[str, NDArray[np.float64]]:
    names = dict.fromkeys(name for reply in made for name in reply.stages_ms)
    return {name: np.array([reply.stages_ms.get(name, np.nan) for reply in made]) for name in names}


def own_cpu_s() -> float:
    """CPU seconds that this process has used so far, its threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
