"""Annotated examples as columns of the stream, and as events of their users' histories."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from exfm.augment.annotate.forward import Annotations
from exfm.augment.annotate.snapshots import Snapshot
from exfm.data.annotated import ANNOTATION, DELAY, FEATURE, LABEL
from exfm.data.examples import Examples
from exfm.events.ids import KEY_BYTES, space_of
from exfm.features.embeddings import Codec
from exfm.features.encoding import MISSING
from exfm.features.history import History
from exfm.features.schema import SIDES, Schema
from exfm.features.signature import blocks_of

_SERVED = ("key", "time_ms", "user", "ad", "bid", "vertical", "tier", "version", "history", "probability", "request_id")
"""Columns of the impression that go on as they are."""


@dataclass(frozen=True)
class Spoken:
    """Who annotated N rows, what it said, and of which rows: bool [N], False where nothing counts."""

    snapshot: Snapshot
    made: Annotations
    said: NDArray[np.bool_]


def table_of(batch: pa.RecordBatch, examples: Examples, schema: Schema, spoken: Spoken) -> pa.Table:
    """The stream's columns.

    Args:
        batch: N examples as the join emitted them.
        examples: the same rows.
        schema: theirs.
        spoken: their annotations.
    """
    snapshot, made, said = spoken.snapshot, spoken.made, spoken.said
    columns: dict[str, Any] = {name: batch.column(name) for name in _SERVED}
    columns["key"] = columns["key"].cast(pa.binary(KEY_BYTES))
    who = pa.array(np.where(said, 0, 1).astype(np.int8))
    columns["snapshot"] = pa.DictionaryArray.from_arrays(who, pa.array([snapshot.id, ""])).cast(pa.string())
    columns["space"] = pa.array(np.where(said, space_of(snapshot.id), 0), pa.int64())
    columns["z"] = _fixed(made.codes)
    for side in SIDES:
        for block in blocks_of(schema, side):
            values = examples.blocks[block.name]
            columns |= {f"{FEATURE}{f.name}": pa.array(values[:, place]) for place, f in enumerate(block.features)}
    for task in schema.tasks:
        columns[f"{LABEL}{task}"] = pa.array(examples.labels[task])
        columns[f"{DELAY}{task}"] = pa.array(examples.delay_s[task])
    for task, column in zip(snapshot.tasks, made.probability.T, strict=True):
        columns[f"{ANNOTATION}{task}"] = pa.array(np.ascontiguousarray(column))
    return pa.table(columns)


def events_of(batch: pa.RecordBatch, examples: Examples, spoken: Spoken, codec: Codec) -> History:
    """Every row as an event, in the rows' order; arguments as of `table_of`."""
    keys = b"".join(batch.column("key").to_pylist())
    event = np.frombuffer(keys, "<u8").reshape(-1, KEY_BYTES // 8)[:, 0]
    spaces = np.where(spoken.said, space_of(spoken.snapshot.id), 0).astype(np.uint32)
    return History(examples.time_ms, event, spaces, spoken.made.codes, spoken.snapshot.dimension, codec)


def by_user(user: NDArray[np.int64], events: History) -> dict[int, History]:
    """The events of each user by time; rows without a user or without an embedding (space 0) are left out."""
    if not events.dimension:
        return {}
    kept = np.flatnonzero((user != MISSING) & (events.space != 0))
    order = kept[np.lexsort((events.event[kept], events.time_ms[kept], user[kept]))]
    if not len(order):
        return {}
    whose, mine = user[order], events.take(order)
    edges = [0, *(np.flatnonzero(np.diff(whose)) + 1).tolist(), len(order)]
    return {int(whose[start]): mine.take(slice(start, stop)) for start, stop in pairwise(edges)}


def _fixed(codes: NDArray[np.uint8]) -> pa.Array:
    """uint8 [N, w] as binary values of w bytes."""
    offsets = np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1]
    data = pa.py_buffer(np.ascontiguousarray(codes).tobytes())
    return pa.Array.from_buffers(pa.binary(), len(codes), [None, pa.py_buffer(offsets.tobytes()), data])
