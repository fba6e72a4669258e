"""A log and the example stream behind it as windows of bounded size, from any place on: each row comes once.

The order is that of the commits: the order in which the join's watermark found labels to be complete. Within a window
rows are sorted by time. So the rows of one vertical come in order of time across windows too, except those that were
logged later than the join's lateness. Verticals are apart by no more than their attribution windows differ, plus the
lateness: a purchase's label is complete a day later than a click's, and neither waits for the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exfm.data.annotated import Annotated, StreamReader
from exfm.data.chunks import by_rows
from exfm.data.continued import refuse_misfit, silent
from exfm.data.errors import DataError
from exfm.data.examples import Examples, concat
from exfm.data.histories import joined
from exfm.data.source import Source
from exfm.features.history import History

WINDOW = 65_536
"""Rows of a window, and those of one commit more at most."""


@dataclass(frozen=True)
class Place:
    """Up to where windows were read.

    Attributes:
        log: rows of the log.
        row: number of the stream's next row.
        commit: number of the commit that ends there; 0: none was read.
    """

    log: int = 0
    row: int = 0
    commit: int = 0


@dataclass(frozen=True)
class Window:
    """Rows by time, what they put into their users' histories, and the place behind them."""

    examples: Examples
    events: History
    after: Place


def windows(stream: StreamReader, place: Place, size: int = WINDOW, log: Source | None = None) -> Iterator[Window]:
    """All rows from a place on, those of the log first; what is committed meanwhile is for the next call.

    Args:
        stream: what goes on behind the log.
        place: where to begin; see `refuse_other`.
        size: rows.
        log: may be left out once all of it was read.

    Raises:
        DataError: the stream is damaged, or lacks rows from `place` on.
        ContinuationError: the stream doesn't go on where the log ends.
    """
    if log is not None:
        oldest_ms = min((each.oldest_ms for each in stream.commits() if each.rows), default=None)
        refuse_misfit(log, stream.form.schema, oldest_ms)
        rest, none = log.examples.slice(place.log, len(log.examples)), stream.form.none
        for rows in by_rows(len(rest), size):
            own = rest.slice(rows.start, rows.stop)
            place = replace(place, log=place.log + len(own))
            yield Window(own, silent(own, none), place)
    parts: list[Annotated] = []
    for part in stream.read(place.row):
        parts.append(part)
        if sum(map(len, parts)) >= size:
            yield (made := _window(parts, place))
            place, parts = made.after, []
    if parts:
        yield _window(parts, place)


def refuse_other(stream: StreamReader, place: Place) -> None:
    """`DataError` if a place is none of this stream's."""
    commits = stream.commits()
    if not place.commit or (commits and commits[0].number > place.commit):
        return
    if not any((each.number, each.end_row) == (place.commit, place.row) for each in commits):
        problem = f"commit {place.commit} does not end before row {place.row}; another stream was read before"
        raise DataError(problem, stream.folder)


def _window(parts: Sequence[Annotated], before: Place) -> Window:
    examples, events = concat([each.examples for each in parts]), joined([each.events for each in parts])
    order = np.argsort(examples.time_ms, kind="stable")
    last = parts[-1]
    after = replace(before, row=last.first_row + len(last), commit=last.commit)
    return Window(examples.take(order), events.take(order), after)
