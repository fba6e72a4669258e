import numpy as np
import pytest

from loadtest.driving.target import Reply
from loadtest.verdict.drift import Drift, slope
from loadtest.verdict.tally import Tally

BUDGET_S = 0.025


def window(latency_s: float, requests: int = 50) -> Tally:
    made = Tally(BUDGET_S)
    for index in range(requests):
        made.add(Reply(True, "full"), latency_s * (1 + index / requests), 0.0)
    return made


def test_the_last_third_is_held_against_the_first() -> None:
    drift = Drift(Tally(BUDGET_S))
    for latency_s in (0.004, 0.004, 0.008, 0.008, 0.012, 0.012):
        drift.enter(window(latency_s))
    figure = drift.figures(60.0)["p99_drift"]
    assert figure.value == pytest.approx(3.0, rel=0.01)
    assert figure.low <= figure.value <= figure.high
    assert drift.total.offered == 300


def test_too_few_windows_tell_nothing() -> None:
    drift = Drift(Tally(BUDGET_S), rss_mb=[100.0, 101.0])
    drift.enter(window(0.004))
    drift.enter(window(0.008))
    assert drift.figures(60.0) == {}


def test_memory_grows_by_the_hour() -> None:
    drift = Drift(Tally(BUDGET_S), rss_mb=[100.0 + 0.5 * minute for minute in range(10)])
    figure = drift.figures(60.0)["rss_mb_per_h"]
    assert figure.value == pytest.approx(30.0)
    assert figure.high - figure.low < 1e-6


def test_the_slopes_interval_holds_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        made = slope((2.0 * np.arange(30) + draw.normal(0, 3.0, 30)).tolist(), 1.0)
        held += made.low <= 2.0 <= made.high
    assert 0.88 <= held / 200 <= 0.99
