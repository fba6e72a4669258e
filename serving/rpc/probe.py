"""Measures the way in: how long a call takes from the socket to our code, by calling ourselves."""

import asyncio
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from serving.budget.clock import MONOTONIC, Clock

log = logging.getLogger(__name__)

_SERVICE, _METHOD = "exfm.internal.Door", "Probe"
_WARM, _PROBE = b"", b"p"
_CALL_S = 5.0
_PAUSE_S = 0.1
_EASE = 3
"""Intervals that a short way in is taken to stay short: a probe costs about as much as an answer from the prior."""

Context = grpc.aio.ServicerContext[Any, Any]


class DoorProbe:
    """A tiny call to our own server, over a socket of our own: at even intervals, and fewer while the way is short.

    gRPC doesn't tell when a request came in: it may have waited in the library's queues, for the event loop or for a
    core. The probe stands in those same queues. While one is on its way, it has taken at least as long as it is out.
    """

    def __init__(
        self,
        observe: Callable[[float], None] = lambda _: None,
        interval_s: float = 0.01,
        clock: Clock = MONOTONIC,
        *,
        short_s: float = 0.0,
    ) -> None:
        """A probe that isn't sent yet.

        Args:
            observe: is told the way's length in seconds, once for every interval.
            interval_s: between two probes.
            clock: the clock of the arrivals.
            short_s: after a way of no more than this the next probe waits, and the length stands for the time between.
        """
        self._observe = observe
        self._interval_s, self._short_s = interval_s, short_s
        self._clock = clock
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._sent_s = self._arrived_s = clock()

    def attach(self, server: grpc.aio.Server) -> None:
        """Let `server` take the probe; before it starts."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            _METHOD: grpc.unary_unary_rpc_method_handler(self._take)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        self._folder = tempfile.TemporaryDirectory(prefix="exfm-door-")
        server.add_insecure_port(self._address)

    def start(self) -> None:
        """Begin on the running loop; the server has started."""
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """End; nothing is charged from now on."""
        if self._beating:
            self._beating.cancel()
            await asyncio.wait((self._beating,))
        if self._folder:
            self._folder.cleanup()

    def charge_s(self, now_s: float) -> float:
        """Seconds that a request taken up at `now_s` is taken to have spent on its way in."""
        if self._arrived_s >= self._sent_s:
            return self._arrived_s - self._sent_s
        return now_s - self._sent_s

    @property
    def _address(self) -> str:
        assert self._folder
        return f"unix:{Path(self._folder.name) / 'door'}"

    async def _beat(self) -> None:
        while True:
            try:
                await self._measure()
            except grpc.aio.AioRpcError as error:
                log.warning("the way in could not be measured: %s: %s", error.code().name, error.details())
            except Exception:
                log.exception("the way in could not be measured")
            finally:
                # What is on its way for ever would be charged ever more.
                self._sent_s = self._arrived_s
            await asyncio.sleep(_PAUSE_S)

    async def _measure(self) -> None:
        """Connect, for which nothing is charged, and probe; `AioRpcError` if a starved server takes too long for it."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            call: Any = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
            await call(_WARM, wait_for_ready=True, timeout=_CALL_S)
            while True:
                await self._send(call)

    async def _send(self, call: Any) -> None:
        """One probe, observed until it has arrived; `AioRpcError` if it can't, however long it is given."""
        self._sent_s = self._clock()
        probe = asyncio.ensure_future(call(_PROBE, timeout=_CALL_S))
        while self._arrived_s < self._sent_s and not probe.done():
            await asyncio.sleep(self._interval_s)
            if self._arrived_s < self._sent_s and probe.done():
                break  # it was not slow, it failed
            self._observe(self.charge_s(self._clock()))
        try:
            await probe
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
        if (wait_s := self.charge_s(self._clock())) <= self._short_s:
            await asyncio.sleep(_EASE * self._interval_s)
            for _ in range(_EASE):
                self._observe(wait_s)

    async def _take(self, payload: bytes, _: Context) -> bytes:
        if payload == _PROBE:
            self._arrived_s = self._clock()
        return b""
