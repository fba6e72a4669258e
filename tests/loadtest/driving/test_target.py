import asyncio
import time

import pytest

from loadtest.driving.target import Reply, drive


class Scripted:
    """Answers as told by index."""

    def __init__(self, **by_index: Reply | Exception) -> None:
        self.by_index = by_index
        self.timeouts: list[float] = []

    async def send(self, index: int, timeout_s: float) -> Reply:
        self.timeouts.append(timeout_s)
        answer = self.by_index.get(f"r{index}", Reply(True, "full"))
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_each_end_of_a_request_is_counted_once() -> None:
    target = Scripted(
        r1=Reply(False, "shed"), r2=TimeoutError(), r3=RuntimeError("gone"), r4=Reply(False, "wrong", "order")
    )
    result = await drive(target, [0.0, 0.01, 0.02, 0.03, 0.04], budget_s=1.0, seconds=0.5)
    assert result.offered == 5
    assert result.tiers == {"failed": 0.2, "full": 0.2, "shed": 0.2, "unanswered": 0.2, "wrong": 0.2}
    assert result.late == 3  # a shed refusal in time is not late
    assert result.goodput_rps == pytest.approx(2.0)
    assert result.record.errors() == {"no answer in time": 1, "RuntimeError: gone": 1, "order": 1}
    assert all(timeout <= 1.0 for timeout in target.timeouts)


async def test_waiting_behind_a_stall_counts_and_is_told_apart_from_the_generators_part() -> None:
    class Stalls:
        async def send(self, index: int, _: float) -> Reply:
            if index == 0:
                time.sleep(0.15)  # noqa: ASYNC251 - blocks generator and target at once, on purpose
            return Reply(True, "full")

    result = await drive(Stalls(), [0.0, 0.05], budget_s=0.05)
    assert result.late == 2
    assert result.record.latency_s[1] >= 0.09
    assert result.record.lateness_s[1] >= 0.09
    assert result.sent_late_share >= 0.5


async def test_time_spent_on_checking_is_not_the_servers() -> None:
    class Checks:
        async def send(self, _: int, __: float) -> Reply:
            answered_s = time.monotonic()
            await asyncio.sleep(0.1)
            return Reply(True, "full", answered_s=answered_s, stages_ms={"score": 2.0}, version=3)

    result = await drive(Checks(), [0.0], budget_s=1.0)
    assert result.p50_ms < 90
    assert result.record.stages_ms["score"].tolist() == [2.0]
    assert result.record.version.tolist() == [3]


async def test_an_empty_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="empty schedule"):
        await drive(Scripted(), [], budget_s=1.0)
