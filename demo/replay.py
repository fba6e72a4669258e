"""Held-out requests sent to the server at the instants of a Poisson process."""

import gc
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from demo.requests import Request
from exfm.distill.metrics import measure
from loadtest.arrivals.schedule import poisson
from loadtest.driving.open_loop import Reply, drive
from serving.client import DeadlinePassedError, OverloadedError, Prepared, RankCall, Ranking, RankingClient

WARM_UP = 50
LEAST_TIMEOUT_S = 0.001


@dataclass(frozen=True)
class Load:
    """How the requests are sent: per second, how many, the seed of their order and arrivals.

    `name` begins the requests' ids; without one they have none, and the server logs nothing of them.
    """

    rate_rps: float
    requests: int
    seed: int = 0
    name: str = ""


@dataclass(frozen=True)
class Replayed:
    """A replay: which request each reply belongs to, in the order of the schedule."""

    # Not in the repr: asyncio.run makes one of its result when it restores signal handlers, and these are long.
    requests: list[Request] = field(repr=False)
    replies: list[Reply[Ranking]] = field(repr=False)

    def served_auc(self, vertical: str, task: str) -> float:
        """AUC of the served probabilities over the users' own exposures, whose outcomes no served model has seen."""
        labels: list[float] = []
        made: list[float] = []
        for request, reply in zip(self.requests, self.replies, strict=True):
            if request.vertical == vertical and not isinstance(reply.answer, Exception):
                of = dict(zip(reply.answer.ad_ids, reply.answer.probabilities[task], strict=True))
                labels.extend(request.outcomes.tolist())
                made.extend(of[int(ad)] for ad in request.ads[: len(request.outcomes)])
        return measure(np.array(labels, np.float32), np.array(made, np.float32)).auc


async def replay(address: str, pool: Sequence[Request], load: Load, done: Callable[[], None]) -> Replayed:
    """Send `load.requests` requests drawn from `pool` in turn, after a few that nobody counts.

    Each call's gRPC deadline is what the budget leaves from its scheduled instant, as an ad server's would be.
    """
    order = np.random.default_rng(load.seed).permutation(len(pool))
    requests = [pool[order[index % len(pool)]] for index in range(load.requests)]
    calls = [call_of(request, f"{load.name}-{index}" if load.name else "") for index, request in enumerate(requests)]
    async with RankingClient(address) as client:
        for call in calls[:WARM_UP]:
            # A server that has just been started may refuse the first ones: nothing of it has run yet.
            with suppress(DeadlinePassedError, OverloadedError):
                await client.rank(replace(call, request_id=""), timeout_s=1.0)
        # What is alive by now stays; a collection during the run would be the generator's lateness, not the server's.
        gc.collect()
        gc.freeze()
        budget_s = {call.vertical: (await client.layout(call.vertical)).budget_s for call in _one_each(calls)}

        def send(index: int, lateness_s: float) -> Awaitable[Ranking]:
            call = calls[index]
            return client.rank(call, timeout_s=max(budget_s[call.vertical] - lateness_s, LEAST_TIMEOUT_S))

        replies = await drive(send, poisson(load.rate_rps, len(calls), load.seed), done)
    return Replayed(requests, replies)


def _one_each(calls: Sequence[RankCall]) -> list[RankCall]:
    return list({call.vertical: call for call in calls}.values())


def call_of(request: Request, request_id: str) -> RankCall:
    """A request as the client sends it."""

    def prepared(side: str) -> Prepared:
        return Prepared(request.blocks[f"{side}_ids"].tobytes(), request.blocks[f"{side}_numbers"].tobytes())

    return RankCall(
        vertical=request.vertical,
        ad_ids=request.ads,
        ads=prepared("ad"),
        user=prepared("user"),
        context=prepared("context"),
        bids=request.bids,
        request_id=request_id,
    )
