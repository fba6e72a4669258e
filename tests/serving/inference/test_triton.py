"""Against a server that plays Triton and then against the real one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from exfm.features.schema import Schema
from serving.budget.deadline import Deadline
from serving.budget.estimates import Estimates
from serving.catalog import Batching, Catalog
from serving.errors import (
    BackendError,
    BadScoresError,
    BusyError,
    LateError,
    SchemaMismatchError,
    UnavailableError,
)
from serving.inference.batcher import EdfBatcher
from serving.inference.canary import Canary, Finding
from serving.inference.endpoint import TritonEndpoint, cancels_well
from serving.inference.scorer import Scores
from serving.inference.triton import LINGER_S, TritonScorer, backend_error
from serving.query import RankQuery
from serving.repository import load_catalog
from serving.rpc.codec import decode, parse

if TYPE_CHECKING:
    from serving.embedded.process import EmbeddedTriton


class Player(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped library
    """Plays Triton: says what it is told to, or nothing; what is wrong with a request without a status on a stream."""

    def __init__(self) -> None:
        self.says: Any = None
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.requests: list[Any] = []

    async def ModelStreamInfer(self, requests: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802 the library's
        async for request in requests:
            self.requests.append(request)
            self.begun.set()
            if self.says is None:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            if isinstance(self.says, str):
                yield service_pb2.ModelStreamInferResponse(error_message=self.says)
            else:
                yield service_pb2.ModelStreamInferResponse(infer_response=self.says)


@asynccontextmanager
async def _playing(cancels: bool = True) -> AsyncIterator[tuple[Player, TritonScorer]]:
    player, server = Player(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(player, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    endpoint = TritonEndpoint(f"127.0.0.1:{port}")
    endpoint.cancels = cancels
    try:
        yield player, TritonScorer(endpoint)
    finally:
        await endpoint.close()
        await server.stop(0)


@pytest.fixture
def query(catalog: Catalog, make_message: Callable[..., Any]) -> RankQuery:
    return decode(parse(make_message(2).SerializeToString()), catalog["feed_click"])


async def test_the_queues_timer_travels_with_the_request(query: RankQuery) -> None:
    async with _playing() as (player, scorer):
        player.says = service_pb2.ModelInferResponse()
        with pytest.raises(BadScoresError):
            await scorer.score(query, Deadline.after(2.0))
        assert 1_400_000 < player.requests[0].parameters["timeout"].int64_param <= 1_600_000
        assert player.requests[0].model_version == "3"


async def test_a_silent_server_is_given_up(query: RankQuery) -> None:
    async with _playing() as (player, scorer):
        with pytest.raises(LateError, match="no answer in time"):
            await scorer.score(query, Deadline.after(0.05))
        await asyncio.wait_for(player.cancelled.wait(), 5)


async def test_a_refusal_over_a_stream_is_an_error_and_the_stream_goes_on(query: RankQuery) -> None:
    async with _playing() as (player, scorer):
        for says, kind in (("Exceeds maximum queue size", BusyError), ("unexpected shape", BadScoresError)):
            player.says = says
            with pytest.raises(kind, match=says):
                await scorer.score(query, Deadline.after(5))


async def test_cancelling_the_request_cancels_its_work_in_triton(query: RankQuery) -> None:
    async with _playing() as (player, scorer):
        task = asyncio.create_task(scorer.score(query, Deadline.after(30)))
        await asyncio.wait_for(player.begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(player.cancelled.wait(), 5)


async def test_where_cancellations_crash_the_server_the_call_is_let_go(query: RankQuery) -> None:
    async with _playing(cancels=False) as (player, scorer):
        task = asyncio.create_task(scorer.score(query, Deadline.after(0.2)))
        await asyncio.wait_for(player.begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(player.cancelled.wait(), LINGER_S / 2)
        # It doesn't stay for ever: the stream's own timer ends it.
        await asyncio.wait_for(player.cancelled.wait(), 5)


@pytest.mark.parametrize(
    ("version", "well"), [("2.51.0", False), ("2.59.9", False), ("2.60.0", True), ("3.0", True), ("", True)]
)
def test_which_servers_bear_cancellations(version: str, well: bool) -> None:
    assert cancels_well(version) is well


async def test_without_time_no_call_is_made(query: RankQuery) -> None:
    async with _playing() as (player, scorer):
        with pytest.raises(LateError):
            await scorer.score(query, Deadline.after(0.0))
        assert player.requests == []


async def test_nobody_listening_is_unavailable(query: RankQuery) -> None:
    endpoint = TritonEndpoint("127.0.0.1:1")
    with pytest.raises(UnavailableError):
        await TritonScorer(endpoint).score(query, Deadline.after(5))
    await endpoint.close()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Request timeout expired", BusyError),
        ("[request id: 1] Exceeds maximum queue size", BusyError),
        ("Request for unknown model: 'feed' is not found", UnavailableError),
        ("Request for unknown model: 'feed' version 9 is not found", UnavailableError),
        ("Server is stopping, scheduler for model has stopped accepting new inference requests", UnavailableError),
        ("unexpected shape for input", BadScoresError),
        ("Failed to process the request(s), message: Stub process is not healthy.", BadScoresError),
    ],
)
def test_tritons_words_in_the_ladders(words: str, kind: type[BackendError]) -> None:
    assert type(backend_error(words)) is kind


@pytest.fixture
def published(published_repository: Path) -> Catalog:
    return load_catalog(published_repository)


@asynccontextmanager
async def _connected(triton: "EmbeddedTriton") -> AsyncIterator[tuple[TritonEndpoint, TritonScorer]]:
    endpoint = TritonEndpoint(triton.address)
    try:
        yield endpoint, TritonScorer(endpoint)
    finally:
        await endpoint.close()


async def _patiently(scorer: TritonScorer, query: RankQuery) -> Scores:
    """Scores, again if this machine's other work let them expire in Triton's queue."""
    for _ in range(10):
        try:
            return await scorer.score(query, Deadline.after(5))
        except BusyError:
            continue
    raise AssertionError("no room ten times in a row")


async def test_the_real_triton_scores_as_the_export_did(
    embedded_triton: "EmbeddedTriton", published: Catalog, make_request: Callable[..., Any]
) -> None:
    async with _connected(embedded_triton) as (endpoint, scorer):
        for vertical in published.values():
            await endpoint.check_schema(vertical, 5)
            assert (await Canary(vertical, patience_s=5).fly(scorer)).finding in (Finding.PASSED, Finding.SLOW)
            inputs = make_request(vertical.schema, 33, seed=5)
            query = RankQuery("r", vertical, inputs, np.arange(33), np.ones(33))
            scores = await _patiently(scorer, query)
            assert scores.probability.shape == (33, len(vertical.tasks))
            # The request holds values that stand in no vocabulary.
            assert scores.unknown > 0


async def test_requests_at_once_are_not_mixed_up(
    embedded_triton: "EmbeddedTriton", published: Catalog, make_request: Callable[..., Any]
) -> None:
    vertical = published["feed_click"]
    queries = [
        RankQuery("r", vertical, make_request(vertical.schema, size, seed=size), np.arange(size), np.ones(size))
        for size in (1, 7, 20, 64)
    ]
    async with _connected(embedded_triton) as (_, scorer):
        alone = [await _patiently(scorer, query) for query in queries]
        together = await asyncio.gather(*(_patiently(scorer, query) for query in queries * 3))
    for index, scores in enumerate(together):
        np.testing.assert_allclose(scores.probability, alone[index % 4].probability, atol=1e-6)
        assert scores.unknown == alone[index % 4].unknown


async def test_the_batcher_gets_every_request_its_own_scores(
    embedded_triton: "EmbeddedTriton", published: Catalog, make_request: Callable[..., Any]
) -> None:
    vertical = published["feed_click"]
    assert vertical.batching == Batching(2, 8)
    queries = [
        RankQuery("r", vertical, make_request(vertical.schema, size, seed=size), np.arange(size), np.ones(size))
        for size in (1, 7, 20, 64)
    ]
    async with _connected(embedded_triton) as (_, scorer):
        alone = [await _patiently(scorer, query) for query in queries]
        batcher = EdfBatcher(scorer, Estimates(), Batching(1, 8), 500)
        together = await asyncio.gather(*(batcher.score(query, Deadline.after(5)) for query in queries * 3))
    assert batcher.calls < batcher.scored == 12
    for index, scores in enumerate(together):
        np.testing.assert_allclose(scores.probability, alone[index % 4].probability, atol=1e-6)
        assert scores.unknown == alone[index % 4].unknown


async def test_a_model_for_another_schema_is_refused_before_it_serves(
    embedded_triton: "EmbeddedTriton", published: Catalog, tiny_schema: Schema
) -> None:
    other = replace(published["feed_click"], schema=tiny_schema.for_vertical("feed_long_view"))
    async with _connected(embedded_triton) as (endpoint, _):
        with pytest.raises(SchemaMismatchError, match=r"feed_click: Triton at .* has loaded a model for schema"):
            await endpoint.check_schema(other, 5)
        with pytest.raises(UnavailableError):
            await endpoint.check_schema(replace(published["feed_click"], version=9), 5)


async def test_a_version_that_is_not_loaded_is_unavailable(
    embedded_triton: "EmbeddedTriton", published: Catalog
) -> None:
    vertical = replace(published["feed_click"], version=9)
    async with _connected(embedded_triton) as (_, scorer):
        assert (await Canary(vertical, patience_s=5).fly(scorer)).finding is Finding.GONE
