"""The scored canary: known features, known answer, inside the budget. Nothing less says that a model serves."""

import logging
from dataclasses import dataclass
from enum import Enum

import numpy as np

from serving.budget.clock import MONOTONIC, Clock
from serving.budget.deadline import Deadline
from serving.budget.watchdog import Watchdog
from serving.catalog import Vertical
from serving.errors import BackendError, BadScoresError, UnavailableError
from serving.inference.scorer import Scorer
from serving.query import RankQuery

log = logging.getLogger(__name__)


class Finding(Enum):
    """What a canary found."""

    PASSED = "passed"
    SLOW = "slow"  # the right answer, outside the budget
    WRONG = "wrong"  # another answer, or none that is one
    SILENT = "silent"  # no answer
    GONE = "gone"  # nobody there


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
        except BadScoresError as error:
            return self._sighting(Finding.WRONG, str(error), until)
        except UnavailableError as error:
            return self._sighting(Finding.GONE, str(error), until)
        except BackendError as error:
            return self._sighting(Finding.SILENT, str(error), until)
        except Exception as error:
            log.exception("%s: the scorer failed on the canary", self.name)
            return self._sighting(Finding.WRONG, repr(error), until)
        off = float(np.abs(scores.probability - self._vertical.golden.probability).max())
        if not off <= self._vertical.golden.tolerance:
            detail = f"scores are off by {off:.3g}, tolerated is {self._vertical.golden.tolerance:.3g}"
            return self._sighting(Finding.WRONG, detail, until)
        spent_s = self._patience_s - until.remaining_s()
        in_time = spent_s <= self._vertical.budget_s
        return self._sighting(Finding.PASSED if in_time else Finding.SLOW, f"off by {off:.3g}", until)

    def _sighting(self, finding: Finding, detail: str, until: Deadline) -> Sighting:
        return Sighting(finding, detail, self._patience_s - until.remaining_s())
