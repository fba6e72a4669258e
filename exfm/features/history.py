"""A user's history of compressed embeddings: the packed value of the online store, and the rule what a row may see.

Training and serving call the same `latest` and `restore`; they differ only in where the events lie.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exfm.features.embeddings import CODECS, Codec, Codes, Floats, code_bytes, restore

Ints = NDArray[np.int64]
_HEADER = struct.Struct("<4sBBHH")
_TIME = struct.Struct("<q")
_MAGIC = b"EXH1"
MOST_EVENTS = 0xFFFF
MAP_BYTES = 1 << 36
"""Address space for an embedded store, on both sides: a reader with less could not follow its growth."""


class PackedError(ValueError):
    """The bytes are no packed history."""


@dataclass(frozen=True)
class History:
    """Events of one user, by time.

    Attributes:
        time_ms: int64 [N], ascending, of the impressions.
        event: uint64 [N], what tells the events apart; the first bytes of the impression's key.
        space: uint32 [N], which snapshot's embedding space each vector lies in (`space_of`).
        codes: uint8 [N, code_bytes(dimension, codec)].
        dimension: of a vector.
        codec: of the codes.
    """

    time_ms: Ints
    event: NDArray[np.uint64]
    space: NDArray[np.uint32]
    codes: Codes
    dimension: int
    codec: Codec

    def __len__(self) -> int:
        return len(self.time_ms)

    @classmethod
    def empty(cls, dimension: int, codec: Codec) -> "History":
        """No events."""
        codes = np.empty((0, code_bytes(dimension, codec)), np.uint8)
        return cls(np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint32), codes, dimension, codec)

    def take(self, index: NDArray[np.int64] | slice) -> "History":
        """The events at `index`, which must keep them in the order of time."""
        # Not `replace`, which takes as long again: the annotator does this for every user of every batch.
        columns = self.time_ms[index], self.event[index], self.space[index], self.codes[index]
        return History(*columns, self.dimension, self.codec)


def pack(history: History) -> bytes:
    """One value of the store: 10 bytes of header, then the columns one after the other, little-endian."""
    if len(history) > MOST_EVENTS:
        raise PackedError(f"{len(history)} events; a packed history holds at most {MOST_EVENTS}")
    header = _HEADER.pack(_MAGIC, CODECS.index(history.codec), 0, history.dimension, len(history))
    return b"".join([header, *_columns(history)])


def _columns(history: History) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        history.time_ms.astype("<i8", copy=False).tobytes(),
        history.event.astype("<u8", copy=False).tobytes(),
        history.space.astype("<u4", copy=False).tobytes(),
        history.codes.tobytes(),
    )


def unpack(value: bytes) -> History:
    """Read a packed history without copying.

    Raises:
        PackedError: the value is none, or its length is not what its header says.
    """
    if len(value) < _HEADER.size:
        raise PackedError(f"{len(value)} bytes are no packed history")
    magic, codec, _, dimension, count = _HEADER.unpack_from(value)
    if magic != _MAGIC or codec >= len(CODECS):
        raise PackedError("the value has no packed history's header")
    width = code_bytes(dimension, CODECS[codec])
    if len(value) != _HEADER.size + count * (20 + width):
        raise PackedError(f"{len(value)} bytes where {count} events of {20 + width} bytes were announced")
    at = _HEADER.size
    time_ms = np.frombuffer(value, "<i8", count, at)
    event = np.frombuffer(value, "<u8", count, at + 8 * count)
    space = np.frombuffer(value, "<u4", count, at + 16 * count)
    codes = np.frombuffer(value, np.uint8, count * width, at + 20 * count).reshape(count, width)
    return History(time_ms, event, space, codes, dimension, CODECS[codec])


def merge(old: History, new: History, capacity: int, *, not_before_ms: int = 0) -> History:
    """Both histories' events in the order of time, each once, the last `capacity` of those since `not_before_ms`.

    An event that both have is taken from `new`; a history of another dimension or codec gives way to `new`.
    Merging the same events again changes nothing.
    """
    if (old.dimension, old.codec) != (new.dimension, new.codec):
        old = History.empty(new.dimension, new.codec)
    both = History(
        np.concatenate([old.time_ms, new.time_ms]),
        np.concatenate([old.event, new.event]),
        np.concatenate([old.space, new.space]),
        np.concatenate([old.codes, new.codes]),
        new.dimension,
        new.codec,
    )
    last = len(both) - 1 - np.unique(both.event[::-1], return_index=True)[1]
    last = last[both.time_ms[last] >= not_before_ms]
    order = last[np.lexsort((both.event[last], both.time_ms[last]))]
    return both.take(order[max(0, len(order) - capacity) :])


def append(value: bytes | None, new: History, capacity: int, *, not_before_ms: int = 0) -> bytes:
    """`pack(merge(unpack(value), new, ...))`, for a value that a merge made, or None for no events yet.

    Nearly always all of `new` is later than what is there; that is done on the bytes, ten times as fast.

    Raises:
        PackedError: the value is no packed history.
    """
    value = value if value is not None else pack(History.empty(new.dimension, new.codec))
    capacity = min(capacity, MOST_EVENTS)
    old = _followed(value, new, not_before_ms) if 0 < len(new) <= capacity else -1
    if old < 0:
        return pack(merge(unpack(value), new, capacity, not_before_ms=not_before_ms))
    gone = max(0, old + len(new) - capacity)
    head = _HEADER.pack(_MAGIC, CODECS.index(new.codec), 0, new.dimension, old - gone + len(new))
    parts, at = [head], _HEADER.size
    for size, more in zip((8, 8, 4, new.codes.shape[1]), _columns(new), strict=True):
        parts += [value[at + gone * size : at + old * size], more]
        at += old * size
    return b"".join(parts)


def _followed(value: bytes, new: History, not_before_ms: int) -> int:
    """How many events a value has, if all of `new` is later and of its make, and nothing too old; else -1."""
    if len(value) < _HEADER.size:
        return -1
    magic, codec, _, dimension, count = _HEADER.unpack_from(value)
    if (magic, codec, dimension) != (_MAGIC, CODECS.index(new.codec), new.dimension):
        return -1
    times = new.time_ms
    if len(value) != _HEADER.size + count * (20 + new.codes.shape[1]) or times[0] < not_before_ms:
        return -1
    if len(times) > 1 and (times[1:] <= times[:-1]).any():
        return -1
    if not count:
        return 0
    (oldest,), (newest,) = (_TIME.unpack_from(value, _HEADER.size + 8 * place) for place in (0, count - 1))
    return int(count) if not_before_ms <= oldest and newest < times[0] else -1


def latest(
    owner: Ints, time_ms: Ints, asked_owner: Ints, asked_ms: Ints, *, delay_ms: int, length: int
) -> NDArray[np.int64]:
    """Which events each asking row may see: its owner's last `length` with `time < asked - delay`, strictly.

    Args:
        owner: int64 [N] >= 0, whose event; sorted, and events of one owner by time.
        time_ms: int64 [N].
        asked_owner: int64 [Q], negative for nobody.
        asked_ms: int64 [Q].
        delay_ms: how long after its impression an event may be missing in the store; >= 0.
        length: L.

    Returns:
        int64 [Q, L], positions among the N events, oldest first; -1 in front where there are fewer.
    """
    instants = np.unique(time_ms)
    span = len(instants) + 1
    place = owner * span + np.searchsorted(instants, time_ms)
    first = np.searchsorted(place, asked_owner * span)
    end = np.searchsorted(place, asked_owner * span + np.searchsorted(instants, asked_ms - delay_ms))
    seen = end[:, None] - length + np.arange(length)
    return np.where((seen >= first[:, None]) & (asked_owner >= 0)[:, None], seen, -1)


@dataclass(frozen=True)
class HistoryInputs:
    """What the history encoder reads.

    Attributes:
        values: float32 [Q, L, d], zero where there is no event.
        known: bool [Q, L].
        age_s: float32 [Q, L], seconds from the event to the asking row, zero where there is no event.
    """

    values: Floats
    known: NDArray[np.bool_]
    age_s: Floats


def inputs_of(events: History, index: NDArray[np.int64], asked_ms: Ints) -> HistoryInputs:
    """The encoder's inputs for the events that `latest` chose."""
    known = index >= 0
    values = np.zeros((*index.shape, events.dimension), np.float32)
    age_s = np.zeros(index.shape, np.float32)
    if known.any():
        seen = index[known]
        values[known] = restore(events.codes[seen], events.dimension, events.codec)
        age_s[known] = (np.broadcast_to(asked_ms[:, None], index.shape)[known] - events.time_ms[seen]) / 1e3
    return HistoryInputs(values, known, age_s)


def of_spaces(history: History, spaces: Sequence[int]) -> History:
    """The events whose vectors lie in one of these spaces; all of them if none is named."""
    if not spaces:
        return history
    kept = np.isin(history.space, np.array(spaces, np.uint32))
    return history if kept.all() else history.take(np.flatnonzero(kept))


def inputs_at(history: History, asked_ms: int, *, delay_ms: int, length: int) -> HistoryInputs:
    """The encoder's inputs for one user at one instant, [1, L, d]: what the frontend calls for a request.

    Args:
        history: all of it, or what `of_spaces` left.
        asked_ms: when the request came.
        delay_ms: as in `latest`.
        length: L.
    """
    nobody = np.zeros(1, np.int64)
    at = np.array([asked_ms], np.int64)
    index = latest(np.zeros(len(history), np.int64), history.time_ms, nobody, at, delay_ms=delay_ms, length=length)
    return inputs_of(history, index, at)


def row_of(inputs: HistoryInputs) -> Floats:
    """The served model's tensor `request_history`, float32 [Q, L * (d + 2)].

    Per row the L * d values, event by event, then L flags (1 where there is an event), then L ages in seconds.
    """
    rows, length, dimension = inputs.values.shape
    values = inputs.values.reshape(rows, length * dimension)
    return np.concatenate((values, inputs.known.astype(np.float32), inputs.age_s), 1)


def split_row(row: Floats, length: int) -> HistoryInputs:
    """What `row_of` made a row of, for histories of `length` events; views where it can.

    Raises:
        ValueError: the width is none of L * (d + 2) with d >= 1.
    """
    dimension, rest = divmod(row.shape[1], length)
    if rest or dimension < 3:
        raise ValueError(f"a history's row of width {row.shape[1]} does not hold {length} events")
    values, known, age_s = np.split(row, [row.shape[1] - 2 * length, row.shape[1] - length], axis=1)
    return HistoryInputs(values.reshape(len(row), length, dimension - 2), known > 0, age_s)


def user_key(user: int) -> bytes:
    """A user's key in the store: 8 bytes, big-endian."""
    return user.to_bytes(8, "big", signed=True)
