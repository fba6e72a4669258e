"""What the log itself holds against what came of it, by key and by counts that no process of the plane has made."""

import base64
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from exfm.augment.join import example
from exfm.augment.stream.writer import DEAD
from exfm.events import impression, outcome
from exfm.events.log import BEGIN, EventLog, Record
from exfm.events.wire import EventError

_AT_ONCE = 256


def unaccounted(
    log: EventLog, output: EventLog, stream: Path, books: dict[str, Any], trained: Collection[bytes]
) -> tuple[int, int]:
    """How many impressions the log holds, and how many events of it the books can't account for.

    Args:
        log: where serving writes, of which retention has dropped nothing.
        output: the join's output.
        stream: folder.
        books: see `exfm.augment.accounts`.
        trained: keys of the stream's rows.
    """
    shown, told = books["impressions"], books["outcomes"]
    events, keys = 0, set[bytes]()
    for record in records(log, impression.TOPIC):
        events += record.count
        with suppress(EventError):  # damaged: then it is dead, and has no key anywhere
            keys |= set(impression.decode(record.payload).column("key").to_pylist())
    outcomes = sum(record.count for record in records(log, outcome.TOPIC))
    nowhere = keys - set(trained) - _dead_keys(output, stream)
    off = (
        shown["unaccounted"],
        told["unaccounted"],
        events - shown["logged"],
        outcomes - told["logged"],
        len(nowhere) - (shown["pending"] + shown["waiting"] + shown["stale"]),
        len(set(trained) - keys),
    )
    return events, sum(map(abs, off))


def records(log: EventLog, topic: str) -> Iterator[Record]:
    """All of a topic."""
    after = BEGIN
    while part := log.read(topic, after, _AT_ONCE):
        yield from part
        after = part[-1].offset


def _dead_keys(output: EventLog, stream: Path) -> set[bytes]:
    found = set[bytes]()
    for record in records(output, example.DEAD_TOPIC):
        with suppress(EventError):
            found |= set(impression.decode(record.payload).column("key").to_pylist())
    for path in (stream / DEAD).glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(EventError):
                payload = base64.b64decode(json.loads(line)["payload"])
                found |= set(example.decode(payload).column("key").to_pylist())
    return found
