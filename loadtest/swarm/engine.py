"""What one locust process does: the requests, the clock, the counts. Plain calls under gevent, never an event loop.

Its schedules are made before it begins, so that it knows how many requests it owes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import grpc

from exfm.features.schema import Schema
from loadtest.arrivals.schedule import arrivals, check_due
from loadtest.arrivals.shapes import SHAPES, Profile
from loadtest.driving.rank_target import OPTIONS, RANK, describe, judged, refused
from loadtest.driving.target import LEAST_S, Reply
from loadtest.report.document import slice_s
from loadtest.swarm.busy import Busy
from loadtest.swarm.loads import loads_of
from loadtest.swarm.part import Part
from loadtest.workload.asked import Workload, WorkloadError
from loadtest.workload.making import from_schema, schema_of
from loadtest.workload.sizes import sizes_of
from serving.rpc.pb import ranking_pb2 as pb

STREAMS = 4
"""Per process: each has a connection of its own."""
LEAD_S = 1.0
"""Between the word to start and the schedule's zero: by then all processes have their streams."""

Tell = Callable[[Reply, float, int], None]
"""Told of each request: what became of it, its latency in seconds, the bytes of its answer."""


@dataclass
class Engine:
    """One run in one process.

    Attributes:
        address: host:port of the server.
        workload: what to send.
        profile: the rate of all streams together.
        streams: how many there are over all processes.
        budget_s, timeout_s: of each request.
        seed: of the arrivals; each stream has others.
        process: number of this process.
        part: what has become of its requests so far.
    """

    address: str
    workload: Workload
    profile: Profile
    streams: int
    budget_s: float
    timeout_s: float
    seed: int
    process: int
    tell: Tell
    part: Part = field(init=False)

    def __post_init__(self) -> None:
        share = replace(self.profile, rate_rps=self.profile.rate_rps / self.streams)
        self._schedules = [arrivals(share, (self.seed, self.process, number)) for number in range(STREAMS)]
        self._loads = loads_of(self.profile)
        self._zero_s = time.monotonic() + LEAD_S
        self.part = self.empty()
        self.part.owed = sum(map(len, self._schedules))
        self.part.zero_unix_s = time.time() + LEAD_S
        self._busy = Busy()
        self._numbers, self._sent, self._ended = count(), count(), 0

    @property
    def done(self) -> bool:
        """Every request that it owes was sent and has ended."""
        return self._ended == STREAMS

    @property
    def overdue_s(self) -> float:
        """How long ago the last call of the run had to be over; below 0 before."""
        return time.monotonic() - self._zero_s - self.profile.seconds - self.timeout_s

    def stream(self) -> None:
        """Send one stream's arrivals to its end, a greenlet each; nothing beyond the `STREAMS`th."""
        number = next(self._numbers)
        if number >= STREAMS:
            return
        with grpc.insecure_channel(self.address, options=OPTIONS) as channel:
            call: Any = channel.unary_unary(RANK, response_deserializer=pb.RankResponse.FromString)
            under_way = []
            for at_s in self._schedules[number].tolist():
                gevent.sleep(max(self._zero_s + at_s - time.monotonic(), 0.0))
                under_way.append(gevent.spawn(self._one, call, at_s))
            gevent.joinall(under_way)
        self._ended += 1

    def empty(self) -> Part:
        """A part without any request, which those of all processes can be added to."""
        return Part(self.budget_s, slice_s(self.profile.seconds))

    def _one(self, call: Any, at_s: float) -> None:
        scheduled_s = self._zero_s + at_s
        lateness_s = time.monotonic() - scheduled_s
        self.part.cpu_share = self._busy.share(scheduled_s + lateness_s)
        # Processes start at different requests, so that they don't all send the same ones at the same time.
        asked = self.workload.at(next(self._sent) + 7919 * self.process)
        size = 0
        try:
            response = call(asked.message, timeout=max(self.timeout_s - lateness_s, LEAST_S))
            ended_s = time.monotonic()
            reply, size = judged(asked, response, ended_s, scheduled_s + lateness_s), response.ByteSize()
        except grpc.RpcError as error:
            ended_s = time.monotonic()
            reply = _refused(error)
        self.part.add(at_s, self._loads.at(at_s), reply, ended_s - scheduled_s, lateness_s)
        self.tell(reply, ended_s - scheduled_s, size)


def make_engine(address: str, options: Any, *, streams: int, process: int, tell: Tell) -> Engine:
    """An engine for locust's parsed options (`loadtest.swarm.options`); errors of the input are raised as their own."""
    if not address:
        raise WorkloadError("--host is missing: HOST:PORT of the server")
    profile = SHAPES[options.shape](options.rate, options.seconds, options.seed)
    check_due(profile)
    described = describe(address, options.vertical)
    schema = Schema.load(Path(options.schema_file)) if options.schema_file else schema_of(described)
    budget_s = described.budget_ms / 1e3
    workload = from_schema(schema, described.vertical, sizes_of(options.candidates), seed=options.seed)
    return Engine(
        address=address,
        workload=workload.held_to(described),
        profile=profile,
        streams=streams,
        budget_s=budget_s,
        timeout_s=options.timeout_ms / 1e3 if options.timeout_ms else budget_s,
        seed=options.seed,
        process=process,
        tell=tell,
    )


def _refused(error: grpc.RpcError) -> Reply:
    # A failed blocking call is an error and its call in one; the library's types don't say so.
    assert isinstance(error, grpc.Call)
    return refused(error.code(), error.details() or "")
