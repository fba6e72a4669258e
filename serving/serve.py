"""From a catalog to a serving process: Triton, the worker, readiness, and the way back down."""

import asyncio
import contextlib
import logging
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving.catalog import Catalog, Vertical
from serving.embedded.environment import ensure
from serving.embedded.process import EmbeddedTriton, TritonOptions
from serving.errors import StartError
from serving.inference.endpoint import TritonEndpoint
from serving.inference.models import ASK_S, check_schemas
from serving.inference.triton import TritonScorer
from serving.repository import triton_configs
from serving.supervisor import Supervisor
from serving.worker import Worker, WorkerOptions

log = logging.getLogger(__name__)

_STEP_S = 0.1


@dataclass(frozen=True)
class ServeOptions:
    """What to serve with.

    Attributes:
        repository: the model repository, for a Triton of our own.
        worker: the worker's options.
        tritons: host:port of each running Triton; empty: start one.
        triton_log: file for the output of our own Triton; None: a temporary one.
        ready_s: the longest it may take to become ready, seconds.
        trusted_keys: folder of the keys whose versions count, for workers that read the repository; None: its own.
    """

    repository: Path
    worker: WorkerOptions
    tritons: tuple[str, ...] = ()
    triton_log: Path | None = None
    ready_s: float = 60.0
    trusted_keys: Path | None = None


@dataclass(frozen=True)
class Ready:
    """The server answers: where, with which versions, scored by whom; and where its ops plane is, if it has one."""

    address: str
    triton: str
    versions: Mapping[str, int]
    ops: str = ""

    def text(self) -> str:
        """For people."""
        verticals = ", ".join(f"{name} version {version}" for name, version in self.versions.items())
        ops = f", ops on {self.ops}" if self.ops else ""
        return f"ready on {self.address}: {verticals} (Triton at {self.triton}{ops})"

    def plain(self) -> dict[str, object]:
        """For machines."""
        ops = {"ops": self.ops} if self.ops else {}
        where = {"address": self.address, "triton": self.triton, **ops}
        return {"event": "ready", **where, "verticals": dict(self.versions)}


@dataclass(frozen=True)
class Backend:
    """The Tritons that score, and who keeps the one alive that is our own."""

    addresses: tuple[str, ...]
    supervisor: Supervisor | None = None

    def state(self) -> dict[str, object]:
        """For `/state`."""
        own, addresses = self.supervisor, ",".join(self.addresses)
        return {"address": addresses, "embedded": own is not None, "restarts": own.restarts if own else 0}


async def serve(
    catalog: Catalog,
    options: ServeOptions,
    announce: Callable[[Ready], None],
    watch: Callable[[Worker], None] = lambda _: None,
) -> None:
    """Serve in this process until SIGTERM or SIGINT.

    `watch` is given the worker before it starts; `announce` is called once, when ready.

    Raises:
        StartError: the server did not become ready.
        RepositoryError: the repository was changed after the catalog was read.
        TritonStartError, EnvironmentUnusableError: our own Triton did not start.
    """
    stop = stop_signals()
    async with triton_for(catalog, options, stop) as backend:
        endpoints = {address: TritonEndpoint(address) for address in backend.addresses}
        scorers = {address: dict.fromkeys(catalog, TritonScorer(each)) for address, each in endpoints.items()}

        async def vet(address: str, vertical: Vertical) -> None:
            await endpoints[address].check_schema(vertical, ASK_S)

        worker = Worker(catalog, scorers, options.worker, vet)
        watch(worker)
        try:
            if await unless(stop, _start(catalog, tuple(endpoints.values()), worker, options, announce)):
                await stop.wait()
            log.info("stopping")
        finally:
            await worker.stop()
            for endpoint in endpoints.values():
                await endpoint.close()


def stop_signals() -> asyncio.Event:
    """Set when the process is asked to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _start(
    catalog: Catalog,
    endpoints: Sequence[TritonEndpoint],
    worker: Worker,
    options: ServeOptions,
    announce: Callable[[Ready], None],
) -> None:
    waiting: dict[str, str] = {}
    try:
        async with asyncio.timeout(options.ready_s):
            await check_schemas(catalog, endpoints, waiting)
            port = await worker.start()
            await worker.readiness.wait()
    except TimeoutError:
        last = "; ".join(f"{name}: {text}" for name, text in (waiting or worker.readiness.last).items())
        raise StartError(f"not ready within {options.ready_s:g} s: {last}") from None
    host = options.worker.listen.rpartition(":")[0]
    tritons = ",".join(endpoint.address for endpoint in endpoints)
    announce(Ready(f"{host}:{port}", tritons, {name: catalog[name].version for name in catalog}))


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether `work` ended before it was asked to stop; its errors are raised."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    for one in (task, stopping):
        if not one.done():
            one.cancel()
            await asyncio.wait((one,))
    if task.cancelled():
        return False
    task.result()
    return True


@contextlib.asynccontextmanager
async def triton_for(
    catalog: Catalog, options: ServeOptions, stop: asyncio.Event | None = None
) -> AsyncIterator[Backend]:
    """A Triton that has the catalog's models: the one we were told of, or one of our own. `stop` as in `own_triton`."""
    if options.tritons:
        yield Backend(options.tritons)
        return
    async with own_triton(catalog, options.repository, options.triton_log, TritonOptions(), stop) as backend:
        yield backend


@contextlib.asynccontextmanager
async def own_triton(
    catalog: Catalog,
    repository: Path,
    triton_log: Path | None,
    options: TritonOptions,
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Backend]:
    """A Triton of our own with the catalog's models, kept alive; raises as `serve` does if it doesn't start.

    What is in the catalog is not pruned as long as this has it. If `stop` is set while Triton starts, its start ends
    at once, and there is nobody at its address; while Triton's environment is built, as soon as that is done.
    """
    with contextlib.ExitStack() as stack:
        path = triton_log or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "triton.log"
        configs = triton_configs(repository, catalog)
        environment = await asyncio.to_thread(ensure, None, log.info)
        lite = frozenset(catalog.models) - frozenset(catalog)
        triton = EmbeddedTriton(environment, repository, configs, path, replace(options, dispensable=lite))
        stack.callback(triton.stop)
        await _start_triton(triton, stop or asyncio.Event())
        supervisor = Supervisor(triton)
        watching = asyncio.create_task(supervisor.run())
        try:
            yield Backend((triton.address,), supervisor)
        finally:
            watching.cancel()
            await _ended(watching, triton)


async def _start_triton(triton: EmbeddedTriton, stop: asyncio.Event) -> None:
    """Start it; if it is to stop before that is over, it is not started."""
    starting = asyncio.ensure_future(asyncio.to_thread(triton.start))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not starting.done():
            await _ended(starting, triton)
    if starting.exception() and not stop.is_set():
        starting.result()


async def _ended(task: asyncio.Future[None], triton: EmbeddedTriton) -> None:
    """Wait until the task has ended; a start that it waits for is cut short, whose server may yet have to be begun."""
    while not (await asyncio.wait((task,), timeout=_STEP_S))[0]:
        await asyncio.to_thread(triton.stop)
