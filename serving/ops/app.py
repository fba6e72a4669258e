"""The ops plane's pages. Each answers from what the parent has already heard, so a worker that hangs can't hold it."""

from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.telemetry.exposition import exposition


class Shown(Protocol):
    """What the pages are made of."""

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here."""
        ...

    @property
    def metrics_folder(self) -> Path:
        """Where the workers' counters are."""
        ...

    def state(self) -> dict[str, Any]:
        """The whole server, in JSON types; must not wait."""
        ...


def app_of(shown: Shown) -> FastAPI:
    """The application with its four pages."""
    app = FastAPI(title="ExFM Serving, ops plane", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/live")
    async def live() -> Response:
        """200 while the parent's event loop turns."""
        return PlainTextResponse("live\n")

    @app.get("/ready")
    async def ready() -> Response:
        """200 while a worker trusts every canary, else 503; the body says what each canary found."""
        state = shown.state()
        return JSONResponse(
            {"ready": shown.ready, "workers": [_canaries(worker) for worker in state["workers"]]},
            status_code=200 if shown.ready else 503,
        )

    @app.get("/metrics")
    def metrics() -> Response:
        """What Prometheus scrapes; on a thread, for it reads files."""
        return Response(exposition(shown.metrics_folder, shown.state()), media_type=CONTENT_TYPE_LATEST)

    @app.get("/state")
    async def state() -> Response:
        """Everything that is known, per worker."""
        return JSONResponse(shown.state())

    return app


def _canaries(worker: dict[str, Any]) -> dict[str, Any]:
    verticals = worker["state"].get("verticals", {})
    return {
        "worker": worker["worker"],
        "up": worker["up"],
        "ready": worker["ready"],
        "canaries": {name: facts["canary"] for name, facts in verticals.items()},
    }
