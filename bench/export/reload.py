"""A new version loads into a real Triton while requests go on: what they notice of it."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.overload.messages import make_pools
from loadtest.arrivals.schedule import poisson
from serving.catalog import Catalog, Vertical
from serving.errors import BackendError
from serving.features.histories import without_history
from serving.inference.wire import infer_request, read_scores
from serving.rpc.codec import decode, parse

RATE_RPS = 40.0
"""Below half of what one slow core serves: the question is what a reload adds, not what overload does."""
CALL_S = 1.0
QUIET_S = 5.0
"""Between two reloads; about as long as one, so that both sides of the ratio have equally many requests."""
LOAD_S = 60.0
_POLL_S = 0.1
_EACH = 24
_CHANNEL = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass
class Sample:
    """Requests by where they fell: latencies in ms from the scheduled instant, and how many failed.

    A reload goes from the order to load the new version until the old one's processes have ended; `loading` are those
    of `during` that met its first part, up to the new version's being ready, in which nearly all of its work is done.
    """

    during: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    failed: int = 0
    reasons: set[str] = field(default_factory=set)
    reload_s: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """What `export.json` holds; the ratios are of p99s, and of medians."""
        parts = {"during": self.during, "loading": self.loading, "outside": self.outside}
        p99_ms = {name: float(np.percentile(values, 99)) for name, values in parts.items()}
        p50_ms = {name: float(np.median(values)) for name, values in parts.items()}
        return {
            "p99_ratio": p99_ms["during"] / p99_ms["outside"],
            "p99_ratio_loading": p99_ms["loading"] / p99_ms["outside"],
            "failed": self.failed,
            **{f"p99_{name}_ms": value for name, value in p99_ms.items()},
            "p50_ratio": p50_ms["during"] / p50_ms["outside"],
            "p50_ratio_loading": p50_ms["loading"] / p50_ms["outside"],
            "requests": {name: len(values) for name, values in parts.items()},
            "reload_s": float(np.median(self.reload_s)),
            "reasons": sorted(self.reasons),
        }


class Reloading:
    """Requests at a steady rate to one Triton, pinned to the version whose turn it is."""

    def __init__(self, vertical: Vertical, config: Any, candidates: int, seed: int) -> None:
        """Prepare requests; `config` is the model's `ModelConfig`, whichever version it names."""
        self._vertical, self._config = vertical, config
        catalog = Catalog({vertical.name: vertical})
        messages = make_pools(vertical, [candidates], _EACH, seed)[candidates]
        self._queries = [without_history(decode(parse(message), catalog.find(vertical.name))) for message in messages]
        self._requests = [infer_request(query, CALL_S) for query in self._queries]
        self._seed = seed
        self._sample = Sample()
        self._pinned = 0
        self._reloading = self._loading = False

    async def run(self, address: str, versions: Sequence[int], rounds: int) -> Sample:
        """Serve the versions in turn, `rounds` reloads in all; the first one must be loaded already."""
        async with grpc.aio.insecure_channel(address, options=_CHANNEL) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            self._pinned = versions[0]
            load = asyncio.create_task(self._load(stub))
            try:
                await asyncio.sleep(QUIET_S)
                for turn in range(rounds):
                    await self._reload(stub, versions[(turn + 1) % len(versions)])
                    await asyncio.sleep(QUIET_S)
            finally:
                load.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await load
        return self._sample

    async def _reload(self, stub: Any, version: int) -> None:
        """Load the new one beside the old one, send requests to it, unload the old one."""
        started_s, self._reloading = time.monotonic(), True
        try:
            old, self._loading = self._pinned, True
            await self._order(stub, [old, version])
            self._pinned, self._loading = version, False
            await asyncio.sleep(CALL_S)  # what was sent to the old one has ended
            await self._order(stub, [version])
            await self._gone(stub, old)
        finally:
            self._reloading = self._loading = False
        self._sample.reload_s.append(time.monotonic() - started_s - CALL_S)

    async def _order(self, stub: Any, versions: Sequence[int]) -> None:
        config = type(self._config)()
        config.CopyFrom(self._config)
        config.version_policy.specific.versions[:] = sorted(versions)
        request = service_pb2.RepositoryModelLoadRequest(model_name=self._vertical.name)
        text = json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)
        request.parameters["config"].string_param = text
        await stub.RepositoryModelLoad(request, timeout=LOAD_S)

    async def _gone(self, stub: Any, version: int) -> None:
        """Wait until the old version's processes have ended, for at most `LOAD_S`."""
        until_s = time.monotonic() + LOAD_S
        while time.monotonic() < until_s:
            index = await stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=CALL_S)
            states = {model.version: model.state for model in index.models if model.name == self._vertical.name}
            if states.get(str(version), "UNAVAILABLE") == "UNAVAILABLE":
                return
            await asyncio.sleep(_POLL_S)

    async def _load(self, stub: Any) -> None:
        async with asyncio.TaskGroup() as group:
            start_s = time.monotonic()
            for number, at_s in enumerate(poisson(RATE_RPS, 1 << 16, self._seed)):
                await asyncio.sleep(max(0.0, start_s + at_s - time.monotonic()))
                group.create_task(self._ask(stub, number % _EACH, start_s + float(at_s)))

    async def _ask(self, stub: Any, number: int, due_s: float) -> None:
        request, query = service_pb2.ModelInferRequest(), self._queries[number]
        request.CopyFrom(self._requests[number])
        request.model_version = str(self._pinned)
        began = self._reloading, self._loading
        try:
            read_scores(await stub.ModelInfer(request, timeout=CALL_S), query)
        except grpc.aio.AioRpcError as error:
            self._fail(f"{error.code().name}: {error.details()}")
        except BackendError as error:
            self._fail(str(error))
        spent_ms = (time.monotonic() - due_s) * 1e3
        # A request that overlaps a reload at either end has met it.
        (self._sample.during if began[0] or self._reloading else self._sample.outside).append(spent_ms)
        if began[1] or self._loading:
            self._sample.loading.append(spent_ms)

    def _fail(self, reason: str) -> None:
        self._sample.failed += 1
        self._sample.reasons.add(reason[:120])
