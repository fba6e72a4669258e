"""Against a server whose answers the test gives, and the real one where it is told to end."""

import asyncio
import gc
import os
import signal
import socket
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.inference import streams
from serving.inference.endpoint import TritonEndpoint
from serving.inference.streams import LASTS_S, InferStream, InferStreams

if TYPE_CHECKING:
    from serving.embedded.environment import TritonEnvironment

END_S = 10.0


class Answering(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped library
    """Echoes a request's id, once the test lets that request go."""

    def __init__(self) -> None:
        self.streams = self.ended = self.cancelled = 0
        self.held: dict[str, asyncio.Event] = {}
        self.seen: list[str] = []
        self.twice = False

    def hold(self, name: str) -> asyncio.Event:
        """Have that request wait until the event is set."""
        return self.held.setdefault(name, asyncio.Event())

    async def ModelStreamInfer(self, requests: Any, _: Any) -> AsyncIterator[Any]:  # noqa: N802 the library's
        self.streams += 1
        try:
            async for request in requests:
                self.seen.append(request.id)
                if request.id in self.held:
                    await self.held[request.id].wait()
                answer = service_pb2.ModelInferResponse(id=request.id)
                for _ in range(1 + self.twice):
                    yield service_pb2.ModelStreamInferResponse(infer_response=answer)
            self.ended += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Asking:
    """Asks over streams to an `Answering`."""

    def __init__(self, address: str, server: grpc.aio.Server, peer: Answering) -> None:
        self.peer, self.server = peer, server
        self.channel = grpc.aio.insecure_channel(address)
        self.streams = InferStreams(service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelStreamInfer)

    async def ask(self, name: str, timeout_s: float = END_S, cancels: bool = True) -> str:
        """The id in the answer."""
        request = service_pb2.ModelInferRequest(id=name)
        answer = await self.streams.infer(request, timeout_s, cancels)
        return str(answer.infer_response.id)

    async def given_up(self, name: str, cancels: bool) -> asyncio.Event:
        """Ask, and stop waiting once the server has the request; sets it free."""
        let_go = self.peer.hold(name)
        task = asyncio.create_task(self.ask(name, cancels=cancels))
        await _until(lambda: name in self.peer.seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return let_go


async def _until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(END_S):
        while not holds():  # noqa: ASYNC110 the server's own doing
            await asyncio.sleep(0.002)


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    async with _asking() as made:
        yield made


@asynccontextmanager
async def _asking() -> AsyncIterator[Asking]:
    peer, server = Answering(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(peer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    made = Asking(f"127.0.0.1:{port}", server, peer)
    try:
        yield made
    finally:
        made.streams.leave()
        await made.channel.close()
        await server.stop(0)


class Ended:
    """A call that ends when it is told to."""

    def __init__(self) -> None:
        self.over, self.cancelled = asyncio.Event(), False

    async def read(self) -> Any:
        await self.over.wait()
        return grpc.aio.EOF

    async def done_writing(self) -> None:
        pass

    def cancel(self) -> None:
        self.cancelled = True


async def test_one_that_ends_in_the_moment_it_is_left_leaves_nothing_behind() -> None:
    call = Ended()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stream = InferStream(call, lambda _: None)
        await asyncio.sleep(0)
        call.over.set()
        stream.leave()
        await _until(lambda: call.cancelled)
        await asyncio.sleep(0)
        del stream
        gc.collect()
    assert [str(each.message) for each in said] == []


async def test_one_after_the_other_goes_over_one_stream(asking: Asking) -> None:
    assert [await asking.ask(str(number)) for number in range(20)] == [str(number) for number in range(20)]
    assert asking.peer.streams == 1


async def test_what_is_asked_at_once_has_a_stream_each_and_its_own_answer(asking: Asking) -> None:
    names = [str(number) for number in range(8)]
    assert await asyncio.gather(*map(asking.ask, names)) == names
    assert await asyncio.gather(*map(asking.ask, names)) == names
    assert asking.peer.streams == 8


async def test_what_is_given_up_ends_its_stream(asking: Asking) -> None:
    await asking.given_up("slow", cancels=True)
    await _until(lambda: asking.peer.cancelled == 1)
    assert await asking.ask("next") == "next"
    assert asking.peer.streams == 2


async def test_where_that_may_not_be_the_stream_is_free_with_the_answer_that_nobody_hears(asking: Asking) -> None:
    let_go = await asking.given_up("slow", cancels=False)
    assert await asking.ask("beside") == "beside"
    let_go.set()
    await _until(lambda: len(asking.streams._free) == 2)
    assert [*await asyncio.gather(asking.ask("a"), asking.ask("b"))] == ["a", "b"]
    assert (asking.peer.streams, asking.peer.cancelled) == (2, 0)


@pytest.mark.parametrize("cancels", [True, False])
async def test_no_answer_in_time_ends_the_stream(asking: Asking, cancels: bool) -> None:
    asking.peer.hold("silent")
    with pytest.raises(TimeoutError):
        await asking.ask("silent", 0.05, cancels)
    await _until(lambda: asking.peer.cancelled == 1)
    assert await asking.ask("next") == "next"


async def test_a_stream_that_breaks_says_so_and_is_not_used_again(asking: Asking) -> None:
    assert await asking.ask("before") == "before"
    asking.peer.hold("under way")
    task = asyncio.create_task(asking.ask("under way"))
    await _until(lambda: "under way" in asking.peer.seen)
    await asking.server.stop(0)
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        await task
    with pytest.raises(ConnectionError, match="UNAVAILABLE"):
        await asking.ask("after")


async def test_a_server_without_streams_is_named_as_such() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        begin = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
        with pytest.raises(ConnectionError, match="UNIMPLEMENTED"):
            await InferStreams(begin).infer(service_pb2.ModelInferRequest(), END_S, True)
    await server.stop(0)


@pytest.mark.parametrize("cancels", [True, False])
async def test_who_accepts_and_never_speaks_is_given_up_in_time(cancels: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{mute.getsockname()[1]}") as channel:
            begin = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer
            asked = asyncio.create_task(InferStreams(begin).infer(service_pb2.ModelInferRequest(), 0.1, cancels))
            assert (await asyncio.wait((asked,), timeout=END_S))[0]
            assert isinstance(asked.exception(), TimeoutError)


async def test_an_answer_that_nobody_asked_for_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LASTS_S", 1e3)
    async with _asking() as asking:
        asking.peer.twice = True
        assert await asking.ask("first") == "first"
        await _until(lambda: not any(stream.usable for stream in asking.streams._free))
        asking.peer.twice = False
        assert await asking.ask("second") == "second"
        assert asking.peer.streams == 2


async def test_a_stream_is_left_after_a_while_with_the_answer_that_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "LASTS_S", 0.1)
    async with _asking() as asking:
        assert await asking.ask("idle") == "idle"
        await _until(lambda: asking.peer.ended == 1)
        let_go = asking.peer.hold("busy")
        task = asyncio.create_task(asking.ask("busy"))
        await _until(lambda: "busy" in asking.peer.seen)
        await asyncio.sleep(0.2)  # past its time
        let_go.set()
        assert await task == "busy"
        await _until(lambda: asking.peer.ended == 2)
        assert asking.peer.cancelled == 0


async def test_a_real_triton_that_is_told_to_end_waits_for_no_stream_for_long(
    triton_environment: "TritonEnvironment", published_repository: Path, tmp_path: Path
) -> None:
    from serving.embedded.process import EmbeddedTriton

    triton = EmbeddedTriton(triton_environment, published_repository, ("feed_click",), tmp_path / "triton.log")
    with triton:
        endpoint = TritonEndpoint(triton.address)
        refused = await endpoint.infer(service_pb2.ModelInferRequest(model_name="none"), END_S)
        assert refused.error_message
        told_s = time.monotonic()
        os.kill(triton.pid, signal.SIGTERM)
        async with asyncio.timeout(60):
            while triton.running:  # noqa: ASYNC110 another process
                await asyncio.sleep(0.02)
        took_s = time.monotonic() - told_s
        await endpoint.close()
    assert took_s < LASTS_S + END_S
