"""Additive increase, multiplicative decrease: a law that needs to see losses."""

from serving.admission.law import Bounds, Sample
from serving.admission.window import LossWindow


class AimdLaw:
    """Grows by a step per window of cost, shrinks to a share at a loss.

    With limit L, cost c of the sample and what had been in flight F:

    - dropped: L <- cut L, once per window of cost (see `LossWindow`);
    - F < L / 2: L stays, since a limit that nobody touched was not tried;
    - else: L <- L + step c / L, so that a whole window (sum of c = L) adds one step, whatever the sizes in it;
    - then L is held within its bounds.

    Source: Chiu and Jain, Computer Networks and ISDN Systems 17, 1989, for the convergence; RFC 5681, section 3.1, for
    the step per window; the guard of an application-limited sender, RFC 7661. It must lose some work to find the limit:
    at a sawtooth between cut L and L, one loss event per (1 - cut) L / step windows.
    """

    def __init__(self, start_s: float, bounds: Bounds, *, step_s: float = 0.002, cut: float = 0.9) -> None:
        if not (0 < cut < 1 and step_s > 0):
            raise ValueError(f"cut {cut} must be between 0 and 1, and step_s {step_s} positive")
        self._bounds = bounds
        self._limit_s = bounds.clamp(start_s)
        self._step_s = step_s
        self._cut = cut
        self._window = LossWindow()

    @property
    def limit_s(self) -> float:
        """Seconds of cost that may be in flight."""
        return self._limit_s

    def update(self, sample: Sample) -> float:
        """The formula above."""
        aimed_s = self._limit_s
        if sample.dropped and self._window.over:
            self._window.open(self._limit_s)
            aimed_s *= self._cut
        elif not sample.dropped and sample.in_flight_s >= self._limit_s / 2:
            aimed_s += self._step_s * min(sample.expected_s / self._limit_s, 1.0)
        self._window.ended(sample.expected_s)
        self._limit_s = self._bounds.clamp(aimed_s)
        return self._limit_s
