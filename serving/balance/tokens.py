"""The hedges' budget: extra calls are bound to a share of the requests, whatever the backends do."""


class HedgeTokens:
    """A bucket that each request fills by `share`, to `most` at the top, and each hedge empties by one.

    So over any stretch of R requests there are no more than `share` R + `most` hedges, and a sick backend can't double
    the load of the others. Pure: what passes is requests, not time.

    Source: Dean and Barroso, The Tail at Scale, CACM 56(2), 2013 (hedging after the tail's quantile for a few per cent
    of extra load); the bucket is that of the retry throttling in gRFC A6, filled per request.
    """

    def __init__(self, share: float = 0.05, most: float = 10.0) -> None:
        """Begin with a full bucket.

        Raises:
            ValueError: `share` isn't within 0 and 1, or `most` is below 1.
        """
        if not (0 <= share <= 1 and most >= 1):
            raise ValueError(f"share {share} and most {most}: expected 0 <= share <= 1 <= most")
        self._share = share
        self._most = most
        self._left = most
        self.taken = 0
        self.won = 0
        """How many hedges answered before the call that they were to replace."""

    @property
    def left(self) -> float:
        """What is in the bucket."""
        return self._left

    @property
    def available(self) -> bool:
        """Whether there is a whole one."""
        return self._left >= 1

    def accrue(self) -> None:
        """A request has come."""
        self._left = min(self._left + self._share, self._most)

    def take(self) -> bool:
        """Take one for a hedge; False: there is none."""
        if not self.available:
            return False
        self._left -= 1
        self.taken += 1
        return True
