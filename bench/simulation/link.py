"""What a frontend has of a backend: a scorer over the simulated network, and an eye on the batches it is given."""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bench.simulation.network import Network
from bench.simulation.requests import CANARY, CANARY_SCORE, marks_of
from bench.simulation.watch import Watch
from serving.admission.priority import Priority
from serving.budget.deadline import Deadline
from serving.catalog import Vertical
from serving.errors import BackendError, UnavailableError
from serving.inference.models import ASK_S
from serving.inference.scorer import Scores
from serving.query import RankQuery


class Link:
    """Scores with any model of one backend; the scores are the marks of their request, model and ads.

    Attributes:
        outstanding: calls of several requests that are under way, by model.
        served: those that were answered, by model.
        scored: requests in them.
    """

    def __init__(
        self,
        network: Network,
        weights: Mapping[str, float],
        watch: Watch,
        refuses: int = 0,
    ) -> None:
        """Weights: of the models, see `Job`; refuses: every so many requests no model takes, 0: it takes all."""
        self.network = network
        self._weights = weights
        self._watch = watch
        self.refuses = refuses
        self.outstanding: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.scored: Counter[str] = Counter()

    async def score(self, query: RankQuery, until: Deadline) -> Scores:
        """See `serving.inference.scorer.Scorer.score`."""
        await self.network.call(len(query), self._weights[query.vertical.name], until.at_s, bad=self._is_bad(query))
        return _scores(query)

    async def score_together(self, queries: Sequence[RankQuery], until: Deadline) -> list[Scores | BackendError]:
        """See `serving.inference.batcher.BatchScorer.score_together`."""
        model = queries[0].vertical
        self._judge(queries, until)
        self.outstanding[model.name] += 1
        try:
            bad = any(map(self._is_bad, queries))
            await self.network.call(sum(map(len, queries)), self._weights[model.name], until.at_s, bad=bad)
        finally:
            self.outstanding[model.name] -= 1
        self.served[model.name] += 1
        self.scored[model.name] += len(queries)
        return [_scores(query) for query in queries]

    async def vet(self, _: str, vertical: Vertical) -> None:
        """Ask for the model's configuration, as `TritonEndpoint.check_schema` does; it is always the right one."""
        try:
            async with asyncio.timeout(ASK_S):
                await self.network.call(0, 0.0, math.inf, bad=False)
        except (TimeoutError, BackendError) as error:
            raise UnavailableError(f"{vertical.name}: not told") from error

    def _is_bad(self, query: RankQuery) -> bool:
        return bool(self.refuses) and query.request_id != CANARY and int(query.request_id) % self.refuses == 0

    def _judge(self, queries: Sequence[RankQuery], until: Deadline) -> None:
        batching, rows = queries[0].vertical.batching, sum(map(len, queries))
        if batching is None or not 1 <= len(queries) <= batching.most:
            self._watch.fault(f"batch: {len(queries)} requests in one")
        if len(queries) > 1 and rows > queries[0].vertical.max_candidates:
            self._watch.fault("batch: larger than the largest request")
        if len({(query.vertical.name, query.priority is Priority.SHADOW) for query in queries}) > 1:
            self._watch.fault("batch: shadow requests and others, or several models, in one")
        if until.remaining_s() < 0:
            self._watch.fault("batch: begun after its last deadline")


def _scores(query: RankQuery) -> Scores:
    if query.request_id == CANARY:
        return Scores(np.full((len(query), len(query.vertical.tasks)), CANARY_SCORE, np.float32))
    return Scores(marks_of(query.request_id, query.vertical.name, query.ads)[:, None])
