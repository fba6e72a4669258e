"""A log as if it had been served: impressions with the vertical's own blocks, outcomes at their own time."""

from collections.abc import Iterator

import numpy as np

from exfm.data.examples import Examples
from exfm.data.source import Source
from exfm.events.ids import impression_key
from exfm.events.impression import BLOCKS, Impression
from exfm.events.outcome import Outcome


def vertical_of(source: Source, examples: Examples) -> list[str]:
    """Which vertical served each row: the first one of which it has a label."""
    names = np.full(len(examples), "", object)
    for vertical in reversed(source.schema.verticals):
        names[~np.isnan(examples.labels[vertical.tasks[0]])] = vertical.name
    return [str(name) for name in names]


def impressions(source: Source, examples: Examples, prefix: str = "r") -> list[Impression]:
    """A row per example that belongs to a vertical."""
    served = vertical_of(source, examples)
    made: dict[int, Impression] = {}
    for vertical in source.schema.verticals:
        own = source.schema.for_vertical(vertical.name)
        index = np.flatnonzero(np.array(served, object) == vertical.name)
        part = examples.take(index).project(source.schema, own)
        blocks = [[row.tobytes() for row in np.ascontiguousarray(part.blocks[name])] for name in BLOCKS]
        for place, row in enumerate(index.tolist()):
            request_id, ad = f"{prefix}{row}", int(part.ad[place])
            made[row] = Impression(
                impression_key(vertical.name, request_id, ad),
                request_id,
                ad,
                int(part.user[place]),
                int(part.time_ms[place]),
                vertical.name,
                1,
                own.blocks_digest,
                "full",
                "",
                0,
                float(part.bid[place]),
                b"",
                b"",
                *(block[place] for block in blocks),
            )
    return [made[row] for row in sorted(made)]


def outcomes(examples: Examples, served: list[Impression], prefix: str = "r") -> Iterator[Outcome]:
    """The positive outcomes of those rows, in the order of the rows."""
    for row in served:
        place = int(row.request_id.removeprefix(prefix))
        for task, label in examples.labels.items():
            if label[place] == 1:
                delay_s = examples.delay_s[task][place] if task in examples.delay_s else 1.0
                yield Outcome(row.key, task, 1.0, row.time_ms + round(1e3 * float(delay_s)))
