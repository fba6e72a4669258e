"""A log that goes on as an example stream: what was learned before, and what has been served and annotated since."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.data.annotated import events_by_row
from exfm.data.examples import Examples, concat
from exfm.data.source import Source
from exfm.features.embeddings import code_bytes
from exfm.features.history import History


class ContinuationError(ValueError):
    """A stream doesn't go on where a log ends; the message says why."""


def continued(log: Source, stream: Source) -> Source:
    """All rows of a log, and behind them those of a stream; the log's rows have no embedding and no annotation.

    Raises:
        ContinuationError: they differ in features or tasks, or the stream has no embeddings or begins too early.
    """
    if (log.schema.digest, log.schema.tasks) != (stream.schema.digest, stream.schema.tasks):
        raise ContinuationError("the stream's schema is not the log's")
    if stream.events is None:
        raise ContinuationError("the stream brings no embeddings")
    first, last = log.examples, stream.examples
    if len(first) and len(last) and first.time_ms[-1] > last.time_ms[0]:
        raise ContinuationError("the stream begins before the log ends")
    examples = concat([_shared(part, [first, last]) for part in (first, last)])
    return replace(log, examples=examples, events=events_by_row([_silent(first, stream.events), stream.events]))


def _silent(rows: Examples, like: History) -> History:
    """Events that don't count."""
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
