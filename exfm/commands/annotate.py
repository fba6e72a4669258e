"""`exfm-annotate`: joins what serving logged, annotates it with the teacher, feeds the stream and the online store."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from typing import Any, NoReturn

from tqdm import tqdm

from exfm.augment.accounts import accounts
from exfm.augment.annotate.annotator import Annotator
from exfm.augment.annotate.options import AnnotateOptions
from exfm.augment.annotate.snapshots import SnapshotError, Snapshots
from exfm.augment.annotate.workers.opening import open_workers
from exfm.augment.annotate.workers.priority import yield_to_others
from exfm.augment.annotate.workers.protocol import WorkersUnavailableError
from exfm.augment.join import example
from exfm.augment.join.joiner import ANNOTATOR, Joiner
from exfm.augment.join.windows import JoinOptions
from exfm.augment.places import Places
from exfm.augment.service import AnnotatePart, JoinPart, Part, ServiceOptions, serve
from exfm.augment.store.store import StoreOptions, StoreUnavailableError
from exfm.augment.stream.writer import StreamError
from exfm.commands import annotate_plan
from exfm.commands.annotate_arguments import make_parser, places_of
from exfm.commands.stopping import stopping
from exfm.data.commits import read_commits
from exfm.data.errors import DataError
from exfm.data.source import open_source
from exfm.distill.counters import CounterError
from exfm.events.log import LogUnavailableError
from exfm.events.urls import UrlError
from exfm.features.schema import Schema, SchemaError

REFUSED = (UrlError, SnapshotError, DataError, SchemaError, CounterError)
FAILED = (LogUnavailableError, StoreUnavailableError, StreamError, WorkersUnavailableError, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 done or stopped, 1 failed, 2 the input or its settings were refused."""
    asked = make_parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="exfm-annotate: %(message)s")
    try:
        if asked.command == "plan":
            return annotate_plan.run(asked)
        with redirect_stdout(sys.stderr):  # Ray tells of dead workers on standard output
            report = _COMMANDS[asked.command](asked, places_of(asked))
    except REFUSED as error:
        sys.stderr.write(f"exfm-annotate: {error}\n")
        return 2
    except FAILED as error:
        sys.stderr.write(f"exfm-annotate: {error}\n")
        return 1
    sys.stdout.write(json.dumps(report) + "\n" if asked.json else _text(report))
    return 0


def _publish(asked: argparse.Namespace, places: Places) -> dict[str, Any]:
    if not asked.checkpoint.exists():
        raise SnapshotError(f"{asked.checkpoint}: there is no such checkpoint")
    snapshots = Snapshots(places.snapshots)
    snapshots.publish(asked.checkpoint, asked.name)
    return {"current": asked.name, "id": snapshots.load(asked.name).id}


def _run(asked: argparse.Namespace, places: Places) -> dict[str, Any]:
    if not asked.keep_priority:
        yield_to_others()
    with ExitStack() as stack, stopping() as stop:
        parts: list[Part] = []
        if asked.command in ("run", "join"):
            parts.append(_join_part(asked, places, stack))
        if asked.command in ("run", "annotate"):
            parts.append(_annotate_part(asked, places, stack))
        keep_ms = round(asked.keep_days * 86_400_000)
        serve(parts, stop, ServiceOptions(keep_ms=keep_ms, drain=asked.drain))
    return _status(asked, places)


def _join_part(asked: argparse.Namespace, places: Places, stack: ExitStack) -> JoinPart:
    log = places.open_log()
    stack.callback(log.close)
    options = JoinOptions(dict(asked.window), asked.default_window, asked.lateness_s, asked.idle_s)
    joiner = Joiner(log, places.join, _schema(places), options)
    stack.callback(joiner.close)
    return JoinPart(joiner, log)


def _annotate_part(asked: argparse.Namespace, places: Places, stack: ExitStack) -> AnnotatePart:
    output = places.open_output()
    stack.callback(output.close)
    store = places.open_store(StoreOptions(asked.history, round(asked.keep_days * 86_400_000)))
    if store is not None:
        stack.callback(store.close)
    workers = open_workers(asked.workers, places.snapshots)
    stack.callback(workers.close)
    linger_s = 0.0 if asked.drain else asked.linger_s
    options = AnnotateOptions(batch=asked.batch, linger_s=linger_s, codec=asked.codec, config=asked.config)
    past = open_source(asked.past).examples if asked.past else None
    snapshots = Snapshots(places.snapshots)
    annotator = Annotator(output, places.stream, store, snapshots, workers, options=options, past=past)
    stack.callback(annotator.close)
    bar: tqdm[NoReturn] = tqdm(unit="row", desc=annotator.snapshot.name, file=sys.stderr, mininterval=1.0)
    stack.callback(bar.close)

    def settled(rows: int) -> None:
        last = annotator.last
        bar.set_description(annotator.snapshot.name, refresh=False)
        waiting = output.lag(ANNOTATOR, example.TOPIC).events
        bar.set_postfix({"lag": f"{annotator.lag_ms / 1e3:.1f} s", "waiting": waiting, "dead": last.dead}, False)
        bar.update(rows)

    return AnnotatePart(annotator, settled)


def _schema(places: Places) -> Schema:
    snapshots = Snapshots(places.snapshots)
    return snapshots.described(snapshots.current()).schema


def _status(_: argparse.Namespace, places: Places) -> dict[str, Any]:
    with ExitStack() as stack:
        log, output = places.open_log(), places.open_output()
        stack.callback(log.close)
        stack.callback(output.close)
        joiner = Joiner(log, places.join, _schema(places))
        stack.callback(joiner.close)
        joined = joiner.accounts()
        commits = read_commits(places.stream)[0]
        books = accounts(log, output, joined, commits)
    last = commits[-1] if commits else None
    return {
        "snapshot": Snapshots(places.snapshots).current(),
        "watermark_ms": joined["watermark_ms"],
        "commits": last.number if last else 0,
        "last_snapshot": last.snapshot if last else "",
        "lag_s": last.counts.get("lag_ms", 0) / 1e3 if last else 0.0,
        **books,
    }


_COMMANDS = {"publish": _publish, "run": _run, "join": _run, "annotate": _run, "status": _status}


def _text(report: dict[str, Any]) -> str:
    lines = []
    for name, value in report.items():
        shown = ", ".join(f"{key} {each:,}" for key, each in value.items()) if isinstance(value, dict) else value
        lines.append(f"{name:<18}{shown}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
