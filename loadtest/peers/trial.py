"""One system under load: the largest rate that it serves in time, and its goodput at a given rate."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.schedule import arrivals
from loadtest.arrivals.shapes import SHAPES
from loadtest.checking.outcomes import SCORED, Outcome
from loadtest.driving.measure import quiet
from loadtest.driving.search import NoCapacityError, find_capacity
from loadtest.driving.target import Result, drive
from loadtest.peers.asking import alone, in_time, one_by_one, warm
from loadtest.peers.caller import OFF, CheckedTarget, Probability
from loadtest.peers.samples import Sample
from loadtest.peers.systems import Running
from loadtest.verdict.judge import faults_of_generator
from loadtest.verdict.tally import tally_of

IN_TIME_SHARE = 0.99
"""At the capacity at least this share is answered by the full model within the budget, so p99 is within it, too."""
PROBED, CONFIRMED = 300, 600
"""The least requests of a probe and of a confirming run, as far as `LONGEST_S` has room for them."""
LONGEST_S = 30.0
"""No run of a search is made longer than this for their sake: that nothing holds shall be known within minutes."""
STEP, NEAR_STEP = 1.5, 1.25
"""From one rate to the next: at first, and where an earlier search gives the place to begin at."""
PATIENCE = 2
"""So often a rate is driven at which the generator was the bottleneck."""
SETTLE_S = 10.0
"""The longest to wait after a run until the system answers in time again."""
CALM = 20
"""So many answers in time one after another, and it has settled."""


@dataclass(frozen=True)
class Trial:
    """One drive; shares are of the offered requests.

    Attributes:
        rate_rps: mean of the Poisson arrivals; `offered` is how many came.
        goodput_rps: scored by a model, within the budget, per second.
        full_goodput_rps: of those, by the full model.
        answered_rps: within the budget by any tier, the model-free prior included.
        in_time_share: answered by the full model within the budget.
        tiers: share by tier, or by what came instead.
        errors: the commonest texts and how often they came.
        sound: whether the generator kept up; if not, the figures are the generator's.
        wrong: answers that don't fit the model, of those offered.
    """

    rate_rps: float
    seconds: float
    offered: int
    goodput_rps: float
    full_goodput_rps: float
    answered_rps: float
    in_time_share: float
    p50_ms: float
    p99_ms: float
    tiers: dict[str, float]
    errors: dict[str, int]
    sent_late_p99_ms: float
    generator_cpu_share: float
    sound: bool
    wrong: int = 0

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Start = Callable[[], contextlib.AbstractContextManager[Running]]


class Bench:
    """Runs one system and drives it with samples and by schedules that all systems get.

    A system that an overload has killed, or left busy for long, is started anew; `restarts` counts how often.
    """

    def __init__(
        self,
        start: Start,
        samples: Sequence[Sample],
        tasks: int,
        budget_s: float,
        *,
        seed: int,
        off: float = OFF,
        known: list[Probability | None] | None = None,
    ) -> None:
        """What to drive, and what its answers are held to.

        Args:
            start: runs the system.
            samples: the requests.
            tasks: columns of an answer.
            budget_s: of a request.
            seed: of the arrivals.
            off: how far a score may be off the known one, absolute.
            known: the model's answers by request; those that are missing are asked for once, and entered.
        """
        self.restarts = 0
        self._start = start
        self._samples = samples
        self._shapes = [(len(sample), tasks) for sample in samples]
        self._budget_s = budget_s
        self._seed, self._off = seed, off
        self._known: list[Probability | None] = [None] * len(samples) if known is None else known
        self._asked = False
        self._life = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._running = self._life.enter_context(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    @property
    def versions(self) -> dict[str, str]:
        """What only the running system tells."""
        return self._running.versions

    def trial(self, rate_rps: float, seconds: float, salt: int = 0) -> Trial:
        """One drive of Poisson arrivals; the same rate, length and salt give the same arrivals."""
        seed = self._seed + salt
        schedule_s = arrivals(SHAPES["steady"](rate_rps, seconds, seed), seed)
        with quiet(), own_priority_afterwards():
            result = asyncio.run(self._driven(schedule_s, seconds))
        return trial_of(result, rate_rps, self._budget_s)

    def capacity(self, probe_s: float, confirm_s: float, found_rps: float = 0.0) -> tuple[float, list[Trial]]:
        """The largest rate with p99 within the budget, 0 if there is none, and the trials that found it.

        One rule for all systems: a rate has failed when it failed twice, by however much (past a confirmed one, once).
        How deep a system falls tells nothing of why: a queue that nothing is thrown out of stays full after a hiccup,
        one that sheds has recovered.
        A try that the generator spoiled is made again, at most `PATIENCE` times in all, likewise for every system.

        Args:
            probe_s: least length of a probe.
            confirm_s: least length of a confirming run.
            found_rps: where to begin, the result of an earlier search; 0: at the rate of one request at a time.
        """
        made: list[Trial] = []

        def holds(rate_rps: float, seconds: float) -> bool:
            least = PROBED if seconds == probe_s else CONFIRMED
            length_s = max(seconds, min(least / rate_rps, LONGEST_S))
            for _ in range(PATIENCE):
                made.append(self.trial(rate_rps, length_s, len(made)))
                self.settle()
                if made[-1].sound or made[-1].in_time_share >= IN_TIME_SHARE:
                    break
            return made[-1].in_time_share >= IN_TIME_SHARE

        first_rps, step = (found_rps, NEAR_STEP) if found_rps else (asyncio.run(self._one_by_one()), STEP)
        try:
            return find_capacity(holds, first_rps, probe_s, confirm_s, step=step), made
        except NoCapacityError:
            return 0.0, made

    def settle(self) -> None:
        """Wait until what a run has left behind is gone; start the system anew if it isn't within `SETTLE_S`."""
        if not asyncio.run(self._settled()):
            self.restarts += 1
            self._life.close()
            self._running = self._life.enter_context(self._start())

    async def _driven(self, schedule_s: NDArray[np.float64], seconds: float) -> Result:
        caller = self._running.caller(self._samples)
        try:
            await warm(CheckedTarget(caller, self._shapes))
            if not self._asked:
                self._asked = True
                await alone(caller, self._known)
            target = CheckedTarget(caller, self._shapes, self._known, self._off)
            return await drive(target, schedule_s, self._budget_s, seconds=seconds)
        finally:
            await caller.close()

    async def _one_by_one(self) -> float:
        caller = self._running.caller(self._samples)
        try:
            await warm(CheckedTarget(caller, self._shapes))
            return await one_by_one(caller)
        finally:
            await caller.close()

    async def _settled(self) -> bool:
        caller = self._running.caller(self._samples)
        try:
            async with asyncio.timeout(SETTLE_S):
                calm = 0
                while calm < CALM:
                    calm = calm + 1 if await in_time(caller, calm, self._budget_s) else 0
        except TimeoutError:
            return False
        finally:
            await caller.close()
        return True


def trial_of(result: Result, rate_rps: float, budget_s: float) -> Trial:
    """A drive's figures."""
    record, seconds = result.record, result.seconds
    good = record.in_time(budget_s)
    scored, full = good & np.isin(record.tier, SCORED), good & (record.tier == Outcome.FULL)
    return Trial(
        rate_rps=rate_rps,
        seconds=seconds,
        offered=result.offered,
        goodput_rps=float(scored.sum() / seconds),
        full_goodput_rps=float(full.sum() / seconds),
        answered_rps=float(good.sum() / seconds),
        in_time_share=float(full.mean()),
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        tiers=result.tiers,
        errors=dict(list(record.errors().items())[:3]),
        sent_late_p99_ms=result.sent_late_p99_ms,
        generator_cpu_share=result.cpu_share,
        sound=not faults_of_generator(tally_of(result, budget_s)),
        wrong=int((record.tier == Outcome.WRONG).sum()),
    )


@contextlib.contextmanager
def own_priority_afterwards() -> Iterator[None]:
    """What is started after a drive must not inherit the generator's priority."""
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, 0)
