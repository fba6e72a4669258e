"""Runs the variants against one Triton: the same arrivals, one variant after the other, round by round."""

import asyncio
import contextlib
import gc
import itertools
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import grpc
import numpy as np
import psutil
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.batching.bound import BoundedScorer
from bench.batching.figures import Cost, Sample, sample
from bench.batching.variant import Forms
from bench.overload.plant import BenchError, cpu_s, spent_between
from loadtest.arrivals.schedule import poisson
from loadtest.driving.conditions import machine_cpu_s
from loadtest.driving.open_loop import drive
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.catalog import Batching
from serving.embedded.process import EmbeddedTriton
from serving.errors import BackendError, BusyError
from serving.inference.batcher import EdfBatcher
from serving.inference.endpoint import TritonEndpoint
from serving.inference.scorer import Scorer, Scores
from serving.inference.triton import TritonScorer
from serving.query import RankQuery

CALLERS = 6
"""Callers of the closed loop that finds the base rate: enough to keep three instances busy."""
BASE_SHARE = 0.7
"""The base rate as a share of what the closed loop gets done."""
REST_S = 0.3
WARM_UP = 12
TRIES = 20
PATTERN = re.compile(r"(?:triton|edf-([1-9]\d*)(?:x([1-9]\d*))?)(?:<=([1-9]\d*))?")
NAMES = "triton, edf-K, edf-KxM, each also with <=N"


@dataclass(frozen=True)
class Entrant:
    """A variant of `NAMES`: K calls outstanding of up to M requests each; N requests in flight."""

    name: str
    slots: int | None
    most: int
    bound: int | None

    @property
    def jagged(self) -> bool:
        """Whether the batch is formed in the frontend."""
        return self.slots is not None


def entrant(name: str, most: int = 8) -> Entrant:
    """The variant of that name; `ValueError` if there is none."""
    match = PATTERN.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is none of {NAMES}")
    slots, size, bound = (int(group) if group else None for group in match.group(1, 2, 3))
    return Entrant(name, slots, size or most, bound)


class Contest:
    """One Triton with both forms, the queries, and what it takes to send them. Made inside the running event loop."""

    def __init__(self, triton: EmbeddedTriton, forms: Forms, queries: Sequence[RankQuery], seed: int) -> None:
        self._triton = triton
        self._forms = forms
        self._plain = [replace(query, vertical=forms.triton) for query in queries]
        self._jagged = [replace(query, vertical=forms.frontend) for query in queries]
        self._draw = np.random.default_rng(seed)
        self._endpoint = TritonEndpoint(triton.address)
        self._endpoint.cancels = False  # the server that this bench starts crashes under cancellations
        self._scorer = TritonScorer(self._endpoint)

    async def close(self) -> None:
        """Close the connection."""
        await self._endpoint.close()

    async def check(self, bound: float = 1e-4) -> None:
        """Prove that both forms say the same of the same requests; `BenchError` if not."""
        try:
            together = await self._scorer.score_together(self._jagged[:3], Deadline.after(2.0))
            for query, one in zip(self._plain[:3], together, strict=True):
                alone = await self._patiently(self._scorer, query)
                if isinstance(one, BackendError):
                    raise one
                off = np.abs(alone.probability - one.probability).max()
                if off > bound or alone.unknown != one.unknown:
                    raise BenchError(f"the forms score differently, by {off:.3g}")
        except BackendError as error:
            raise BenchError(f"the forms can't be compared: {error}") from error

    async def base_rps(self, seconds: float) -> float:
        """`BASE_SHARE` of what a few callers, each waiting for its answer, get by single requests."""
        done = 0
        until_s = time.monotonic() + seconds

        async def call(start: int) -> None:
            nonlocal done
            for query in itertools.islice(itertools.cycle(self._plain), start, None):
                if time.monotonic() >= until_s:
                    return
                with contextlib.suppress(BusyError):  # the queue's own timer
                    await self._scorer.score(query, Deadline.after(2.0))
                    done += 1

        try:
            await asyncio.gather(*(call(place) for place in range(CALLERS)))
        except BackendError as error:
            raise BenchError(f"no base rate: {error}") from error
        if not done:
            raise BenchError(f"no base rate: not one answer within {seconds:g} s")
        return BASE_SHARE * done / seconds

    async def run(
        self, who: Entrant, schedule_s: NDArray[np.float64], shares: Sequence[float], label: tuple[str, float, int]
    ) -> Sample:
        """Send one schedule; each request's budget is the vertical's times one of `shares`, drawn at random."""
        scorer, batcher = await self._ready(who)
        queries = self._jagged if who.jagged else self._plain
        budgets_s = (self._forms.triton.budget_s * self._draw.choice(shares, len(schedule_s))).tolist()

        async def send(index: int, lateness_s: float) -> Scores:
            until = Deadline.after(budgets_s[index] - lateness_s)
            async with asyncio.timeout_at(until.at_s):
                return await scorer.score(queries[index % len(queries)], until)

        gc.collect()
        gc.disable()
        meter = _Meter(self._triton, self._forms.triton.name)
        replies = await drive(send, schedule_s)
        wall_s, spent = meter.read()
        gc.enable()
        await asyncio.sleep(REST_S)  # what was given up still runs for a moment
        scored, calls = (batcher.scored, batcher.calls) if batcher else meter.counted()
        cost = Cost(*spent, wall_s, scored, calls)
        return sample(label, replies, budgets_s, float(schedule_s[-1]), cost)

    async def _ready(self, who: Entrant) -> tuple[Scorer, EdfBatcher | None]:
        """The variant, its way warm and what it learns from measurement learned a little."""
        if who.slots is None:
            await self._warm_up(self._scorer, self._plain)
            return _bounded(self._scorer, who), None
        estimates = Estimates()
        rows = self._forms.frontend.max_candidates
        batcher = EdfBatcher(self._scorer, estimates, Batching(who.slots, who.most), rows)
        estimates.seed(len(self._jagged[0]), await self._warm_up(batcher, self._jagged))
        batcher.calls = batcher.scored = 0
        return _bounded(batcher, who), batcher

    async def _warm_up(self, scorer: Scorer, queries: Sequence[RankQuery]) -> float:
        """A few calls, one at a time; how long the quickest took, in seconds."""
        took_s = []
        for query in itertools.islice(itertools.cycle(queries), WARM_UP):
            start_s = time.monotonic()
            try:
                await self._patiently(scorer, query)
            except BackendError as error:
                raise BenchError(f"a variant does not answer: {error}") from error
            took_s.append(time.monotonic() - start_s)
        return min(took_s)

    async def _patiently(self, scorer: Scorer, query: RankQuery) -> Scores:
        """Its scores, asked for again where the model's queue timer, which no request can lengthen, ran out."""
        for _ in range(TRIES):
            with contextlib.suppress(BusyError):
                return await scorer.score(query, Deadline.after(2.0))
        return await scorer.score(query, Deadline.after(2.0))


def _bounded(scorer: Scorer, who: Entrant) -> Scorer:
    return scorer if who.bound is None else BoundedScorer(scorer, who.bound)


class _Meter:
    """CPU seconds and the model's own counts between its making and its readings."""

    def __init__(self, triton: EmbeddedTriton, model: str) -> None:
        self._triton = triton
        self._model = model
        self._counts = self._statistics()
        self._server_s = self._server()
        self._machine_s, self._own_s, self._start_s = machine_cpu_s(), time.process_time(), time.monotonic()

    def read(self) -> tuple[float, tuple[float, float, float]]:
        """Wall seconds so far, and CPU seconds of this process, of Triton, and of the rest of the machine."""
        wall_s, own_s = time.monotonic() - self._start_s, time.process_time() - self._own_s
        machine_s = machine_cpu_s() - self._machine_s
        server_s = spent_between(self._server_s, self._server())
        return wall_s, (own_s, server_s, max(machine_s - own_s - server_s, 0.0))

    def counted(self) -> tuple[int, int]:
        """Requests that the model scored, and its runs."""
        requests, runs = self._statistics()
        return requests - self._counts[0], runs - self._counts[1]

    def _server(self) -> dict[int, float]:
        try:
            children = psutil.Process(self._triton.pid).children(recursive=True)
        except psutil.NoSuchProcess as error:
            raise BenchError("Triton has ended under the load") from error
        return cpu_s([self._triton.pid, *(child.pid for child in children)])

    def _statistics(self) -> tuple[int, int]:
        try:
            with grpc.insecure_channel(self._triton.address) as channel:
                stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
                answer = stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=self._model), timeout=5.0)
        except grpc.RpcError as error:
            raise BenchError("Triton does not tell its statistics; it may have ended under the load") from error
        (model,) = answer.model_stats
        return int(model.inference_count), int(model.execution_count)


async def hold(
    contest: Contest,
    entrants: Sequence[Entrant],
    multiples: Sequence[float],
    *,
    rounds: int,
    seconds: float,
    shares: Sequence[float],
    seed: int,
    base_rps: float | None,
    done: Callable[[], object],
) -> tuple[list[Sample], list[float]]:
    """All runs, and the base rate of each round, found at its beginning unless it is given.

    In each round each multiple has one schedule that all variants meet, the order of the variants moving on by one.
    """
    samples: list[Sample] = []
    bases_rps: list[float] = []
    for turn in range(rounds):
        bases_rps.append(base_rps or await contest.base_rps(min(seconds, 2.0)))
        for multiple in multiples:
            rate_rps = bases_rps[-1] * multiple
            schedule_s = poisson(rate_rps, max(1, round(rate_rps * seconds)), seed + turn)
            start = turn % len(entrants)
            for who in (*entrants[start:], *entrants[:start]):
                made = await contest.run(who, schedule_s, shares, (who.name, multiple, turn))
                samples.append(made)
                done()
    return samples, bases_rps


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))
