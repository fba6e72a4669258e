"""The laws on a backend of known capacity: where they rest can be said beforehand."""

import pytest

from serving.admission.choose import law_for
from tests.serving.admission.queueing import BUDGET_S, PATIENCE_S, Backend, simulate

HEADROOM_S = 2 * BUDGET_S / 25
TARGET_S = 0.4 * BUDGET_S


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("offered", [2.0, 10.0])
def test_the_gradient_rests_where_littles_law_says(speed: float, offered: float) -> None:
    backend = Backend(servers=2, speeds=((0.0, speed),))
    run = simulate(law_for("gradient", BUDGET_S, 2), backend, offered, seconds=6.0)
    low_s, high_s = run.band(3.0)
    rest_s = 2 * speed * TARGET_S + HEADROOM_S
    assert 0.95 * rest_s <= low_s
    assert high_s <= 1.2 * rest_s
    assert run.dropped == 0
    assert run.done_s >= 0.99 * 3.0 * 2 * speed


@pytest.mark.parametrize("speed", [0.5, 1.0])
def test_additive_increase_saws_below_the_limit_at_which_work_is_lost(speed: float) -> None:
    backend = Backend(servers=2, speeds=((0.0, speed),))
    run = simulate(law_for("aimd", BUDGET_S, 2), backend, 10.0, seconds=6.0)
    low_s, high_s = run.band(3.0)
    edge_s = 2 * speed * PATIENCE_S
    assert 0.8 * edge_s <= low_s
    assert high_s <= 1.1 * edge_s


def test_a_small_load_leaves_the_limit_alone_and_nothing_is_refused() -> None:
    run = simulate(law_for("gradient", BUDGET_S, 2), Backend(), 0.5, seconds=4.0)
    assert run.refused == run.dropped == 0
    assert len({limit_s for _, limit_s in run.limits_s}) == 1


@pytest.mark.parametrize("cost_ms", [5, 9, 14, 20])
def test_a_service_that_takes_much_of_the_budget_still_keeps_every_server_busy(cost_ms: int) -> None:
    run = simulate(law_for("gradient", BUDGET_S, 2), Backend(), 5.0, (cost_ms / 1e3,), seconds=6.0, foreseen=True)
    assert run.done_s >= 0.9 * 3.0 * 2  # a server that nobody may wait for idles until the next arrival: 1/11 of 20 ms
    assert run.dropped == 0


def test_after_a_slow_spell_the_gradient_is_back_within_half_a_second() -> None:
    backend = Backend(servers=2, speeds=((0.0, 1.0), (2.0, 0.1), (4.0, 1.0)))
    run = simulate(law_for("gradient", BUDGET_S, 2), backend, 10.0, seconds=6.0)
    rest_s = 2 * TARGET_S + HEADROOM_S
    assert run.band(3.0, 4.0)[1] < 0.5 * rest_s
    assert run.band(4.5)[0] > 0.95 * rest_s


def test_one_large_request_among_many_small_ones_does_not_choke_the_gradient() -> None:
    costs_s = (*(0.001,) * 19, 0.008)
    run = simulate(law_for("gradient", BUDGET_S, 2), Backend(), 2.0, costs_s, seconds=6.0)
    assert run.done_s >= 0.97 * 3.0 * 2
    assert run.dropped == 0
