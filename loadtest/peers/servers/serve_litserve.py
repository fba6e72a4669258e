"""LitServe: dynamic batching without a wait, a worker process per core, its ZMQ queue, raw bytes as the body."""

from pathlib import Path
from typing import Annotated

import litserve  # type: ignore[import-not-found]
from arguments import HOST, arguments  # type: ignore[import-not-found]
from fastapi import Body, Response
from scoring import MAX_BATCH, PATH, Scoring  # type: ignore[import-not-found]


class ScoreApi(litserve.LitAPI):  # type: ignore[misc]
    """Batches of bodies."""

    def __init__(self, model: Path) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0.0, api_path=PATH)
        self._model = model

    def setup(self, device: str) -> None:  # noqa: ARG002 a processor is a processor
        self._scoring = Scoring(self._model)

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        return inputs

    def predict(self, inputs: list[bytes]) -> list[bytes]:
        answers: list[bytes] = self._scoring.score(inputs)
        return answers

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    asked = arguments()
    server = litserve.LitServer(
        ScoreApi(asked.model), accelerator="cpu", workers_per_device=asked.workers, fast_queue=True, timeout=5
    )
    server.run(host=HOST, port=asked.port, generate_client_file=False, log_level="warning", access_log=False)
