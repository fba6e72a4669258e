"""What serving keeps for learning: answers become impressions, RecordOutcomes becomes outcomes, in one event log."""

from collections.abc import Mapping
from typing import Any

from serving.catalog import Vertical
from serving.impressions.capture import Capture
from serving.impressions.log import ServingLog
from serving.impressions.outcomes import parse_outcomes
from serving.ladder.ladder import Answer
from serving.ladder.order import Order
from serving.query import RankQuery


class Keeper:
    """The event log as the servicer's and the ranker's."""

    def __init__(self, verticals: Mapping[str, Vertical], log: ServingLog, shown: int = 1) -> None:
        """`shown`: how many of the best ads of an answer the ad server shows."""
        self._captures = {name: Capture(vertical, shown) for name, vertical in verticals.items()}
        every = dict.fromkeys(task for vertical in verticals.values() for task in vertical.tasks)
        self._tasks = {task: [name for name, one in verticals.items() if task in one.tasks] for task in every}
        self._log = log

    def keep(self, query: RankQuery, answer: Answer, order: Order, handed_over: bool) -> None:
        """Log an answer that was handed over, and count one that was not, for nobody saw its ads.

        Returns at once, whatever the log is doing.
        """
        rows = self._captures[query.vertical.name].rows(query, answer, order)
        if handed_over:
            self._log.offer(rows)
        elif rows:
            self._log.dropped["not_delivered"] += len(rows)

    async def record(self, payload: bytes) -> int:
        """Log the outcomes in a `RecordOutcomesRequest`; how many, once they are durable.

        Raises:
            InvalidRequestError, OverloadedError: none of them was taken.
        """
        rows = await parse_outcomes(payload, self._tasks)
        await self._log.record(rows)
        return len(rows)

    def start(self) -> None:
        """Begin to write."""
        self._log.start()

    def close(self, timeout_s: float) -> None:
        """Write what waits, and end; blocks no longer than that."""
        self._log.close(timeout_s)

    def state(self) -> dict[str, Any]:
        """For `/state`."""
        log = self._log
        return {"written": dict(log.written), "dropped": dict(log.dropped), "queued": log.queued}
