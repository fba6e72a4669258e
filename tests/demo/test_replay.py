"""Against a real gRPC server that answers as the test says."""

import grpc
import pytest

from demo.replay import Load, replay
from serving.client import InvalidRequestError
from tests.demo.ranking import Servicer, rankable, running

LOAD = Load(200.0, 20)


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_cold_server_may_refuse_the_warm_up(code: grpc.StatusCode) -> None:
    servicer = Servicer(3, code)
    async with running(servicer) as address:
        replayed = await replay(address, [rankable()], LOAD, lambda: None)
    assert servicer.asked == 2 * LOAD.requests
    assert not [reply for reply in replayed.replies if isinstance(reply.answer, Exception)]


async def test_a_request_that_is_wrong_is_no_cold_server() -> None:
    async with running(Servicer(1, grpc.StatusCode.INVALID_ARGUMENT)) as address:
        with pytest.raises(InvalidRequestError):
            await replay(address, [rankable()], LOAD, lambda: None)
