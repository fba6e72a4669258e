"""The impression: one ad that was ranked into a shown place, with everything that the model saw of it."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from exfm.events import wire
from exfm.events.ids import KEY_BYTES

TOPIC = "impressions"
KIND = b"EXI1"
BLOCKS = ("user_ids", "user_numbers", "context_ids", "context_numbers", "ad_ids", "ad_numbers")


class Impression(NamedTuple):
    """One row of the impression log.

    Attributes:
        key: 16 bytes, `exfm.events.ids.impression_key`; two rows with one key are the same impression.
        request_id: the caller's.
        ad: key of the ad.
        user: key of the user, or -2^63 where the vertical's features do not name one.
        time_ms: when it was ranked, milliseconds since the epoch; the ages in its history count from this instant.
        vertical: name.
        version: of the model that scored: the vertical's, or its lite model's where the tier is lite.
        schema_hash: of what the blocks were made with, the vertical's own schema without its history.
        tier: which tier scored this ad, `prior` behind those that tier trimmed has scored; `reason` why no better one.
        place: 0-based place in the ranking.
        bid: value of one positive outcome.
        probability: float32 little-endian per task of the vertical, as answered.
        history: the packed history that the model saw; empty for none, and where no model scored (tier prior).
        user_ids ... ad_numbers: one row of each block of the vertical's schema, little-endian (int64, float32).
    """

    key: bytes
    request_id: str
    ad: int
    user: int
    time_ms: int
    vertical: str
    version: int
    schema_hash: str
    tier: str
    reason: str
    place: int
    bid: float
    probability: bytes
    history: bytes
    user_ids: bytes
    user_numbers: bytes
    context_ids: bytes
    context_numbers: bytes
    ad_ids: bytes
    ad_numbers: bytes


FIELDS: tuple[pa.Field, ...] = (
    pa.field("key", pa.binary(KEY_BYTES), nullable=False),
    pa.field("request_id", pa.string(), nullable=False),
    pa.field("ad", pa.int64(), nullable=False),
    pa.field("user", pa.int64(), nullable=False),
    pa.field("time_ms", pa.int64(), nullable=False),
    pa.field("vertical", pa.string(), nullable=False),
    pa.field("version", pa.int64(), nullable=False),
    pa.field("schema_hash", pa.string(), nullable=False),
    pa.field("tier", pa.string(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("place", pa.int32(), nullable=False),
    pa.field("bid", pa.float64(), nullable=False),
    pa.field("probability", pa.binary(), nullable=False),
    pa.field("history", pa.binary(), nullable=False),
    *(pa.field(name, pa.binary(), nullable=False) for name in BLOCKS),
)
SCHEMA = pa.schema(FIELDS)


def encode(rows: Sequence[Impression]) -> bytes:
    """A batch for the log; `EventError` if a value doesn't fit."""
    return wire.encode(KIND, SCHEMA, rows)


def decode(payload: bytes) -> pa.RecordBatch:
    """A batch of the log; `EventError` if it is none."""
    return wire.decode(KIND, SCHEMA, payload)
