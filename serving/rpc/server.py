"""The gRPC server of one worker process: the service, its health and its reflection."""

import logging
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.errors import StartError
from serving.rpc.probe import DoorProbe
from serving.rpc.servicer import SERVICE, RankingServicer

log = logging.getLogger(__name__)

HEALTH_NAMES = ("", SERVICE)


class RankingServer:
    """Listens and answers; says SERVING only while `set_ready(True)` holds."""

    def __init__(
        self, servicer: RankingServicer, probe: DoorProbe, request_limit: int, reuse_port: bool = False
    ) -> None:
        self._servicer, self._probe = servicer, probe
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(request_limit, reuse_port))
        self._server.add_generic_rpc_handlers((servicer.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        probe.attach(self._server)

    async def start(self, listen: str) -> int:
        """Listen on `host:port` and answer, not ready yet; returns the port, chosen by the system for port 0.

        Raises:
            StartError: the address can't be listened on.
        """
        await self.set_ready(False)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise StartError(f"can't listen on {listen}") from error
        await self._server.start()
        self._probe.start()
        return port

    async def set_ready(self, ready: bool) -> None:
        """Tell load balancers whether to send requests here."""
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in HEALTH_NAMES:
            await self._health.set(name, status)

    async def drain(self, grace_s: float) -> None:
        """Say NOT_SERVING for good, take no new request, and let those in flight end within the grace."""
        await self._health.enter_graceful_shutdown()
        await self._probe.stop()
        self._servicer.drain()
        await self._server.stop(grace_s)


def _options(request_limit: int, reuse_port: bool) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", request_limit),
        # Two servers on one port by accident would share its requests silently; workers of one server are to share it.
        ("grpc.so_reuseport", int(reuse_port)),
        # Callers may ask for a sign of life every second (`serving.caller.channel`); by default that ends connections.
        ("grpc.http2.min_ping_interval_without_data_ms", 400),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
