"""Impressions out of the batches that they were logged in."""

from collections.abc import Callable

import pyarrow as pa

from exfm.augment.join.state import Waiting
from exfm.events import impression


def payload_of(batch: pa.RecordBatch, place: int) -> bytes:
    """One row of a batch of impressions as a batch of its own."""
    return impression.encode([impression.Impression(*batch.slice(place, 1).to_pylist()[0].values())])


def gather(rows: list[Waiting], payload: Callable[[int], bytes]) -> pa.RecordBatch:
    """The impressions' rows out of their batches, in the given order."""
    places: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault(row.batch, []).append(index)
    parts, order = [], []
    for batch, indices in places.items():
        taken = pa.array([rows[index].place for index in indices], pa.int64())
        parts.append(impression.decode(payload(batch)).take(taken))
        order += indices
    back = sorted(range(len(order)), key=order.__getitem__)
    return pa.concat_batches(parts).take(pa.array(back, pa.int64()))
