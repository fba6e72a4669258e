"""Events as bytes: one Arrow record batch behind a header with its kind and checksum."""

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_HEADER = struct.Struct("<4sI")


class EventError(ValueError):
    """The bytes are no batch of these events: reading them again is pointless."""


def encode(kind: bytes, schema: pa.Schema, rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows, each with one value per field of `schema`, as bytes; `EventError` if a value doesn't fit its field."""
    try:
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise EventError(f"events of kind {kind.decode()} cannot be encoded: {error}") from error
    return frame(kind, pa.RecordBatch.from_arrays(arrays, schema=schema))


def frame(kind: bytes, batch: pa.RecordBatch) -> bytes:
    """A record batch as bytes; its schema is the kind's and does not travel along."""
    body: bytes = batch.serialize().to_pybytes()
    return _HEADER.pack(kind, zlib.crc32(body)) + body


def decode(kind: bytes, schema: pa.Schema, payload: bytes) -> pa.RecordBatch:
    """The record batch in `payload`; `EventError` if it is of another kind or was damaged."""
    if len(payload) <= _HEADER.size:
        raise EventError(f"{len(payload)} bytes are no batch of events")
    found, checksum = _HEADER.unpack_from(payload)
    if found != kind:
        raise EventError(f"expected events of kind {kind.decode()}, got {found!r}")
    body = pa.py_buffer(payload)[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise EventError("the checksum of a batch of events does not fit: it was damaged")
    try:
        batch = pa.ipc.read_record_batch(body, schema)
        batch.validate()
    except (pa.ArrowException, OSError) as error:
        raise EventError(f"a batch of events cannot be read: {error}") from error
    return batch
