"""A JetStream of several nodes on this machine, and which of them leads."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nats
from nats.errors import Error

from bench.scale.servers import Server, nats_nodes
from exfm.events.log import EventLog, LogUnavailableError
from exfm.events.nats_log import NatsLog

READY_S = 60.0


class Cluster:
    """Running nodes.

    Attributes:
        nodes: node `k` calls itself `node<k>`.
        rest: what stands behind `nats:` in the URL of a log on all nodes, but the stream's name and settings.
    """

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = nodes
        self.rest = "//" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)

    def open(self, stream: str, settings: str = "") -> EventLog:
        """A log on it; waits for a cluster that has just been started."""
        until_s = time.monotonic() + READY_S
        while True:
            try:
                return NatsLog(f"{self.rest}/{stream}{settings}")
            except LogUnavailableError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.1)

    def leader(self, stream: str) -> int:
        """The number of the node that leads a stream; `TimeoutError` if none does for too long."""
        until_s = time.monotonic() + READY_S
        while time.monotonic() < until_s:
            name, in_step = asyncio.run(self._asked(stream))
            if name and in_step:
                return int(name.removeprefix("node"))
            time.sleep(0.1)
        raise TimeoutError(f"stream {stream} has no leader with all its followers in step")

    async def _asked(self, stream: str) -> tuple[str, bool]:
        servers = [f"nats://127.0.0.1:{node.port}" for node in self.nodes]
        try:
            client = await nats.connect(servers, connect_timeout=1)
            try:
                said = (await client.jetstream(timeout=1.0).stream_info(stream)).cluster
            finally:
                await client.close()
        except (Error, OSError, TimeoutError):
            return "", False
        replicas = (said.replicas or []) if said else []
        return (said.leader or "" if said else ""), all(each.current and not each.offline for each in replicas)


@contextmanager
def running(folder: Path, count: int = 3) -> Iterator[Cluster]:
    """A cluster, killed at the end."""
    nodes = nats_nodes(folder, count)
    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node)
        yield Cluster(nodes)
