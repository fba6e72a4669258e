"""A ranking server under load: a stream per connection instead of a call per request."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import grpc

from loadtest.driving.rank_target import OPTIONS, RankTarget, judged, refused
from loadtest.driving.target import Reply
from loadtest.workload.asked import Workload
from serving.caller.stream import RankStream, code_of
from serving.rpc.pb import ranking_pb2 as pb


class StreamTarget(RankTarget):
    """As `RankTarget`, over `RankStream`."""

    def __init__(
        self, address: str, workload: Workload, connections: int = 4, options: Sequence[tuple[str, Any]] = OPTIONS
    ) -> None:
        super().__init__(address, workload, connections, options)
        self._streams = [RankStream(channel, pb.RankStreamResponse.FromString) for channel in self._channels]

    async def send(self, index: int, timeout_s: float) -> Reply:
        """Send the workload's request `index`."""
        asked, sent_s = self._workload.at(index), time.monotonic()
        try:
            answer = await self._streams[index % len(self._streams)].ask(asked.message, timeout_s)
        except TimeoutError:
            return refused(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        except grpc.aio.AioRpcError as error:
            return refused(error.code(), error.details() or "")
        except ConnectionError as error:
            return refused(grpc.StatusCode.UNAVAILABLE, str(error))
        answered_s = time.monotonic()
        if answer.HasField("refusal"):
            return refused(code_of(answer.refusal), answer.refusal.message)
        return judged(asked, answer.ranking, answered_s, sent_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for stream in self._streams:
            await stream.close()
        await super().__aexit__(kind, error, at)
