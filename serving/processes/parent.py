"""The parent of several workers: it owns the port, Triton and the ops plane, and serves no request itself."""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.catalog import Catalog
from serving.errors import StartError
from serving.processes.fleet import Fleet, settings_for
from serving.processes.port import SharedPort
from serving.serve import Backend, Ready, ServeOptions, stop_signals, triton_for, unless

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParentOptions:
    """How the workers are run.

    Attributes:
        workers: how many processes.
        ops: host:port of the ops plane; empty: none.
        log_level: of the workers.
    """

    workers: int = 1
    ops: str = ""
    log_level: str = "info"


async def serve_with_workers(
    catalog: Catalog, options: ServeOptions, parent: ParentOptions, announce: Callable[[Ready], None]
) -> None:
    """Serve with worker processes until SIGTERM or SIGINT; `announce` is called once, when all are ready.

    Raises:
        StartError: the workers did not become ready, or an address can't be listened on.
        TritonStartError, EnvironmentUnusableError: our own Triton did not start.
    """
    stop = stop_signals()
    with SharedPort(options.worker.listen) as port, tempfile.TemporaryDirectory(prefix="exfm-") as folder:
        metrics = Path(folder)
        models = {name: model.version for name, model in catalog.models.items()}
        async with triton_for(catalog, options, stop) as backend:
            settings = settings_for(
                options,
                parent.workers,
                port.address,
                backend.addresses,
                versions=models,
                metrics=metrics if parent.ops else None,
                log_level=parent.log_level,
            )
            fleet = Fleet(settings)
            versions = {name: catalog[name].version for name in catalog}
            plane = Plane(fleet, backend, models, metrics)
            async with _ops(parent.ops, plane) as ops:
                fleet.start()
                try:
                    if await unless(stop, _ready(fleet, options.ready_s)):
                        announce(Ready(port.address, ",".join(backend.addresses), versions, ops))
                        await stop.wait()
                    log.info("stopping")
                finally:
                    plane.draining = True
                    await fleet.stop()


class Plane:
    """What the ops plane shows; every answer is made from what the parent has already heard."""

    def __init__(self, fleet: Fleet, backend: Backend, versions: dict[str, int], metrics: Path) -> None:
        self._fleet = fleet
        self._backend = backend
        self._versions = versions
        self.metrics_folder = metrics
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        return self._fleet.ready and not self.draining

    def state(self) -> dict[str, Any]:
        """The whole server, in JSON types."""
        return {
            "ready": self.ready,
            "draining": self.draining,
            "versions": self._versions,
            "triton": self._backend.state(),
            "workers": self._fleet.states(),
        }


async def _ready(fleet: Fleet, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s + 1.0):
            await fleet.wait_ready()
    except TimeoutError:
        raise StartError(f"the workers were not ready within {within_s:g} s") from None


@contextlib.asynccontextmanager
async def _ops(address: str, plane: Plane) -> AsyncIterator[str]:
    """The ops plane's address, while it is up; empty without one."""
    if not address:
        yield ""
        return
    # Only here, so that a server without an ops plane needs no web framework.
    from serving.ops.server import OpsServer  # noqa: PLC0415

    async with OpsServer(address, plane) as server:
        yield server.address
