"""One cut per window: losses that one overload causes are one piece of news."""


class LossWindow:
    """Tells the first loss of a window from its echoes.

    What is in flight when the limit is cut was admitted under the old limit, and its losses say nothing of the new one.
    A window is over once as much cost has ended as the old limit let in. Source: TCP reduces its window once per window
    of data (RFC 6582, section 3.2).
    """

    def __init__(self) -> None:
        self._left_s = 0.0

    @property
    def over(self) -> bool:
        """Whether a loss would be news."""
        return self._left_s <= 0

    def open(self, limit_s: float) -> None:
        """A cut was made from `limit_s`."""
        self._left_s = limit_s

    def ended(self, cost_s: float) -> None:
        """That much cost has ended, whichever way."""
        self._left_s = max(self._left_s - cost_s, 0.0)
