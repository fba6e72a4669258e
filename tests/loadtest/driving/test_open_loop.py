import asyncio
import time

import pytest

from loadtest.driving.open_loop import drive


async def test_a_stall_counts_from_the_scheduled_instant() -> None:
    """A closed loop would report one slow request; every request that was due meanwhile was slow for its caller."""

    async def send(index: int, _: float) -> int:
        if index == 0:
            time.sleep(0.2)  # noqa: ASYNC251 - blocks the loop on purpose, generator included
        return index

    replies = await drive(send, [0.0, 0.05, 0.1])
    assert [reply.answer for reply in replies] == [0, 1, 2]
    assert replies[1].latency_s >= 0.145
    assert replies[1].lateness_s >= 0.145
    assert replies[2].latency_s >= 0.095


async def test_requests_overlap_when_answers_are_slow() -> None:
    inside = 0
    most = 0

    async def send(_: int, __: float) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.1)
        inside -= 1

    await drive(send, [0.0, 0.001, 0.002, 0.003])
    assert most == 4


async def test_an_error_is_a_reply_and_progress_is_told() -> None:
    async def send(index: int, _: float) -> int:
        if index == 1:
            raise ValueError("no")
        return index

    ticks: list[int] = []
    replies = await drive(send, [0.0, 0.0, 0.0], lambda: ticks.append(1))
    assert [type(reply.answer) for reply in replies] == [int, ValueError, int]
    assert len(ticks) == 3
    assert all(reply.latency_s == pytest.approx(0, abs=0.5) for reply in replies)
