import time
from typing import Any

import pytest

from serving.budget.lag import LoopLag


async def test_a_loop_on_time_charges_nothing(clock: Any) -> None:
    lag = LoopLag(0.01, clock)
    lag.start()
    for _ in range(5):
        clock.now_s += 0.01
        lag.tick()
        assert lag.charge_s(clock()) == pytest.approx(0, abs=1e-9)
    lag.stop()


async def test_a_stall_is_charged_and_the_charge_falls_to_zero_while_the_backlog_is_worked_off(clock: Any) -> None:
    lag = LoopLag(0.01, clock)
    lag.start()
    clock.now_s += 0.05
    assert lag.charge_s(clock()) == pytest.approx(0.04)
    lag.tick()
    assert lag.charge_s(clock()) == pytest.approx(0.04)
    clock.now_s += 0.01
    lag.tick()
    assert lag.charge_s(clock() + 0.01) == pytest.approx(0.02)
    clock.now_s += 0.01
    lag.tick()
    assert lag.charge_s(clock() + 0.005) == pytest.approx(0.015)
    for _ in range(3):
        clock.now_s += 0.01
        lag.tick()
    assert lag.charge_s(clock()) == pytest.approx(0, abs=1e-9)
    lag.stop()


async def test_a_stopped_heart_charges_nothing(clock: Any) -> None:
    lag = LoopLag(0.01, clock)
    lag.start()
    lag.stop()
    clock.now_s += 100
    assert lag.charge_s(clock()) == 0


async def test_a_blocked_event_loop_is_noticed() -> None:
    lag = LoopLag(0.005)
    lag.start()
    time.sleep(0.05)  # noqa: ASYNC251 the stall itself
    assert 0.04 <= lag.charge_s(time.monotonic()) < 5
    lag.stop()
