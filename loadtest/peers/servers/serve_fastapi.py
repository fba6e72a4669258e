"""FastAPI with ONNX Runtime under uvicorn: one process per core, uvloop and httptools, no batching, as it has none.

The graph runs on the event loop: for a millisecond of work a thread costs more than it gives back.
"""

import os
from pathlib import Path

import uvicorn
from arguments import HOST, arguments  # type: ignore[import-not-found]
from fastapi import FastAPI, HTTPException, Request, Response
from scoring import PATH, Scoring  # type: ignore[import-not-found]

MODEL = "EXFM_PEER_MODEL"


def application() -> FastAPI:
    """One worker process's application."""
    scoring = Scoring(Path(os.environ[MODEL]))
    app = FastAPI(openapi_url=None)

    @app.post(PATH)
    async def score(request: Request) -> Response:
        try:
            return Response(scoring.score([await request.body()])[0], media_type="application/octet-stream")
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    return app


if __name__ == "__main__":
    asked = arguments()
    os.environ[MODEL] = str(asked.model)
    uvicorn.run(
        "serve_fastapi:application",
        factory=True,
        host=HOST,
        port=asked.port,
        workers=asked.workers,
        log_level="warning",
        access_log=False,
    )
