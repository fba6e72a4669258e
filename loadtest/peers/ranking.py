"""Calls our ranking server over gRPC, with messages made before the load."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from exfm.features.signature import tensors_of
from loadtest.checking.answers import tier_of
from loadtest.checking.outcomes import Outcome, of_status
from loadtest.peers.caller import CHANNEL, CONNECTIONS, Probability, RefusedError
from loadtest.peers.model import Model
from loadtest.peers.samples import Sample
from serving.caller.stream import RankStream, code_of
from serving.rpc import packed
from serving.rpc.pb import ranking_pb2 as pb


class RankingCaller:
    """A caller of `exfm-serve`: over one stream per connection, as an ad server does that has many requests."""

    def __init__(self, address: str, model: Model, samples: Sequence[Sample]) -> None:
        self._messages = [rank_message(model, sample) for sample in samples]
        self._orders = [_Order(sample.ads) for sample in samples]
        self._channels = [grpc.aio.insecure_channel(address, options=CHANNEL) for _ in range(CONNECTIONS)]
        # As cheaply as the other systems' answers are read: what this takes, the machine's servers don't have.
        read = packed.RankStreamResponse.FromString
        self._streams = [RankStream(channel, read) for channel in self._channels]

    async def ask(self, index: int, timeout_s: float) -> tuple[str, Probability]:
        """See `Caller.ask`."""
        at = index % len(self._messages)
        answer = await self._streams[index % len(self._streams)].ask(self._messages[at], timeout_s)
        if answer.HasField("refusal"):
            raise error_of(answer.refusal)
        return tier_of(answer.ranking), self._orders[at].restored(answer.ranking)

    async def close(self) -> None:
        """See `Caller.close`."""
        for stream in self._streams:
            await stream.close()
        for channel in self._channels:
            await channel.close()


def error_of(refusal: Any) -> Exception:
    """What a caller raises for a refusal; see `Caller.ask`."""
    code = code_of(refusal)
    ended = of_status(code)
    if ended == Outcome.UNANSWERED:
        return TimeoutError()
    return RefusedError(refusal.message) if ended == Outcome.SHED else RuntimeError(f"{code.name}: {refusal.message}")


class _Order:
    """Where each candidate stands in the request."""

    def __init__(self, ads: NDArray[np.int64]) -> None:
        self._place = np.argsort(ads)
        self._sorted = ads[self._place]

    def restored(self, answer: Any) -> Probability:
        """Probabilities [N, T] in the request's order; NaN for a candidate that the answer, a packed one, lacks."""
        made = np.full((len(self._place), len(answer.scores)), np.nan, np.float32)
        ads = np.frombuffer(b"".join(answer.ad_ids), "<i8")
        found = np.minimum(np.searchsorted(self._sorted, ads), len(self._sorted) - 1)
        known = self._sorted[found] == ads
        for task, scores in enumerate(answer.scores):
            made[self._place[found[known]], task] = np.frombuffer(b"".join(scores.probabilities), "<f4")[known]
        return made


def rank_message(model: Model, sample: Sample) -> bytes:
    """The rank request for a sample, serialised."""
    blocks = {side: pb.FeatureBlock() for side in ("user", "context", "ad")}
    for tensor in tensors_of(model.schema):
        start = 0
        for block in tensor.blocks:
            values = sample.tensors[tensor.name][:, start : start + block.width]
            setattr(blocks[block.side], block.kind, np.ascontiguousarray(values).tobytes())
            start += block.width
    request = pb.RankRequest(
        request_id="peers",
        vertical=model.vertical,
        user=blocks["user"],
        context=blocks["context"],
        ads=blocks["ad"],
        ad_ids=sample.ads.tolist(),
    )
    return request.SerializeToString()
