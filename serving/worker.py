"""One worker process: its rooms put together, from the socket to the scorers."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from serving.budget.lag import LoopLag
from serving.budget.reserve import ReplyReserve
from serving.budget.watchdog import Watchdog
from serving.catalog import Catalog
from serving.inference.canary import Canary
from serving.inference.guard import GuardedScorer
from serving.inference.scorer import Scorer
from serving.ladder.ladder import Ladder, Rung
from serving.ladder.tier import Tier
from serving.ranker import Ranker
from serving.readiness import Readiness
from serving.rpc.codec import request_limit
from serving.rpc.server import RankingServer
from serving.rpc.servicer import RankingServicer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker runs.

    Attributes:
        listen: host:port; port 0 takes a free one.
        reply_reserve_s: the least time kept in hand for the reply.
        canary_s: seconds between canaries while ready.
        drain_s: how long requests in flight may take to end once the worker stops.
    """

    listen: str = "127.0.0.1:8500"
    reply_reserve_s: float = 0.002
    canary_s: float = 1.0
    drain_s: float = 5.0


class Worker:
    """Serves a catalog with one scorer per vertical; made on the event loop that runs it."""

    def __init__(self, catalog: Catalog, scorers: Mapping[str, Scorer], options: WorkerOptions) -> None:
        self._options = options
        self.watchdog = Watchdog()
        self.guards = {name: GuardedScorer(scorers[name], Canary(catalog[name])) for name in catalog}
        ladders = {
            name: Ladder((Rung(Tier.FULL, guard),), catalog[name].prior, self.watchdog)
            for name, guard in self.guards.items()
        }
        self._lag = LoopLag()
        self.reserve = ReplyReserve(options.reply_reserve_s)
        servicer = RankingServicer(Ranker(catalog, ladders, self.reserve), self.reserve, self._lag)
        self._server = RankingServer(servicer, request_limit(catalog))
        self.readiness = Readiness(self.guards, self._server.set_ready, options.canary_s)
        self._checks: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen, and begin to check for readiness; returns the port. Requests before that get the prior.

        Raises:
            StartError: the address can't be listened on.
        """
        port = await self._server.start(self._options.listen)
        self._lag.start()
        self._checks = asyncio.create_task(self.readiness.run())
        return port

    async def stop(self) -> None:
        """Take no more requests, let those in flight end, and stop."""
        if self._checks:
            self._checks.cancel()
            await asyncio.wait((self._checks,))
        await self._server.drain(self._options.drain_s)
        self._lag.stop()
