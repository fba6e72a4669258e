"""The command line of `exfm-annotate`."""

import argparse
from dataclasses import replace
from pathlib import Path

from exfm.augment.places import Places
from exfm.commands.plan_arguments import add_plan
from exfm.features.embeddings import CODECS

DESCRIPTION = """\
Turn what the ranking server logged into examples that students learn from, and into the histories that it serves with.

Impressions wait for their attribution window and become examples; the teacher (the foundation model) sees each once,
at low priority, and adds a pseudo-label per task and a compressed embedding; the examples end in a stream of Parquet
files that exfm-train reads, the embeddings in the online store. Stop it, kill it, start it again: nothing is lost,
nothing comes twice, and the server doesn't notice.
"""
EPILOG = """\
examples:
  exfm-annotate publish build/run/teacher.pt --name monday     the teacher to annotate with, from now on
  exfm-annotate run --window buy=86400 --window click=600      join and annotate until stopped
  exfm-annotate run --workers local:2 --drain                  what is there now, with two worker processes
  exfm-annotate publish build/run/teacher.sharded --name big   a teacher of train_sharded, for run --workers ranks:2
  exfm-annotate status --json                                  the books: logged = trained + pending + dead + ...
  exfm-train --data build/async/stream                         learn from the stream
  exfm-annotate plan --help                                    memory, speed, lag and cost for a traffic

workers:
  local:N               N processes of this machine; local:0: none, the annotator does it itself
  local:N?give_way_ms=T they stop while anybody else on the machine runs and for T ms after, but for a twentieth of the
                        time: for a machine that serves as well, where caches and memory are shared, too (T: 10)
  ranks:N[?wait_s=S]    N processes of this machine, or of its N GPUs, that hold one teacher together, each its share of
                        the tables' rows, and share each batch; for a teacher that does not fit into one, whose
                        teacher.sharded/ is published; needs torchrec. S: how long they wait for one another (300)
  ray:N                 N actors of a Ray of its own on this machine, started and ended with it
  ray://host:port/N     N actors of one CPU each on a Ray cluster of which this machine is a node: the address that
                        `ray start --address=host:port` was given (6379, not Ray's client port); teachers travel through
                        Ray, so --snapshots need not be shared, but every machine needs exfm-serving[train,scale]

log and store of several machines (pip install 'exfm-serving[scale]'):
  --log nats://[user:password@]host:port[,host:port...]/stream[?replicas=3&window_s=600&timeout_s=2]
                        a JetStream stream, made if it is missing; replicas 1, 3 or 5
  --store redis://[user:password@]host[:port][/db]
                        Valkey or Redis

exit codes: 0 done or stopped, 1 failed, 2 bad usage or input
"""


def make_parser() -> argparse.ArgumentParser:
    """All subcommands."""
    parser = argparse.ArgumentParser(
        "exfm-annotate", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    publish = commands.add_parser("publish", help="make a teacher's checkpoint the current snapshot")
    publish.add_argument("checkpoint", type=Path, help="teacher.pt as exfm-train writes it, or a teacher.sharded")
    publish.add_argument("--name", required=True, help="of the snapshot: letters, digits, '.', '_' and '-'")
    run = commands.add_parser("run", help="join and annotate until stopped")
    join = commands.add_parser("join", help="only join")
    annotate = commands.add_parser("annotate", help="only annotate")
    status = commands.add_parser(
        "status", help="say where every logged event is, and lag_s: from join to commit, of the last batch"
    )
    add_plan(commands, _positive, _count)
    for each in (publish, run, join, annotate, status):
        _add_places(each)
    for each in (run, join):
        _add_join(each)
    for each in (run, annotate):
        _add_annotate(each)
    for each in (run, join, annotate):
        each.add_argument("--drain", action="store_true", help="end when there is nothing left to do")
        each.add_argument("--keep-days", type=_positive, default=30.0, metavar="D", help="retention (30)")
        each.add_argument("--keep-priority", action="store_true", help="don't yield the processor to everybody else")
    return parser


def places_of(asked: argparse.Namespace) -> Places:
    """The places that the command line names, the others under `--dir`."""
    given = {name: value for name in ("log", "stream", "store", "snapshots") if (value := getattr(asked, name))}
    return replace(Places.under(asked.dir), **given)


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dir", type=Path, default=Path("build/async"), metavar="DIR", help="where everything is kept (build/async)")
    add("--log", metavar="URL", help="event log that serving writes: sqlite:FILE, nats://... (sqlite:DIR/log.sqlite)")
    add("--stream", type=Path, metavar="DIR", help="example stream (DIR/stream)")
    add("--store", metavar="URL", help="online store: lmdb:DIR, redis://..., or none (lmdb:DIR/store)")
    add("--snapshots", type=Path, metavar="DIR", help="teachers by name (DIR/snapshots)")
    add("--json", action="store_true", help="print the result as JSON")


def _add_join(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    window = "how long outcomes of a task count: seconds after the impression; may be given for each task"
    add("--window", type=_window, action="append", default=[], metavar="TASK=S", help=window)
    add("--default-window", type=_positive, default=600.0, metavar="S", help="for all other tasks (600)")
    add("--lateness-s", type=_positive, default=60.0, metavar="S", help="how late an event may reach the log (60)")
    idle = "after that long without events the time of day closes windows (30); inf: only events do, for replays"
    add("--idle-s", type=float, default=30.0, metavar="S", help=idle)


def _add_annotate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    workers = "who runs the teacher: local:N, ranks:N, ray:N or ray://host:port/N (local:1); see exfm-annotate --help"
    add("--workers", default="local:1", metavar="URL", help=workers)
    add("--batch", type=_count, default=8192, metavar="N", help="examples per forward pass (8192)")
    add("--linger-s", type=_positive, default=5.0, metavar="S", help="how long an example waits for its batch (5)")
    add("--codec", choices=CODECS, default="int4", help="of the embeddings (int4)")
    add("--history", type=_count, default=64, metavar="N", help="events kept per user in the online store (64)")
    add("--past", type=Path, metavar="DIR", help="log before the stream's, for the teacher's counters")
    add("--config", type=Path, metavar="FILE", help="the settings that the teacher was trained with, if not packaged")


def _window(text: str) -> tuple[str, float]:
    task, _, seconds = text.rpartition("=")
    if not task:
        raise argparse.ArgumentTypeError(f"{text!r} is not TASK=SECONDS")
    return task, _positive(seconds)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value
