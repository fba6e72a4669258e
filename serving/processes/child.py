"""A worker process: `serve` with its orders from the parent, reports to it, and an end with it."""

import asyncio
import gc
import logging
import os
import pickle
import signal
import sys
import threading

from serving.catalog import Catalog
from serving.errors import StartError
from serving.processes.report import ReportWriter
from serving.processes.settings import REPORT_S, WorkerSettings
from serving.repository import load_catalog
from serving.serve import serve
from serving.worker import Worker

_MERCY_S = 2.0


def main() -> int:
    """Run one worker; 0: stopped as asked, 1: it could not begin."""
    settings: WorkerSettings = pickle.load(sys.stdin.buffer)
    reports = ReportWriter(_own_stdout())
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=f"%(asctime)s %(levelname)s worker {settings.number} %(name)s: %(message)s",
    )
    threading.Thread(target=_end_with_parent, args=(settings.serve.worker.drain_s,), daemon=True).start()
    try:
        catalog = load_catalog(settings.serve.repository, settings.serve.trusted_keys, settings.versions)
        gc.collect()
        gc.freeze()
        asyncio.run(_serve(settings, reports, catalog))
    except StartError as error:
        reports.send({"failed": str(error)})
        return 1
    return 0


async def _serve(settings: WorkerSettings, reports: ReportWriter, catalog: Catalog) -> None:
    reporting: list[asyncio.Task[None]] = []

    def watch(worker: Worker) -> None:
        if settings.metrics:
            _count(worker, settings)
        reporting.append(asyncio.create_task(_report(worker, reports)))

    try:
        await serve(catalog, settings.serve, lambda _: None, watch)
    finally:
        for task in reporting:
            task.cancel()


def _count(worker: Worker, settings: WorkerSettings) -> None:
    # Only here, so that a server without an ops plane needs no Prometheus.
    from serving.telemetry.prometheus import PrometheusAdapter, count_into  # noqa: PLC0415

    assert settings.metrics
    count_into(settings.metrics, settings.number)
    worker.hooks.add(PrometheusAdapter())


async def _report(worker: Worker, reports: ReportWriter) -> None:
    while True:
        reports.send({"state": worker.state()})
        await asyncio.sleep(REPORT_S)


def _own_stdout() -> int:
    """The pipe to the parent; whatever else is written to standard output goes to standard error from now on."""
    pipe = os.dup(1)
    os.dup2(2, 1)
    return pipe


def _end_with_parent(drain_s: float) -> None:
    """On a thread of its own, so that an event loop that hangs doesn't outlive the parent either."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(drain_s + _MERCY_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
