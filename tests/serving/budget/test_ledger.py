from typing import Any

import pytest

from serving.budget.ledger import Ledger


def test_stages_follow_one_another_and_sum_to_what_was_spent(clock: Any) -> None:
    ledger = Ledger(clock() - 0.004, clock)
    assert ledger.close("wait") == pytest.approx(0.004)
    clock.now_s += 0.001
    ledger.close("decode")
    clock.now_s += 0.010
    ledger.close("score")
    assert [name for name, _ in ledger.stages] == ["wait", "decode", "score"]
    assert [seconds for _, seconds in ledger.stages] == pytest.approx([0.004, 0.001, 0.010])
    assert ledger.spent_s == pytest.approx(sum(seconds for _, seconds in ledger.stages))


def test_an_open_stage_is_not_counted(clock: Any) -> None:
    ledger = Ledger(clock(), clock)
    clock.now_s += 5
    assert ledger.spent_s == 0
    assert ledger.stages == ()
