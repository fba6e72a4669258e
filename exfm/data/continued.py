"""A log that goes on as an example stream: what was learned before, and what has been served and annotated since."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.data.examples import Examples, concat
from exfm.data.histories import joined
from exfm.data.source import Source
from exfm.features.embeddings import code_bytes
from exfm.features.history import History
from exfm.features.schema import Schema


class ContinuationError(ValueError):
    """A stream doesn't go on where a log ends; the message says why."""


def continued(log: Source, stream: Source) -> Source:
    """All rows of a log, and behind them those of a stream; the log's rows have no embedding and no annotation.

    Raises:
        ContinuationError: they differ in features or tasks, or the stream has no embeddings or begins too early.
    """
    first, last = log.examples, stream.examples
    refuse_misfit(log, stream.schema, int(last.time_ms[0]) if len(last) else None)
    if stream.events is None:
        raise ContinuationError("the stream brings no embeddings")
    examples = concat([_shared(part, [first, last]) for part in (first, last)])
    return replace(log, examples=examples, events=joined([silent(first, stream.events), stream.events]))


def refuse_misfit(log: Source, schema: Schema, oldest_ms: int | None) -> None:
    """`ContinuationError` if a stream of that schema, whose rows begin at that time, is none behind the log."""
    if (log.schema.digest, log.schema.tasks) != (schema.digest, schema.tasks):
        raise ContinuationError("the stream's schema is not the log's")
    if oldest_ms is not None and len(log.examples) and log.examples.time_ms[-1] > oldest_ms:
        raise ContinuationError("the stream begins before the log ends")


def silent(rows: Examples, like: History) -> History:
    """Events that don't count, of the same kind as others."""
    count, width = len(rows), code_bytes(like.dimension, like.codec)
    codes, nobody = np.zeros((count, width), np.uint8), np.zeros(count, np.uint32)
    return History(rows.time_ms, np.zeros(count, np.uint64), nobody, codes, like.dimension, like.codec)


def _shared(rows: Examples, parts: Sequence[Examples]) -> Examples:
    """The rows with the columns that either part has; NaN where a part lacks one."""

    def filled(name: str) -> dict[str, NDArray[Any]]:
        own: Mapping[str, NDArray[Any]] = getattr(rows, name)
        names = dict.fromkeys(key for part in parts for key in getattr(part, name))
        return {key: own[key] if key in own else np.full(len(rows), np.nan, np.float32) for key in names}

    return replace(
        rows,
        **{name: filled(name) for name in ("labels", "truth", "delay_s", "signals", "annotations")},  # type: ignore[arg-type]
    )
