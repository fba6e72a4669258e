"""The outcome: what became of an impression, for one task."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from exfm.events import wire
from exfm.events.ids import KEY_BYTES

TOPIC = "outcomes"
KIND = b"EXO1"


class Outcome(NamedTuple):
    """One row of the outcome log; equal rows are the same outcome.

    Attributes:
        key: the impression's, `exfm.events.ids.impression_key(vertical, request_id, ad)`.
        task: name.
        value: 1 happened, 0 did not.
        time_ms: when, milliseconds since the epoch.
    """

    key: bytes
    task: str
    value: float
    time_ms: int


SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary(KEY_BYTES), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("time_ms", pa.int64(), nullable=False),
    ]
)


def encode(rows: Sequence[Outcome]) -> bytes:
    """A batch for the log; `EventError` if a value doesn't fit."""
    return wire.encode(KIND, SCHEMA, rows)


def decode(payload: bytes) -> list[Outcome]:
    """A batch of the log; `EventError` if it is none."""
    batch = wire.decode(KIND, SCHEMA, payload)
    columns = (batch.column(place).to_pylist() for place in range(len(SCHEMA)))
    return [Outcome(*row) for row in zip(*columns, strict=True)]
