"""How busy this process was in its busiest second; a mean over a whole run hides the seconds that made it late."""

from loadtest.driving.target import own_cpu_s

WINDOW_S = 1.0


class Busy:
    """CPU seconds over wall seconds, window by window, from the first look on; set-up before it doesn't count."""

    def __init__(self) -> None:
        """Nothing has been looked at."""
        self._began: tuple[float, float] | None = None
        self._most: float | None = None

    def share(self, now_s: float) -> float:
        """The greatest share of any whole window up to this monotonic instant; of the first one if none is whole yet.

        To be asked again and again: a window ends with the first look after its time.
        """
        cpu_s = own_cpu_s()
        if self._began is None:
            self._began = now_s, cpu_s
        past_s, used_s = now_s - self._began[0], cpu_s - self._began[1]
        if past_s >= WINDOW_S:
            self._most = max(self._most or 0.0, used_s / past_s)
            self._began = now_s, cpu_s
        return used_s / WINDOW_S if self._most is None else self._most
