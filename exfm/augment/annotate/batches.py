"""From records of the log to a batch that a worker can take, with the rows that can't be read put aside."""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from exfm.augment.annotate.rows import RowReader, bisect
from exfm.augment.join import example
from exfm.data.examples import Examples, concat
from exfm.distill.past import StreamCounters
from exfm.distill.stream import encode
from exfm.events.log import Record
from exfm.events.wire import EventError
from exfm.features.schema import Schema


@dataclass(frozen=True)
class Dead:
    """Rows that can never be annotated: why, how many, and their bytes."""

    reason: str
    rows: int
    payload: bytes

    def line(self) -> bytes:
        """One line of a dead-letter file."""
        plain = {"reason": self.reason, "rows": self.rows, "payload": base64.b64encode(self.payload).decode()}
        return json.dumps(plain).encode() + b"\n"


@dataclass(frozen=True)
class Prepared:
    """N readable rows on their way.

    Attributes:
        batch: as the join emitted them.
        examples: the same.
        rows: int64 [N, F], encoded.
        counters: float32 [N, C].
        dead: those that were put aside.
        position: the offset after them, and
        position_ms: when the record there was appended.
        waiting_since_ms: when the oldest of them had been joined.
    """

    batch: pa.RecordBatch
    examples: Examples
    rows: NDArray[np.int64]
    counters: NDArray[np.float32]
    dead: tuple[Dead, ...]
    position: int
    position_ms: int
    waiting_since_ms: int

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def lag_ms(self) -> int:
        """How long ago the oldest one was joined."""
        return max(0, time.time_ns() // 1_000_000 - self.waiting_since_ms)

    def part(self, start: int, stop: int) -> "Prepared":
        """Some of the rows."""
        return replace(
            self,
            batch=self.batch.slice(start, stop - start),
            examples=self.examples.slice(start, stop),
            rows=self.rows[start:stop],
            counters=self.counters[start:stop],
        )

    def without(self, bad: Sequence[tuple[int, str]]) -> "Prepared":
        """All rows but the bad ones, which are dead."""
        if not bad:
            return self
        kept = np.setdiff1d(np.arange(len(self)), [place for place, _ in bad])
        return replace(
            self,
            batch=self.batch.take(pa.array(kept)),
            examples=self.examples.take(kept),
            rows=self.rows[kept],
            counters=self.counters[kept],
            dead=(*self.dead, *(_dead_row(self.batch, place, why) for place, why in bad)),
        )


class Preparer:
    """Reads records, encodes their rows and counts their past.

    Args:
        schema: of the records, and of the rows that are counted.
        table_schema: of the rows that the teacher reads.
        counters: the past.
    """

    def __init__(self, schema: Schema, table_schema: Schema, counters: StreamCounters) -> None:
        self._schema, self._table_schema = schema, table_schema
        self._reader = RowReader(schema)
        self._counters = counters

    def prepare(self, records: Sequence[Record]) -> Prepared:
        """Make one batch of at least one record."""
        dead: list[Dead] = []
        batches = [batch for record in records if (batch := _decoded(record, dead)) is not None]
        whole = pa.concat_batches([pa.RecordBatch.from_pylist([], schema=example.SCHEMA), *batches])
        parts, bad = bisect(whole, self._reader.read) if len(whole) else ([self._reader.read(whole)], [])
        dead += [_dead_row(whole, place, why) for place, why in bad]
        kept = np.setdiff1d(np.arange(len(whole)), [place for place, _ in bad])
        examples = concat(parts) if parts else self._reader.read(whole.slice(0, 0))
        rows = np.concatenate(list(encode(examples, self._schema).values()), 1)
        self._counters.add(examples, rows)
        counters = self._counters.columns(examples, rows)
        rows = self._table_rows(examples, rows)
        since_ms = min(record.appended_ms for record in records)
        batch = whole.take(pa.array(kept)) if bad else whole
        last = records[-1]
        return Prepared(batch, examples, rows, counters, tuple(dead), last.offset, last.appended_ms, since_ms)

    def reading(self, table_schema: Schema) -> "Preparer":
        """The same, with the same counters, for a teacher that reads other rows."""
        return Preparer(self._schema, table_schema, self._counters)

    def again(self, prepared: Prepared) -> Prepared:
        """The same batch, which another preparer may have made; the counters know its rows already."""
        rows = np.concatenate(list(encode(prepared.examples, self._schema).values()), 1)
        counters = self._counters.columns(prepared.examples, rows)
        return replace(prepared, rows=self._table_rows(prepared.examples, rows), counters=counters)

    def _table_rows(self, examples: Examples, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the teacher reads for examples whose rows by the records' schema are `rows`."""
        if self._table_schema == self._schema:
            return rows
        return np.concatenate(list(encode(examples, self._table_schema).values()), 1)


def _dead_row(batch: pa.RecordBatch, place: int, reason: str) -> Dead:
    """One row of a batch as a dead letter."""
    return Dead(reason, 1, example.encode(batch.take(pa.array([place]))))


def _decoded(record: Record, dead: list[Dead]) -> pa.RecordBatch | None:
    try:
        batch = example.decode(record.payload)
    except EventError as error:
        dead.append(Dead(str(error), record.count, record.payload))
        return None
    return batch
