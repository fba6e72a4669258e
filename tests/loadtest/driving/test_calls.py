"""Both ways of asking, against a real gRPC server without a model."""

import threading
from typing import Any

import grpc
import pytest

from loadtest.driving.calls import TARGETS, target_by
from loadtest.workload.asked import Workload
from serving.rpc.pb import ranking_pb2 as pb

pytestmark = pytest.mark.parametrize("call", TARGETS)


async def test_sound_answers_are_full(scripted: Any, workload: Workload, call: str) -> None:
    with scripted() as address:
        async with target_by(call, address, workload, 2) as target:
            replies = [await target.send(index, 10.0) for index in range(9)]
    assert {(reply.ok, reply.tier, reply.error, reply.version) for reply in replies} == {(True, "full", "", 1)}
    assert all(reply.answered_s and reply.stages_ms.keys() == {"score"} for reply in replies)


async def test_another_requests_id_is_wrong(scripted: Any, workload: Workload, call: str) -> None:
    def rename(response: pb.RankResponse) -> None:
        response.request_id = "another"

    with scripted(spoil=rename) as address:
        async with target_by(call, address, workload, 1) as target:
            reply = await target.send(0, 10.0)
    assert (reply.ok, reply.tier, reply.error) == (False, "wrong", "wrong answer: another request's id")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ("shed", "RESOURCE_EXHAUSTED")),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ("unanswered", "DEADLINE_EXCEEDED")),
        (grpc.StatusCode.INTERNAL, ("failed", "INTERNAL: as told")),
    ],
)
async def test_a_refusal_is_what_its_status_says(
    scripted: Any, workload: Workload, call: str, code: grpc.StatusCode, said: tuple[str, str]
) -> None:
    with scripted(refuse=code) as address:
        async with target_by(call, address, workload, 1) as target:
            reply = await target.send(0, 10.0)
    assert (reply.ok, reply.tier, reply.error) == (False, *said)


async def test_a_late_answer_is_none_and_the_next_one_is_not_mistaken_for_it(
    scripted: Any, workload: Workload, call: str
) -> None:
    released = threading.Event()

    def late(_: pb.RankResponse) -> None:
        released.wait(10.0)

    with scripted(spoil=late) as address:
        async with target_by(call, address, workload, 1) as target:
            first = await target.send(0, 0.3)
            released.set()
            second = await target.send(1, 10.0)
    assert (first.ok, first.tier, first.error) == (False, "unanswered", "DEADLINE_EXCEEDED")
    assert (second.ok, second.tier) == (True, "full")


async def test_a_server_that_is_gone_fails_what_is_asked(scripted: Any, workload: Workload, call: str) -> None:
    with scripted() as address:
        target = target_by(call, address, workload, 1)
        assert (await target.send(0, 10.0)).ok
    async with target:
        replies = [await target.send(index, 10.0) for index in range(3)]
    assert {(reply.ok, reply.tier) for reply in replies} == {(False, "failed")}
    assert all(reply.error.startswith(("UNAVAILABLE: ", "CANCELLED: ")) for reply in replies)
