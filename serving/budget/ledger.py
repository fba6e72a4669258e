"""The ledger: where a request's budget went."""

from serving.budget.clock import MONOTONIC, Clock


class Ledger:
    """Books a request's time to stages that follow one another without a gap, so that they sum to what was spent."""

    def __init__(self, arrived_s: float, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self._arrived_s = arrived_s
        self._last_s = arrived_s
        self._stages: list[tuple[str, float]] = []

    def close(self, stage: str) -> float:
        """Book the time since the stage before to `stage`; returns it, in seconds."""
        now_s = self._clock()
        spent_s = now_s - self._last_s
        self._stages.append((stage, spent_s))
        self._last_s = now_s
        return spent_s

    @property
    def stages(self) -> tuple[tuple[str, float], ...]:
        """Name and seconds per closed stage, in order."""
        return tuple(self._stages)

    @property
    def spent_s(self) -> float:
        """Seconds from the arrival to the end of the last closed stage."""
        return self._last_s - self._arrived_s
