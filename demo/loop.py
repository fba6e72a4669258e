"""The loop closed once: what was served becomes examples and histories, and refreshed students serve with them."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from demo.server import DemoError
from exfm.augment.accounts import accounts
from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import Snapshots
from exfm.augment.annotate.workers.inline import InlineWorkers
from exfm.augment.join.joiner import Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.places import Places
from exfm.augment.service import AnnotatePart, JoinPart, Part, ServiceOptions, serve
from exfm.data.annotated import StreamReader
from exfm.data.commits import Commit
from exfm.data.continued import continued
from exfm.data.examples import Examples
from exfm.data.source import Source, annotated_source
from exfm.distill.config import HistoryOptions, TrainConfig
from exfm.events import impression
from exfm.events.log import BEGIN

WINDOW_S = 2.0
"""Of an outcome. In life it is minutes or a day; here what users did is known beforehand and told at once."""
DELAY_MS = 5000
"""What a student's history leaves out: window, join and annotation."""
LENGTH, EMBEDDING = 20, 32
ALL_TIME_MS = 100 * 365 * 86_400_000
"""The teacher's counters reach back to the log, however old it is."""
PATIENCE_S = 60.0
REFRESHED_FROM = 40_000
"""Rows of the log before what was served that the refreshed students learn: enough to show the loop, and quick."""


@dataclass(frozen=True)
class Annotated:
    """What became of all that was served.

    Attributes:
        impressions, joined, examples: logged; outcomes that came in time; annotated.
        users: with a history in the online store.
        snapshot: who annotated.
    """

    impressions: int
    joined: int
    examples: int
    users: int
    snapshot: str


def places_of(out: Path) -> Places:
    """Where the asynchronous plane keeps its things, all of them new."""
    folder = out / "async"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Places.under(folder)


def annotate(places: Places, teacher: Path, past: Examples) -> Annotated:
    """Join and annotate all that was logged, as `exfm-annotate run --drain` does.

    Args:
        places: of the log, the stream and the store.
        teacher: its checkpoint.
        past: what the teacher's counters begin with.

    Raises:
        DemoError: it takes too long, or the books don't balance.
    """
    snapshots = Snapshots(places.snapshots)
    snapshots.publish(teacher, "demo")
    with ExitStack() as stack:
        log, output, store = places.open_log(), places.open_output(), places.open_store()
        windows = JoinOptions(window_s=WINDOW_S, lateness_s=0.5, idle_s=0.5)
        joiner = Joiner(log, places.join, snapshots.load("demo").schema, windows)
        options = AnnotateOptions(batch=4096, linger_s=0.0, keep_ms=ALL_TIME_MS)
        workers = InlineWorkers(places.snapshots)
        annotator = Annotator(output, places.stream, store, snapshots, workers, options=options, past=past)
        for close in (log.close, output.close, joiner.close, annotator.close, *([store.close] if store else [])):
            stack.callback(close)
        parts: list[Part] = [JoinPart(joiner, log), AnnotatePart(annotator, lambda _: None)]
        until_s = time.monotonic() + PATIENCE_S
        while (books := accounts(log, output, joiner.accounts(), _commits(places)))["impressions"]["pending"]:
            if time.monotonic() > until_s:
                raise DemoError(f"not all that was served could be joined within {PATIENCE_S:g} s")
            serve(parts, threading.Event(), ServiceOptions(drain=True))
            time.sleep(0.1)
        snapshot = annotator.last.snapshot
    return _balanced(books, places, snapshot)


def _commits(places: Places) -> list[Commit]:
    return StreamReader(places.stream).commits()


def _balanced(books: dict[str, Any], places: Places, snapshot: str) -> Annotated:
    served = books["impressions"]
    if served["unaccounted"] or served["trained"] != served["logged"]:
        raise DemoError(f"not every impression became an example: {served}")
    users = {int(user) for part in StreamReader(places.stream).read() for user in part.examples.user}
    store = places.open_store()
    assert store is not None
    with ExitStack() as stack:
        stack.callback(store.close)
        known = sum(store.read(user) is not None for user in users)
    return Annotated(served["logged"], books["outcomes"]["used"], served["trained"], known, snapshot)


def refreshed(source: Source, until: int, places: Places) -> Source:
    """The log's rows before `until`, as far back as the refresh goes, and all that was served since."""
    log = replace(source, examples=source.examples.slice(max(0, until - REFRESHED_FROM), until))
    return continued(log, annotated_source(places.stream))


def with_histories(config: TrainConfig) -> TrainConfig:
    """The settings with students that read histories, and nothing held out."""
    stream = replace(config.stream, holdout_s=0.0)
    return replace(config, stream=stream, history=HistoryOptions(LENGTH, DELAY_MS))


def share_with_history(places: Places, name: str) -> float | None:
    """Of the logged requests whose ids begin with `name`, how many the model answered with a history.

    None if none is logged: a server on a machine that is too slow may have refused them all.
    """
    seen: dict[str, bool] = {}
    for batch in _logged(places):
        columns = (batch.column(column).to_pylist() for column in ("request_id", "history"))
        seen |= {request: bool(value) for request, value in zip(*columns, strict=True) if request.startswith(name)}
    return sum(seen.values()) / len(seen) if seen else None


def _logged(places: Places) -> Iterator[pa.RecordBatch]:
    log, after = places.open_log(), BEGIN
    try:
        while records := log.read(impression.TOPIC, after, 100):
            after = records[-1].offset
            yield from (impression.decode(record.payload) for record in records)
    finally:
        log.close()
