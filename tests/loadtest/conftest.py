"""A ranking server without a model, on a real socket, that can be told to answer wrongly."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.driving.server_process import running
from loadtest.peers import naive
from loadtest.peers.model import Model, find_model
from loadtest.selftest.server import SCHEMA, answer, description
from loadtest.workload.asked import Workload
from loadtest.workload.making import from_schema
from loadtest.workload.sizes import fixed
from serving.rpc.pb import ranking_pb2 as pb
from serving.rpc.pb import ranking_pb2_grpc

Spoil = Callable[[pb.RankResponse], None]
Scripted = Callable[..., AbstractContextManager[str]]
BUDGET_MS = 2000.0
"""Wide enough for machines that have much else to do, and for a server in the generator's own process."""


class Servicer(ranking_pb2_grpc.RankingServiceServicer):
    """Answers soundly, then lets `spoil` change the answer; refuses everything if told so."""

    def __init__(
        self, spoil: Spoil | None, refuse: grpc.StatusCode | None, budget_ms: float, only_streams: bool
    ) -> None:
        self.spoil = spoil
        self.refuse = refuse
        self.budget_ms = budget_ms
        self.only_streams = only_streams
        self.turns = threading.Semaphore(4)

    def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:  # noqa: N802
        if self.only_streams:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "only streams")
        if self.refuse is not None:
            context.abort(self.refuse, "as told")
        return self.ranking(request)

    def RankStream(self, requests: Iterator[pb.RankRequest], _: Any) -> Iterator[pb.RankStreamResponse]:  # noqa: N802
        for request in requests:
            response = pb.RankStreamResponse(request_id=request.request_id, number=request.number)
            if self.refuse is None:
                response.ranking.CopyFrom(self.ranking(request))
            else:
                response.refusal.CopyFrom(pb.Refusal(code=self.refuse.value[0], message="as told"))
            yield response

    def ranking(self, request: pb.RankRequest) -> pb.RankResponse:
        with self.turns:
            response = answer(request)
            if self.spoil is not None:
                self.spoil(response)
        return response

    def DescribeVertical(self, request: pb.DescribeVerticalRequest, context: Any) -> pb.DescribeVerticalResponse:  # noqa: N802
        if request.vertical != SCHEMA.verticals[0].name:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such vertical")
        described = description()
        described.budget_ms = self.budget_ms
        return described


@pytest.fixture(scope="session")
def scripted() -> Scripted:
    """`with scripted(spoil=None, refuse=None, budget_ms=2000, only_streams=False) as address`:

    vertical `selftest`, at most 1,000 candidates, four requests at a time, those of one stream in turn.
    """

    @contextmanager
    def run(
        spoil: Spoil | None = None,
        refuse: grpc.StatusCode | None = None,
        budget_ms: float = BUDGET_MS,
        only_streams: bool = False,
    ) -> Iterator[str]:
        server = grpc.server(ThreadPoolExecutor(16))  # each open stream takes one
        servicer = Servicer(spoil, refuse, budget_ms, only_streams)
        ranking_pb2_grpc.add_RankingServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()

    return run


@pytest.fixture(scope="session")
def real(
    triton_environment: object, published_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a real server with a real Triton behind it and both verticals of `tiny_schema`."""
    assert triton_environment
    with running(published_repository, tmp_path_factory.mktemp("serve") / "serve.log") as server:
        yield server.address


@pytest.fixture(scope="session")
def workload() -> Workload:
    """Requests of 20 candidates for the scripted server."""
    return from_schema(SCHEMA, "selftest", fixed(20), seed=1, each=4)


@pytest.fixture(scope="session")
def student(published_repository: Path) -> Model:
    """A published version of the tiny schema."""
    return find_model(published_repository, "feed_click")


@pytest.fixture(scope="session")
def naive_model(student: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The naive model over it."""
    folder = tmp_path_factory.mktemp("naive")
    naive.write_graph(student.schema, folder / "naive.onnx")
    return naive.repository_with(folder / "naive.onnx", student, folder / "repository")


def reverse(response: pb.RankResponse) -> None:
    """The ads worst first, everything else as it was."""
    columns: tuple[Any, ...] = (response.ad_ids, response.expected_values, response.scores[0].probabilities)
    for column in columns:
        column[:] = list(column)[::-1]


@pytest.fixture(scope="session")
def reversed_order() -> Spoil:
    """Spoils an answer's order and nothing else."""
    return reverse
