import numpy as np
import pytest

from loadtest.selftest.stalls import Stalls, percentile_ms


def test_who_is_due_during_a_stall_waits_for_its_end() -> None:
    stalls = Stalls(stall_s=0.5, every_s=5.0, origin_s=100.0)
    at_s = 100.0 + np.array([-1.0, 0.0, 2.49, 2.5, 2.75, 2.999, 3.0, 7.6])
    assert stalls.wait_s(at_s) == pytest.approx([0, 0, 0, 0.5, 0.25, 0.001, 0, 0.4], abs=1e-9)


def test_the_next_stall() -> None:
    stalls = Stalls(stall_s=0.5, every_s=5.0, origin_s=100.0)
    assert [stalls.next_s(100.0 + now) for now in (-9.0, 0.0, 2.0, 2.6, 7.6)] == [102.5, 102.5, 102.5, 107.5, 112.5]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile_ms(np.array([0.001] * 9999 + [0.5]), 99.9) == 1.0
    assert percentile_ms(np.array([0.001] * 997 + [0.5] * 3), 99.9) == 500.0
