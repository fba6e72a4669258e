"""What the parent tells a worker process at its start, and how the two are connected.

Standard input carries the pickled settings; its end means that the parent has gone. Standard output carries the
worker's reports, one JSON object a line. Standard error is the parent's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.serve import ServeOptions

REPORT_S = 0.2
"""Between two reports of a worker, seconds."""


@dataclass(frozen=True)
class WorkerSettings:
    """One worker's orders.

    Attributes:
        number: of the worker, from 0; a worker that is started again keeps it.
        serve: what to serve with; the address is complete, and Triton's is given.
        metrics: folder for the counters' files; None: nothing is counted for Prometheus.
        log_level: of standard error.
        versions: by model the one that the parent has read and Triton serves; a worker that is started again goes on
            with it, whatever was published meanwhile.
    """

    number: int
    serve: ServeOptions
    metrics: Path | None
    log_level: str
    versions: Mapping[str, int]
