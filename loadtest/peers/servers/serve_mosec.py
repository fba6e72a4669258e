"""mosec: its Rust front with dynamic batching of at most 1 ms, the least it offers, and a worker process per core."""

import os
import sys
from pathlib import Path

from arguments import HOST, arguments  # type: ignore[import-not-found]
from mosec import Server, ValidationError, Worker  # type: ignore[import-not-found]
from scoring import MAX_BATCH, PATH, Scoring  # type: ignore[import-not-found]

MODEL = "EXFM_PEER_MODEL"
WAIT_MS = 1


class Scorer(Worker):  # type: ignore[misc]
    """Raw bytes both ways."""

    def __init__(self) -> None:
        super().__init__()
        self._scoring = Scoring(Path(os.environ[MODEL]))

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[bytes]:
        try:
            answers: list[bytes] = self._scoring.score(data)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return answers


if __name__ == "__main__":
    asked = arguments()
    # mosec reads its own options from the command line, in its worker processes, too.
    sys.argv[1:] = ["--address", HOST, "--port", str(asked.port), "--log-level", "warning"]
    os.environ[MODEL] = str(asked.model)
    server = Server()
    server.append_worker(Scorer, num=asked.workers, max_batch_size=MAX_BATCH, max_wait_time=WAIT_MS, route=PATH)
    server.run()
