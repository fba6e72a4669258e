"""The scored canary: known features, known answer, inside the budget. Nothing less says that a model serves."""

import logging
from dataclasses import dataclass
from enum import Enum

import numpy as np

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.catalog import Vertical
from serving.errors import BackendError, BadScoresError, BusyError, EjectedError, LateError, UnavailableError
from serving.inference.scorer import Scorer, Scores
from serving.query import RankQuery

log = logging.getLogger(__name__)

IN_TIME_SHARE = 0.8
"""The share of the budget that the canary may take: a request needs the rest for its own decoding and reply."""


class Finding(Enum):
    """What a canary found."""

    PASSED = "passed"
    SLOW = "slow"  # the right answer, but outside its share of the budget
    BUSY = "busy"  # no room: a sign of life from a full queue
    WRONG = "wrong"  # another answer, or none that is one
    SILENT = "silent"  # no answer
    GONE = "gone"  # nobody there


FINDING_OF: dict[type[BackendError], Finding] = {
    LateError: Finding.SILENT,
    BusyError: Finding.BUSY,
    UnavailableError: Finding.GONE,
    EjectedError: Finding.SILENT,
    BadScoresError: Finding.WRONG,
}
"""What each failure of a backend tells about it."""


@dataclass(frozen=True)
class Sighting:
    """One canary's result; `detail` says more for the log."""

    finding: Finding
    detail: str
    spent_s: float


class Canary:
    """Asks a scorer for the vertical's golden request; for longer than the budget, to tell slow from silent."""

    def __init__(self, vertical: Vertical, patience_s: float = 1.0, clock: Clock = MONOTONIC) -> None:
        golden = vertical.golden
        count = len(golden.probability)
        self.name = vertical.name
        self._vertical = vertical
        self._query = RankQuery(
            "canary", vertical, golden.inputs, np.arange(count, dtype=np.int64), np.ones(count, np.float64)
        )
        self._patience_s = max(patience_s, vertical.budget_s)
        self._clock = clock
        self._watchdog = Watchdog()

    async def fly(self, scorer: Scorer) -> Sighting:
        """Score the golden request once and judge the answer; raises nothing but cancellation."""
        until = Deadline.after(self._patience_s, self._clock)
        try:
            scores = await self._watchdog.within(scorer.score(self._query, until), until)
        except BackendError as error:
            finding, detail = FINDING_OF[type(error)], str(error)
        except Exception as error:
            log.exception("%s: the scorer failed on the canary", self.name)
            finding, detail = Finding.WRONG, repr(error)
        else:
            finding, detail = self._judge(scores, self._patience_s - until.remaining_s())
        return Sighting(finding, detail, self._patience_s - until.remaining_s())

    def _judge(self, scores: Scores, spent_s: float) -> tuple[Finding, str]:
        golden = self._vertical.golden
        off = float(np.abs(scores.probability - golden.probability).max())
        if not off <= golden.tolerance:
            return Finding.WRONG, f"scores are off by {off:.3g}, tolerated is {golden.tolerance:.3g}"
        in_time = spent_s <= IN_TIME_SHARE * self._vertical.budget_s
        return Finding.PASSED if in_time else Finding.SLOW, f"off by {off:.3g} after {spent_s * 1e3:.1f} ms"
