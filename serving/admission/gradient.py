"""A law that watches latency, and needs no losses to find its limit."""

from serving.admission.law import Bounds, Sample
from serving.admission.window import LossWindow


class GradientLaw:
    """Moves the limit by the ratio of the latency that is tolerable to the latency that is seen.

    With limit L, and running means of latency W and of expected service time X, both weighted by cost:

    - target T = tolerance X, held within [floor_s, ceiling_s];
    - gradient g = T / W, held within [0.5, 1];
    - aim A = g L + headroom; L <- L + smoothing (c / L) (A - L), so that a whole window of cost (sum of c = L) takes
      the limit `smoothing` of the way, whatever the sizes in it;
    - F < L / 2, where F had been in flight: L stays, since latency says nothing of a limit that was not tried;
    - dropped: L <- cut L, once per window of cost (see `LossWindow`);
    - then L is held within its bounds.

    On a backend that does r seconds of cost per second a full limit is seen as W = L / r, so the law rests at
    L = r T + headroom, which is Little's law with the target as the time.

    X is a prediction made from outside, not a mean of latencies under load, so the law cannot take its own queue for
    the backend's nature. Should the prediction drift upwards all the same (it learns from calls that met each other),
    `ceiling_s` ends the climb: past it waiting counts as overload, whatever was expected. `floor_s` keeps the noise of
    the machine, a fixed number of milliseconds, from looking like overload to small requests.

    Source: the Gradient2 limit of Netflix concurrency-limits (ratio, tolerance, headroom, smoothing, lower clamp); the
    drift that the ceiling stops is described for Uber's Cinnamon auto-tuner (2023).
    """

    STEEPEST = 0.5

    def __init__(
        self,
        start_s: float,
        bounds: Bounds,
        *,
        floor_s: float,
        ceiling_s: float,
        tolerance: float = 1.5,
        headroom_s: float = 0.002,
        smoothing: float = 0.5,
        cut: float = 0.9,
    ) -> None:
        if not 0 < floor_s <= ceiling_s:
            raise ValueError(f"floor_s {floor_s} and ceiling_s {ceiling_s}: expected 0 < floor <= ceiling")
        if not (tolerance >= 1 and headroom_s > 0 and 0 < smoothing <= 1 and 0 < cut < 1):
            raise ValueError("expected tolerance >= 1, headroom_s > 0, 0 < smoothing <= 1 and 0 < cut < 1")
        self._bounds = bounds
        self._limit_s = bounds.clamp(start_s)
        self._floor_s, self._ceiling_s = floor_s, ceiling_s
        self._tolerance, self._headroom_s, self._smoothing, self._cut = tolerance, headroom_s, smoothing, cut
        self._window = LossWindow()
        self._latency_s: float | None = None
        self._expected_s = 0.0

    @property
    def limit_s(self) -> float:
        """Seconds of cost that may be in flight."""
        return self._limit_s

    def update(self, sample: Sample) -> float:
        """The formula above."""
        weight = min(sample.expected_s / self._limit_s, 1.0)
        aimed_s = self._limit_s
        if sample.dropped:
            if self._window.over:
                self._window.open(self._limit_s)
                aimed_s *= self._cut
        else:
            latency_s = self._learn(sample, weight)
            if sample.in_flight_s >= self._limit_s / 2:
                pull_s = self._limit_s * self._gradient(latency_s) + self._headroom_s - self._limit_s
                aimed_s += self._smoothing * weight * pull_s
        self._window.ended(sample.expected_s)
        self._limit_s = self._bounds.clamp(aimed_s)
        return self._limit_s

    def _learn(self, sample: Sample, weight: float) -> float:
        if self._latency_s is None:
            self._latency_s, self._expected_s = sample.latency_s, sample.expected_s
        self._latency_s += weight * (sample.latency_s - self._latency_s)
        self._expected_s += weight * (sample.expected_s - self._expected_s)
        return self._latency_s

    def _gradient(self, latency_s: float) -> float:
        target_s = min(max(self._tolerance * self._expected_s, self._floor_s), self._ceiling_s)
        if latency_s <= target_s:  # also the latency of nought, which nothing may be divided by
            return 1.0
        return max(target_s / latency_s, self.STEEPEST)
