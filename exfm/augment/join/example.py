"""What the join emits: an impression's row with the labels that its window brought."""

import pyarrow as pa

from exfm.events import impression, wire

TOPIC = "examples"
LATE_TOPIC = "late"
DEAD_TOPIC = "dead"
KIND = b"EXX1"
LABELS = pa.field("labels", pa.binary(), nullable=False)
"""float32 little-endian [T] in the schema's order of tasks: 1 or 0; NaN where the vertical lacks the task."""
DELAYS = pa.field("delays", pa.binary(), nullable=False)
"""float32 little-endian [T], seconds from the impression to its positive outcome; NaN where there is none."""
SCHEMA = pa.schema([*impression.SCHEMA, LABELS, DELAYS])


def encode(batch: pa.RecordBatch) -> bytes:
    """A batch of examples for the log."""
    return wire.frame(KIND, batch)


def decode(payload: bytes) -> pa.RecordBatch:
    """A batch of examples; `EventError` if it is none."""
    return wire.decode(KIND, SCHEMA, payload)
