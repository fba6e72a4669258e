"""The ways to several frontends: the client's own round robin, Envoy, and for comparison a channel to each."""

import importlib
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

from loadtest.driving.rank_target import RankTarget
from loadtest.driving.target import Reply
from loadtest.workload.asked import Workload
from serving.caller.channel import OPTIONS, target_of

ADMIN_S = 5.0
WITHOUT_RETRIES: list[tuple[str, Any]] = [("grpc.enable_retries", 0)]
_cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
"""What grpcio-channelz serves over gRPC; in the own process there is no need to."""


def round_robin(addresses: Sequence[str], workload: Workload, *, retries: bool = True) -> RankTarget:
    """One channel as `serving.client` makes it, to all of them; one that can be asked what is in flight where."""
    options = [*OPTIONS, ("grpc.enable_channelz", 1), *([] if retries else WITHOUT_RETRIES)]
    return RankTarget(target_of(",".join(addresses)), workload, connections=1, options=options)


def envoy(port: int, workload: Workload, *, retries: bool = True) -> RankTarget:
    """One channel as `serving.client` makes it, to Envoy."""
    options = [*OPTIONS, *([] if retries else WITHOUT_RETRIES)]
    return RankTarget(f"127.0.0.1:{port}", workload, connections=1, options=options)


class Direct:
    """A channel to each frontend, taken in turn."""

    def __init__(self, addresses: Sequence[str], workload: Workload) -> None:
        self._targets = [RankTarget(address, workload, connections=1, options=OPTIONS) for address in addresses]
        self._stack = AsyncExitStack()

    async def send(self, index: int, timeout_s: float) -> Reply:
        """Send the workload's request `index`."""
        return await self._targets[index % len(self._targets)].send(index, timeout_s)

    async def __aenter__(self) -> Self:
        for target in self._targets:
            await self._stack.enter_async_context(target)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def in_flight_by_channelz(address: str) -> int:
    """Calls on their way to a frontend on channels of this process that gRPC keeps books of (`round_robin`)."""
    return sum(
        int(data.get("callsStarted", 0)) - int(data.get("callsSucceeded", 0)) - int(data.get("callsFailed", 0))
        for data in _subchannels()
        if data["target"] == f"ipv4:{address}"
    )


def connected_by_channelz() -> int:
    """Connections that are ready on such channels."""
    return sum(data["state"]["state"] == "READY" for data in _subchannels())


def in_flight_in_envoy(admin: int, port: int) -> int:
    """Calls that Envoy has sent to the frontend on that port and has no answer to."""
    (host,) = (host for host in _hosts(admin) if host["address"]["socket_address"]["port_value"] == port)
    return next((int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_active"), 0)


def healthy_in_envoy(admin: int) -> int:
    """Frontends that Envoy takes for healthy."""
    return sum(not host["health_status"].get("failed_active_health_check") for host in _hosts(admin))


def _hosts(admin: int) -> list[dict[str, Any]]:
    with urlopen(f"http://127.0.0.1:{admin}/clusters?format=json", timeout=ADMIN_S) as answer:
        (cluster,) = json.load(answer)["cluster_statuses"]
    hosts: list[dict[str, Any]] = cluster["host_statuses"]
    return hosts


def _subchannels() -> list[dict[str, Any]]:
    channels = json.loads(_cygrpc.channelz_get_top_channels(0)).get("channel", [])
    references = [each for channel in channels for each in channel.get("subchannelRef", [])]
    found = [json.loads(_cygrpc.channelz_get_subchannel(int(each["subchannelId"]))) for each in references]
    return [{"target": "", **each["subchannel"]["data"]} for each in found]
