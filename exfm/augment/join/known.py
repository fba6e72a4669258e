"""How far the labels are known: a negative one needs all outcomes that were in the log when its window ended."""

from dataclasses import dataclass

from exfm.augment.join.reading import Reading


@dataclass(frozen=True)
class Known:
    """What was told of windows that end by `at_ms` was read.

    Where outcomes keep coming faster than a step reads them their end is never met. So each time a goal is set: the end
    that there is now; once it is reached, all is known that event time had closed when it was set.

    Attributes:
        at_ms: milliseconds since the epoch; 0: nothing is known yet.
        goal: the offset among the outcomes that is to be reached next; 0: none.
        goal_ms: what will be known then; without a goal `at_ms`.
    """

    at_ms: int = 0
    goal: int = 0
    goal_ms: int = 0

    def after(self, told: Reading, end: int, watermark_ms: int) -> "Known":
        """After a reading of outcomes.

        Args:
            told: the reading.
            end: the last offset that the outcomes have, looked up after the impressions behind the watermark were read.
            watermark_ms: up to where windows are over.
        """
        if not told.full:
            return Known(watermark_ms, 0, watermark_ms)
        if told.rewound:
            return Known(0, end, watermark_ms)
        if self.goal and told.end < self.goal:
            return self
        return Known(self.goal_ms, end, watermark_ms)
