"""The annotator's settings."""

from dataclasses import dataclass
from pathlib import Path

from exfm.features.embeddings import Codec


@dataclass(frozen=True)
class AnnotateOptions:
    """Sizes and times.

    Attributes:
        batch: rows of one forward pass, and about those of one Parquet file per day.
        linger_s: how long an example may wait for its batch to fill.
        codec: of the embeddings.
        swap_s: how often it looks whether another snapshot is current.
        tries: how often a batch may cost a worker its life before its rows are tried in ever smaller parts.
        wait_s: how long a step waits for one answer; then it fails, and the next one goes on waiting.
        keep_ms: how far back the teacher's counters reach.
        config: settings of the teacher's counters over the packaged ones.
    """

    batch: int = 8192
    linger_s: float = 5.0
    codec: Codec = "int4"
    swap_s: float = 2.0
    tries: int = 2
    wait_s: float = 60.0
    keep_ms: int = 30 * 86_400_000
    config: Path | None = None
