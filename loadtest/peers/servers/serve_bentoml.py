"""BentoML: a service with a worker process per core behind one port.

Its adaptive batching joins the items of lists, which raw bytes are not; a batching service behind a thin one would cost
each request a second hop and a pickle, more than joining saves on processors.
"""

import os
from pathlib import Path
from typing import Annotated

import bentoml  # type: ignore[import-not-found]
from scoring import Scoring  # type: ignore[import-not-found]

MODEL = "EXFM_PEER_MODEL"
WORKERS = int(os.environ["EXFM_PEER_WORKERS"])
Body = Annotated[bytes, bentoml.validators.ContentType("application/octet-stream")]


@bentoml.service(workers=WORKERS, traffic={"timeout": 5}, metrics={"enabled": False})
class Peer:
    """Raw bytes both ways."""

    def __init__(self) -> None:
        self._scoring = Scoring(Path(os.environ[MODEL]))

    @bentoml.api(route="/score")  # type: ignore[untyped-decorator]
    async def score(self, body: Body, /) -> Body:
        answers: list[bytes] = self._scoring.score([bytes(body)])
        return answers[0]
