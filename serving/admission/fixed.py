"""A limit that stays: for a measured backend that nobody else uses, and as the yardstick of the other laws."""

from serving.admission.law import Bounds, Sample


class FixedLaw:
    """`limit = constant`.

    Source: Little's law, L = lambda W (J. D. C. Little, Operations Research 9(3), 1961): to drain within W seconds on
    a backend doing lambda seconds of cost per second, no more than lambda W may be in flight.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = Bounds(limit_s, limit_s).most_s

    @property
    def limit_s(self) -> float:
        """Seconds of cost that may be in flight."""
        return self._limit_s

    def update(self, sample: Sample) -> float:  # noqa: ARG002 a fixed law learns nothing
        """The same limit, whatever the sample."""
        return self._limit_s
