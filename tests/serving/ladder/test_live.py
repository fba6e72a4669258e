import time

import numpy as np
import pytest

from serving.ladder.live import Edition, LivePrior
from serving.ladder.prior import Prior

ADS = np.array([7], np.int64)


def _prior(rate: float) -> Prior:
    return Prior(ADS, np.array([[rate]], np.float32), np.array([rate / 2], np.float32))


def test_answers_come_from_the_latest_edition() -> None:
    live = LivePrior(Edition(_prior(0.5), 0, time.time() - 60))
    before = live.lookup(ADS)
    assert live.state()["age_s"] == pytest.approx(60, abs=5)
    live.renew(Edition(_prior(0.25), 3, time.time()))
    assert (before[0, 0], live.lookup(ADS)[0, 0]) == (0.5, 0.25)
    live.refuse()
    assert live.state() == {"version": 3, "age_s": live.state()["age_s"], "ads": 1, "refreshes": 1, "refusals": 1}
    assert live.state()["age_s"] < 5


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    assert LivePrior(Edition(_prior(0.5), 0, time.time() + 3600)).state()["age_s"] == 0
